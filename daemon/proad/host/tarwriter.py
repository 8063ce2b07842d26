"""Sync, pure. Writing the headers of a tar stream: ustar, and pax records for what does not fit there.

Pax records bear what ustar cannot: long names and those beyond ASCII, fractions of a second, large numbers,
extended attributes (``SCHILY.xattr.*``), and the holes of sparse files (GNU's format 1.0). Layouts: pax(1),
"pax Interchange Format", and https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html
"""

from proad.host.tarstream import BLOCK, Entry

END = bytes(2 * BLOCK)
"""What follows the last entry."""

_FLAGS = {
    "file": b"0", "link": b"1", "symlink": b"2", "char": b"3", "block": b"4", "directory": b"5", "fifo": b"6",
}  # fmt: skip
_NAME_BYTES = 100
_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777
_BLANK = bytes(BLOCK)


def padding(size: int) -> bytes:
    """What fills the last block of ``size`` bytes of data."""
    return bytes(-size % BLOCK)


def header(entry: Entry) -> bytes:
    """All that stands ahead of an entry's data.

    For a file ``entry.size`` bytes and their padding follow; for a sparse one (``extents`` given) only those
    of its extents, in turn.
    """
    records: dict[str, bytes] = {}
    name = _bytes(entry.name)
    if entry.kind == "directory":
        name += b"/"
    link = _bytes(entry.link)
    size, sparse_map = entry.size, b""
    if entry.extents is not None:
        records |= {
            "GNU.sparse.major": b"1",
            "GNU.sparse.minor": b"0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": b"%d" % size,
        }
        name = b"GNUSparseFile.0/" + name[-_NAME_BYTES // 2 :]
        sparse_map = _sparse_map(entry.extents)
        size = len(sparse_map) + sum(length for _, length in entry.extents)
    elif not _fits(name):
        records["path"] = name
    if not _fits(link):
        records["linkpath"] = link
    seconds, nanoseconds = divmod(entry.mtime_ns, 10**9)
    if nanoseconds or not 0 <= seconds <= _MAX_SIZE:
        records["mtime"] = _time(entry.mtime_ns)
    if size > _MAX_SIZE:
        records["size"] = b"%d" % size
    for key, value in (("uid", entry.uid), ("gid", entry.gid)):
        if value > _MAX_ID:
            records[key] = b"%d" % value
    for key, content in sorted(entry.xattrs.items()):
        records[f"SCHILY.xattr.{key}"] = content
    block = _block(
        _FLAGS[entry.kind],
        name,
        link,
        mode=entry.mode,
        uid=entry.uid if entry.uid <= _MAX_ID else 0,
        gid=entry.gid if entry.gid <= _MAX_ID else 0,
        size=size if size <= _MAX_SIZE else 0,
        mtime=seconds if 0 <= seconds <= _MAX_SIZE else 0,
        device=(entry.major, entry.minor),
    )
    return (_extension(records, name) if records else b"") + block + sparse_map


def _block(
    flag: bytes,
    name: bytes,
    link: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    device: tuple[int, int],
) -> bytes:
    before = b"".join(
        (
            name[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0"),
            b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime),
        )
    )
    after = b"".join(
        (
            flag,
            link[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0"),
            b"ustar\00000",
            _BLANK[:64],
            b"%07o\0%07o\0" % device,
            _BLANK[:167],
        )
    )
    return b"%b%06o\0 %b" % (before, sum(before) + sum(after) + 8 * 0x20, after)


def _extension(records: dict[str, bytes], name: bytes) -> bytes:
    content = b"".join(
        _record(key.encode("utf-8", "surrogateescape"), value) for key, value in records.items()
    )
    block = _block(
        b"x",
        b"PaxHeaders.0/" + name[-_NAME_BYTES // 2 :],
        b"",
        mode=0o644,
        uid=0,
        gid=0,
        size=len(content),
        mtime=0,
        device=(0, 0),
    )
    return block + content + padding(len(content))


def _record(key: bytes, value: bytes) -> bytes:
    """``length key=value``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _sparse_map(extents: list[tuple[int, int]]) -> bytes:
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + padding(len(text))


def _time(time_ns: int) -> bytes:
    seconds, nanoseconds = divmod(abs(time_ns), 10**9)
    fraction = b".%09d" % nanoseconds if nanoseconds else b""
    return b"%b%d%b" % (b"-" if time_ns < 0 else b"", seconds, fraction.rstrip(b"0"))


def _fits(name: bytes) -> bool:
    return len(name) <= _NAME_BYTES and name.isascii()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
