"""Sync, blocking. All files of a container's log as one: read from the oldest on, or from the tail.

The files are opened when the reading begins and stay open, so it is nothing to a reader that they get other
names, are cut, packed or removed meanwhile. A reader that follows is handed each new live file by who
switches them (:meth:`LogChain.go_on_with`), and holds it until it gets there.
"""

import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from proad.host.logrotate import rotated_files, torn_streams
from proad.host.logs import LogFile, TailSearch
from proad.model.loglines import without_torn_lines

MAX_BEHIND_BYTES = 1 << 30
MAX_BEHIND_FILES = 256
"""More than one of these a follower is not kept behind: it goes on with what the log itself still has."""
_PREPARED_BLOCK = 1 << 20
_TICK_NS = 10**9
"""A file's time is the kernel's last tick, a line's is exact and later."""


class _Piece:
    """One file of the chain; a packed one is unpacked before it is read."""

    def __init__(self, descriptor: int, path: Path, *, is_packed: bool) -> None:
        self.file = LogFile(descriptor)
        self.torn = torn_streams(path)
        self.is_packed = is_packed

    def unpack(self, directory: Path) -> None:
        """Put an unpacked copy, which has no name, in the file's place."""
        from isal import igzip  # memory that most daemons need not have

        unpacked = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with (
                os.fdopen(os.dup(self.file.descriptor), "rb") as raw,
                igzip.open(raw, "rb") as blocks,  # type: ignore[no-untyped-call]
            ):
                while block := blocks.read(_PREPARED_BLOCK):
                    view = memoryview(block)
                    while view:
                        view = view[os.write(unpacked, view) :]
        except BaseException:
            os.close(unpacked)
            raise
        self.file.close()
        self.file = LogFile(unpacked)
        self.is_packed = False


class LogChain:
    """The files of one log, for one reader. Without ``follow`` it ends where the log ends now."""

    def __init__(self, live: Path, *, follow: bool, since_ns: int | None = None) -> None:
        self._live = live
        self._follow = follow
        self._pieces: deque[_Piece] = deque()
        self._torn: set[bytes] = set()
        self._live_is_open = False
        self._open_live()
        self._open_rotated(since_ns)
        if self._pieces and since_ns is None:
            self._torn = set(self._pieces[0].torn)

    # --- files ------------------------------------------------------------------------------------------

    def _open_rotated(self, since_ns: int | None) -> None:
        """Put those before the live file, which is open: conmon may switch at any moment, and what was live
        is then rotated.
        """
        live = os.fstat(self._pieces[0].file.descriptor) if self._pieces else None
        for file in rotated_files(self._live):
            descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
            facts = os.fstat(descriptor)
            is_live_too = live is not None and os.path.samestat(facts, live)
            if is_live_too or (since_ns is not None and facts.st_mtime_ns + _TICK_NS < since_ns):
                os.close(descriptor)
            else:
                self._pieces.appendleft(_Piece(descriptor, file.path, is_packed=file.is_packed))

    def _open_live(self) -> bool:
        with suppress(FileNotFoundError):
            descriptor = os.open(self._live, os.O_RDONLY | os.O_CLOEXEC)
            piece = _Piece(descriptor, self._live, is_packed=False)
            if not self._follow:
                piece.file.stop_at_present_end()
            self._pieces.append(piece)
            self._live_is_open = True
        return self._live_is_open

    def go_on_with(self, descriptor: int) -> None:
        """Read this file, which is the reader's from now on, after those that it has."""
        self._pieces.append(_Piece(descriptor, self._live, is_packed=False))
        self._live_is_open = True

    def _catch_up(self) -> None:
        """Leave out what is too far behind."""
        behind = sum(piece.file.size() - piece.file.offset for piece in self._pieces)
        while len(self._pieces) > MAX_BEHIND_FILES or (len(self._pieces) > 1 and behind > MAX_BEHIND_BYTES):
            behind -= self._pieces[0].file.size() - self._pieces[0].file.offset
            self._next_piece()

    def _next_piece(self) -> None:
        self._pieces.popleft().file.close()

    # --- reading ----------------------------------------------------------------------------------------

    @property
    def must_prepare(self) -> bool:
        """What comes next is packed: ``prepare`` takes a while, and belongs on a thread."""
        return bool(self._pieces) and self._pieces[0].is_packed

    def prepare(self) -> None:
        self._pieces[0].unpack(self._live.parent)

    def read(self) -> bytes:
        """The next whole lines; empty if there are none (yet).

        Raises:
            errors.System: the disk failed.
        """
        while self._pieces or (self._follow and not self._live_is_open and self._open_live()):
            piece = self._pieces[0]
            if piece.is_packed:
                return b""
            is_last = len(self._pieces) == 1  # asked first: what is followed by another file is complete
            block = piece.file.read()
            if block and self._torn:
                block = without_torn_lines(block, self._torn)
                if not block:
                    continue
            if block or is_last:
                return block
            self._next_piece()
            if self._follow:
                self._catch_up()
        return b""

    def seek_tail(self, count: int) -> None:
        """Go to where the last ``count`` lines of output begin; 0 is the end. May take a while."""
        search = TailSearch(count)
        pieces = list(self._pieces)  # a follower may be handed another one meanwhile
        older = len(pieces)
        while older:
            older -= 1
            piece = pieces[older]
            if count > 0 and piece.is_packed:
                piece.unpack(self._live.parent)
            end = piece.file.size()
            begin = end if count <= 0 else search.look(piece.file.descriptor, end)
            if begin is not None:
                piece.file.offset = begin
                self._torn.clear()
                break
        for _ in range(older):
            self._next_piece()

    def close(self) -> None:
        while self._pieces:
            self._next_piece()
