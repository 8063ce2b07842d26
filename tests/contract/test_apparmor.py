"""AppArmor for real: the default profile compiles, is loaded, and holds."""

import subprocess
from pathlib import Path

import pytest

from proad.host import apparmor
from proad.model.apparmor import DEFAULT, default_profile
from tests.api import steps
from tests.strictness import skip_for_lack_of
from tests.support.daemon import Daemon

PROBE = """
cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current 2>/dev/null || echo none
mkdir -p /mnt/x; mount -t tmpfs none /mnt/x 2>/dev/null && echo mounted
"""


def confined() -> None:
    if not apparmor.is_enabled() or apparmor.find_parser() is None:
        skip_for_lack_of("a kernel with AppArmor enabled, and apparmor_parser")


def run(daemon: Daemon, image: str, *options: str, **host_config: object) -> tuple[list[str], str]:
    """What the probe says, and the profile that inspect shows."""
    host = {"SecurityOpt": list(options), "CapAdd": ["SYS_ADMIN"], **host_config}
    made = steps.start(daemon.api, image, "sh", "-c", PROBE, HostConfig=host)
    steps.wait_exit(daemon.api, made)
    said = daemon.api("GET", f"/containers/{made}/logs", stdout=True, stderr=True).expect(200).body
    lines = [line[8:].decode().strip("\0\r ") for line in said.splitlines() if len(line) > 8]
    shown = steps.inspect(daemon.api, made)["AppArmorProfile"]
    daemon.api("DELETE", f"/containers/{made}").expect(204)
    return lines, shown


def test_the_profile_compiles() -> None:
    parser = apparmor.find_parser()
    if parser is None:
        skip_for_lack_of("apparmor_parser")
    compile_only = [parser, "--skip-kernel-load", "--skip-cache"]
    done = subprocess.run(
        compile_only, input=default_profile("/usr/bin/a b"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_it_nothing_is_shown(daemon: Daemon, image: str) -> None:
    if apparmor.is_enabled():
        skip_for_lack_of("a kernel without AppArmor")
    _, shown = run(daemon, image, "apparmor=whatever")
    assert shown == ""
    assert "name=apparmor" not in daemon.api("GET", "/info").json["SecurityOptions"]


def test_a_container_is_confined_by_default(daemon: Daemon, image: str) -> None:
    confined()
    for options in ((), ("apparmor=docker-default",)):
        lines, shown = run(daemon, image, *options)
        assert lines[0] == f"{DEFAULT} (enforce)"
        assert "mounted" not in lines
        assert shown == DEFAULT
    assert "name=apparmor" in daemon.api("GET", "/info").json["SecurityOptions"]


def test_who_asks_otherwise_is_not(daemon: Daemon, image: str) -> None:
    confined()
    for options, more in ((("apparmor=unconfined",), {}), ((), {"Privileged": True})):
        lines, shown = run(daemon, image, *options, **more)
        assert lines[0] == "unconfined"
        assert "mounted" in lines
        assert shown == "unconfined"


def test_a_profile_of_ones_own(daemon: Daemon, image: str, tmp_path: Path) -> None:
    confined()
    parser = apparmor.find_parser()
    text = "profile proa-test-own flags=(attach_disconnected) {\n  file,\n  capability,\n  mount,\n}\n"
    subprocess.run([str(parser), "--replace", "--skip-cache"], input=text, text=True, check=True)
    try:
        lines, shown = run(daemon, image, "apparmor=proa-test-own")
    finally:
        subprocess.run([str(parser), "--remove"], input=text, text=True, check=True)
    assert lines[0] == "proa-test-own (enforce)"
    assert shown == "proa-test-own"
    made = steps.create(daemon.api, image, HostConfig={"SecurityOpt": ["apparmor=proa-test-own"]})
    daemon.api("POST", f"/containers/{made}/start").expect(500)
    daemon.api("DELETE", f"/containers/{made}").expect(204)


def test_an_unloaded_profile_is_loaded_again(daemon: Daemon, image: str) -> None:
    confined()
    subprocess.run([str(apparmor.find_parser()), "--remove"], input=default_profile(), text=True, check=True)
    lines, _ = run(daemon, image)
    assert lines[0] == f"{DEFAULT} (enforce)"


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_confined_container_can_be_signalled(daemon: Daemon, image: str, signal: str) -> None:
    confined()
    made = steps.start_trapping(daemon.api, image, "'exit 5' TERM")
    daemon.api("POST", f"/containers/{made}/kill", signal=signal).expect(204)
    assert steps.wait_exit(daemon.api, made) == (5 if signal == "TERM" else 137)
    daemon.api("DELETE", f"/containers/{made}").expect(204)
