"""Sync, blocking. News of files and directories, as a descriptor for any event loop."""

import ctypes
import os
import struct
from pathlib import Path

from proad.model import errors

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_IGNORED = 0x8000
_IN_ONESHOT = 0x80000000
_EVENT = struct.Struct("iIII")  # inotify(7): watch, mask, cookie, length of the name that follows
_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]


class _Inotify:
    """One inotify instance; to be closed."""

    def __init__(self) -> None:
        """
        Raises:
            errors.System: the user's inotify instances are used up.
        """
        self._descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise errors.System(f"inotify: {os.strerror(ctypes.get_errno())}")

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _add(self, path: Path, mask: int) -> int:
        watch: int = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask)
        if watch < 0:
            raise errors.System(f"inotify on {path}: {os.strerror(ctypes.get_errno())}")
        return watch

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 65536)
        except BlockingIOError:
            return b""


class DirectoryWatch(_Inotify):
    """Becomes readable when a file in the directory is written, made, or moved in; not for those below."""

    def __init__(self, directory: Path) -> None:
        """
        Raises:
            errors.System: the directory is gone, or the user's inotify instances are used up.
        """
        super().__init__()
        try:
            self._add(directory, _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE)
        except errors.System:
            self.close()
            raise

    def drain(self) -> None:
        """Take what news there are; the descriptor is then not readable until there are more."""
        while self._read():
            pass


class WriteAlarms(_Inotify):
    """Tells once of each file that it is being written. Any number of files share the one descriptor."""

    def set(self, path: Path) -> int:
        """Be told of the next write to the file; returns the number that it will be told by.

        A file for which the alarm is set already keeps its number.

        Raises:
            errors.System: there is no such file, or the user's watches are used up.
        """
        return self._add(path, _IN_MODIFY | _IN_ONESHOT)

    def gone(self) -> list[tuple[int, bool]]:
        """The numbers of those that are not set any more, and whether they went off; else the file went."""
        numbers: list[tuple[int, bool]] = []
        while news := self._read():
            at = 0
            while at < len(news):
                number, mask, _, length = _EVENT.unpack_from(news, at)
                at += _EVENT.size + length
                if mask & (_IN_MODIFY | _IN_IGNORED):
                    numbers.append((number, bool(mask & _IN_MODIFY)))
        return numbers
