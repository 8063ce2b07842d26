"""Sync, pure. Reading a tar stream that nobody vouches for: every header checked, memory bounded, forward
only.

Python's own ``tarfile`` is slower on archives of small files, and on hostile headers some of the versions
served here loop or allocate without end (CVE-2019-20907, CVE-2025-8194). Read are ustar, GNU (long names,
base-256 numbers, old sparse files) and pax (sizes, names, times, ``SCHILY.xattr.*``, sparse 0.0, 0.1 and
1.0). Layouts: tar(5) of libarchive and
https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

BLOCK = 512
CHUNK = 1 << 20
MAX_EXTENSION_BYTES = 1 << 20
"""Of one extended header (a long name, a set of pax records, a sparse map): larger is an attack."""
MAX_TIME_S = 1 << 33

_KINDS = {
    b"0": "file", b"\0": "file", b"7": "file", b"S": "file", b"1": "link", b"2": "symlink", b"3": "char",
    b"4": "block", b"5": "directory", b"6": "fifo",
}  # fmt: skip
_XATTR = "SCHILY.xattr."
_ZEROS = bytes(BLOCK)


class TarError(Exception):
    """The stream is no tar archive, is cut short, or has a header that cannot be meant; the text says
    which."""


class Readable(Protocol):
    """A source of bytes; ``read`` returns fewer than asked only at the end.

    One that also has ``read_some``, which may return fewer, is asked by that for the data of files.
    """

    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class Entry:
    """One member of an archive.

    ``kind`` is ``file``, ``directory``, ``symlink``, ``link``, ``char``, ``block`` or ``fifo``. ``size``
    is what a file takes once unpacked, holes included; ``extents`` are (offset, length) of the data of a
    sparse file.
    """

    name: str
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    extents: list[tuple[int, int]] | None = None


class TarReader:
    """Iterates over the entries of a stream. :meth:`data` reads the current one's; what is not read is
    skipped."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._read_some: Callable[[int], bytes] = getattr(stream, "read_some", stream.read)
        self._left = 0
        self._padding = 0
        self._first = True

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        self._skip(self._left)
        self._skip_padding()
        self._left = self._padding = 0
        records: dict[str, bytes] = {}
        sparse_pairs: list[bytes] = []
        while True:
            header = self._header()
            kind = header[156:157]
            if kind == b"x":
                records.update(_pax_records(self._extension(header), sparse_pairs))
            elif kind == b"L":
                records["path"] = self._extension(header).rstrip(b"\0")
            elif kind == b"K":
                records["linkpath"] = self._extension(header).rstrip(b"\0")
            elif kind in (b"g", b"V"):  # global records and volume labels say nothing about files
                self._extension(header)
            else:
                return self._entry(header, records, sparse_pairs)

    def data(self) -> Iterator[bytes]:
        """The data of the current entry as it stands in the archive (for a sparse file, its extents in
        turn)."""
        while self._left:
            chunk = self._read_some(min(self._left, CHUNK))
            if not chunk:
                raise TarError("unexpected end of the archive inside a file")
            self._left -= len(chunk)
            yield chunk

    def _header(self) -> bytes:
        """The next header block.

        Raises:
            StopIteration: at the end of the archive: a block of zeros, or nothing more.
        """
        header = self._stream.read(BLOCK)
        if not header or header == _ZEROS[: len(header)]:
            if 0 < len(header) < BLOCK:
                raise TarError("unexpected end of the archive")
            raise StopIteration
        if len(header) < BLOCK:
            raise TarError("not a tar archive" if self._first else "unexpected end of the archive")
        try:
            expected = _number(header[148:156])
        except TarError:
            expected = -1
        if sum(header) - sum(header[148:156]) + 8 * 0x20 != expected:
            raise TarError("not a tar archive" if self._first else "a header has a wrong checksum")
        self._first = False
        return header

    def _entry(self, header: bytes, records: dict[str, bytes], sparse_pairs: list[bytes]) -> Entry:
        flag = header[156:157]
        kind = _KINDS.get(flag)
        name = _text(records["path"]) if "path" in records else _header_name(header)
        if kind is None:
            raise TarError(f'entry "{name}" is of an unknown type ({flag!r})')
        if kind == "file" and name.endswith("/"):  # how archives older than POSIX mark directories
            kind = "directory"
        stored = _decimal(records, "size") if "size" in records else _number(header[124:136])
        if stored < 0:
            raise TarError(f'entry "{name}" has a negative size')
        if kind == "file":
            self._left, self._padding = stored, -stored % BLOCK
        entry = Entry(
            name=name,
            kind=kind,
            size=stored if kind == "file" else 0,
            mode=_number(header[100:108]) & 0o7777,
            uid=_decimal(records, "uid") if "uid" in records else _number(header[108:116]),
            gid=_decimal(records, "gid") if "gid" in records else _number(header[116:124]),
            mtime_ns=_mtime_ns(header, records),
        )
        if kind in ("link", "symlink"):
            entry.link = _text(records["linkpath"] if "linkpath" in records else _string(header[157:257]))
        elif kind in ("char", "block"):
            entry.major, entry.minor = _number(header[329:337]), _number(header[337:345])
        for key, value in records.items():
            if key.startswith(_XATTR):
                entry.xattrs[key[len(_XATTR) :]] = value
        if kind == "file" and (flag == b"S" or any(key.startswith("GNU.sparse.") for key in records)):
            self._make_sparse(entry, header, records, sparse_pairs)
        return entry

    def _make_sparse(
        self, entry: Entry, header: bytes, records: dict[str, bytes], sparse_pairs: list[bytes]
    ) -> None:
        if header[156:157] == b"S":
            entry.size = _number(header[483:495])
            numbers = self._old_sparse_map(header)
        else:
            if "GNU.sparse.name" in records:
                entry.name = _text(records["GNU.sparse.name"])
            key = "GNU.sparse.realsize" if "GNU.sparse.realsize" in records else "GNU.sparse.size"
            entry.size = _decimal(records, key)
            if records.get("GNU.sparse.major") == b"1":
                numbers = self._sparse_map_in_data()
            else:
                pairs = records["GNU.sparse.map"].split(b",") if "GNU.sparse.map" in records else sparse_pairs
                numbers = [_digits(number) for number in pairs if number]
        if len(numbers) % 2:
            raise TarError(f'entry "{entry.name}" has a broken sparse map')
        entry.extents = list(zip(numbers[::2], numbers[1::2], strict=True))
        end = 0
        for offset, length in entry.extents:
            if offset < end or offset + length > entry.size:
                raise TarError(f'entry "{entry.name}" has a broken sparse map')
            end = offset + length
        if sum(length for _, length in entry.extents) != self._left:
            raise TarError(f'entry "{entry.name}" has a sparse map that does not fit its data')

    def _old_sparse_map(self, header: bytes) -> list[int]:
        numbers = _sparse_numbers(header, 386, 4)
        more, total = header[482], 0
        while more:
            block = self._stream.read(BLOCK)
            total += len(block)
            if len(block) < BLOCK or total > MAX_EXTENSION_BYTES:
                raise TarError("a sparse map is cut short or too long")
            numbers += _sparse_numbers(block, 0, 21)
            more = block[504]
        return numbers

    def _sparse_map_in_data(self) -> list[int]:
        """The map of format 1.0: decimal lines ahead of the data, the first of which counts the pairs."""
        lines: list[bytes] = []
        rest, wanted, total = b"", 1, 0
        while len(lines) < wanted:
            if self._left < BLOCK or total > MAX_EXTENSION_BYTES:
                raise TarError("a sparse map is cut short or too long")
            block = self._stream.read(BLOCK)
            if len(block) < BLOCK:
                raise TarError("unexpected end of the archive inside a sparse map")
            self._left -= BLOCK
            total += BLOCK
            *whole, rest = (rest + block).split(b"\n")
            lines += whole
            if wanted == 1 and lines:
                wanted = 1 + 2 * _digits(lines[0])
        return [_digits(line) for line in lines[1:wanted]]

    def _extension(self, header: bytes) -> bytes:
        size = _number(header[124:136])
        if not 0 <= size <= MAX_EXTENSION_BYTES:
            raise TarError(f"an extended header of {size} bytes is too large")
        content = self._stream.read(size + -size % BLOCK)
        if len(content) < size:
            raise TarError("unexpected end of the archive inside an extended header")
        return content[:size]

    def _skip_padding(self) -> None:
        """What fills the last block of a file. Go's writer leaves it out where it is not closed, as the
        docker CLI does with a Dockerfile from standard input, and its reader takes that for the archive's
        end.
        """
        left = self._padding
        while left and (chunk := self._stream.read(left)):
            left -= len(chunk)

    def _skip(self, size: int) -> None:
        while size:
            chunk = self._stream.read(min(size, CHUNK))
            if not chunk:
                raise TarError("unexpected end of the archive inside a file")
            size -= len(chunk)


def _header_name(header: bytes) -> str:
    name = _string(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        name = _string(header[345:500]) + b"/" + name
    return _text(name)


def _string(field_bytes: bytes) -> bytes:
    return field_bytes.partition(b"\0")[0]


def _text(name: bytes) -> str:
    if b"\0" in name:
        raise TarError("a name holds a NUL byte")
    return name.decode("utf-8", "surrogateescape")


def _number(field_bytes: bytes) -> int:
    """A number of a header: octal digits, or base 256 where the first bit is set."""
    if field_bytes[0] & 0x80:
        value = int.from_bytes(field_bytes, "big", signed=False) & ((1 << (8 * len(field_bytes) - 1)) - 1)
        sign = 1 << (8 * len(field_bytes) - 2)
        return value - 2 * sign if value & sign else value
    digits = field_bytes.strip(b" \0").partition(b"\0")[0]
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise TarError("a header holds something that is no number") from None


def _digits(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise TarError("an extended header holds something that is no number")
    return int(text)


def _decimal(records: dict[str, bytes], key: str) -> int:
    try:
        return _digits(records[key])
    except KeyError:
        raise TarError(f"an extended header lacks {key}") from None


def _mtime_ns(header: bytes, records: dict[str, bytes]) -> int:
    """Nanoseconds since the epoch; times before it, or absurdly late, are the epoch, as Docker has it."""
    if "mtime" not in records:
        seconds, nanoseconds = _number(header[136:148]), 0
    elif records["mtime"].startswith(b"-"):
        return 0
    else:
        whole, _, fraction = records["mtime"].partition(b".")
        seconds, nanoseconds = _digits(whole or b"0"), _digits(fraction[:9].ljust(9, b"0"))
    return seconds * 10**9 + nanoseconds if 0 <= seconds < MAX_TIME_S else 0


def _pax_records(content: bytes, sparse_pairs: list[bytes]) -> dict[str, bytes]:
    """The ``length key=value`` records of an extended header; repeated sparse ones go to ``sparse_pairs``."""
    records: dict[str, bytes] = {}
    position = 0
    while position < len(content):
        space = content.find(b" ", position, position + 20)
        length = _digits(content[position:space]) if space > 0 else 0
        record = content[space + 1 : position + length - 1]
        key, equals, value = record.partition(b"=")
        if position + length > len(content) or content[position + length - 1 : position + length] != b"\n":
            raise TarError("an extended header is broken")
        if not equals or not key:
            raise TarError("an extended header is broken")
        name = key.decode("utf-8", "surrogateescape")
        if name in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            sparse_pairs.append(value)
        records[name] = value
        position += length
    # An empty value takes back what a global header said, and those are not heeded.
    return {key: value for key, value in records.items() if value or key.startswith(_XATTR)}


def _sparse_numbers(block: bytes, start: int, pairs: int) -> list[int]:
    numbers = []
    for at in range(start, start + 24 * pairs, 24):
        if not block[at]:
            break
        numbers += [_number(block[at : at + 12]), _number(block[at + 12 : at + 24])]
    return numbers
