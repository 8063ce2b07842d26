"""The small parts that the engine's verbs are made of: locks, undos, waits."""

from pathlib import Path

import pytest
import trio
import trio.testing

from proad.engine.locks import Locks
from proad.engine.undo import UNDO_TIMEOUT_S, StepTimer, UndoStack
from proad.engine.waiting import Waiters, WaitResult
from proad.model import errors
from proad.store.db import Store, open_store


@pytest.fixture
def store(tmp_path: Path):
    opened = open_store(tmp_path / "state.db", events_max_count=100, events_max_age_s=3600)
    yield opened
    opened.close()


def test_one_containers_users_take_turns_and_others_pass() -> None:
    async def main() -> None:
        locks, order = Locks(), []

        async def use(container_id: str, name: str, go: trio.Event) -> None:
            async with locks.of(container_id):
                order.append(name)
                await go.wait()

        gates = {name: trio.Event() for name in "abc"}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, "x", "a", gates["a"])
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(use, "x", "b", gates["b"])
            nursery.start_soon(use, "y", "c", gates["c"])
            await trio.testing.wait_all_tasks_blocked()
            assert order == ["a", "c"]
            for gate in gates.values():
                gate.set()
        assert order == ["a", "c", "b"]
        assert locks._locks == {}

    trio.run(main)


def test_undos_run_backwards_and_a_failing_one_stops_nothing(store: Store) -> None:
    done: list[str] = []

    async def undo(name: str) -> None:
        await trio.lowlevel.checkpoint()
        if name == "second":
            raise OSError("stuck")
        done.append(name)

    async def main() -> None:
        stack = UndoStack(store)
        for name in ("first", "second", "third"):
            stack.push(name, undo, name, residue=("thing", name))
        with trio.CancelScope() as scope:
            scope.cancel()
            await stack.unwind()  # shielded: the cancellation cannot skip anything

    trio.run(main)
    assert done == ["third", "first"]
    assert [(r.kind, r.detail) for r in store.residue()] == [("thing", "second")]


def test_an_undo_that_hangs_is_given_up(store: Store) -> None:
    async def main() -> float:
        stack = UndoStack(store)
        stack.push("hangs", trio.sleep_forever, residue=("thing", "hangs"))
        begin = trio.current_time()
        await stack.unwind()
        return trio.current_time() - begin

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == pytest.approx(UNDO_TIMEOUT_S)
    assert len(store.residue()) == 1


def test_a_dismissed_stack_undoes_nothing(store: Store) -> None:
    stack = UndoStack(store)
    stack.push("x", lambda: pytest.fail("must not run"), residue=("x", "x"))
    stack.dismiss()
    trio.run(stack.unwind)


def test_steps_are_timed_where_they_are_named() -> None:
    timer = StepTimer()
    with timer.step("a"), timer.step("b"):
        pass
    names = [step.name for step in timer.steps]
    assert sorted(names) == ["a", "b"]
    assert all(0 <= step.begin_ms <= step.end_ms for step in timer.steps)


def test_waits_end_with_the_run_or_with_the_removal() -> None:
    async def main() -> None:
        waiters = Waiters()
        next_exit, removed = waiters.add("c", "next-exit"), waiters.add("c", "removed")
        waiters.run_ended("c", WaitResult(7))
        assert await next_exit.result() == WaitResult(7)
        assert removed.outcome is None
        waiters.removed("c", WaitResult(8))
        assert await removed.result() == WaitResult(8)

    trio.run(main)


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(errors.InvalidParameter, match="invalid condition"):
        Waiters().add("c", "whenever")
