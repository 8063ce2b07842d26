"""Trio-flavoured. What a build says to its client, line by line, and how far the client may fall behind.

Lines are made here and taken by the API, both on the loop's thread: nothing crosses between the event loops.
A step whose output nobody takes waits, and its container with it.
"""

import codecs
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

MAX_BACKLOG_BYTES = 1 << 20
MAX_HELD_BYTES = 16 << 20
_OVERHEAD_BYTES = 64
_RED, _NORMAL = "\x1b[91m", "\x1b[0m"
"""Docker's builder shows in red what a step writes to its standard error."""

Line = dict[str, Any]


class BuildOutput:
    """The lines of one build. ``notify`` is called when there are new ones; ``quiet`` keeps them for a
    failure.
    """

    def __init__(self, notify: Callable[[], None], *, quiet: bool = False, with_aux: bool = True) -> None:
        self._notify = notify
        self._quiet = quiet
        self._with_aux = with_aux
        self._lines: deque[Line] = deque()
        self._held: deque[Line] = deque()
        self._held_bytes = 0
        self._backlog_bytes = 0
        self._room = trio.Event()
        self.has_begun = False
        """Whether anything was said yet, and be it held back."""

    # --- for the build ----------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.put({"stream": text})

    def warn(self, text: str) -> None:
        """As written to standard error."""
        self.put({"stream": f"{_RED}{text}{_NORMAL}"})

    def aux(self, value: Line) -> None:
        if self._with_aux:
            self.put({"aux": value})

    def put(self, line: Line) -> None:
        self.has_begun = True
        if self._quiet:
            self._hold(line)
        else:
            self._append(line)

    def _hold(self, line: Line) -> None:
        """Keep a line, of a very long output the end."""
        self._held.append(line)
        self._held_bytes += _size(line)
        while self._held_bytes > MAX_HELD_BYTES:
            self._held_bytes -= _size(self._held.popleft())

    def conclude(self, image_id: str) -> None:
        """The build went well: with ``quiet``, the id is all that is said."""
        if self._quiet:
            self._append({"stream": f"{image_id}\n"})

    def fail(self, message: str, code: int | None = None) -> None:
        """The build failed: what was held back is told after all, then the error."""
        for line in self._held:
            self._append(line)
        self._held.clear()
        detail: Line = {"message": message} if code is None else {"code": code, "message": message}
        self._append({"errorDetail": detail, "error": message})

    async def room(self) -> None:
        """Return when the client is not too far behind."""
        while self._backlog_bytes > MAX_BACKLOG_BYTES:
            self._room = trio.Event()
            await self._room.wait()

    def _append(self, line: Line) -> None:
        self._lines.append(line)
        self._backlog_bytes += _size(line)
        self._notify()

    # --- for the API ------------------------------------------------------------------------------------

    def take(self) -> list[Line]:
        """All lines that there are; the client has them then, or is getting them."""
        lines = list(self._lines)
        self._lines.clear()
        self._backlog_bytes = 0
        self._room.set()
        return lines


class StepOutput:
    """What one step's container writes, as lines of the build; characters may come in pieces."""

    def __init__(self, output: BuildOutput) -> None:
        self._output = output
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(2)]

    def stdout(self, data: bytes, *, final: bool = False) -> None:
        if text := self._decoders[0].decode(data, final):
            self._output.say(text)

    def stderr(self, data: bytes, *, final: bool = False) -> None:
        if text := self._decoders[1].decode(data, final):
            self._output.warn(text)

    def end(self) -> None:
        self.stdout(b"", final=True)
        self.stderr(b"", final=True)

    async def room(self) -> None:
        await self._output.room()


def _size(line: Line) -> int:
    return len(line.get("stream", "")) + _OVERHEAD_BYTES
