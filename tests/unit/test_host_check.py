"""A configuration against hosts that lack this or that: what is discarded with a warning, what is refused."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from proad.model import errors
from proad.model.defaults import with_defaults
from proad.model.hostcheck import block_device_paths, check_against_host, privilege_warnings
from proad.model.hostconfig import (
    DeviceMapping,
    HostConfig,
    PortBinding,
    RestartPolicy,
    ThrottleDevice,
    Ulimit,
    UpdateRequest,
    WeightDevice,
)
from proad.model.hostfacts import INTERESTING_FILES, HostFacts
from proad.model.limits import parse_cpu_list
from proad.model.spec import MASKED_PATHS, READONLY_PATHS
from proad.model.update import merge_update

V2 = HostFacts(cpu_count=2, cpus_online="0-1")
V1 = replace(
    V2,
    cgroup_version=1,
    controllers=frozenset({"cpu", "cpuset", "blkio", "memory", "pids"}),
    files=frozenset(name for names in INTERESTING_FILES.values() for name in names),
)
BARE = replace(V1, controllers=frozenset[str](), files=frozenset[str]())
THROTTLED = (ThrottleDevice(path="/dev/sda", rate=1),)
MEMORY = 64 * 2**20


def check(facts: HostFacts = V2, **asked: Any) -> tuple[HostConfig, list[str]]:
    return check_against_host(HostConfig(**asked), facts)


def test_a_plain_configuration_draws_no_warning_anywhere() -> None:
    for facts in (V1, V2, BARE):
        assert check(facts)[1] == []


@pytest.mark.parametrize(
    ("asked", "left", "warning"),
    [
        ({"memory": MEMORY}, {"memory": 0, "memory_swap": -1}, "does not support memory limit capabilities"),
        ({"memory_reservation": MEMORY}, {"memory_reservation": 0}, "memory soft limit capabilities"),
        ({"memory_swappiness": 10}, {"memory_swappiness": None}, "Memory swappiness discarded."),
        ({"kernel_memory": MEMORY}, {"kernel_memory": 0}, "kernel memory limit capabilities"),
        ({"oom_kill_disable": True}, {"oom_kill_disable": None}, "OomKillDisable discarded."),
        ({"pids_limit": 5}, {"pids_limit": None}, "PIDs limit discarded."),
        ({"cpu_shares": 5}, {"cpu_shares": 0}, "Shares discarded."),
        ({"cpu_quota": 5000}, {"cpu_quota": 0}, "CPU period/quota discarded."),
        ({"cpuset_cpus": "0"}, {"cpuset_cpus": ""}, "Cpuset discarded."),
        ({"blkio_weight": 50}, {"blkio_weight": 0}, "Weight discarded."),
        (
            {"blkio_weight_device": (WeightDevice(path="/dev/sda", weight=50),)},
            {"blkio_weight_device": ()},
            "Weight-device discarded.",
        ),
        (
            {"blkio_device_read_bps": THROTTLED},
            {"blkio_device_read_bps": ()},
            "Block I/O BPS read limit discarded.",
        ),
        (
            {"blkio_device_write_bps": THROTTLED},
            {"blkio_device_write_bps": ()},
            "I/O BPS write limit discarded.",
        ),
        (
            {"blkio_device_read_iops": THROTTLED},
            {"blkio_device_read_iops": ()},
            "I/O IOPS read limit discarded.",
        ),
        (
            {"blkio_device_write_iops": THROTTLED},
            {"blkio_device_write_iops": ()},
            "IOPS write limit discarded.",
        ),
        ({"cpu_percent": 5}, {"cpu_percent": 0}, "Percent discarded."),
    ],
)
def test_what_a_bare_kernel_cannot_limit_is_discarded(
    asked: dict[str, Any], left: dict[str, Any], warning: str
) -> None:
    adapted, warnings = check(BARE, **asked)
    assert {name: getattr(adapted, name) for name in left} == left
    assert any(warning in text for text in warnings)


def test_memory_without_swap_accounting_is_limited_alone() -> None:
    adapted, warnings = check(replace(V2, files=frozenset[str]()), memory=MEMORY)
    assert (adapted.memory, adapted.memory_swap) == (MEMORY, -1)
    assert warnings == [
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
        "Memory limited without swap."
    ]


def test_version_two_has_no_swappiness_and_no_oom_switch() -> None:
    adapted, warnings = check(V2, memory_swappiness=5, oom_kill_disable=True)
    assert adapted.memory_swappiness is None
    assert adapted.oom_kill_disable is None
    assert len(warnings) == 2
    adapted, warnings = check(V1, memory_swappiness=5, oom_kill_disable=True, memory=MEMORY)
    assert (adapted.memory_swappiness, adapted.oom_kill_disable, warnings) == (5, True, [])
    assert "no memory limit is set" in check(V1, oom_kill_disable=True)[1][0]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"nano_cpus": 3 * 10**9}, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        ({"cpuset_cpus": "0-7"}, "Requested CPUs are not available - requested 0-7, available: 0-1"),
        ({"cpuset_mems": "1"}, "Requested memory nodes are not available - requested 1, available: 0"),
        ({"runtime": "kata"}, "unknown or invalid runtime name: kata"),
        (
            {"memory": MEMORY, "memory_reservation": 2 * MEMORY},
            "can not be less than memory reservation limit",
        ),
        (
            {"memory_swap": MEMORY},
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            {"devices": (DeviceMapping(path_on_host="/dev/nix", path_in_container="/dev/x"),)},
            'while adding custom device "/dev/nix": no such file or directory',
        ),
        (
            {"blkio_device_read_bps": (ThrottleDevice(path="/dev/nix", rate=1),)},
            "stat /dev/nix: no such file",
        ),
    ],
)
def test_what_the_host_does_not_have_is_refused(asked: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        check(replace(V2, missing_devices=frozenset({"/dev/nix"})), **asked)
    assert text in caught.value.message


def test_cpus_without_a_scheduler_to_limit_them_are_refused() -> None:
    with pytest.raises(errors.InvalidParameter, match="NanoCPUs can not be set"):
        check(BARE, nano_cpus=10**9)


def test_a_profile_without_seccomp_is_refused() -> None:
    facts = replace(V2, seccomp=False)
    assert check(facts, security_opt=("seccomp=unconfined",))[1] == []
    with pytest.raises(errors.InvalidParameter, match="seccomp is not enabled in your kernel"):
        check(facts, security_opt=('seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',))


def test_networking_that_will_not_work_is_told() -> None:
    facts = replace(V2, ipv4_forwarding=False)
    assert check(facts, network_mode="bridge")[1] == [
        "IPv4 forwarding is disabled. Networking will not work."
    ]
    assert check(facts, network_mode="none")[1] == []
    published = {"80/tcp": (PortBinding(host_port="80"),)}
    assert check(V2, network_mode="host", port_bindings=published)[1] == [
        "Published ports are discarded when using host network mode"
    ]


def test_no_cgroup_namespaces_means_the_hosts() -> None:
    adapted, warnings = check(replace(V2, cgroup_namespaces=False), cgroupns_mode="private")
    assert adapted.cgroupns_mode == "host"
    assert len(warnings) == 1


def test_a_checked_configuration_is_stable() -> None:
    for facts in (V1, V2):
        adapted, _ = check(facts, memory=MEMORY, nano_cpus=10**9, pids_limit=5)
        assert check_against_host(adapted, facts) == (adapted, [])


def test_defaults_are_dockers() -> None:
    plain = with_defaults(HostConfig(), V2)
    assert (plain.ipc_mode, plain.cgroupns_mode, plain.shm_size) == ("private", "private", 64 * 2**20)
    assert (plain.restart_policy.name, plain.log_config.type, plain.runtime) == ("no", "json-file", "crun")
    assert plain.masked_paths == MASKED_PATHS
    assert plain.readonly_paths == READONLY_PATHS
    assert with_defaults(HostConfig(), V1).cgroupns_mode == "host"
    assert with_defaults(HostConfig(memory=MEMORY), V2).memory_swap == 2 * MEMORY
    assert with_defaults(HostConfig(memory=MEMORY, memory_swap=-1), V2).memory_swap == -1
    assert with_defaults(HostConfig(masked_paths=()), V2).masked_paths == ()
    assert with_defaults(HostConfig(privileged=True), V2).masked_paths is None
    assert with_defaults(plain, V2) == plain


def test_privileges_beyond_the_daemons_are_told() -> None:
    held = V2.capabilities - {"CAP_SYS_RESOURCE"}
    facts = replace(V2, capabilities=held, hard_limits={"nofile": 100}, oom_score_adj=-10)
    assert privilege_warnings(HostConfig(), facts) == []
    assert "CAP_SYS_RESOURCE" in privilege_warnings(HostConfig(privileged=True), facts)[0]
    assert "CAP_SYS_RESOURCE" in privilege_warnings(HostConfig(cap_add=("all",)), facts)[0]
    assert "CAP_SYS_RESOURCE" in privilege_warnings(HostConfig(cap_add=("sys_resource",)), facts)[0]
    assert "OomScoreAdj" in privilege_warnings(HostConfig(oom_score_adj=-11), facts)[0]
    for hard, count in ((100, 0), (101, 1), (-1, 1)):
        asked = HostConfig(ulimits=(Ulimit(name="nofile", soft=1, hard=hard),))
        assert len(privilege_warnings(asked, facts)) == count


def test_block_devices_are_named_once() -> None:
    config = HostConfig(
        blkio_weight_device=(WeightDevice(path="/dev/b", weight=10),),
        blkio_device_read_bps=THROTTLED,
        blkio_device_write_iops=THROTTLED,
    )
    assert block_device_paths(config) == ["/dev/b", "/dev/sda"]


@pytest.mark.parametrize(
    ("text", "numbers"), [("", set()), ("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("1, 3", {1, 3})]
)
def test_cpu_lists(text: str, numbers: set[int]) -> None:
    assert parse_cpu_list(text) == numbers


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "0-99999", "1,,2"])
def test_bad_cpu_lists(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        parse_cpu_list(text)


# --- update -------------------------------------------------------------------------------------------------

PRESENT = with_defaults(HostConfig(memory=MEMORY, cpu_shares=10), V2)


def test_update_changes_what_is_asked_and_nothing_else() -> None:
    merged, warnings = merge_update(PRESENT, UpdateRequest(cpu_shares=99, pids_limit=-1), V2)
    assert (merged.cpu_shares, merged.pids_limit, merged.memory) == (99, 0, MEMORY)
    assert warnings == []
    policy = RestartPolicy(name="on-failure", maximum_retry_count=3)
    assert merge_update(PRESENT, UpdateRequest(restart_policy=policy), V2)[0].restart_policy == policy


def test_update_of_swap_alone_stands_on_the_memory_limit_already_there() -> None:
    assert merge_update(PRESENT, UpdateRequest(memory_swap=4 * MEMORY), V2)[0].memory_swap == 4 * MEMORY


@pytest.mark.parametrize(
    ("present", "asked", "text"),
    [
        ({}, {"restart_policy": RestartPolicy(name="frob")}, "unknown policy 'frob'"),
        ({}, {"memory": 5}, "Minimum memory limit allowed is 6MB"),
        ({}, {"devices": (DeviceMapping(path_on_host="/dev/x"),)}, "Devices cannot be changed"),
        ({}, {"ulimits": (Ulimit(name="nofile"),)}, "Ulimits cannot be changed"),
    ],
)
def test_updates_that_are_refused(present: dict[str, Any], asked: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        merge_update(changed(PRESENT, **present), UpdateRequest(**asked), V2)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("present", "asked", "text"),
    [
        ({}, {"memory": 4 * MEMORY}, "update the memoryswap at the same time"),
        (
            {"nano_cpus": 10**9},
            {"cpu_quota": 5000},
            "CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            {"nano_cpus": 10**9},
            {"cpu_period": 5000},
            "CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        ({"cpu_quota": 5000}, {"nano_cpus": 10**9}, "Nano CPUs cannot be updated as CPU Quota has already"),
        ({"cpu_period": 5000}, {"nano_cpus": 10**9}, "Nano CPUs cannot be updated as CPU Period has already"),
        ({"memory_swap": -1}, {"memory": MEMORY}, "update the memoryswap at the same time"),
        (
            {"auto_remove": True},
            {"restart_policy": RestartPolicy(name="always")},
            "because AutoRemove is enabled",
        ),
    ],
)
def test_updates_that_contradict_what_is_there(
    present: dict[str, Any], asked: dict[str, Any], text: str
) -> None:
    with pytest.raises(errors.Conflict) as caught:
        merge_update(changed(PRESENT, **present), UpdateRequest(**asked), V2)
    assert text in caught.value.message


def test_no_quota_goes_with_a_number_of_cpus() -> None:
    present = changed(PRESENT, nano_cpus=10**9)
    assert merge_update(present, UpdateRequest(cpu_quota=-1), V2)[0].nano_cpus == 10**9


def test_a_limit_that_the_host_discards_keeps_what_was_there() -> None:
    merged, warnings = merge_update(
        PRESENT, UpdateRequest(cpu_shares=99), replace(V2, controllers=frozenset({"memory"}))
    )
    assert merged.cpu_shares == 10
    assert len(warnings) == 1
