"""Trio-flavoured. A file that takes up room on the disk, to be given up when there is none left.

On a full disk what has happened must still be written down, and what frees space must still be possible: the
end of a container, its removal. The first such transaction that finds no room gives the reserve up; it is
made again when there is room. What would only take more space (create, import) may not use it.
"""

import os
from contextlib import suppress
from pathlib import Path

SIZE_BYTES = 1 << 20
"""A transaction appends some 10 to 30 kB to the database's log: enough for dozens of ends and removals."""
_SCARCE_BYTES = SIZE_BYTES // 4
_PLENTY_BYTES = 4 * SIZE_BYTES


class Reserve:
    """The reserve of one state directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def give_up(self) -> bool:
        """Free the room; False if it was given up before."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True

    def give_up_if_scarce(self) -> None:
        """Free the room if there is too little for a database to be opened."""
        if self._free_bytes() < _SCARCE_BYTES:
            self.give_up()

    def keep(self) -> None:
        """Take up the room again, if it is not and there is plenty; a disk that fills meanwhile wins."""
        if self._path.exists() or self._free_bytes() < _PLENTY_BYTES:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)
        except OSError:
            with suppress(OSError):
                self._path.unlink()
        finally:
            os.close(descriptor)

    def _free_bytes(self) -> int:
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize
