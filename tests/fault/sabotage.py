"""Sync. ``proad`` with the means to break one step of a start; ``nursery`` runs it.

What to do stands in the file that ``$SABOTAGE`` names, as ``HOW WHEN STEP`` (``raise before network``), and
is done once: the file is removed first. HOW is ``raise``, ``cancel``, ``kill`` (SIGKILL to the daemon itself)
or ``undo`` (let the start fail at its end, and the undo called STEP fail as well).

A STEP called ``commit 2`` is the second transaction from the moment of the order; ``before`` is when all of
it is written but not committed. ``change 3`` is the third change from then on of what lies under the data
root: something takes its place by a rename or goes, or a transaction.
With ``$PATIENCE`` set, runtimes and monitors get so many seconds to answer.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from proad import __main__ as proad
from proad.engine import start, undo
from proad.host import conmon, runtime
from proad.model import errors
from proad.store import db

MESSAGE = "sabotage"
_scopes: list[trio.CancelScope] = []
_real_step = undo.StepTimer.step
_real_run_undo = undo.run_undo
_real_start = start.Starter._start_locked
_real_transaction = db.Store.transaction
_commits = 0
_changes = _ordered_ns = 0
_real_unlink = os.unlink
_CHANGING = ("rename", "rmdir", "unlink")


def _order() -> Path:
    return Path(os.environ["SABOTAGE"])


def _ordered(when: str, step: str) -> str:
    """What to do at this point, empty for nothing; an order is taken once."""
    try:
        how, wanted_when, wanted_step = _order().read_text().split(" ", 2)
    except FileNotFoundError:
        return ""
    if how == "undo":
        return "raise" if (when, step) == ("before", "record") else ""
    if (when, step) != (wanted_when, wanted_step.strip()):
        return ""
    _real_unlink(_order())
    return how


def _act(how: str) -> None:
    match how:
        case "raise":
            raise errors.System(MESSAGE)
        case "cancel":
            _scopes[-1].cancel()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _step(self: undo.StepTimer, name: str) -> Iterator[None]:
    _act(_ordered("before", name))
    with _real_step(self, name):
        yield
    _act(_ordered("after", name))


async def _start(self: start.Starter, *args: Any, **kwargs: Any) -> None:
    with trio.CancelScope() as scope:
        _scopes.append(scope)
        try:
            await _real_start(self, *args, **kwargs)
        finally:
            _scopes.pop()
    if scope.cancelled_caught:
        raise errors.System("cancelled")


async def _run_undo(store: Any, item: undo.Undo) -> bool:
    try:
        how, _, name = _order().read_text().split(" ", 2)
    except FileNotFoundError:
        how, name = "", ""
    if how == "undo" and name.strip() == item.name:
        _real_unlink(_order())
        item = undo.Undo(item.name, _fail, item.residue)
    return await _real_run_undo(store, item)


async def _fail() -> None:
    raise OSError("the undo was sabotaged")


@contextmanager
def _transaction(self: db.Store, **options: bool) -> Iterator[db.Transaction]:
    global _commits
    _commits = _commits + 1 if _order().exists() else 0
    number = _commits
    with _real_transaction(self, **options) as tx:
        yield tx
        _act(_ordered("before", f"commit {number}"))
        _act(_ordered("before", f"change {_next_change()}"))
    _act(_ordered("after", f"commit {number}"))


def _next_change() -> int:
    """Its number since the order was given; 0 without one."""
    global _changes, _ordered_ns
    try:
        ordered_ns = _order().stat().st_mtime_ns
    except FileNotFoundError:
        return 0
    _changes = _changes + 1 if ordered_ns == _ordered_ns else 1
    _ordered_ns = ordered_ns
    return _changes


def _counted(real: Callable[..., None]) -> Callable[..., None]:
    """A call that changes a directory; the daemon may die right before it."""

    def change(path: Any, *args: Any, **kwargs: Any) -> None:
        if str(path).startswith(str(_order().with_name("data"))):
            _act(_ordered("before", f"change {_next_change()}"))
        real(path, *args, **kwargs)

    return change


def _hurry(patience_s: float) -> None:
    conmon.CREATE_TIMEOUT_S = conmon._END_S = patience_s
    runtime._START_TIMEOUT_S = patience_s
    defaults = runtime.Runtime._run.__kwdefaults__
    assert defaults is not None
    defaults["timeout_s"] = patience_s


def _patch(owner: Any, name: str, replacement: Callable[..., Awaitable[Any] | Any]) -> None:
    setattr(owner, name, replacement)


def install() -> None:
    """Put the means into the modules."""
    _patch(undo.StepTimer, "step", _step)
    _patch(undo, "run_undo", _run_undo)
    _patch(start.Starter, "_start_locked", _start)
    _patch(db.Store, "transaction", _transaction)
    for name in _CHANGING:
        _patch(os, name, _counted(getattr(os, name)))


def main(argv: list[str]) -> int:
    """Run the daemon; returns its exit status."""
    if "PATIENCE" in os.environ:
        _hurry(float(os.environ["PATIENCE"]))
    return proad.main(argv)
