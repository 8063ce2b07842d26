"""Sync, blocking. The helper process that is warm: it has all it needs in memory, and forks for each task.

A Python process takes some 40 ms to come up, a fork of one that is up takes one. The daemon (``helpers``)
spawns this one when it first has a task, hands it further ones, and is left by it when none has come for
:data:`IDLE_S`. On standard input it has a SOCK_SEQPACKET socket; each packet is a task: a JSON object whose
``task`` is one of :data:`TASKS`, with two descriptors, a channel to talk to the daemon and the stream that
the task is about. What a task's process says first is ``{}`` with a pidfd of itself.

The task's process is told to end by SIGTERM, by which it takes back what is half done.
"""

import array
import errno
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from proad.host import buildcontext, copyin, copyout, copysources, copytarget, jail, layerpack
from proad.host.helperchannel import MAX_PACKET_BYTES, Channel, Refusal

IDLE_S = 60
TASKS: dict[str, Callable[[dict[str, Any], Channel, int], dict[str, Any]]] = {
    "pack": copyout.pack,
    "extract": copyin.extract,
    "context": buildcontext.unpack,
    "sources": copysources.find,
    "copy": copytarget.copy,
    "directory": copytarget.make_directory,
    "layer": layerpack.pack,
}
DESCRIPTORS_PER_TASK = 2
LAST_WORDS_S = 2
"""How long a process may take to end by SIGTERM before SIGALRM kills it."""

_INVALID = frozenset({
    errno.EROFS, errno.EBUSY, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL,
    errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.EXDEV, errno.EPERM, errno.ENXIO, errno.EOPNOTSUPP,
    errno.EMLINK, errno.ETXTBSY,
})  # fmt: skip
"""What the request, or the container's files as they are, do not allow; all else is our failure."""


def main() -> int:
    """Serve tasks until the daemon ends or has none for long. ``argv[1]`` is the daemon's pid."""
    jail.die_with(int(sys.argv[1]))
    # Ended tasks leave no zombies: nobody asks for their exit codes.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    requests = socket.socket(fileno=os.dup(0))
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    running: set[int] = set()
    while ready := poll.poll(None if running else IDLE_S * 1000):
        for descriptor, _ in ready:
            if descriptor in running:
                poll.unregister(descriptor)
                running.discard(descriptor)
                os.close(descriptor)
                continue
            pidfd = _take(requests, running)
            if pidfd is None:
                return 0
            if pidfd >= 0:
                running.add(pidfd)
                poll.register(pidfd, select.POLLIN)
    return 0


def _take(requests: socket.socket, running: set[int]) -> int | None:
    """Have one task done; returns a pidfd of who does it, -1 if that has ended, None if the daemon has."""
    packet, ancillary, _, _ = requests.recvmsg(
        MAX_PACKET_BYTES, socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not packet:
        return None
    server = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _do(packet, list(descriptors), [requests.detach(), *running], server)
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _do(packet: bytes, descriptors: list[int], foreign: list[int], server: int) -> NoReturn:
    """Do a task, as its own process; it never returns to the server's loop."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _end)
        jail.die_with(server, signal.SIGTERM)
        for descriptor in (0, *foreign):
            os.close(descriptor)
        channel = Channel(socket.socket(fileno=descriptors[0]))
        channel.tell({}, os.pidfd_open(os.getpid()))
        task = json.loads(packet)
        code = _answer(channel, task, descriptors[1])
    finally:
        os._exit(code)


def _answer(channel: Channel, task: dict[str, Any], stream: int) -> int:
    try:
        channel.tell({"result": TASKS[task["task"]](task, channel, stream)})
    except Refusal as refusal:
        channel.tell({"error": str(refusal), "kind": refusal.kind})
    except OSError as error:
        channel.tell({"error": _described(error), "kind": "invalid" if error.errno in _INVALID else "system"})
    except MemoryError:
        channel.tell({"error": "more memory is needed than may be taken", "kind": "invalid"})
    except Exception as error:  # noqa: BLE001  a defect; a traceback would have to be read from within the jail
        channel.tell({"error": f"{type(error).__name__}: {error}", "kind": "system"})
    else:
        return 0
    return 1


def _described(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    name = error.filename if isinstance(error.filename, str) else ""
    return f"{name}: {text}" if name else text


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.alarm(LAST_WORDS_S)
    raise SystemExit


if __name__ == "__main__":
    sys.exit(main())
