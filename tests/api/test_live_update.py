"""Limits changed of a container that runs: what the kernel has, at once."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from proad.host.cgroup import detect_layout
from tests.api import steps
from tests.strictness import skip_for_lack_of
from tests.support.rawhttp import Api

MB = 1 << 20
V1 = {
    "Memory": ("memory", "memory.limit_in_bytes"),
    "MemorySwap": ("memory", "memory.memsw.limit_in_bytes"),
    "MemoryReservation": ("memory", "memory.soft_limit_in_bytes"),
    "CpuShares": ("cpu", "cpu.shares"),
    "CpuQuota": ("cpu", "cpu.cfs_quota_us"),
    "CpuPeriod": ("cpu", "cpu.cfs_period_us"),
    "CpusetCpus": ("cpuset", "cpuset.cpus"),
    "CpusetMems": ("cpuset", "cpuset.mems"),
    "PidsLimit": ("pids", "pids.max"),
    "BlkioWeight": ("blkio", "blkio.weight"),
}
V2 = {
    "Memory": "memory.max",
    "MemorySwap": "memory.swap.max",
    "MemoryReservation": "memory.low",
    "CpuShares": "cpu.weight",
    "CpuQuota": "cpu.max",
    "CpuPeriod": "cpu.max",
    "CpusetCpus": "cpuset.cpus",
    "CpusetMems": "cpuset.mems",
    "PidsLimit": "pids.max",
}


def kernels(api: Api, container: str, name: str) -> str:
    """The kernel's value of one limit, skipping where it knows none such."""
    layout = detect_layout()
    groups = Path(f"/proc/{steps.inspect(api, container)['State']['Pid']}/cgroup").read_text()
    by_controller = {
        controller: group
        for _, controllers, group in (line.split(":", 2) for line in groups.splitlines())
        for controller in controllers.split(",")
    }
    if layout.kind == "v2":
        assert layout.unified is not None
        path = layout.unified / by_controller[""].lstrip("/") / V2[name]
    else:
        controller, file = V1[name]
        if controller not in layout.controllers:
            skip_for_lack_of(f"the {controller} controller")
        path = layout.controllers[controller] / by_controller[controller].lstrip("/") / file
    if not path.exists():
        skip_for_lack_of(f"{path.name} in this kernel")
    return path.read_text().strip()


def update(api: Api, container: str, **limits: Any) -> None:
    answer = api("POST", f"/containers/{container}/update", json_body=limits).expect(200)
    assert answer.json == {"Warnings": []}


def v1_or_v2(v1: str, v2: str) -> str:
    return v2 if detect_layout().kind == "v2" else v1


@pytest.fixture
def container(api: Api, image: str) -> str:
    return steps.start(api, image)


def test_memory_and_swap(api: Api, container: str) -> None:
    update(api, container, Memory=64 * MB, MemorySwap=128 * MB)
    assert kernels(api, container, "Memory") == str(64 * MB)
    assert kernels(api, container, "MemorySwap") == v1_or_v2(str(128 * MB), str(64 * MB))
    update(api, container, Memory=256 * MB, MemorySwap=512 * MB)  # above the limit of swap that was
    assert kernels(api, container, "Memory") == str(256 * MB)
    update(api, container, MemorySwap=-1)
    assert kernels(api, container, "MemorySwap") in ("max", "9223372036854771712")


def test_memory_that_is_reserved(api: Api, container: str) -> None:
    update(api, container, Memory=64 * MB, MemorySwap=64 * MB, MemoryReservation=32 * MB)
    assert kernels(api, container, "MemoryReservation") == str(32 * MB)


def test_shares_of_the_cpu(api: Api, container: str) -> None:
    update(api, container, CpuShares=512)
    assert kernels(api, container, "CpuShares") == v1_or_v2("512", "20")


def test_quota_of_the_cpu_and_none_again(api: Api, container: str) -> None:
    update(api, container, CpuQuota=50_000, CpuPeriod=200_000)
    assert kernels(api, container, "CpuQuota") == v1_or_v2("50000", "50000 200000")
    assert kernels(api, container, "CpuPeriod") == v1_or_v2("200000", "50000 200000")
    update(api, container, CpuQuota=-1)
    assert kernels(api, container, "CpuQuota").split()[0] == v1_or_v2("-1", "max")
    update(api, container, PidsLimit=44)  # with a quota on record that is none
    assert kernels(api, container, "CpuQuota").split()[0] == v1_or_v2("-1", "max")


def test_cpus(api: Api, container: str) -> None:
    update(api, container, NanoCpus=1_500_000_000)
    assert kernels(api, container, "CpuQuota") == v1_or_v2("150000", "150000 100000")


def test_sets_of_cpus_and_memory_nodes(api: Api, container: str) -> None:
    update(api, container, CpusetCpus="0", CpusetMems="0")
    assert kernels(api, container, "CpusetCpus") == "0"
    assert kernels(api, container, "CpusetMems") == "0"


@pytest.mark.parametrize("unlimited", [-1, 0])
def test_number_of_processes_and_none_again(api: Api, container: str, unlimited: int) -> None:
    update(api, container, PidsLimit=77)
    assert kernels(api, container, "PidsLimit") == "77"
    update(api, container, PidsLimit=unlimited)
    assert kernels(api, container, "PidsLimit") == "max"


def test_the_weight_of_block_io(api: Api, container: str) -> None:
    answer = api("POST", f"/containers/{container}/update", json_body={"BlkioWeight": 300}).expect(200)
    weight = steps.inspect(api, container)["HostConfig"]["BlkioWeight"]
    if answer.json["Warnings"]:
        assert "Weight discarded" in answer.json["Warnings"][0]
        assert weight == 0
    else:
        assert weight == 300
        if detect_layout().kind != "v2":
            assert kernels(api, container, "BlkioWeight") == "300"


def test_what_the_kernel_refuses_leaves_everything_as_it_was(api: Api, image: str) -> None:
    """The first limit fits, the second is more than the hierarchy allows."""
    made = steps.start(api, image, HostConfig={"NetworkMode": "none", "CpuShares": 700})
    before = {name: kernels(api, made, name) for name in ("Memory", "CpuShares", "CpuQuota", "PidsLimit")}
    body = {"Memory": 64 * MB, "MemorySwap": 64 * MB, "CpuShares": 300, "PidsLimit": 9}
    body |= {"CpuPeriod": 1000, "CpuQuota": 1 << 62}
    api("POST", f"/containers/{made}/update", json_body=body).expect(500)
    after = {name: kernels(api, made, name) for name in before}
    assert after == before
    assert steps.inspect(api, made)["HostConfig"]["Memory"] == 0


def test_what_contradicts_the_limits_there_are_is_refused(api: Api, container: str) -> None:
    answer = api("POST", f"/containers/{container}/update", json_body={"Memory": 64 * MB}).expect(409)
    assert answer.json["message"] == (
        f"Cannot update container {container}: Memory limit should be smaller than already set memoryswap "
        "limit, update the memoryswap at the same time"
    )


def test_limits_reach_what_is_frozen_and_last_through_a_restart(api: Api, container: str) -> None:
    api("POST", f"/containers/{container}/pause").expect(204)
    update(api, container, PidsLimit=55)
    assert kernels(api, container, "PidsLimit") == "55"
    api("POST", f"/containers/{container}/unpause").expect(204)
    api("POST", f"/containers/{container}/restart", t=0).expect(204)
    assert kernels(api, container, "PidsLimit") == "55"


def test_no_quota_may_be_asked_for_from_the_beginning(api: Api, image: str) -> None:
    made = steps.start(api, image, HostConfig={"NetworkMode": "none", "CpuQuota": -1})
    assert kernels(api, made, "CpuQuota").split()[0] == v1_or_v2("-1", "max")


def test_the_restart_policy_holds_for_the_end_of_this_run(api: Api, container: str) -> None:
    def end_it() -> int:
        pid = int(steps.inspect(api, container)["State"]["Pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    update(api, container, RestartPolicy={"Name": "always"})
    ended = end_it()
    steps.until(lambda: steps.inspect(api, container)["State"]["Pid"] not in (0, ended))
    assert steps.inspect(api, container)["RestartCount"] == 1
    update(api, container, RestartPolicy={"Name": "no"})
    end_it()
    assert steps.wait_exit(api, container) == 137
    assert steps.status(api, container) == "exited"
