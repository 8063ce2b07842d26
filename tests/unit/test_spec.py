"""The OCI config as a value: Docker's documented defaults, and what each option changes of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from proad.model import capabilities, errors
from proad.model.container import Container
from proad.model.devices import Device, check_permissions, device_rules, parse_rule
from proad.model.hostconfig import ContainerConfig, HostConfig, ThrottleDevice, Ulimit, WeightDevice
from proad.model.mounts import SpecMount
from proad.model.security import parse_security_opt
from proad.model.spec import SpecInputs, build_spec, runtime_resources
from proad.model.user import ProcessUser

DOCKERS_CAPABILITIES = {
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
    "CAP_SYS_CHROOT",
}  # fmt: skip
"""docs.docker.com/engine/containers/run, "Runtime privilege and Linux capabilities"."""

DOCKERS_MASKED_PATHS = {
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
}  # fmt: skip
"""The Engine API's reference, ``HostConfig.MaskedPaths``."""

DOCKERS_READONLY_PATHS = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}


def build(
    host: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None, **inputs: Any
) -> dict[str, Any]:
    container = Container(
        id="c" * 64, name="n", created_ns=0, image_id="", image_ref="", layers=(),
        config=ContainerConfig(**{"cmd": ("true",), **(config or {})}),
        host_config=HostConfig(**{"network_mode": "bridge", "cgroupns_mode": "private", **(host or {})}),
    )  # fmt: skip
    plain = SpecInputs(
        container=container,
        rootfs="/rootfs",
        user=ProcessUser(),
        env=["A=b"],
        hostname="box",
        cgroup_path="/proa/c",
        netns="/run/netns/x",
    )
    return build_spec(replace(plain, **inputs))


def mounts_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in spec["mounts"]}


def namespaces_of(spec: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each.get("path", "") for each in spec["linux"]["namespaces"]}


def test_the_default_capabilities_are_dockers() -> None:
    assert set(capabilities.DEFAULT) == DOCKERS_CAPABILITIES
    sets = build()["process"]["capabilities"]
    assert set(sets) == {"bounding", "effective", "permitted"}
    assert all(set(each) == DOCKERS_CAPABILITIES for each in sets.values())


def test_another_user_than_root_gets_the_bounding_set_only() -> None:
    assert set(build(user=ProcessUser(uid=1))["process"]["capabilities"]) == {"bounding"}


def test_masked_and_read_only_paths_are_dockers() -> None:
    linux = build()["linux"]
    assert set(linux["maskedPaths"]) >= DOCKERS_MASKED_PATHS
    assert set(linux["readonlyPaths"]) == DOCKERS_READONLY_PATHS
    linux = build({"masked_paths": (), "readonly_paths": ("/x",)})["linux"]
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], ["/x"])


def test_the_file_systems_of_the_kernel_are_mounted_as_docker_mounts_them() -> None:
    mounts = mounts_of(build())
    assert mounts["/proc"]["options"] == ["nosuid", "noexec", "nodev"]
    assert mounts["/dev"]["options"] == ["nosuid", "strictatime", "mode=755", "size=65536k"]
    assert mounts["/sys"]["options"] == ["nosuid", "noexec", "nodev", "ro"]
    assert mounts["/sys/fs/cgroup"]["options"] == ["ro", "nosuid", "noexec", "nodev"]
    assert mounts["/sys/fs/cgroup"]["type"] == "cgroup"
    assert mounts["/dev/shm"]["options"] == ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]
    assert mounts["/dev/mqueue"]["type"] == "mqueue"
    assert "ptmxmode=0666" in mounts["/dev/pts"]["options"]


def test_no_device_but_the_harmless_ones() -> None:
    rules = build()["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert {(r["major"], r["minor"]) for r in rules[1:] if r["allow"]} == {
        (1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)
    }  # fmt: skip
    assert build()["linux"]["devices"] == []


def test_namespaces_are_new_unless_asked_otherwise() -> None:
    assert namespaces_of(build()) == {
        "mount": "", "network": "/run/netns/x", "uts": "", "pid": "", "ipc": "", "cgroup": "",
    }  # fmt: skip
    modes = ("network_mode", "uts_mode", "ipc_mode", "pid_mode", "cgroupns_mode")
    spec = build(dict.fromkeys(modes, "host"))
    assert namespaces_of(spec) == {"mount": ""}
    assert "hostname" not in spec
    joined = build(
        {"ipc_mode": "container:x", "pid_mode": "container:x"},
        ipc_namespace="/proc/9/ns/ipc",
        pid_namespace="/proc/9/ns/pid",
    )
    assert namespaces_of(joined)["ipc"] == "/proc/9/ns/ipc"
    assert namespaces_of(joined)["pid"] == "/proc/9/ns/pid"


def test_the_process_is_what_was_asked_for() -> None:
    process = build(
        {"security_opt": ("no-new-privileges",), "console_size": (10, 20), "oom_score_adj": 5},
        {"entrypoint": ("sh", "-c"), "cmd": ("ls",), "working_dir": "/srv", "tty": True},
        user=ProcessUser(uid=7, gid=8, additional_gids=(8, 9)),
    )["process"]
    assert process["args"] == ["sh", "-c", "ls"]
    assert process["cwd"] == "/srv"
    assert process["user"] == {"uid": 7, "gid": 8, "additionalGids": [8, 9]}
    assert process["terminal"]
    assert process["consoleSize"] == {"height": 10, "width": 20}
    assert process["noNewPrivileges"]
    assert process["oomScoreAdj"] == 5


def test_an_init_goes_first_where_the_pid_namespace_is_its_own() -> None:
    spec = build({"init": True}, init_path="/usr/bin/tini")
    assert spec["process"]["args"] == ["/sbin/docker-init", "--", "true"]
    assert mounts_of(spec)["/sbin/docker-init"]["source"] == "/usr/bin/tini"
    spec = build({"init": True, "pid_mode": "host"}, init_path="/usr/bin/tini")
    assert spec["process"]["args"] == ["true"]
    assert "/sbin/docker-init" not in mounts_of(spec)


def test_the_users_mounts_replace_defaults_and_come_after_them() -> None:
    mine = [
        SpecMount("/data/deep", "bind", "/b"),
        SpecMount("/data", "bind", "/a"),
        SpecMount("/dev", "bind", "/d"),
    ]
    destinations = [mount["destination"] for mount in build(mounts=mine)["mounts"]]
    assert destinations[-3:] == ["/data", "/dev", "/data/deep"]
    assert destinations.count("/dev") == 1
    assert "/dev/pts" not in destinations
    assert "/dev/shm" not in destinations


def test_shared_memory_follows_the_ipc_mode() -> None:
    assert mounts_of(build(shm="/run/shm"))["/dev/shm"]["source"] == "/run/shm"
    assert "/dev/shm" not in mounts_of(build({"ipc_mode": "none"}))
    assert "size=123" in mounts_of(build({"shm_size": 123}))["/dev/shm"]["options"]


def test_a_read_only_root_makes_the_rest_read_only_but_what_must_be_written() -> None:
    spec = build({"readonly_rootfs": True}, mounts=[SpecMount("/data", "bind", "/a")])
    assert spec["root"]["readonly"]
    writable = {d for d, mount in mounts_of(spec).items() if "ro" not in mount["options"]}
    assert writable == {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/data"}


def test_propagation_of_a_mount_reaches_the_root() -> None:
    assert "rootfsPropagation" not in build()["linux"]
    shared = SpecMount("/data", "bind", "/a", ("rbind", "rshared"))
    assert build(mounts=[shared])["linux"]["rootfsPropagation"] == "shared"


def test_privileged_is_everything_that_the_daemon_holds_and_no_more() -> None:
    held = frozenset(capabilities.BY_NUMBER) - {"CAP_SYS_RESOURCE"}
    spec = build({"privileged": True}, held_capabilities=held, seccomp={"defaultAction": "SCMP_ACT_ERRNO"})
    assert set(spec["process"]["capabilities"]["effective"]) == held
    assert spec["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert (spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"]) == ([], [])
    assert "seccomp" not in spec["linux"]
    for destination in ("/sys", "/sys/fs/cgroup"):
        assert "ro" not in mounts_of(spec)[destination]["options"]


def test_capabilities_are_added_dropped_and_cut() -> None:
    everything = frozenset(capabilities.BY_NUMBER)
    choose = capabilities.choose
    assert set(choose(["net_admin"], [], privileged=False, held=everything)[0]) == {
        *DOCKERS_CAPABILITIES, "CAP_NET_ADMIN",
    }  # fmt: skip
    assert choose([], ["all"], privileged=False, held=everything) == ([], [])
    assert choose(["chown"], ["ALL"], privileged=False, held=everything)[0] == ["CAP_CHOWN"]
    assert "CAP_MKNOD" not in choose([], ["CAP_MKNOD"], privileged=False, held=everything)[0]
    given, _ = choose(["ALL"], ["sys_admin"], privileged=False, held=everything)
    assert set(given) == everything - {"CAP_SYS_ADMIN"}
    held = everything - {"CAP_SYS_RESOURCE", "CAP_MKNOD"}
    given, missing = choose(["sys_resource", "chown"], [], privileged=False, held=held)
    assert missing == ["CAP_SYS_RESOURCE"]
    assert set(given) == DOCKERS_CAPABILITIES - {"CAP_MKNOD"}
    with pytest.raises(errors.InvalidParameter, match="CAP_FLY"):
        choose(["fly"], [], privileged=False, held=held)


def test_capabilities_have_the_kernels_numbers() -> None:
    assert capabilities.BY_NUMBER[0] == "CAP_CHOWN"
    assert capabilities.BY_NUMBER[21] == "CAP_SYS_ADMIN"
    assert capabilities.BY_NUMBER[40] == "CAP_CHECKPOINT_RESTORE"
    assert capabilities.from_mask(0x0000_0000_A804_25FB) == DOCKERS_CAPABILITIES


def test_ulimits_are_merged_and_lowered_to_what_may_be_given() -> None:
    spec = build(
        {"ulimits": (Ulimit(name="nofile", soft=50, hard=500), Ulimit(name="core", soft=-1, hard=-1))},
        default_ulimits={"nofile": (1, 2), "nproc": (3, 4)},
        hard_limits={"nofile": 100, "core": -1},
    )
    limits = {each["type"]: (each["soft"], each["hard"]) for each in spec["process"]["rlimits"]}
    assert limits == {
        "RLIMIT_NOFILE": (50, 100),
        "RLIMIT_NPROC": (3, 4),
        "RLIMIT_CORE": (2**64 - 1, 2**64 - 1),
    }


def test_the_oom_score_is_not_lowered_below_the_daemons() -> None:
    assert build({"oom_score_adj": -500})["process"]["oomScoreAdj"] == -500
    assert build({"oom_score_adj": -500}, oom_score_floor=0)["process"]["oomScoreAdj"] == 0


def test_sysctls_come_with_a_network_of_ones_own() -> None:
    own = build({"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}}, {"domainname": "d"})["linux"][
        "sysctl"
    ]
    assert own == {
        "kernel.domainname": "d",
        "net.ipv4.ip_unprivileged_port_start": "80",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    for mode in ("host", "container:x"):
        assert build({"network_mode": mode})["linux"]["sysctl"] == {}


def test_limits_become_resources() -> None:
    resources = runtime_resources(
        HostConfig(
            memory=1, memory_swap=2, memory_reservation=3, memory_swappiness=0, oom_kill_disable=True,
            nano_cpus=1_500_000_000, cpu_shares=4, cpuset_cpus="0", cpuset_mems="1", pids_limit=5,
            blkio_weight=6,
            blkio_weight_device=(WeightDevice(path="/dev/a", weight=7),),
            blkio_device_read_bps=(ThrottleDevice(path="/dev/a", rate=8),),
            blkio_device_write_iops=(ThrottleDevice(path="/dev/b", rate=9),),
        ),
        {"/dev/a": (8, 0), "/dev/b": (8, 16)},
    )  # fmt: skip
    assert resources == {
        "memory": {"limit": 1, "swap": 2, "reservation": 3, "swappiness": 0, "disableOOMKiller": True},
        "cpu": {"shares": 4, "period": 100_000, "quota": 150_000, "cpus": "0", "mems": "1"},
        "pids": {"limit": 5},
        "blockIO": {
            "weight": 6,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 7}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 8}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 9}],
        },
    }


def test_no_limits_are_no_resources() -> None:
    assert runtime_resources(HostConfig()) == {}
    assert runtime_resources(HostConfig(memory=1, memory_swap=-1))["memory"] == {"limit": 1}
    assert runtime_resources(HostConfig(memory_swap=-1), lift_swap=True)["memory"] == {"swap": -1}
    assert runtime_resources(HostConfig(pids_limit=0))["pids"] == {"limit": -1}


def test_given_devices_are_made_and_allowed() -> None:
    device = Device(path="/dev/mine", type="c", major=10, minor=200, mode=0o600, permissions="rw")
    linux = build({"device_cgroup_rules": ("c 13:* rwm",)}, devices=[device])["linux"]
    assert linux["devices"] == [
        {"path": "/dev/mine", "type": "c", "major": 10, "minor": 200, "fileMode": 0o600, "uid": 0, "gid": 0}
    ]
    assert linux["resources"]["devices"][-2:] == [
        {"allow": True, "access": "rw", "type": "c", "major": 10, "minor": 200},
        {"allow": True, "access": "rwm", "type": "c", "major": 13, "minor": -1},
    ]


def test_device_rules_and_permissions_are_read_as_docker_reads_them() -> None:
    assert parse_rule("a") == {"allow": True, "access": "rwm", "type": "a", "major": -1, "minor": -1}
    assert device_rules([], [], privileged=True) == [{"allow": True, "access": "rwm"}]
    for bad in ("x 1:2 r", "c 1:2", "c 1:2 rwmx", "c :2 r", "c 1:2 r\n"):
        with pytest.raises(errors.InvalidParameter, match="invalid device cgroup rule format"):
            parse_rule(bad)
    for good in ("", "r", "mrw"):
        check_permissions(good)
    for bad in ("rr", "x", "rwmr"):
        with pytest.raises(errors.InvalidParameter, match="invalid device mode"):
            check_permissions(bad)


def test_security_options_in_new_and_old_form() -> None:
    options = parse_security_opt(
        ["no-new-privileges:true", "label:disable", "apparmor=x", 'seccomp={"a":"b=c"}']
    )
    assert options.no_new_privileges
    assert options.labels == ("disable",)
    assert options.apparmor == "x"
    assert options.seccomp == '{"a":"b=c"}'
    assert not parse_security_opt(["no-new-privileges", "no-new-privileges=false"]).no_new_privileges


def test_annotations_reach_the_runtime() -> None:
    assert build({"annotations": {"a": "b"}})["annotations"] == {"a": "b"}
    assert "annotations" not in build()
