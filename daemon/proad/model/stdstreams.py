"""Sync, pure. A container's standard streams on the wire: multiplexing frames and detach keys.

Without a terminal stdout and stderr share one connection in frames: stream number, three zeros, length as 32
bits big-endian, then that many bytes. With a terminal there is one stream and no frames. (Engine API,
"ContainerAttach")
"""

import re
import struct

from proad.model import errors

STDOUT = 1
STDERR = 2
SYSTEM_ERROR = 3
"""Not the container's: the engine tells a failure after the answer has begun."""

_HEADER = struct.Struct(">BxxxI")
DEFAULT_DETACH_KEYS = b"\x10\x11"  # ctrl-p, ctrl-q

_NAMED_KEYS = {
    "ctrl-@": 0,
    **{f"ctrl-{chr(ord('a') + index)}": index + 1 for index in range(26)},
    "ctrl-[": 27,
    "ctrl-\\": 28,
    "ctrl-]": 29,
    "ctrl-^": 30,
    "ctrl-_": 31,
    "DEL": 127,
}


def frame(stream: int, data: bytes) -> bytes:
    """One frame. ``stream`` is :data:`STDOUT`, :data:`STDERR` or :data:`SYSTEM_ERROR`."""
    return _HEADER.pack(stream, len(data)) + data


def frame_header(stream: int, length: int) -> bytes:
    """The eight bytes before ``length`` bytes of ``stream``."""
    return _HEADER.pack(stream, length)


def parse_detach_keys(text: str) -> bytes:
    """The key sequence of ``ctrl-p,ctrl-q`` or ``a,ctrl-]`` as bytes; empty text is the default sequence.

    Raises:
        errors.InvalidParameter: a key is unknown.
    """
    if not text:
        return DEFAULT_DETACH_KEYS
    keys = []
    for key in re.split(",", text):
        if len(key) == 1 and ord(key) < 128:
            keys.append(ord(key))
        elif key in _NAMED_KEYS:
            keys.append(_NAMED_KEYS[key])
        else:
            raise errors.InvalidParameter(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


class DetachScanner:
    """Finds the detach sequence in typed input, also across reads.

    Bytes that may be the beginning of the sequence are held back; they pass once the next byte shows that
    they are not.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what may pass, and whether the sequence is complete (the rest of ``data`` is dropped)."""
        if self._matched == 0 and self._keys[0] not in data:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                passed.append(byte)
        return bytes(passed), False
