"""Sync, pure. Devices, ulimits, I/O limits, restart policies, security options. All raise ValueError."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from proa.cli.parse.quantities import parse_bytes

ULIMITS = frozenset(
    {
        *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss"),
        *("rtprio", "rttime", "sigpending", "stack"),
    }
)
RESTART_POLICIES = ("no", "always", "unless-stopped", "on-failure")


def parse_device(flag: str) -> dict[str, str]:
    """`--device host[:container][:rwm]`."""
    parts = flag.split(":")
    if not parts[0] or len(parts) > 3:
        raise ValueError(f"invalid device specification: {flag}")
    inside, mode = parts[0], "rwm"
    if len(parts) == 3:
        inside, mode = parts[1], parts[2]
    elif len(parts) == 2:
        inside, mode = (parts[0], parts[1]) if _is_mode(parts[1]) else (parts[1], "rwm")
    if not _is_mode(mode):
        raise ValueError(f"bad mode specified: {mode}")
    return {"PathOnHost": parts[0], "PathInContainer": inside or parts[0], "CgroupPermissions": mode}


def _is_mode(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and set(text) <= set("rwm")


def parse_weight_device(flag: str) -> dict[str, Any]:
    """`--blkio-weight-device path:weight`."""
    path, weight = _device_value(flag)
    if not weight.isdigit() or not (weight == "0" or 10 <= int(weight) <= 1000):
        raise ValueError(f"invalid weight for device: {flag}")
    return {"Path": path, "Weight": int(weight)}


def parse_throttle_bytes(flag: str) -> dict[str, Any]:
    """`--device-read-bps path:rate`, the rate as a size."""
    path, rate = _device_value(flag)
    try:
        return {"Path": path, "Rate": parse_bytes(rate)}
    except ValueError:
        raise ValueError(f"invalid rate for device: {flag}: give <device-path>:<number>[<unit>]") from None


def parse_throttle_operations(flag: str) -> dict[str, Any]:
    """`--device-read-iops path:rate`, the rate as a number."""
    path, rate = _device_value(flag)
    if not rate.isdigit():
        raise ValueError(f"invalid rate for device: {flag}: give <device-path>:<number>")
    return {"Path": path, "Rate": int(rate)}


def _device_value(flag: str) -> tuple[str, str]:
    path, colon, value = flag.partition(":")
    if not colon or not value:
        raise ValueError(f"bad format: {flag}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {flag}")
    return path, value


def parse_ulimit(flag: str) -> dict[str, Any]:
    """`--ulimit name=soft[:hard]`."""
    name, equals, value = flag.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {flag}")
    if name not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = value.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if colon else soft
    except ValueError:
        raise ValueError(f"invalid ulimit value: {flag}") from None
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Soft": soft, "Hard": hard}


def parse_restart_policy(flag: str) -> dict[str, Any]:
    """`--restart name[:retries]`; empty for the flag's absence."""
    name, colon, count = flag.partition(":")
    if not name and not colon:
        return {}
    if name not in RESTART_POLICIES:
        raise ValueError(f"invalid restart policy '{name}': it is one of {', '.join(RESTART_POLICIES)}")
    if not colon:
        return {"Name": name}
    if not count.isdigit():
        raise ValueError(f"invalid restart policy format: maximum retry count must be an integer: '{count}'")
    return {"Name": name, "MaximumRetryCount": int(count)}


def parse_security(
    flags: Iterable[str], read: Callable[[str], str]
) -> tuple[list[str], list[str] | None, list[str] | None]:
    """`--security-opt` flags as (SecurityOpt, MaskedPaths, ReadonlyPaths).

    A seccomp profile is read from its file with `read` and sent as JSON; `systempaths=unconfined` empties the
    lists of masked and read-only paths.
    """
    options: list[str] = []
    unconfined = False
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not equals:
            key, equals, value = flag.partition(":")
        if not equals and key != "no-new-privileges":
            raise ValueError(f"invalid --security-opt: '{flag}'")
        if key == "seccomp" and value not in ("unconfined", "builtin"):
            options.append(f"seccomp={_profile(value, read)}")
        elif key == "systempaths" and value == "unconfined":
            unconfined = True
        else:
            options.append(flag)
    return options, *(([], []) if unconfined else (None, None))


def _profile(path: str, read: Callable[[str], str]) -> str:
    try:
        return json.dumps(json.loads(read(path)), separators=(",", ":"))
    except OSError as error:
        raise ValueError(f"opening seccomp profile ({path}) failed: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"compacting json for seccomp profile ({path}) failed: {error}") from None
