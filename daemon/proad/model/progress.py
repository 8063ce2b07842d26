"""Sync, pure. Lines of progress in Docker's form, which its clients draw as bars."""

from typing import Any

Line = dict[str, Any]

_BAR_LENGTH = 50
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def message(text: str, identity: str = "") -> Line:
    """A line that stands by itself: ``latest: Pulling from library/busybox``."""
    return {"status": text, "id": identity} if identity else {"status": text}


def update(identity: str, action: str) -> Line:
    """What is being done with one layer now."""
    return {"status": action, "progressDetail": {}, "id": identity}


def progress(identity: str, action: str, current: int, total: int) -> Line:
    """How far it is; ``total`` is 0 where nobody knows."""
    detail = {"current": current, "total": total} if total > 0 else {"current": current}
    line: Line = {"status": action, "progressDetail": detail, "progress": bar(current, total)}
    return {**line, "id": identity} if identity else line


def failure(text: str) -> Line:
    """The last line, where something failed after the first."""
    return {"errorDetail": {"message": text}, "error": text}


def aux(value: Line) -> Line:
    """Something for programs to read."""
    return {"progressDetail": {}, "aux": value}


def bar(current: int, total: int) -> str:
    """``[====>      ]  1.2MB/3.4MB``; the bytes alone where there is no total."""
    if total <= 0:
        return f"{human_size(current):>8}" if current > 0 else ""
    done = min(current * 100 // total // 2, _BAR_LENGTH)
    drawn = f"[{'=' * done}>{' ' * (_BAR_LENGTH - done)}] {human_size(current):>8}"
    return drawn if current > total else f"{drawn}/{human_size(total)}"


def human_size(size_bytes: float) -> str:
    """Four digits and a decimal unit, as Docker shows sizes."""
    unit = 0
    while size_bytes >= 1000 and unit < len(_UNITS) - 1:
        size_bytes /= 1000
        unit += 1
    return f"{size_bytes:.4g}{_UNITS[unit]}"
