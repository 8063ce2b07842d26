"""The default AppArmor profile: what its globs deny and what they leave, and who gets it."""

import re

import pytest

from proad.model.apparmor import DEFAULT, default_profile, profile_of

_TOKENS = (
    (re.compile(r"\*\*"), ".*"), (re.compile(r"\*"), "[^/]*"), (re.compile(r"\[[^]]+\]"), None),
    (re.compile(r"."), ""),
)  # fmt: skip


def to_pattern(glob: str) -> "re.Pattern[str]":
    """An AppArmor glob as a regular expression (apparmor.d(5), "Globbing")."""
    pattern, at = "", 0
    while at < len(glob):
        for token, meaning in _TOKENS:
            if found := token.match(glob, at):
                pattern += found[0] if meaning is None else meaning or re.escape(found[0])
                at = found.end()
                break
    return re.compile(pattern)


def denied(path: str) -> str:
    """The permissions that the profile takes away for a path."""
    rules = re.findall(r"^  deny (/\S+) (\w+),$", default_profile(), re.MULTILINE)
    assert rules
    return "".join(sorted({letter for glob, letters in rules if to_pattern(glob).fullmatch(path)
                           for letter in letters}))  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/proc/sysrq-trigger", "/proc/kcore", "/sys/firmware/efi/vars", "/sys/kernel/security/apparmor/.remove",
     "/sys/devices/virtual/powercap/intel-rapl/energy_uj"],
)  # fmt: skip
def test_what_may_not_be_touched_at_all(path: str) -> None:
    assert denied(path) == "klrw"


@pytest.mark.parametrize(
    "path",
    ["/proc/mtrr", "/proc/s", "/proc/acpi/wakeup", "/proc/irq/1/smp_affinity", "/proc/scsi/scsi",
     "/proc/sysvipc/x", "/proc/sy/x", "/proc/bus/pci/00/1", "/proc/fs/xfs/stat", "/proc/sys/vm/drop_caches",
     "/proc/sys/fs/binfmt_misc/register", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/core_pattern",
     "/proc/sys/kernel/modprobe", "/proc/sys/kernel/s", "/proc/sys/kernel/sem", "/proc/sys/kernel/sh",
     "/proc/sys/kernel/sched_rt_runtime_us", "/proc/sys/kernels/x", "/proc/sys/k", "/proc/sys/kern/x"],
)  # fmt: skip
def test_what_may_be_read_of_proc(path: str) -> None:
    assert denied(path) == "w"


@pytest.mark.parametrize(
    "path",
    ["/sys/power/state", "/sys/f", "/sys/fsx/a", "/sys/block/sda/queue/x", "/sys/fs/ext4/sda/x", "/sys/fs/c",
     "/sys/fs/cgroups/x", "/sys/fs/cgrou/x", "/sys/fs/bpf/x", "/sys/kernel/uevent_helper"],
)  # fmt: skip
def test_what_may_be_read_of_sys(path: str) -> None:
    assert denied(path) == "klw"


@pytest.mark.parametrize(
    "path",
    ["/proc/1/oom_score_adj", "/proc/self/x/y", "/proc/123/attr/apparmor/exec", "/proc/7/task/7/comm",
     "/proc/sys/kernel/shmmax", "/proc/sys/kernel/shm_rmid_forced", "/sys/fs/cgroup/memory/a/tasks",
     "/sys/fs/cgroup/cgroup.procs", "/etc/passwd", "/dev/null", "/system/x", "/procs/x"],
)  # fmt: skip
def test_what_is_left_alone(path: str) -> None:
    assert denied(path) == ("w" if path.startswith("/proc/self") else "")  # a link that the kernel resolves


def test_who_may_signal() -> None:
    text = default_profile("/usr/bin/proad")
    for sender in ("unconfined", "/usr/bin/proad", "crun", "runc"):
        assert f'  signal (receive) peer="{sender}",\n' in text
    assert "  deny mount,\n" in text
    assert text.startswith(f"profile {DEFAULT} ")


@pytest.mark.parametrize(
    ("options", "privileged", "profile"),
    [
        ((), False, DEFAULT), (("apparmor=",), False, DEFAULT),
        (("apparmor=docker-default",), False, DEFAULT),
        (("apparmor=unconfined",), False, "unconfined"), (("apparmor:mine",), False, "mine"),
        ((), True, "unconfined"), (("apparmor=mine",), True, "unconfined"),
    ],
)  # fmt: skip
def test_who_gets_which(options: tuple[str, ...], privileged: bool, profile: str) -> None:
    assert profile_of(options, privileged=privileged) == profile
