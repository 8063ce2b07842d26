"""Sync, blocking. The whole output of something that runs to its end on a hijacked connection."""

from __future__ import annotations

from proa.streams import Demultiplexer
from proa.transport import CHUNK_BYTES, Hijacked


def collect(hijacked: Hijacked) -> tuple[bytes, bytes]:
    """Read a framed stream to its end; returns stdout and stderr."""
    output = {"stdout": bytearray(), "stderr": bytearray()}
    cutter = Demultiplexer()
    chunk = hijacked.early
    while True:
        for stream, piece in cutter.feed(chunk):
            output[stream] += piece
        chunk = hijacked.sock.recv(CHUNK_BYTES)
        if not chunk:
            return bytes(output["stdout"]), bytes(output["stderr"])
