"""Sync, blocking. News of a directory's files, as a descriptor for any event loop."""

import ctypes
import os
from pathlib import Path

from proad.model import errors

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """Becomes readable when a file in the directory is written, made, or moved in; not for those below."""

    def __init__(self, directory: Path) -> None:
        """
        Raises:
            errors.System: the directory is gone, or the user's inotify instances are used up.
        """
        self._descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise errors.System(f"inotify: {os.strerror(ctypes.get_errno())}")
        mask = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
        if _libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask) < 0:
            error = os.strerror(ctypes.get_errno())
            self.close()
            raise errors.System(f"inotify on {directory}: {error}")

    def fileno(self) -> int:
        return self._descriptor

    def drain(self) -> None:
        """Take what news there are; the descriptor is then not readable until there are more."""
        try:
            while os.read(self._descriptor, 65536):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
