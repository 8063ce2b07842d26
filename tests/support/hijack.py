"""Sync. A hijacked connection seen from the client's side, byte by byte."""

import socket
import struct
from pathlib import Path
from urllib.parse import urlencode


class Hijack:
    """One attach request and what follows on its connection."""

    def __init__(
        self,
        path: Path,
        container: str,
        *,
        upgrade: bool = True,
        version: str = "v1.51",
        early: bytes = b"",
        half_close: bool = False,
        timeout_s: float = 30.0,
        **query: object,
    ) -> None:
        """``early`` is sent in one go with the request; ``half_close`` then ends our side at once."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect(str(path))
        prefix = f"/{version}" if version else ""
        head = f"POST {prefix}/containers/{container}/attach?{urlencode(query)} HTTP/1.1\r\nHost: x\r\n"
        if upgrade:
            head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        self.socket.sendall(head.encode() + b"Content-Length: 0\r\n\r\n" + early)
        if half_close:
            self.half_close()
        self.rest = b""
        self.head = self._read_head()
        self.status = int(self.head.split(b" ", 2)[1])

    def _read_head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError(f"the connection ended in its head: {data!r}")
            data += chunk
        head, _, self.rest = data.partition(b"\r\n\r\n")
        return head

    def header(self, name: str) -> str:
        for line in self.head.decode().split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return ""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> bytes:
        """Everything to the end."""
        data, self.rest = bytearray(self.rest), b""
        while chunk := self.socket.recv(1 << 20):
            data += chunk
        return bytes(data)

    def read_until(self, wanted: bytes) -> bytes:
        """Read on until ``wanted`` has come; returns all that was read."""
        data, self.rest = self.rest, b""
        while wanted not in data:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError(f"the connection ended before {wanted!r}: {data!r}")
            data += chunk
        return data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Hijack":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def split_frames(data: bytes) -> list[tuple[int, bytes]]:
    """The frames of a multiplexed stream; fails on a broken one."""
    frames = []
    at = 0
    while at < len(data):
        stream, length = struct.unpack_from(">BxxxI", data, at)
        assert stream in (1, 2), data[at : at + 40]
        assert len(data) >= at + 8 + length, "the last frame is cut"
        frames.append((stream, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return frames


def demultiplex(data: bytes) -> tuple[bytes, bytes]:
    """Stdout and stderr of a multiplexed stream."""
    frames = split_frames(data)
    out, err = (b"".join(text for stream, text in frames if stream == number) for number in (1, 2))
    return out, err
