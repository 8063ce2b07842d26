"""Trio-flavoured. Two ends of a pipe at work: one pours in what is downloaded, a helper process reads it."""

import fcntl
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")

PIPE_BYTES = 1 << 20


async def piped(pour: Callable[[int], Awaitable[None]], take: Callable[[int], Awaitable[T]]) -> T:
    """What ``take`` makes of what ``pour`` writes; each is given its end of the pipe, and does not close it.

    The pipe comes to its end only when ``pour`` has returned, so that half of something is never taken for
    the whole; where one fails the other is cancelled.

    Raises:
        Whatever either raises; the first, not as a group.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    _enlarge(writing)
    open_ends = {reading, writing}
    taken: list[T] = []

    async def fill() -> None:
        await pour(writing)
        open_ends.remove(writing)
        os.close(writing)

    async def empty() -> None:
        taken.append(await take(reading))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            nursery.start_soon(empty)
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    finally:
        for end in open_ends:
            os.close(end)
    return taken[0]


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell of: the first that is no cancellation."""
    flat: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending += reversed(error.exceptions)
        else:
            flat.append(error)
    return next((error for error in flat if not isinstance(error, trio.Cancelled)), flat[0])


def _enlarge(pipe: int) -> None:
    """Fewer and larger turns; a kernel that grants no larger pipe leaves it as it is."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except PermissionError:
        return
