"""Work that is shared: done once, told to all, ended with the last who wants it."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

import pytest
import trio
import trio.testing

from proad.engine.transfers import Tell, Transfers
from proad.model import errors, progress
from proad.model.progress import Line


def in_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**arguments: Any) -> None:
        trio.run(partial(test, **arguments))

    return run


@in_trio
async def test_lines_result_and_error_are_everybodys() -> None:
    heard: list[list[Line]] = [[], []]
    results: list[object] = []
    runs = 0
    go_on = trio.Event()

    async def work(tell: Tell) -> int:
        nonlocal runs
        runs += 1
        tell(progress.message("begun"))
        await go_on.wait()
        tell(progress.message("done"))
        return 42

    async with trio.open_nursery() as engine, trio.open_nursery() as callers:
        transfers: Transfers[int] = Transfers(engine)

        async def want(number: int) -> None:
            results.append(await transfers.share("key", work, heard[number].append))

        callers.start_soon(want, 0)
        await trio.testing.wait_all_tasks_blocked()
        callers.start_soon(want, 1)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert (runs, results) == (1, [42, 42])
    assert heard[0] == heard[1] == [{"status": "begun"}, {"status": "done"}]


@in_trio
async def test_the_last_to_leave_ends_it_and_waits_for_its_end() -> None:
    told: list[str] = []

    async def work(tell: Tell) -> int:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            told.append("cleaned up")
        raise AssertionError

    async with trio.open_nursery() as engine:
        transfers: Transfers[int] = Transfers(engine)
        scopes = [trio.CancelScope(), trio.CancelScope()]

        async def want(scope: trio.CancelScope) -> None:
            with scope:
                await transfers.share("key", work, lambda _line: None)
            told.append("left")

        async with trio.open_nursery() as callers:
            for scope in scopes:
                callers.start_soon(want, scope)
            await trio.testing.wait_all_tasks_blocked()
            scopes[0].cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert told == ["left"]
            scopes[1].cancel()
    assert told == ["left", "cleaned up", "left"]


@pytest.mark.parametrize("error", [errors.NotFound("gone"), ZeroDivisionError("a defect")])
@in_trio
async def test_errors_do_not_end_the_engine(error: Exception) -> None:
    async def work(tell: Tell) -> int:
        raise error

    async with trio.open_nursery() as engine:
        transfers: Transfers[int] = Transfers(engine)
        for _ in range(2):
            with pytest.raises(errors.ProaError, match=str(error)):
                await transfers.share("key", work, lambda _line: None)
