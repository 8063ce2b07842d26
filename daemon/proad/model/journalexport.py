"""Sync, pure. Entries of the systemd journal as lines of a log file.

conmon sends the journal an entry for each line of output, with the fields that Docker's driver ``journald``
sends (https://docs.docker.com/engine/logging/drivers/journald/). ``journalctl --output=export`` gives them
back so (https://systemd.io/JOURNAL_EXPORT_FORMATS/)::

    FIELD=text                                   a field
    FIELD                                        one that is not plain text: length as 64 bits little-endian,
    <length><bytes>                              the bytes, a line feed
                                                 an empty line ends the entry

They are turned into what conmon writes into files (:mod:`proad.model.loglines`), so that all that is known of
those (frames, times, tails) holds for both.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

ID_FIELD = "CONTAINER_ID_FULL"
FIELDS = ("MESSAGE", "PRIORITY", "CONTAINER_PARTIAL_MESSAGE")
_LENGTH_BYTES = 8
_STDERR_PRIORITY = b"3"


@dataclass
class ExportReader:
    """Takes the export stream as it comes; ``cursor`` is the last whole entry's place in the journal."""

    cursor: str = ""
    _rest: bytes = b""
    _second: tuple[int, str] = field(default=(-1, ""))

    def feed(self, data: bytes) -> bytes:
        """The log lines of the entries that are whole by now."""
        data = self._rest + data
        at = 0
        lines: list[bytes] = []
        while (parsed := _entry(data, at)) is not None:
            entry, at = parsed
            if entry:
                self.cursor = entry.get(b"__CURSOR", b"").decode(errors="replace")
                self._add_lines(entry, lines)
        self._rest = data[at:]
        return b"".join(lines)

    def forget_rest(self) -> None:
        """The stream was broken off: what is there of an entry comes once more."""
        self._rest = b""

    def _add_lines(self, entry: dict[bytes, bytes], lines: list[bytes]) -> None:
        message = entry.get(b"MESSAGE", b"")
        partial = b"CONTAINER_PARTIAL_MESSAGE" in entry
        if not message and partial:
            return
        stream = b"stderr" if entry.get(b"PRIORITY") == _STDERR_PRIORITY else b"stdout"
        head = self._time(int(entry.get(b"__REALTIME_TIMESTAMP", b"0"))) + b"+00:00 " + stream
        pieces = message.removesuffix(b"\n").split(b"\n")
        last_tag = b" P " if partial and not message.endswith(b"\n") else b" F "
        for piece in pieces[:-1]:
            lines.append(head + b" F " + piece + b"\n")
        lines.append(head + last_tag + pieces[-1] + b"\n")

    def _time(self, time_us: int) -> bytes:
        second, microsecond = divmod(time_us, 10**6)
        if self._second[0] != second:
            self._second = (second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}")
        return f"{self._second[1]}.{microsecond:06d}000".encode()


def _entry(data: bytes, at: int) -> tuple[dict[bytes, bytes], int] | None:
    """The entry that begins at ``at`` and where the next one does; None if it is not whole yet."""
    entry: dict[bytes, bytes] = {}
    while (end := data.find(b"\n", at)) >= 0:
        if end == at:
            return entry, at + 1
        name, equals, value = data[at:end].partition(b"=")
        if equals:
            at = end + 1
        else:
            begin = end + 1 + _LENGTH_BYTES
            length = int.from_bytes(data[end + 1 : begin], "little")
            if len(data) < begin + length + 1:
                return None
            value = data[begin : begin + length]
            at = begin + length + 1
        entry[name] = value
    return None
