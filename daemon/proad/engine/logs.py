"""Trio-flavoured. A container's log for one reader: chosen, shaped, and told when there is more."""

from pathlib import Path

from proad.host.inotify import DirectoryWatch
from proad.host.logs import LogFile
from proad.model.loglines import Shape, Shaper


class LogReader:
    """One reader of one log. Blocks of it are read and shaped in about two milliseconds each.

    ``news_fd`` is a descriptor that is readable when the log may have grown, for any event loop; None without
    ``follow``, and until the container has a directory: it gets one at its first start, and logs nothing
    before.
    """

    def __init__(self, path: Path, shape: Shape, *, follow: bool) -> None:
        """
        Raises:
            errors.System: the directory cannot be watched.
        """
        self._directory = path.parent
        self._file = LogFile(path)
        self._shaper = Shaper(shape)
        self._watch: DirectoryWatch | None = None
        self.news_fd: int | None = None
        if follow:
            self.watch()
        else:
            self._file.stop_at_present_end()

    @property
    def is_over(self) -> bool:
        """A line after the end of the wanted time was seen."""
        return self._shaper.over

    def seek_tail(self, count: int) -> None:
        """Begin with the last ``count`` lines of output. Ten thousand of them take milliseconds."""
        self._file.seek_tail(count)

    def read(self) -> tuple[bytes, bool]:
        """The next block as wanted, and whether there was anything to read: nothing of a block may be wanted.

        Raises:
            errors.System: the disk failed.
        """
        block = self._file.read()
        return (self._shaper.shape(block), True) if block else (b"", False)

    def watch(self) -> None:
        """Have ``news_fd``, if the directory is there by now."""
        if self._watch is None and self._directory.is_dir():
            self._watch = DirectoryWatch(self._directory)
            self.news_fd = self._watch.fileno()

    def drain_news(self) -> None:
        """Take what news there are; ``news_fd`` is readable again when there are more."""
        if self._watch is not None:
            self._watch.drain()

    def close(self) -> None:
        self._file.close()
        if self._watch is not None:
            self._watch.close()
