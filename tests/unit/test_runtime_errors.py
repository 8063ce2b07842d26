"""What runtimes say, in Docker's words and codes; and which runtime is chosen on which cgroup layout."""

from pathlib import Path

import pytest

from proad.host import runtime
from proad.host.cgroup import Layout, detect_layout
from proad.host.runtime import containers_at, crun_hindrance, start_error
from proad.model import errors

NOT_FOUND = 'exec: "x": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("said", "code", "shown"),
    [
        ("executable file `x` not found in $PATH: No such file or directory", 127, NOT_FOUND),
        ("executable file `/x` not found: No such file or directory", 127, "stat /x: no such file or dir"),
        ("open executable: Permission denied", 126, "exec: permission denied"),
        (
            "the path `/x` exists but it is not executable: Operation not permitted",
            126,
            'exec: "/x": permission denied',
        ),
        (
            "the path `/x` is not a regular file: Operation not permitted",
            126,
            'exec: "/x": permission denied',
        ),
        (
            "exec container process (missing dynamic library?) `/x`: No such file or directory",
            127,
            "no such file or directory",
        ),
        (
            'time="2026" level=warning msg="w"\n'
            'time="2026" level=error msg="runc create failed: unable to start container process: '
            'exec: \\"x\\": executable file not found in $PATH"\n',
            127,
            NOT_FOUND,
        ),
        ("exec container process `/garbage`: Exec format error", 126, "exec format error"),
        ("mount `/a` to `/b`: Not a directory", 127, "Are you trying to mount a directory onto a file"),
        ("write to `memory.max`: Invalid argument", 128, "write to `memory.max`: invalid argument"),
        ("", 128, "the runtime gave no reason"),
        ('time="t" level=error msg="odd \\x1b text"', 128, "odd"),
    ],
)
def test_start_errors(said: str, code: int, shown: str) -> None:
    error = start_error("crun", "create", said)
    assert error.exit_code == code
    assert error.message.startswith("OCI runtime create failed: crun create failed: ")
    assert shown in error.message


HYBRID = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:30 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory
41 31 0:31 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
42 31 0:32 / /no/such/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def test_layouts() -> None:
    hybrid = detect_layout(HYBRID)
    assert (hybrid.kind, hybrid.version) == ("hybrid", 1)
    assert hybrid.available == {"cpu", "cpuacct", "memory"}
    assert hybrid.roots() == [
        Path("/sys/fs/cgroup/cpu,cpuacct"),
        Path("/sys/fs/cgroup/memory"),
        Path("/sys/fs/cgroup/systemd"),
        Path("/no/such/unified"),
    ]
    v1 = detect_layout("\n".join(HYBRID.splitlines()[:3]))
    assert v1.kind == "v1"
    v2 = detect_layout("30 23 0:26 / /no/such rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
    assert (v2.kind, v2.version, v2.roots()) == ("v2", 2, [Path("/no/such")])
    with pytest.raises(errors.Unavailable):
        detect_layout("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")


def test_what_crun_keeps_beside_containers_is_none(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "seccomp").mkdir(parents=True)
    (tmp_path / "a1").mkdir()
    assert containers_at(tmp_path) == {"a1"}
    assert containers_at(tmp_path / "missing") == set()


def test_crun_refuses_left_over_controllers(monkeypatch: pytest.MonkeyPatch) -> None:
    left = Layout("hybrid", {}, (), Path("/x"), frozenset({"hugetlb"}))
    assert "hugetlb" in crun_hindrance(left)
    assert not crun_hindrance(Layout("hybrid", {}, (), Path("/x")))
    v2 = Layout("v2", {}, (), Path("/x"), frozenset({"memory"}))
    monkeypatch.setattr(runtime, "_may_lift_memlock", lambda: True)
    assert not crun_hindrance(v2)
    monkeypatch.setattr(runtime, "_may_lift_memlock", lambda: False)
    assert "RLIMIT_MEMLOCK" in crun_hindrance(v2)
