"""Sync, blocking. Listening sockets: unix paths, TCP on request, and descriptors handed in by systemd."""

import os
import shutil
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from proad.config import Config
from proad.model import errors

BACKLOG = 1024
FIRST_INHERITED_FD = 3

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Listener:
    """A bound socket. ``path`` is the file to remove when done; None for sockets that others made."""

    socket: socket.socket
    address: str
    path: Path | None = None
    inode: int = 0

    def unlink(self) -> None:
        """Remove the socket's file unless somebody has put another one there meanwhile."""
        if self.path is not None and self.path.exists() and self.path.stat().st_ino == self.inode:
            self.path.unlink()


def inherited_fds(environ: Mapping[str, str]) -> list[int]:
    """Return the descriptors that systemd passed to this process (sd_listen_fds(3)); empty if none."""
    if environ.get("LISTEN_PID") != str(os.getpid()) or not environ.get("LISTEN_FDS", "").isdecimal():
        return []
    return list(range(FIRST_INHERITED_FD, FIRST_INHERITED_FD + int(environ["LISTEN_FDS"])))


def open_all(config: Config, inherited: Sequence[int]) -> list[Listener]:
    """Return a listener for each of ``config.hosts`` and of ``inherited``.

    ``fd://`` in the hosts stands for the inherited ones, which are always served; a unix path that an
    inherited socket is already bound to is not bound again.

    Raises:
        errors.System: an address is in use or cannot be bound. errors.InvalidParameter: no such kind of
        address, TCP without ``--insecure-tcp``, or nothing to listen on.
    """
    listeners: list[Listener] = []
    try:
        listeners += [_adopt(fd) for fd in inherited]
        adopted = {listener.address for listener in listeners}
        for host in config.hosts:
            if host not in adopted and not host.startswith("fd://"):
                listeners.append(_open(host, config))
        if not listeners:
            raise errors.InvalidParameter("nothing to listen on: no --host and no socket from systemd")
    except BaseException:
        for listener in listeners:
            listener.unlink()
            listener.socket.close()
        raise
    return listeners


def _adopt(fd: int) -> Listener:
    adopted = socket.socket(fileno=fd)
    adopted.setblocking(False)
    os.set_inheritable(fd, False)
    name = adopted.getsockname()
    if adopted.family == socket.AF_UNIX:
        return Listener(adopted, f"unix://{name}")
    return Listener(adopted, f"tcp://{name[0]}:{name[1]}")


def _open(host: str, config: Config) -> Listener:
    scheme, found, rest = host.partition("://")
    if found and scheme == "unix" and rest:
        return _open_unix(Path(rest), config.group)
    if found and scheme == "tcp":
        if not config.insecure_tcp:
            raise errors.InvalidParameter(
                f"{host}: anybody who can reach a TCP address of a container engine is root on its host; "
                "give --insecure-tcp if that is meant"
            )
        return _open_tcp(rest)
    raise errors.InvalidParameter(f"invalid --host {host!r}: want unix:///path, tcp://address:port or fd://")


def _open_unix(path: Path, group: str) -> Listener:
    """Bind ``path``, mode 0660, ``group`` where it exists; a file nobody listens on any more is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old_umask = os.umask(0o177)  # nobody can connect between bind and chown
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise errors.System(f"cannot listen on unix://{path}: {error.strerror or error}") from error
    finally:
        os.umask(old_umask)
    try:
        shutil.chown(path, group=group)
    except LookupError:
        log.debug("no such group, the socket is root's alone", group=group, path=str(path))
    except PermissionError:
        log.warning("cannot hand the socket to its group", group=group, path=str(path))
    path.chmod(0o660)
    return Listener(listener, f"unix://{path}", path, path.stat().st_ino)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise errors.System(f"cannot listen on unix://{path}: the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # a full backlog: somebody is there
    raise errors.System(f"cannot listen on unix://{path}: another process listens there")


def _open_tcp(rest: str) -> Listener:
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise errors.InvalidParameter(f"invalid --host tcp://{rest}: want tcp://address:port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
    except OSError as error:
        listener.close()
        raise errors.System(f"cannot listen on tcp://{rest}: {error.strerror or error}") from error
    name = listener.getsockname()
    return Listener(listener, f"tcp://{name[0]}:{name[1]}")
