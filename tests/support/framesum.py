"""Sync, pure. A multiplexed stream of any length: what it amounts to, without keeping it."""

import hashlib

_HEADER_BYTES = 8


class FrameSum:
    """Sizes and SHA-256 sums of stdout (1) and stderr (2)."""

    def __init__(self) -> None:
        self.sizes = {1: 0, 2: 0}
        self._sums = {1: hashlib.sha256(), 2: hashlib.sha256()}
        self._stream = 0
        self._left = 0
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """More of the stream; fails on what is no frame."""
        view = memoryview(self._rest + data if self._rest else data)
        self._rest = b""
        while view:
            if not self._left:
                if len(view) < _HEADER_BYTES:
                    self._rest = bytes(view)
                    return
                self._stream, self._left = view[0], int.from_bytes(view[4:_HEADER_BYTES])
                assert self._stream in self.sizes, bytes(view[:40])
                view = view[_HEADER_BYTES:]
            piece, view = view[: self._left], view[self._left :]
            self._left -= len(piece)
            self.sizes[self._stream] += len(piece)
            self._sums[self._stream].update(piece)

    def hexdigest(self, stream: int) -> str:
        """Of a whole stream: fails if its last frame is cut."""
        assert not self._left, "the last frame is cut"
        assert not self._rest, "the last frame is cut"
        return self._sums[stream].hexdigest()
