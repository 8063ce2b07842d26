"""A built OCI config against the real runtimes: they accept it, and a probe inside sees what it should.

What is expected are Docker's documented defaults: its capability list, its masked and read-only paths, the
system calls that its seccomp profile blocks. Run with ``-rP`` to read what the probe saw.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace as with_changes
from pathlib import Path
from typing import Any

import pytest

from proad.host.cgroup import detect_layout
from proad.host.runtime import crun_hindrance
from proad.model import capabilities, seccomp
from proad.model.container import Container
from proad.model.defaults import with_defaults
from proad.model.devices import Device
from proad.model.hostconfig import ContainerConfig, HostConfig, Ulimit
from proad.model.hostfacts import HostFacts
from proad.model.mounts import SpecMount
from proad.model.spec import SpecInputs, build_spec
from proad.model.user import ProcessUser
from tests.strictness import skip_for_lack_of
from tests.support.whose import own_name

BUSYBOX = "/bin/busybox"
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not os.access(BUSYBOX, os.X_OK), reason="needs busybox-static"),
]

Probe = Callable[..., str]


def held_capabilities() -> frozenset[str]:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return capabilities.from_mask(int(line.split()[1], 16))
    raise AssertionError("no CapBnd")


def default_profile(names: frozenset[str]) -> dict[str, Any] | None:
    kernel = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    return seccomp.builtin(
        Path(seccomp.BUILTIN_PATH).read_bytes(), names, platform.machine(), (kernel[0], kernel[1])
    )


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rootfs")
    root.chmod(0o755)
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "sbin", "data"):
        (root / name).mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    return root


@pytest.fixture(params=["crun", "runc"])
def runtime(request: pytest.FixtureRequest) -> str:
    path = shutil.which(request.param)
    if path is None:
        skip_for_lack_of(request.param)
    if request.param == "crun" and (hindrance := crun_hindrance(detect_layout())):
        skip_for_lack_of(f"a host where crun works: {hindrance}")
    return path


@pytest.fixture
def probe(runtime: str, rootfs: Path, tmp_path: Path) -> Iterator[Probe]:
    """Run a shell script in a container made from a HostConfig; returns what it wrote."""
    parent = own_name("proa-test-")

    def run(
        script: str,
        host_config: HostConfig | None = None,
        config: dict[str, Any] | None = None,
        **inputs: Any,
    ) -> str:
        name = own_name("proa-test-")
        version = detect_layout().version
        facts = HostFacts(cgroup_version=version)
        settings = ContainerConfig(**{"cmd": ("/bin/sh", "-c", script), **(config or {})})
        container = Container(
            id=name, name=name, created_ns=0, image_id="", image_ref="", layers=(), config=settings,
            host_config=with_defaults(host_config or HostConfig(), facts),
        )  # fmt: skip
        held = held_capabilities()
        built = SpecInputs(
            container=container, rootfs=str(rootfs), user=ProcessUser(), hostname="probe",
            env=["PATH=/bin:/sbin"], cgroup_path=f"/{parent}/{name}", held_capabilities=held,
            seccomp=default_profile(frozenset(capabilities.DEFAULT) & held),
        )  # fmt: skip
        spec = build_spec(with_changes(built, **inputs))
        (tmp_path / "config.json").write_text(json.dumps(spec))
        command = [runtime, "--root", str(tmp_path / "state"), "run", "-b", str(tmp_path), name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        said = done.stdout + done.stderr
        print(said)
        assert done.returncode == 0, said
        return said

    yield run
    for made in (*Path("/sys/fs/cgroup").glob(f"*/{parent}"), *Path("/sys/fs/cgroup").glob(parent)):
        for left in made.glob("proa-test-*"):
            left.rmdir()
        made.rmdir()


def test_default_capabilities_are_dockers(probe: Probe) -> None:
    status = probe("busybox grep Cap /proc/self/status")
    sets = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines()}
    expected = frozenset(capabilities.DEFAULT) & held_capabilities()
    assert capabilities.from_mask(sets["CapEff:"]) == expected
    assert capabilities.from_mask(sets["CapBnd:"]) == expected
    assert sets["CapInh:"] == sets["CapAmb:"] == 0


def test_another_user_keeps_no_capability(probe: Probe) -> None:
    status = probe("busybox grep Cap /proc/self/status; busybox id", user=ProcessUser(uid=1000, gid=1000))
    assert "CapEff:\t0000000000000000" in status
    assert "uid=1000 gid=1000" in status


def test_kernel_interfaces_are_masked_or_read_only(probe: Probe) -> None:
    said = probe(
        "busybox wc -c < /proc/kcore; busybox ls /sys/firmware | busybox wc -w;"
        "echo 1 > /proc/sys/kernel/hostname && echo WRITTEN;"
        "echo h > /proc/sysrq-trigger && echo WRITTEN;"
        "busybox touch /sys/probe && echo WRITTEN;"
        "for d in /sys/fs/cgroup /sys/fs/cgroup/memory; do"
        " [ -e $d/cgroup.procs ] && busybox mkdir $d/probe && echo WRITTEN; done; true"
    )
    assert "WRITTEN" not in said
    assert said.split()[0] == "0"


@pytest.mark.parametrize(
    "attempt",
    [
        "busybox mount -t tmpfs none /tmp",
        "busybox unshare -U true",
        "busybox unshare -n true",
        "busybox dmesg",
        "busybox mknod /dev/sda b 8 0 && busybox head -c 1 /dev/sda",
        "busybox hostname other",
        "busybox pivot_root /tmp /tmp",
    ],
)
def test_what_docker_denies_is_denied(probe: Probe, attempt: str) -> None:
    said = probe(f"{attempt} 2>&1 && echo POSSIBLE; true")
    assert "POSSIBLE" not in said
    assert "ermitted" in said or "denied" in said


def test_new_namespaces_are_denied_with_the_errno_of_docker(probe: Probe) -> None:
    said = probe("busybox unshare -U true 2>&1; busybox unshare -m true 2>&1; true")
    assert said.count("Operation not permitted") == 2


def test_usual_devices_and_mounts_are_there(probe: Probe) -> None:
    said = probe("busybox ls /dev; busybox cat /proc/mounts; echo x > /dev/null")
    for name in (
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "ptmx",
        "shm",
        "mqueue",
        "pts",
        "fd",
        "stdin",
    ):
        assert name in said.split()
    mounts = {line.split()[1]: line.split() for line in said.splitlines() if line.count(" ") >= 5}
    assert mounts["/dev/shm"][2:4][0] == "tmpfs"
    assert "size=65536k" in mounts["/dev/shm"][3]
    assert "ro" in mounts["/sys"][3].split(",")
    assert "noexec" in mounts["/proc"][3]


def test_namespaces_sysctls_and_hostname_are_its_own(probe: Probe) -> None:
    said = probe(
        "busybox hostname; echo $$; busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start;"
        "busybox cat /proc/sys/kernel/domainname; busybox ls /sys/class/net",
        config={"domainname": "example.org"},
    )
    assert said.split() == ["probe", "1", "0", "example.org", "lo"]


def test_limits_reach_the_kernel(probe: Probe) -> None:
    wanted = HostConfig(
        memory=64 * 2**20, nano_cpus=500_000_000, pids_limit=77, cpu_shares=512, oom_score_adj=300,
        ulimits=(Ulimit(name="nofile", soft=123, hard=456), Ulimit(name="core", soft=0, hard=0)),
    )  # fmt: skip
    said = probe(
        "ulimit -n; ulimit -Hn; busybox cat /proc/self/oom_score_adj;"
        "busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;"
        "busybox cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null;"
        "busybox cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true",
        wanted,
    )
    assert said.split()[:6] == ["123", "456", "300", str(64 * 2**20), "77", "50000"]


def test_an_unlimited_ulimit_is_accepted(probe: Probe) -> None:
    assert "unlimited" in probe("ulimit -c", HostConfig(ulimits=(Ulimit(name="core", soft=-1, hard=-1),)))


def test_a_device_that_is_given_can_be_used(probe: Probe) -> None:
    null = Device(path="/dev/mine", type="c", major=1, minor=3, permissions="rw")
    assert "ok" in probe("echo x > /dev/mine && echo ok", devices=[null])


def test_privileged_gets_all_that_the_daemon_holds(probe: Probe) -> None:
    said = probe(
        "busybox grep CapEff /proc/self/status; busybox mount -t tmpfs none /tmp && echo mounted;"
        "busybox unshare -n true && echo unshared; busybox cat /proc/self/status | busybox grep Seccomp:",
        HostConfig(privileged=True),
    )
    assert capabilities.from_mask(int(said.split()[1], 16)) == held_capabilities()
    assert "mounted" in said
    assert "unshared" in said
    assert "Seccomp:\t0" in said


def test_a_read_only_rootfs_leaves_dev_and_given_mounts_writable(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    bind = SpecMount("/data", "bind", str(tmp_path / "volume"), ("rbind", "rprivate"))
    said = probe(
        "busybox touch /tmp/x 2>&1; busybox touch /dev/shm/x /data/x && echo ok",
        HostConfig(readonly_rootfs=True),
        mounts=[bind],
    )
    assert "Read-only file system" in said
    assert "ok" in said


def test_host_namespaces_are_the_hosts(probe: Probe) -> None:
    said = probe(
        "for n in net uts ipc pid; do busybox readlink /proc/self/ns/$n; done",
        HostConfig(network_mode="host", uts_mode="host", ipc_mode="host", pid_mode="host"),
    )
    assert said.split() == [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "uts", "ipc", "pid")]


def test_shared_memory_of_another_and_none(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "shm").mkdir()
    (tmp_path / "shm/mark").touch()
    assert "mark" in probe("busybox ls /dev/shm", shm=str(tmp_path / "shm"))
    assert "No such file" in probe("busybox ls /dev/shm 2>&1; true", HostConfig(ipc_mode="none"))


def test_own_seccomp_profile_and_no_new_privileges(probe: Probe) -> None:
    rule = '{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}'
    text = f'{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}'
    profile = seccomp.to_oci(seccomp.parse_profile(text), capabilities.DEFAULT, platform.machine(), (6, 1))
    said = probe(
        "busybox mkdir /tmp/x 2>&1; busybox grep NoNewPrivs /proc/self/status",
        HostConfig(security_opt=("no-new-privileges",)),
        seccomp=profile,
    )
    assert "Operation not permitted" in said
    assert "NoNewPrivs:\t1" in said


# (what, shell command that succeeds where it is possible, whether Docker's documented defaults allow it)
ATTEMPTS = (
    (
        "own files: chown, chmod, setuid programs",
        "touch /tmp/f && chown 1:1 /tmp/f && chmod 4755 /tmp/f",
        True,
    ),
    ("change root (CAP_SYS_CHROOT)", "chroot / /bin/busybox true", True),
    ("make a harmless device node (CAP_MKNOD)", "rm -f /tmp/null; mknod /tmp/null c 1 3", True),
    ("see its own processes only", "test $(ls /proc | grep -c '^[0-9]') -lt 10", True),
    ("write /dev/shm", "touch /dev/shm/x", True),
    ("mount", "mount -t tmpfs none /tmp", False),
    ("unmount", "umount /dev/shm", False),
    ("new user namespace", "unshare -U true", False),
    ("new network namespace", "unshare -n true", False),
    ("kernel log", "dmesg", False),
    ("change the host name", "hostname other", False),
    ("write sysctls", "sh -c 'echo x > /proc/sys/kernel/domainname'", False),
    ("write /sys", "touch /sys/x", False),
    ("read the kernel's memory", "test -s /proc/kcore", False),
    ("read a disk", "sh -c 'rm -f /tmp/d; mknod /tmp/d b 8 0 && head -c 1 /tmp/d'", False),
    ("pivot_root", "pivot_root /tmp /tmp", False),
)


def test_a_probe_can_and_cannot_do_what_dockers_documentation_says(probe: Probe) -> None:
    script = "busybox mkdir -p /tmp/applets; busybox --install -s /tmp/applets; PATH=/tmp/applets;"
    for number, (_, command, _) in enumerate(ATTEMPTS):
        script += f"{{ {command}; }} >/dev/null 2>&1 && echo can {number} || echo cannot {number};"
    said = probe(script)
    can = {int(line.split()[1]) for line in said.splitlines() if line.startswith("can ")}
    print(f"{'attempt':45}{'here':8}Docker's default")
    for number, (what, _, allowed) in enumerate(ATTEMPTS):
        print(f"{what:45}{'can' if number in can else 'cannot':8}{'can' if allowed else 'cannot'}")
    assert can == {number for number, (_, _, allowed) in enumerate(ATTEMPTS) if allowed}
