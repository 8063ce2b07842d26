"""The numbers of real groups and real interfaces."""

import os
import socket
from pathlib import Path

import pytest
import trio

from proad.host import netns
from proad.host.cgroup import detect_layout
from proad.host.cgroupstats import CgroupStats
from proad.host.netcounters import NetworkCounters
from tests.api import steps
from tests.contract.conftest import Yard
from tests.contract.links import GATEWAY, create, interface
from tests.contract.links import bridge as bridge
from tests.contract.netlab import inside


def test_a_groups_numbers_are_those_of_what_is_in_it(yard: Yard) -> None:
    async def main() -> None:
        stats = CgroupStats(yard.cgroups.layout)
        script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 100 & sleep 100 & wait"
        request = yard.request("sh", "-c", script, resources={"pids": {"limit": 9}})
        monitored = await yard.start(request)
        cgroup = yard.cgroup(request.container_id)
        with trio.fail_after(10):
            while yard.cgroups.pid_count(cgroup) != 3:
                await trio.sleep(0.01)
        group = stats.read(cgroup)
        assert group is not None
        assert (group.pids.current, group.pids.limit) == (3, 9)
        used = group.cpu_usage
        ran_ns = int(Path(f"/proc/{monitored.init.pid}/schedstat").read_text().split()[0])
        assert ran_ns - 20_000_000 <= used.total_usage <= ran_ns + 200_000_000
        if yard.cgroups.layout.version == 1:
            assert isinstance(used.percpu_usage, list)
            assert sum(used.percpu_usage) == used.total_usage
        assert group.memory.usage == pytest.approx(yard.cgroups.memory_bytes(cgroup), rel=0.5)
        assert group.memory.limit == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert stats.read(yard.parent.removeprefix("/")) is not None
        await yard.cgroups.kill(cgroup)
        await monitored.exited()
        monitored.close()
        await yard.cgroups.remove(cgroup)
        assert stats.read(cgroup) is None

    trio.run(main)


def test_the_hosts_time_goes_on_for_each_cpu() -> None:
    stats = CgroupStats(detect_layout())
    first, second = stats.host_cpu(), stats.host_cpu()
    assert first.online == second.online == os.cpu_count()
    assert 0 < second.usage_ns - first.usage_ns < 10**9
    text = Path("/proc/stat").read_text().split("\n", 1)[0]
    counted_ns = sum(map(int, text.split()[1:9])) * 10**7
    assert second.usage_ns == pytest.approx(counted_ns, rel=0.2)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_counters_are_the_containers_own(bridge: str, tmp_path: Path) -> None:
    counters, wanted, path = NetworkCounters(), interface(bridge), tmp_path / "ns"
    create(path, wanted)
    try:
        told = counters.read_peer(wanted.host_interface)
        assert told is not None

        def seen() -> dict[str, int]:
            """/proc/net/dev (proc(5)): eight numbers received, then eight sent."""
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
            numbers = next(line for line in lines if "eth0" in line).partition(":")[2].split()
            names = ("bytes", "packets", "errors", "dropped")
            received = {f"rx_{name}": int(number) for name, number in zip(names, numbers, strict=False)}
            return received | {f"tx_{name}": int(n) for name, n in zip(names, numbers[8:], strict=False)}

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(10):
                    sender.sendto(b"x" * 1000, (str(GATEWAY.ip), 9))

        inside(path, send)
        steps.until(lambda: inside(path, seen)["tx_bytes"] >= 10_420)
        before, told = inside(path, seen), counters.read_peer(wanted.host_interface)
        after = inside(path, seen)
        assert told is not None
        assert told.rx_bytes != told.tx_bytes
        for name, number in before.items():
            assert number <= getattr(told, name) <= after[name], name
        assert counters.read_peer("no-such-link") is None
    finally:
        netns.remove(path)
    # The kernel ends a namespace when it finds the time.
    steps.until(lambda: counters.read_peer(wanted.host_interface) is None)
