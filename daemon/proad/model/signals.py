"""Sync, pure. Signals by name and by number, as ``kill`` and ``StopSignal`` give them."""

import signal

from proad.model import errors

_RTMIN, _RTMAX = 34, 64  # what glibc leaves to programs; Docker counts from the same two

_NUMBERS: dict[str, int] = {
    name.removeprefix("SIG"): int(number)
    for name, number in signal.Signals.__members__.items()
    if not name.startswith("SIGRT")
}
_NUMBERS |= {"CLD": int(signal.SIGCHLD), "POLL": int(signal.SIGIO), "STKFLT": 16}
_NUMBERS |= {"UNUSED": int(signal.SIGSYS), "RTMIN": _RTMIN, "RTMAX": _RTMAX}
_NUMBERS |= {f"RTMIN+{offset}": _RTMIN + offset for offset in range(1, 16)}
_NUMBERS |= {f"RTMAX-{offset}": _RTMAX - offset for offset in range(1, 15)}

SIGTERM = int(signal.SIGTERM)
SIGKILL = int(signal.SIGKILL)


def parse_signal(text: str) -> int:
    """The number of a signal written ``SIGTERM``, ``term`` or ``15``.

    Raises:
        errors.InvalidParameter: there is no such signal.
    """
    if text.isascii() and text.isdigit():
        number = int(text)
        if 1 <= number <= _RTMAX:
            return number
        if number > _RTMAX:
            raise errors.InvalidParameter(f"the linux daemon does not support signal {number}")
    else:
        known = _NUMBERS.get(text.upper().removeprefix("SIG"))
        if known is not None:
            return known
    raise errors.InvalidParameter(f"invalid signal: {text}")


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; the number as text where the signal has no name."""
    return next((f"SIG{name}" for name, value in _NUMBERS.items() if value == number), str(number))
