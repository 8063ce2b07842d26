"""Sync, blocking. The files of one container's log, and how one that is full makes way for the next.

Docker's names, in the container's own directory::

    container.log           the live file: conmon appends to it
    container.log.1         the one before it, container.log.2 before that; with .gz at its end where packed
    container.log.tmp       the next live file, empty, while conmon is told of it
    log.parts/              the pieces of a file that had grown too large, on their way to their names

A file is switched with conmon's help. It answers "reopen" by creating ``container.log.tmp`` and renaming it
to ``container.log``, which destroys what has that name. So the full file gets its second name first, by a
hard link, and conmon is told only then: at no moment is a line without a name, or the log without its file.
The next file is made by us beforehand, because conmon ends, and its container with it, where the disk has no
place left for a new one.

A file that is larger than it should be (a fast writer, a daemon that was down) is cut into pieces at the ends
of lines. They are complete in ``log.parts`` when that directory gets its name, which is the one step that
decides: what dies before it has changed nothing, what dies after it is taken up again by :meth:`finish`.

Where a file begins with the rest of a line whose beginning is in the one before, it says so in an extended
attribute: when the one before is gone, the rest is not shown.
"""

import errno
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from proad.host.logs import line_end_before, unfinished_streams
from proad.model.logoptions import LogPolicy

TORN_ATTRIBUTE = "trusted.proa.torn"
_PACKED = ".gz"
_COPY_BYTES = 8 << 20
_PACK_LEVEL = 1
_PACK_BLOCK = 1 << 20
_TOLERANCE = 8
"""A file that is larger than it should be by one part in so many is left as it is."""
_NUMBERED = re.compile(r"\.(?P<number>[1-9][0-9]{0,8})(?P<packed>\.gz)?")


@dataclass(frozen=True)
class RotatedFile:
    """An older file of the log; ``number`` 1 is the newest of them."""

    number: int
    path: Path

    @property
    def is_packed(self) -> bool:
        return self.path.name.endswith(_PACKED)


class LogFiles:
    """The files of one log. What renames does so at once; what copies or packs belongs on a thread."""

    def __init__(self, live: Path, policy: LogPolicy) -> None:
        self.live = live
        self._policy = policy
        self._next = live.with_name(f"{live.name}.tmp")
        self._parts = live.with_name("log.parts")
        self._unfinished_parts = live.with_name("log.parts.tmp")

    # --- how it is --------------------------------------------------------------------------------------

    def size(self) -> int:
        """Bytes of the live file; 0 if there is none."""
        try:
            return self.live.stat().st_size
        except FileNotFoundError:
            return 0

    def is_full(self) -> bool:
        return self.size() >= self._policy.file_bytes

    def is_switching(self) -> bool:
        """Whether the live file has its second name already, and conmon still writes to it."""
        with suppress(FileNotFoundError):
            return self._newest().samefile(self.live)
        return False

    # --- switching --------------------------------------------------------------------------------------

    def begin_switch(self) -> None:
        """Give the live file its second name; then conmon is to be told.

        Raises:
            OSError: the disk is full or fails; nothing has changed.
        """
        os.close(os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        self._make_room(1, 1)
        os.link(self.live, self._newest())

    def take_back_switch(self) -> None:
        """Conmon ended and did not switch: the live file is the live file."""
        if self.is_switching():
            self._newest().unlink()
        self._next.unlink(missing_ok=True)

    def drop_empty_live(self) -> None:
        """The run is over, and wrote nothing after a switch: what was before it is the live file again."""
        with suppress(FileNotFoundError):
            if self._newest().exists() and self.live.stat().st_size == 0:
                self._newest().rename(self.live)

    def note_torn_line(self) -> None:
        """After a switch: remember what line the live file does not have the beginning of."""
        descriptor = os.open(self._newest(), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_torn(self.live, unfinished_streams(descriptor, os.fstat(descriptor).st_size))
        finally:
            os.close(descriptor)

    # --- cutting and packing ----------------------------------------------------------------------------

    def needs_rework(self, *, ended: bool) -> bool:
        """Whether :meth:`rework` has anything to do."""
        try:
            size = (self.live if ended else self._newest()).stat().st_size
        except FileNotFoundError:  # packed already, or no output yet
            return False
        return self._is_too_large(size) or (self._policy.compress and not ended)

    def rework(self, *, ended: bool) -> None:
        """Cut what is too large and pack what is to be packed; then :meth:`finish` is to be called.

        That is the newest of the rotated files or, when the run has ``ended``, the live file itself, which
        nobody writes any more.

        Raises:
            OSError: the disk is full or fails; nothing has changed.
        """
        source = self.live if ended else self._newest()
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            cuts = self._cuts(descriptor, size, ended=ended) if self._is_too_large(size) else [0, size]
            shutil.rmtree(self._unfinished_parts, ignore_errors=True)
            self._unfinished_parts.mkdir(mode=0o700)
            self._write_parts(descriptor, source, cuts, ended=ended)
        except OSError:
            shutil.rmtree(self._unfinished_parts, ignore_errors=True)
            raise
        finally:
            os.close(descriptor)
        self._unfinished_parts.rename(self._parts)

    def finish(self) -> None:
        """Give finished pieces their names; also those that an earlier daemon made and did not get to."""
        shutil.rmtree(self._unfinished_parts, ignore_errors=True)
        try:
            parts = {int(name.removesuffix(_PACKED)): name for name in os.listdir(self._parts)}
        except FileNotFoundError:
            return
        first = 1 if 0 in parts else 2  # else number 1 is their source, which they replace
        self._make_room(first, max(parts, default=0) + 1 - first)
        for number in sorted(parts, reverse=True):  # the source itself is replaced last
            name = parts[number]
            if name.endswith(_PACKED):
                self._newest(number).unlink(missing_ok=True)
            suffix = f".{name}" if number else ""
            (self._parts / name).rename(self.live.with_name(self.live.name + suffix))
        self._parts.rmdir()

    def _is_too_large(self, size: int) -> bool:
        limit = self._policy.file_bytes
        return size > limit + limit // _TOLERANCE

    def _cuts(self, descriptor: int, size: int, *, ended: bool) -> list[int]:
        """Where the pieces begin and end that are kept: the last of as many of equal length as are needed."""
        count = size // self._policy.file_bytes + 1
        kept = min(count, self._policy.rotated_files + ended)
        cuts: list[int] = []
        for index in range(count - kept, count):
            at = line_end_before(descriptor, size * index // count)
            if not cuts or at > cuts[-1]:
                cuts.append(at)
        return [*cuts, size]

    def _write_parts(self, descriptor: int, source: Path, cuts: list[int], *, ended: bool) -> None:
        times = os.fstat(descriptor)
        pieces = len(cuts) - 1
        for index in range(pieces):
            number = pieces - index - ended
            begin, end = cuts[index], cuts[index + 1]
            path = self._unfinished_parts / str(number)
            if self._policy.compress and number:
                path = path.with_name(f"{number}{_PACKED}")
                _pack(descriptor, begin, end, path)
            else:
                _copy(descriptor, begin, end, path)
            _set_torn(path, unfinished_streams(descriptor, begin) if begin else torn_streams(source))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # readers skip files by it

    # --- names ------------------------------------------------------------------------------------------

    def _newest(self, number: int = 1) -> Path:
        return self.live.with_name(f"{self.live.name}.{number}")

    def _make_room(self, first: int, count: int) -> None:
        """Have the numbers from ``first`` on free for ``count`` files; the oldest go."""
        rotated = [file for file in rotated_files(self.live) if file.number >= first]
        moves: list[tuple[RotatedFile, int]] = []
        taken = first + count - 1
        for file in rotated:
            taken = max(file.number, taken + 1)
            moves.append((file, taken))
        for file, number in reversed(moves):
            if number > self._policy.rotated_files:
                file.path.unlink()
            elif number != file.number:
                suffix = _PACKED if file.is_packed else ""
                file.path.rename(self._newest(number).with_name(f"{self.live.name}.{number}{suffix}"))


def rotated_files(live: Path) -> list[RotatedFile]:
    """The older files of a log, the newest first. What is packed and still there unpacked counts once."""
    found: dict[int, RotatedFile] = {}
    try:
        names = os.listdir(live.parent)
    except FileNotFoundError:
        return []
    for name in names:
        match = _NUMBERED.fullmatch(name.removeprefix(live.name)) if name.startswith(live.name) else None
        if match is not None:
            number = int(match["number"])
            if number not in found or not match["packed"]:
                found[number] = RotatedFile(number, live.with_name(name))
    return [found[number] for number in sorted(found)]


def torn_streams(path: Path) -> frozenset[bytes]:
    """The streams of which a file begins with the rest of a line: ``stdout``, ``stderr``."""
    try:
        return frozenset(os.getxattr(path, TORN_ATTRIBUTE).split(b","))
    except OSError:  # there is none, or the file system has no such attributes: then the rest is shown
        return frozenset()


def _set_torn(path: Path, streams: frozenset[bytes]) -> None:
    if streams:
        with suppress(OSError):  # as above
            os.setxattr(path, TORN_ATTRIBUTE, b",".join(sorted(streams)))


def _copy(descriptor: int, begin: int, end: int, path: Path) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while begin < end:
            count = os.sendfile(target, descriptor, begin, min(_COPY_BYTES, end - begin))
            if not count:
                raise OSError(errno.EIO, "the log is shorter than it was")
            begin += count
    finally:
        os.close(target)


def _pack(descriptor: int, begin: int, end: int, path: Path) -> None:
    from isal import igzip  # memory that most daemons need not have

    with igzip.open(path, "wb", compresslevel=_PACK_LEVEL) as packed:  # type: ignore[no-untyped-call]
        path.chmod(0o600)
        while begin < end:
            block = os.pread(descriptor, min(_PACK_BLOCK, end - begin), begin)
            if not block:
                raise OSError(errno.EIO, "the log is shorter than it was")
            packed.write(block)
            begin += len(block)
