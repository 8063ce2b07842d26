"""Trio-flavoured. Network namespaces: made and entered by threads that are thrown away.

``setns`` and ``unshare`` change the calling thread alone, and for good as far as anybody else should rely on
it: a pooled worker that had been in another namespace could one day open a socket there for somebody who
means the host's. So each visit has a thread of its own, which ends with the visit.

A namespace is kept alive by a bind mount of its file (network_namespaces(7)), with nobody inside.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import outcome
import trio

from proad.host import mounts
from proad.model import errors

CLONE_NEWNET = 0x40000000
OWN_NAMESPACE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


async def in_own_thread(visit: Callable[[], T]) -> T:
    """Run ``visit`` in a thread of its own and return what it returns; cancellation waits for its end."""
    token = trio.lowlevel.current_trio_token()
    task = trio.lowlevel.current_task()

    def work() -> None:
        result = outcome.capture(visit)
        token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    threading.Thread(target=work, name="netns", daemon=True).start()
    done: T = await trio.lowlevel.wait_task_rescheduled(lambda _raise_cancel: trio.lowlevel.Abort.FAILED)
    return done


def unshare_into(path: Path) -> None:
    """Move the calling thread, which must be a throw-away one, into a new namespace that ``path`` keeps.

    Raises:
        errors.System: ``path`` exists, or the kernel refused; nothing is left behind.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except OSError as error:
        raise errors.System(f"create network namespace {path}: {error.strerror}") from error
    try:
        if _libc.unshare(CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise errors.System(f"unshare the network namespace: {mounts.describe_errno(number)}")
        mounts.mount(OWN_NAMESPACE, path, flags=mounts.MS_BIND)
    except BaseException:
        path.unlink()
        raise


def switch_off_ipv6() -> None:
    """Have no IPv6 on interfaces that come later, as in Docker's networks without IPv6; ``::1`` stays.

    Beside a thousand namespaces the kernel takes a millisecond to find the setting.
    """
    try:
        setting = os.open("/proc/sys/net/ipv6/conf/default/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # the kernel has no IPv6 at all
    try:
        os.write(setting, b"1")
    finally:
        os.close(setting)


def enter(path: Path) -> None:
    """Move the calling thread, which must be a throw-away one, into an existing namespace.

    Raises:
        errors.System: no such file, no namespace, or the kernel refused.
    """
    try:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.System(f"open network namespace {path}: {error.strerror}") from error
    try:
        if _libc.setns(namespace, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise errors.System(f"enter network namespace {path}: {mounts.describe_errno(number)}")
    finally:
        os.close(namespace)


def remove(path: Path) -> None:
    """Let go of a namespace; the kernel ends it, and the links in it, when no process is inside any more.

    What is gone already is no error.
    """
    mounts.unmount_now(path)
    path.unlink(missing_ok=True)


def kept(directory: Path) -> set[Path]:
    """Return the files of all namespaces in ``directory``, whether their mounts are still there or not."""
    try:
        return set(directory.iterdir())
    except OSError as error:
        if error.errno == errno.ENOENT:
            return set()
        raise
