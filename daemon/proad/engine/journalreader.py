"""Trio-flavoured. A container's log for one reader, out of the systemd journal."""

from proad.host.journal import JournalStream
from proad.model.journalexport import ExportReader
from proad.model.loglines import Shape, Shaper


class JournalLogReader:
    """Reads what the journal has, and with ``follow`` what it gets; see :class:`proad.engine.logs.LogReader`.

    The journal takes messages and makes them readable a moment later, so at the end of a run what it was sent
    is waited for, and the rest is read from where the following had come to.
    """

    def __init__(
        self, program: str, container_id: str, shape: Shape, *, tail: int | None, follow: bool
    ) -> None:
        """
        Raises:
            errors.System: journalctl cannot be executed.
        """
        self._shaper = Shaper(shape)
        self._export = ExportReader()
        self._tail = tail
        self._since_ns = shape.since_ns
        self._stream = JournalStream(program, container_id)
        self._follows = follow
        self._at_end = False
        self._must_prepare = not follow  # a run that has just ended may have more to say
        self.news_fd: int | None = self._stream.fileno()
        if follow:
            try:
                self._stream.begin([*self._choice(), "--follow"], is_last=False)
            except BaseException:
                self.close()
                raise

    @property
    def is_over(self) -> bool:
        return self._shaper.over or self._at_end

    @property
    def must_prepare(self) -> bool:
        return self._must_prepare

    def prepare(self) -> None:
        """Wait for what the journal was sent, and have the rest told."""
        self._must_prepare = False
        self._stream.sync()
        self._stream.break_off()
        self._export.forget_rest()
        self._stream.begin(self._choice(), is_last=True)

    def read(self) -> tuple[bytes, bool]:
        data = self._stream.read()
        if data is None:
            return b"", False
        if not data:
            self._at_end = True
            return b"", False
        block = self._export.feed(data)
        return (self._shaper.shape(block) if block else b""), True

    def run_is_over(self) -> None:
        if self._follows:
            self._follows = False
            self._must_prepare = True

    def watch(self) -> None:
        """Nothing to do: the pipe is there from the beginning."""

    def drain_news(self) -> None:
        """Nothing to do: reading drains the pipe."""

    def close(self) -> None:
        self._stream.close()
        self.news_fd = None

    def _choice(self) -> list[str]:
        """From where on; once something was read, after that."""
        if self._export.cursor:
            return [f"--after-cursor={self._export.cursor}", "--lines=all"]
        chosen = [f"--lines={'all' if self._tail is None else self._tail}"]
        if self._since_ns is not None:
            chosen.append(f"--since=@{self._since_ns // 10**9}.{self._since_ns // 1000 % 10**6:06d}")
        return chosen
