"""Sync, pure. Where a reader of a log has come to, so that another connection can go on from there.

A log has no numbers, but each line has a time, and it is asked for again "since" a time. Many lines may have
the same one, and a line may be cut off in its middle; so what came of lines since that time is counted, in
each stream for itself, and as much is left out of what comes again::

    S  the time of the oldest line that has not ended, or of the newest line where all have
    n  bytes of each stream that came in lines since S

A line's time stands before it: 30 characters and a blank.
"""

from __future__ import annotations

from collections.abc import Iterator

from proa.streams import StreamName

STAMP_BYTES = 31


class _Tally:
    """How many bytes came in lines of one time."""

    def __init__(self, time: bytes) -> None:
        self.time = time
        self.size = 0


class _Stream:
    """One of the two streams: its unfinished line, and what came lately, from old to new."""

    def __init__(self) -> None:
        self.lately: list[_Tally] = []
        self.stamp = b""
        self.within = False
        self.newest = b""
        self.to_skip = 0
        self.had = 0
        """What was to be skipped when this connection began."""
        self.came = 0
        """What has come over it."""


class Resumer:
    """Takes the pieces of a log with timestamps, passes on what is new, without them unless ``stamped``."""

    def __init__(self, *, stamped: bool) -> None:
        self._stamped = stamped
        self._streams: dict[StreamName, _Stream] = {"stdout": _Stream(), "stderr": _Stream()}
        self._newest = b""
        self._asked_since = b""

    def begin_again(self) -> str | None:
        """The next piece comes over another connection: from when on to ask; None is from the beginning.

        One that broke before it had brought what was there already is as if it had not been.
        """
        caught_up = not any(stream.to_skip for stream in self._streams.values())
        if caught_up:
            self._asked_since = self._since()
        for stream in self._streams.values():
            if caught_up:
                self._forget_before(stream, self._asked_since)
                stream.had = sum(tally.size for tally in stream.lately)
            else:
                stream.had = max(stream.had, stream.came)
            stream.to_skip, stream.came = stream.had, 0
            stream.lately = []
            stream.stamp, stream.within = b"", False
        return self._asked_since.decode() or None

    def feed(self, name: StreamName, piece: bytes) -> Iterator[bytes]:
        """What of a piece is new. Pieces may begin and end anywhere."""
        stream = self._streams[name]
        while piece:
            if not stream.within:
                missing = STAMP_BYTES - len(stream.stamp)
                stream.stamp += piece[:missing]
                piece = piece[missing:]
                if len(stream.stamp) < STAMP_BYTES:
                    return
                self._begin_line(stream)
                yield from self._new(stream, stream.stamp, shown=self._stamped)
            line, feed, piece = piece.partition(b"\n")
            yield from self._new(stream, line + feed, shown=True)
            if feed:
                stream.stamp, stream.within = b"", False

    def _begin_line(self, stream: _Stream) -> None:
        stream.within = True
        time = stream.stamp[:-1]
        if time > stream.newest:  # later than all that came, so none of it: what was is perhaps not kept
            stream.newest, stream.to_skip = time, 0
        self._newest = max(self._newest, time)
        if not stream.lately or stream.lately[-1].time != time:
            self._forget_before(stream, self._since())
            stream.lately.append(_Tally(time))

    def _new(self, stream: _Stream, data: bytes, *, shown: bool) -> Iterator[bytes]:
        stream.lately[-1].size += len(data)
        stream.came += len(data)
        skipped = min(stream.to_skip, len(data))
        stream.to_skip -= skipped
        if shown and len(data) > skipped:
            yield data[skipped:]

    def _since(self) -> bytes:
        unfinished = [stream.stamp[:-1] for stream in self._streams.values() if stream.within]
        return min(unfinished, default=self._newest)

    def _forget_before(self, stream: _Stream, since: bytes) -> None:
        while stream.lately and stream.lately[0].time < since:
            del stream.lately[0]
