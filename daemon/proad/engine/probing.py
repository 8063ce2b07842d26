"""Trio-flavoured. The output of a probe, kept up to a limit; what is beyond it is read and dropped."""

import os
from dataclasses import dataclass

import trio

from proad.host.execstreams import ExecStreams

_CHUNK_BYTES = 64 << 10


@dataclass(frozen=True)
class ProbeResult:
    """How a probe ended. ``output`` is stdout and stderr as they came, cut at the limit that was asked for;
    with ``timed_out`` it was killed.
    """

    exit_code: int
    output: bytes
    timed_out: bool


class ProbeOutput:
    """The streams of one probe (``engine.exec.ExecLive``)."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept = bytearray()
        self._streams = ExecStreams()
        self._finished = trio.Event()

    def connect(self, streams: ExecStreams) -> None:
        self._streams = streams

    def last_words(self) -> bytes:
        while self._streams.stdout is not None and self._take() > 0:
            pass
        return bytes(self._kept)

    def finish(self, failure: str) -> None:
        self._finished.set()

    @property
    def output(self) -> bytes:
        return bytes(self._kept)

    async def collect(self) -> None:
        """Read until the probe has ended. What its children write after it is not waited for."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            await self._finished.wait()
            nursery.cancel_scope.cancel()
        while self._take() > 0:
            pass

    def close(self) -> None:
        self._streams.close()

    async def _read(self) -> None:
        descriptor = self._streams.stdout
        assert descriptor is not None
        while self._take() != 0:
            await trio.lowlevel.wait_readable(descriptor)

    def _take(self) -> int:
        """Read what is there: how many bytes, 0 at the end, -1 if there is nothing now."""
        assert self._streams.stdout is not None
        try:
            data = os.read(self._streams.stdout, _CHUNK_BYTES)
        except BlockingIOError:
            return -1
        self._kept += data[: max(self._max_bytes - len(self._kept), 0)]
        return len(data)
