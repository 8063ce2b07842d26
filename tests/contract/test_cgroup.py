"""Control groups: the real ones of this host, with a real container inside."""

import pytest
import trio

from proad.host.cgroup import detect_layout
from proad.model import errors
from tests.contract.conftest import Yard


def test_freeze_thaw_count_kill_remove(yard: Yard) -> None:
    async def main() -> None:
        cgroups = yard.cgroups
        script = "while :; do :; done & sleep 100 & wait"
        request = yard.request("sh", "-c", script)
        monitored = await yard.start(request)
        cgroup = yard.cgroup(request.container_id)
        with trio.fail_after(5):
            while len(cgroups.processes(cgroup)) < 3:
                await trio.sleep(0.01)
        assert monitored.init.pid in cgroups.processes(cgroup)
        assert cgroups.pid_count(cgroup) >= 3
        assert cgroups.memory_bytes(cgroup) > 0
        assert request.container_id in cgroups.children(yard.parent)
        await cgroups.freeze(cgroup)
        assert cgroups.is_frozen(cgroup)
        assert await yard.runtime.state(request.container_id) == "paused"
        cgroups.thaw(cgroup)
        assert not cgroups.is_frozen(cgroup)
        await cgroups.freeze(cgroup)
        await cgroups.kill(cgroup)  # also out of a freeze
        assert cgroups.processes(cgroup) == []
        assert (await monitored.exited()).exit_code == 137
        monitored.close()
        await cgroups.remove(cgroup)
        assert not any(directory.exists() for directory in cgroups.directories(cgroup))
        # All of it again: what is gone is fine.
        assert cgroups.remove_empty(cgroup)
        await cgroups.kill(cgroup)
        await cgroups.remove(cgroup)
        assert not cgroups.is_frozen(cgroup)
        assert cgroups.oom_kills(cgroup) == cgroups.memory_bytes(cgroup) == cgroups.pid_count(cgroup) == 0
        with pytest.raises(errors.System):
            cgroups.thaw(cgroup)

    trio.run(main)


def test_only_an_empty_group_is_removed_at_once(yard: Yard) -> None:
    async def main() -> None:
        cgroups = yard.cgroups
        request = yard.request("sleep", "60")
        monitored = await yard.start(request)
        cgroup = yard.cgroup(request.container_id)
        assert not cgroups.remove_empty(cgroup)
        assert monitored.init.pid in cgroups.processes(cgroup)
        await cgroups.kill(cgroup)
        await monitored.exited()
        monitored.close()
        nested = [d / "nested" for d in cgroups.directories(cgroup) if d.is_dir()]
        for directory in nested:
            directory.mkdir()
        assert not cgroups.remove_empty(cgroup)
        await cgroups.remove(cgroup)
        assert cgroups.remove_empty(cgroup)

    trio.run(main)


def test_limits_can_be_changed_while_it_runs(yard: Yard) -> None:
    async def main() -> None:
        request = yard.request("sleep", "60")
        monitored = await yard.start(request)
        await yard.runtime.update(request.container_id, {"pids": {"limit": 77}})
        cgroup = yard.cgroup(request.container_id)
        limits = [directory / "pids.max" for directory in yard.cgroups.directories(cgroup)]
        assert [path.read_text() for path in limits if path.exists()] == ["77\n"]
        with pytest.raises(errors.System, match="update failed"):
            await yard.runtime.update(request.container_id, {"memory": {"limit": 1}})
        await yard.cgroups.kill(cgroup)
        await monitored.exited()
        monitored.close()

    trio.run(main)


@pytest.mark.parametrize("path", ["", "/", "/a/../..", ".."])
def test_the_hosts_own_groups_are_out_of_reach(yard: Yard, path: str) -> None:
    with pytest.raises(errors.System, match="not the path"):
        yard.cgroups.directories(path)


def test_this_host_has_a_layout() -> None:
    layout = detect_layout()
    assert layout.available
    assert all(root.is_dir() for root in layout.roots())
