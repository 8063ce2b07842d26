"""What an exec is given: environment, place, user, and the confinement of its container."""

from typing import Any

import pytest

from tests.api import steps
from tests.support import execs
from tests.support.hijack import demultiplex
from tests.support.rawhttp import Api

OFFLINE = {"NetworkMode": "none"}


@pytest.fixture
def container(api: Api, image: str) -> str:
    """A container that sleeps."""
    return steps.start(api, image, HostConfig=OFFLINE, Env=["OWN=1"])


def test_environment_and_place(api: Api, container: str) -> None:
    _, out, _ = execs.run(api, container, "env", Env=["A=b", "PATH=/usr/bin", "OWN"])
    assert sorted(out.decode().split("\n")[:-1]) == [
        "A=b", "HOME=/root", f"HOSTNAME={container[:12]}", "PATH=/usr/bin",
    ]  # fmt: skip
    assert execs.run(api, container, "pwd") == (0, b"/\n", b"")
    assert execs.run(api, container, "pwd", WorkingDir="/etc") == (0, b"/etc\n", b"")


def test_users(api: Api, image: str) -> None:
    made = steps.start(
        api, image, "sh", "-c", "mkdir -p /etc; echo u:x:77:88::/home/u:/bin/sh >/etc/passwd; "
        "echo g:x:99:u >/etc/group; echo x:x:0:0::/root:/bin/sh >>/etc/passwd; sleep 1000",
        HostConfig={**OFFLINE, "GroupAdd": ["5"]},
    )  # fmt: skip
    steps.until(lambda: execs.run(api, made, "grep", "-q", "root", "/etc/passwd")[0] == 0)
    show = ("sh", "-c", "id -u; id -g; id -G; echo $HOME")
    assert execs.run(api, made, *show, User="u")[1] == b"77\n88\n88 5 99\n/home/u\n"
    assert execs.run(api, made, *show, User="77:g")[1] == b"77\n99\n99 5\n/home/u\n"
    assert execs.run(api, made, *show, User="1000:1000")[1] == b"1000\n1000\n1000 5\n/\n"
    answer = api("POST", f"/containers/{made}/exec", json_body={"Cmd": ["id"], "User": "nobody"}).expect(400)
    assert answer.message == "unable to find user nobody: no matching entries in passwd file"


def test_a_containers_own_user_and_place_are_inherited(api: Api, image: str) -> None:
    made = steps.start(api, image, HostConfig=OFFLINE, User="1000:1001", WorkingDir="/made")
    assert execs.run(api, made, "sh", "-c", "id -u; id -g; pwd")[1] == b"1000\n1001\n/made\n"
    assert execs.run(api, made, "sh", "-c", "id -u; pwd", User="0", WorkingDir="/")[1] == b"0\n/\n"


STATUS = ("grep", "-E", "^(Cap|Seccomp:|NoNewPrivs)", "/proc/self/status")


@pytest.mark.parametrize(
    "host_config",
    [
        {},
        {"CapDrop": ["ALL"], "CapAdd": ["NET_ADMIN"]},
        {"SecurityOpt": ["no-new-privileges"]},
        {"SecurityOpt": ["seccomp=unconfined"]},
        {"Privileged": True},
    ],
    ids=["default", "capabilities", "no-new-privileges", "unconfined", "privileged"],
)
@pytest.mark.parametrize("user", ["", "1000"])
def test_it_is_confined_as_its_container(
    api: Api, image: str, host_config: dict[str, Any], user: str
) -> None:
    """Capabilities, seccomp and no-new-privileges are those of a container of that user."""
    made = steps.start(
        api, image, "sh", "-c", "cat /proc/self/status; sleep 1000",
        HostConfig={**OFFLINE, **host_config}, User=user,
    )  # fmt: skip
    steps.until(lambda: b"Seccomp:" in api("GET", f"/containers/{made}/logs", stdout=1).body)
    logged, _ = demultiplex(api("GET", f"/containers/{made}/logs", stdout=1).body)
    wanted = [line for line in logged.splitlines() if line.startswith((b"Cap", b"Seccomp:", b"NoNewPrivs"))]
    assert execs.run(api, made, *STATUS)[1].splitlines() == wanted
    root = steps.start(api, image, HostConfig={**OFFLINE, **host_config})
    assert execs.run(api, root, *STATUS, User=user)[1].splitlines() == wanted


def test_its_cgroups_and_limits_are_the_containers(api: Api, image: str) -> None:
    made = steps.start(
        api, image, "sh", "-c",
        "(cat /proc/self/cgroup; ulimit -n; cat /proc/self/oom_score_adj) >/1; sleep 1000",
        HostConfig={**OFFLINE, "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}]},
    )  # fmt: skip
    script = "cat /proc/self/cgroup; ulimit -n; cat /proc/self/oom_score_adj"
    _, own, _ = execs.run(api, made, "sh", "-c", script)
    steps.until(lambda: execs.run(api, made, "wc", "-l", "/1")[1].split()[0] == b"%d" % own.count(b"\n"))
    assert execs.run(api, made, "cat", "/1")[1] == own
    assert b"\n100\n" in own


def test_privileged(api: Api, container: str) -> None:
    """All capabilities that the daemon holds, and the container's seccomp, as with Docker."""
    _, plain, _ = execs.run(api, container, *STATUS)
    _, privileged, _ = execs.run(api, container, *STATUS, Privileged=True)
    effective, theirs = (
        int(next(line for line in text.splitlines() if line.startswith(b"CapEff")).split()[1], 16)
        for text in (plain, privileged)
    )
    assert effective & theirs == effective
    assert theirs > effective
    assert b"Seccomp:\t2" in privileged
    said = execs.run(api, container, *STATUS, Privileged=True, User="1000")[1]
    assert b"CapEff:\t0000000000000000" in said


def test_a_working_directory_by_descriptor_leads_nowhere(api: Api, container: str) -> None:
    """Descriptors of the runtime must not lead out of the container (CVE-2024-21626)."""
    for number in range(3, 20):
        code, out, _ = execs.run(api, container, "ls", "-a", WorkingDir=f"/proc/self/fd/{number}")
        assert code in (126, 127), out
        code, out, _ = execs.run(
            api, container, "sh", "-c", "cd ../../../../../../..; ls", WorkingDir=f"/proc/self/fd/{number}"
        )
        assert code in (126, 127), out
