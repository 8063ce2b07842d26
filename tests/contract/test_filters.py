"""A seccomp program that crun compiled once is given to it again, and filters as before."""

import json
from typing import Any

import trio

from proad.host import filters
from tests.contract.conftest import Yard

PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
}
SCRIPT = "grep Seccomp: /proc/self/status; mkdir /tmp/x || echo refused; umask"


def test_the_second_container_gets_the_firsts_program(yard: Yard) -> None:
    async def run_one(name: str) -> tuple[dict[str, Any], bytes, str]:
        request = yard.request("sh", "-c", SCRIPT)
        config = request.bundle / "config.json"
        spec = json.loads(config.read_text())
        spec["linux"]["seccomp"] = {**PROFILE, "x-test": name}
        filters.annotate(spec, yard.runtime, request.container_id)
        config.write_text(json.dumps(spec))
        monitored = await yard.conmon.create(yard.conmon.launch(request))
        program = yard.runtime.root / request.container_id / "seccomp.bpf"
        compiled = program.read_bytes() if program.exists() else b""
        await yard.runtime.start(request.container_id)
        await monitored.exited()
        monitored.close()
        assert request.log_path is not None
        return spec, compiled, request.log_path.read_text()

    async def main() -> None:
        name = yard.parent
        first, compiled, said = await run_one(name)
        again, compiled_again, said_again = await run_one(name)
        assert "annotations" not in first
        assert (filters.ANNOTATION in again.get("annotations", {})) == (yard.runtime.name == "crun")
        assert compiled == compiled_again
        for text in (said, said_again):
            assert "Seccomp:\t2" in text
            assert "refused" in text
        other, _, _ = await run_one(name + "other")
        assert "annotations" not in other

    trio.run(main)


def test_a_failed_create_teaches_nothing(yard: Yard) -> None:
    spec = {"linux": {"seccomp": {**PROFILE, "x-test": yard.parent}}}
    filters.annotate(spec, yard.runtime, "id")
    filters.forget("id")
    filters.learn(yard.runtime, "id")
    filters.annotate(spec, yard.runtime, "id2")
    filters.learn(yard.runtime, "id2")  # no such container: nothing to read
    assert "annotations" not in spec
    unfiltered: dict[str, Any] = {"linux": {}}
    filters.annotate(unfiltered, yard.runtime, "id3")
    assert unfiltered == {"linux": {}}
