"""Sync, pure. The lines of a container's log as conmon writes them, in Docker's shapes.

Each line of the file is one piece of output, its head of fixed width (``TZ=UTC`` is given to conmon)::

    2024-11-23T21:58:50.198438283+00:00 stdout F text
    |0                           |29    |36    |43

``F`` ends a line of output, ``P`` is a part without its line feed: conmon logs what it reads, when it reads
it. So the output is what follows the heads, byte for byte, with a line feed after each ``F``. Nothing in a
piece can look like a line's end; a piece that is being written has none yet, and is left for the next read.

Blocks are taken apart with one slice and one look-up for each line, which is some 200 MB/s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from proad.model.stdstreams import STDERR, STDOUT, frame_header

STREAM_AT = 36
"""Where in a line the stream's name stands, six characters of it."""
FULL_TAG_AT = 43
"""Where in a line ``F`` or ``P`` stands."""
_HEAD = 45
_TIME = 29
_MARK = slice(36, 45)
_FULL_OUT, _FULL_ERR = b"stdout F ", b"stderr F "
_PART_OUT, _PART_ERR = b"stdout P ", b"stderr P "
_FULL = frozenset({_FULL_OUT, _FULL_ERR})
_STREAMS = {_FULL_OUT: STDOUT, _FULL_ERR: STDERR, _PART_OUT: STDOUT, _PART_ERR: STDERR}
_CACHED_HEADERS = 1024


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of the log is wanted, and how it shall look.

    ``multiplexed`` puts each line into a frame of its own, else the streams are laid one after the other.
    ``details`` are put before each line, None for nothing. ``since_ns`` and ``until_ns`` are inclusive, in
    nanoseconds since the epoch.
    """

    stdout: bool = True
    stderr: bool = True
    multiplexed: bool = True
    timestamps: bool = False
    details: bytes | None = None
    since_ns: int | None = None
    until_ns: int | None = None


class Shaper:
    """Turns blocks of the log file into what a client reads. One for each client: it has a state.

    With timestamps or details a line that was logged in parts must get them only once, at its beginning.
    """

    def __init__(self, shape: Shape) -> None:
        wanted = [mark for mark, stream in _STREAMS.items() if (shape.stdout, shape.stderr)[stream - 1]]
        self._wanted = frozenset(wanted)
        self._shape = shape
        self._since = None if shape.since_ns is None else _time_text(shape.since_ns)
        self._until = None if shape.until_ns is None else _time_text(shape.until_ns)
        self._headers = {
            mark: [frame_header(_STREAMS[mark], length) for length in range(_CACHED_HEADERS)]
            for mark in wanted
        }
        self._within: dict[int, bool] = {STDOUT: False, STDERR: False}
        self.over = False
        """A line after ``until_ns`` was seen: nothing more will be wanted."""

    def shape(self, block: bytes) -> bytes:
        """Shape whole lines of the file; ``block`` ends with a line feed."""
        if self._since is not None and block[:_TIME] < self._since:
            block = self._skip_before(block)
        if self._until is not None:
            block = self._cut_after(block)
        lines = block.split(b"\n")
        lines.pop()
        shape = self._shape
        if shape.timestamps or shape.details is not None:
            return b"".join(self._decorated(lines))
        return b"".join(self._framed(lines) if shape.multiplexed else self._plain(lines))

    def _framed(self, lines: list[bytes]) -> list[bytes]:
        pieces: list[bytes] = []
        add = pieces.append
        headers = self._headers
        for line in lines:
            mark = line[_MARK]
            if (cached := headers.get(mark)) is None:
                continue
            full = mark in _FULL
            length = len(line) - _HEAD + full
            add(cached[length] if length < _CACHED_HEADERS else frame_header(_STREAMS[mark], length))
            add(line[_HEAD:])
            if full:
                add(b"\n")
        return pieces

    def _plain(self, lines: list[bytes]) -> list[bytes]:
        pieces: list[bytes] = []
        add = pieces.append
        for line in lines:
            mark = line[_MARK]
            if mark in self._wanted:
                add(line[_HEAD:])
                if mark in _FULL:
                    add(b"\n")
        return pieces

    def _decorated(self, lines: list[bytes]) -> Iterator[bytes]:
        shape = self._shape
        for line in lines:
            mark = line[_MARK]
            if mark not in self._wanted:
                continue
            stream = _STREAMS[mark]
            full = mark in _FULL
            text = line[_HEAD:] + b"\n" if full else line[_HEAD:]
            if not self._within[stream]:
                if shape.details is not None:
                    text = shape.details + b" " + text
                if shape.timestamps:
                    text = line[:_TIME] + b"Z " + text
            self._within[stream] = not full
            if shape.multiplexed:
                yield frame_header(stream, len(text))
            yield text

    def _skip_before(self, block: bytes) -> bytes:
        """Without the lines before ``since_ns``; each is looked at, for clocks are set back now and then."""
        since = self._since
        assert since is not None
        kept = [line for line in block[:-1].split(b"\n") if line[:_TIME] >= since]
        return b"\n".join(kept) + b"\n" if kept else b""

    def _cut_after(self, block: bytes) -> bytes:
        until = self._until
        assert until is not None
        last = block.rfind(b"\n", 0, -1) + 1
        if block[last : last + _TIME] <= until:
            return block
        kept = 0
        while kept < len(block) and block[kept : kept + _TIME] <= until:
            kept = block.index(b"\n", kept) + 1
        self.over = True
        return block[:kept]


def without_torn_lines(block: bytes, torn: set[bytes]) -> bytes:
    """Whole pieces without those that only end a line whose beginning is not there any more.

    ``torn`` names the streams that begin so (``stdout``, ``stderr``); one goes from it where its line ends.
    """
    kept: list[bytes] = []
    at = 0
    while torn and at < len(block):
        end = block.index(b"\n", at) + 1
        stream = block[at + STREAM_AT : at + STREAM_AT + 6]
        if stream not in torn:
            kept.append(block[at:end])
        elif block[at + FULL_TAG_AT : at + FULL_TAG_AT + 1] == b"F":
            torn.discard(stream)
        at = end
    return b"".join(kept) + block[at:]


def _time_text(time_ns: int) -> bytes:
    """The first 29 characters of a head: they compare as times do."""
    seconds, nanoseconds = divmod(max(time_ns, 0), 10**9)
    seconds = min(seconds, 253402300799)  # the last second of the year 9999
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}".encode()
