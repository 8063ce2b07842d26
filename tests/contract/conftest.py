"""Fixtures of contract tests that run real containers without a daemon."""

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from proad.host.cgroup import Cgroups, detect_layout
from proad.host.conmon import Conmon, Monitored, MonitorRequest
from proad.host.process import run
from proad.host.runtime import Runtime, containers_at, crun_hindrance, find_runtime
from tests.strictness import skip_for_lack_of
from tests.support.bundles import make_rootfs, write_config
from tests.support.whose import own_name


@dataclass
class Yard:
    """A place where containers are built and run by monitor and runtime alone."""

    path: Path
    rootfs: Path
    runtime: Runtime
    conmon: Conmon
    cgroups: Cgroups
    parent: str
    made: list[str] = field(default_factory=list)

    def request(self, *args: str, **options: Any) -> MonitorRequest:
        """Write a bundle that runs ``args`` and say how it is to be monitored."""
        container_id = secrets.token_hex(16)
        bundle = self.path / "runs" / container_id
        config = {key: options.pop(key) for key in ("resources",) if key in options}
        write_config(
            bundle,
            self.rootfs,
            args,
            cgroup=self.cgroup(container_id),
            terminal=options.get("terminal", False),
            **config,
        )
        self.made.append(container_id)
        options.setdefault("log_path", bundle / "container.log")
        return MonitorRequest(
            container_id=container_id, run_id="run1", name="n", bundle=bundle, runtime=self.runtime, **options
        )

    def cgroup(self, container_id: str) -> str:
        return f"{self.parent}/{container_id}"

    async def start(self, request: MonitorRequest) -> Monitored:
        monitored = await self.conmon.create(self.conmon.launch(request))
        await self.runtime.start(request.container_id)
        return monitored

    async def clear(self) -> None:
        for container_id in self.made:
            await self.runtime.delete(container_id, force=True)
        await self.cgroups.remove(self.parent)


@pytest.fixture(params=["crun", "runc"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    """Run with each runtime that works on this host; afterwards no process, cgroup or state may be left."""
    if os.geteuid() != 0:
        skip_for_lack_of("root")
    busybox, conmon = shutil.which("busybox"), shutil.which("conmon")
    if busybox is None or conmon is None or shutil.which(request.param) is None:
        skip_for_lack_of(f"busybox, conmon or {request.param}")
    layout = detect_layout()
    if request.param == "crun" and (hindrance := crun_hindrance(layout)):
        pytest.skip(hindrance)
    runtime = find_runtime(request.param, None, tmp_path / "runtime")
    parent = f"/{own_name('proa-test-')}"
    made = Yard(
        tmp_path,
        make_rootfs(tmp_path / "rootfs", Path(busybox)),
        runtime,
        Conmon(Path(conmon)),
        Cgroups(layout),
        parent,
    )
    assert runtime.program.exists()  # a copy is made once and kept: not of this test's making
    yield made
    trio.run(made.clear)
    assert not containers_at(tmp_path / "runtime"), "the runtime kept state"
    assert trio.run(_monitors_of, tmp_path) == b"", "a monitor is left"


async def _monitors_of(path: Path) -> bytes:
    done = await run(["/usr/bin/pgrep", "-f", f"conmon.*{path}"])
    return done.stdout
