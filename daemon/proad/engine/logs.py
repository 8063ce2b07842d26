"""Trio-flavoured. The logs of all containers: kept to their size, and read.

Where a log is depends on its driver. ``json-file`` and ``local`` are files in the container's directory,
``journald`` is the host's journal, ``none`` is nowhere. A reader is the same for all: a :class:`LogReader`.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from proad.config import Config
from proad.engine.journalreader import JournalLogReader
from proad.engine.logkeeper import LogKeeper, LogKeepers
from proad.host.inotify import DirectoryWatch
from proad.host.journal import journalctl
from proad.host.logchain import LogChain
from proad.host.logrotate import LogFiles
from proad.model import errors
from proad.model.container import Container
from proad.model.loglines import Shape, Shaper
from proad.model.logoptions import JOURNALD, NO_LOG, log_driver, log_policy


class LogReader(Protocol):
    """One reader of one log. It blocks for some two milliseconds at a time, but where ``must_prepare``."""

    news_fd: int | None
    """Readable when there may be more, for any event loop; None while nothing can tell."""

    @property
    def is_over(self) -> bool:
        """Nothing more that is wanted will come."""

    @property
    def must_prepare(self) -> bool:
        """Call ``prepare``, on a thread, before the next ``read``."""

    def prepare(self) -> None:
        """Get ready to read on."""

    def read(self) -> tuple[bytes, bool]:
        """The next block as wanted, and whether there was anything to read: nothing of a block may be wanted.

        Raises:
            errors.System: the disk failed.
        """

    def watch(self) -> None:
        """Have ``news_fd``, if by now there is something to watch."""

    def drain_news(self) -> None:
        """Take what news there are; ``news_fd`` is readable again when there are more."""

    def run_is_over(self) -> None:
        """All that will be written has been: the reader ends when it has read it."""

    def close(self) -> None:
        """Give back what it holds; may be called again."""


class FileLogReader:
    """A reader of the log's files: ``tail`` lines, None for all, and with ``follow`` what is added."""

    def __init__(
        self,
        live: Path,
        shape: Shape,
        *,
        tail: int | None,
        follow: bool,
        on_close: Callable[["FileLogReader"], None] | None = None,
    ) -> None:
        """
        Raises:
            errors.System: the disk failed, or the directory cannot be watched.
        """
        self._directory = live.parent
        self._tail = tail
        self._follow = follow
        self._on_close = on_close
        self._shaper = Shaper(shape)
        self._watch: DirectoryWatch | None = None
        self.news_fd: int | None = None
        if follow:
            self.watch()  # before the files are opened: nothing is written unnoticed
        try:
            since_ns = shape.since_ns if tail is None else None
            self._chain = LogChain(live, follow=follow, since_ns=since_ns)
        except OSError as error:
            self._close_watch()
            raise errors.System(f"log: {error.strerror}") from error
        self._at_end = False

    @property
    def is_over(self) -> bool:
        return self._shaper.over or self._at_end

    @property
    def must_prepare(self) -> bool:
        return self._tail is not None or self._chain.must_prepare

    def prepare(self) -> None:
        """Find the tail, unpack what is packed."""
        try:
            if self._tail is not None:
                self._chain.seek_tail(self._tail)
                self._tail = None
            elif self._chain.must_prepare:
                self._chain.prepare()
        except (OSError, EOFError) as error:
            raise errors.System(f"log: {error}") from error

    def read(self) -> tuple[bytes, bool]:
        block = self._chain.read()
        if block:
            return self._shaper.shape(block), True
        self._at_end = not self._follow and not self._chain.must_prepare
        return b"", False

    def run_is_over(self) -> None:
        self._follow = False

    def go_on_with(self, descriptor: int) -> None:
        """The log goes on in another file, opened for this reader."""
        self._chain.go_on_with(descriptor)

    def watch(self) -> None:
        if self._watch is None and self._directory.is_dir():
            self._watch = DirectoryWatch(self._directory)
            self.news_fd = self._watch.fileno()

    def drain_news(self) -> None:
        if self._watch is not None:
            self._watch.drain()

    def close(self) -> None:
        if self._on_close is not None:
            self._on_close(self)
            self._on_close = None
        self._chain.close()
        self._close_watch()

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch, self.news_fd = None, None


class Logs:
    """Opens logs for readers, and has those of running containers kept to their size."""

    def __init__(self, config: Config, nursery: trio.Nursery) -> None:
        self._config = config
        self._journalctl = journalctl()
        self._keepers = LogKeepers(nursery)
        self._followers: dict[str, set[FileLogReader]] = {}

    def begin(self, container: Container, control: Path) -> None:
        """A run is on, or about to be; ``control`` is its monitor's fifo."""
        if (keeper := self._keeper(container)) is not None:
            self._keepers.begin(container.id, keeper, control)

    async def end(self, container: Container) -> None:
        """The run is over, all its output in the log, which is now brought to its size.

        So it is where nobody looked after it: the run may have ended while no daemon was there.
        """
        keeper = self._keepers.end(container.id) or self._keeper(container)
        if keeper is not None:
            await keeper.finish()

    def _keeper(self, container: Container) -> LogKeeper | None:
        policy = log_policy(container.host_config.log_config)
        if not policy.is_bounded:
            return None
        files = LogFiles(self._live(container), policy)
        return LogKeeper(container.id, files, policy, partial(self._hand_on, container.id))

    def check_readable(self, container: Container) -> None:
        """
        Raises:
            errors.NotImplemented: its log driver keeps nothing to read, or nothing here can read it.
        """
        driver = log_driver(container.host_config.log_config)
        if driver == NO_LOG or (driver == JOURNALD and self._journalctl is None):
            raise errors.NotImplemented("configured logging driver does not support reading")

    def open(self, container: Container, shape: Shape, *, tail: int | None, follow: bool) -> LogReader:
        """A reader of the container's log, to be closed; ``tail`` None begins with the oldest line there is.

        Raises:
            errors.NotImplemented: its log driver keeps nothing to read.
            errors.System: the disk failed, or journalctl.
        """
        self.check_readable(container)
        if self._journalctl and log_driver(container.host_config.log_config) == JOURNALD:
            return JournalLogReader(self._journalctl, container.id, shape, tail=tail, follow=follow)
        live = self._live(container)
        if not follow:
            return FileLogReader(live, shape, tail=tail, follow=False)
        forget = partial(self._forget, container.id)
        reader = FileLogReader(live, shape, tail=tail, follow=True, on_close=forget)
        self._followers.setdefault(container.id, set()).add(reader)
        return reader

    def _live(self, container: Container) -> Path:
        return self._config.data_root / "containers" / container.id / "container.log"

    def _forget(self, container_id: str, reader: FileLogReader) -> None:
        if followers := self._followers.get(container_id):
            followers.discard(reader)
            if not followers:
                del self._followers[container_id]

    def _hand_on(self, container_id: str, live: Path) -> None:
        """Give those who follow the log the file in which it goes on."""
        for reader in self._followers.get(container_id, set()):
            reader.go_on_with(os.open(live, os.O_RDONLY | os.O_CLOEXEC))
