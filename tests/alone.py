"""A pytest plugin: tests run side by side, file by file, and those marked ``alone`` when nothing else does.

With ``-n 3`` pytest-xdist starts three workers. Each takes a file, and another one when it is through; a file
is never divided, since its tests share a daemon. ``alone`` is for what measures time or the whole machine:
when all else is done, one worker runs those tests, one after the other. Without ``-n`` nothing changes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.support import whose

ALONE = "alone"
SAME_ADDRESSES = "same addresses"
_WITH_SAME_ADDRESSES = (
    "tests/net/",
    *(f"tests/contract/test_{name}.py" for name in ("announce", "cgroupstats", "linkwatch", "netlink")),
    *(f"tests/contract/test_{name}.py" for name in ("networks", "sandbox", "resolver")),
)
"""Files whose bridges have the same subnets: one worker takes them all, one after the other."""

_LIST = whose.DIRECTORY / "alone"
"""Ids of these tests, a line each, from workers to their controller, which is told no more than all ids."""
_LONG_FIRST = ("fault", "contract", "api", "cli", "unit")
"""Rooms in the order in which they are handed out: a short file at the end keeps no other worker waiting."""


class Worker:
    """What a worker tells its controller."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        sizes = Counter(item.path for item in items)

        def rank(item: pytest.Item) -> tuple[int, int, str]:
            room = item.path.parent.name
            at = _LONG_FIRST.index(room) if room in _LONG_FIRST else 0
            return at, -sizes[item.path], str(item.path)

        items.sort(key=rank)
        whose.DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        unfinished = _LIST.with_suffix(f".{whose.WORKER}")
        unfinished.write_text("".join(f"{item.nodeid}\n" for item in items if item.get_closest_marker(ALONE)))
        unfinished.rename(_LIST)


class Controller:
    """What the controller makes of it."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> "Scheduling":
        return Scheduling(config, log)


class Scheduling(LoadScopeScheduling):
    """Files to workers that are free; in the end, what wants to be alone to the one worker that stays."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the workers have put them in order
        self._alone: frozenset[str] = frozenset()

    def schedule(self) -> None:
        self._alone = frozenset(_LIST.read_text().splitlines())
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        if nodeid in self._alone:
            return ALONE
        path = nodeid.partition("::")[0]
        return SAME_ADDRESSES if path.startswith(_WITH_SAME_ADDRESSES) else path

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        super().mark_test_complete(node, item_index, duration)
        if list(self.workqueue) == [ALONE]:  # this may have been what another one waited for
            for other in self._others(node):
                self._reschedule(other)

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a worker that ended. What it had begun, if it crashed, is returned: that has failed, and is
        not tried again. What it had not begun, others do.
        """
        units = {scope: unit for scope, unit in self.assigned_work[node].items() if not all(unit.values())}
        begun = next((nodeid for unit in units.values() for nodeid in unit if not unit[nodeid]), None)
        for scope, unit in list(units.items()):
            if begun in unit:
                unit[begun] = True
                if all(unit.values()):
                    del units[scope]
        self.assigned_work[node] = units
        super().remove_node(node)
        for other in self.nodes:
            self._reschedule(other)
        return begun

    def _reschedule(self, node: WorkerController) -> None:
        """Give it files until it has two tests or more: it begins one when it knows the next."""
        while not node.shutting_down:
            waiting = len(self.workqueue)
            if self._is_left_to_another(node):
                node.shutdown()
            else:
                super()._reschedule(node)
            if len(self.workqueue) == waiting:
                return

    def _is_left_to_another(self, node: WorkerController) -> bool:
        """Whether only those that want to be alone are left, and another worker stays for them."""
        if ALONE in self.workqueue:
            self.workqueue.move_to_end(ALONE)  # a worker that crashed may have given files back
        return list(self.workqueue) == [ALONE] and not all(each.shutting_down for each in self._others(node))

    def _assign_work_unit(self, node: WorkerController) -> None:
        if next(iter(self.workqueue)) == ALONE and self._are_busy(self._others(node)):
            return
        super()._assign_work_unit(node)

    def _others(self, node: WorkerController) -> list[WorkerController]:
        return [other for other in self.nodes if other is not node]

    def _are_busy(self, nodes: Sequence[WorkerController]) -> bool:
        return any(self._pending_of(self.assigned_work[node]) for node in nodes)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker(), "alone")
    else:
        config.pluginmanager.register(Controller(), "alone")
