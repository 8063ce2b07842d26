"""Sync, pure. Volumes and mounts: `-v`, `--tmpfs` and the comma-separated `--mount`. All raise ValueError."""

from __future__ import annotations

import csv
import os.path
from collections.abc import Callable, Iterable
from typing import Any

from proa.cli.parse.booleans import parse_bool
from proa.cli.parse.quantities import parse_bytes

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def parse_volumes(flags: Iterable[str]) -> tuple[list[str], list[str]]:
    """`-v` flags as (Binds, anonymous volumes). A source that begins with "." is made absolute."""
    binds: list[str] = []
    anonymous: list[str] = []
    for flag in flags:
        source, colon, rest = flag.partition(":")
        if not flag or (colon and not source):
            raise ValueError(f"invalid spec: {flag}: empty section between colons")
        if not colon:
            anonymous.append(flag)
        else:
            binds.append(f"{os.path.abspath(source) if source.startswith('.') else source}:{rest}")
    return binds, anonymous


def parse_tmpfs(flags: Iterable[str]) -> dict[str, str]:
    """`--tmpfs /path[:options]` as path -> options."""
    return {path: options for path, _, options in (flag.partition(":") for flag in flags)}


def parse_mount(flag: str) -> dict[str, Any]:
    """One `--mount type=…,source=…,target=…,…` as the API's Mount."""
    mount: dict[str, Any] = {"Type": "volume"}
    for field in next(csv.reader([flag]), []):
        key, equals, value = field.partition("=")
        if not equals:
            if key not in _SWITCHES:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        setter = _FIELDS.get(key.lower())
        if setter is None:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
        try:
            setter(mount, value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    _check(mount)
    return mount


def _check(mount: dict[str, Any]) -> None:
    kind = mount["Type"]
    if not kind:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    for options, prefix in (
        ("VolumeOptions", "volume"),
        ("BindOptions", "bind"),
        ("ImageOptions", "image"),
        ("TmpfsOptions", "tmpfs"),
    ):
        if options in mount and kind != prefix:
            raise ValueError(f"cannot mix '{prefix}-*' options with mount type '{kind}'")
    bind = mount.get("BindOptions", {})
    if bind.get("ReadOnlyForceRecursive") and (
        not mount.get("ReadOnly") or bind.get("Propagation") != "rprivate"
    ):
        raise ValueError(
            "option 'bind-recursive=readonly' requires 'readonly' and 'bind-propagation=rprivate'"
        )


_Setter = Callable[[dict[str, Any], str], None]


def _set(*path: str, convert: Callable[[str], Any] = str) -> _Setter:
    def setter(mount: dict[str, Any], value: str) -> None:
        inner = mount
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = convert(value)

    return setter


def _add(*path: str) -> _Setter:
    def setter(mount: dict[str, Any], value: str) -> None:
        key, _, content = value.partition("=")
        inner = mount
        for step in path:
            inner = inner.setdefault(step, {})
        if key:
            inner[key] = content

    return setter


def _source(text: str) -> str:
    return os.path.abspath(text) if text == "." or text.startswith(("./", "../")) else text


def _propagation(text: str) -> str:
    if text.lower() not in _PROPAGATIONS:
        raise ValueError(text)
    return text.lower()


def _set_recursion(mount: dict[str, Any], value: str) -> None:
    options = mount.setdefault("BindOptions", {})
    if value == "disabled":
        options["NonRecursive"] = True
    elif value == "writable":
        options["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        options["ReadOnlyForceRecursive"] = True
    elif value != "enabled":
        raise ValueError(value)


_SWITCHES = frozenset({"readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"})
_FIELDS: dict[str, _Setter] = {
    "type": _set("Type", convert=str.lower),
    "source": _set("Source", convert=_source),
    "src": _set("Source", convert=_source),
    "target": _set("Target"),
    "dst": _set("Target"),
    "destination": _set("Target"),
    "readonly": _set("ReadOnly", convert=parse_bool),
    "ro": _set("ReadOnly", convert=parse_bool),
    "consistency": _set("Consistency", convert=str.lower),
    "bind-propagation": _set("BindOptions", "Propagation", convert=_propagation),
    "bind-nonrecursive": _set("BindOptions", "NonRecursive", convert=parse_bool),
    "bind-recursive": _set_recursion,
    "bind-create-src": _set("BindOptions", "CreateMountpoint", convert=parse_bool),
    "volume-nocopy": _set("VolumeOptions", "NoCopy", convert=parse_bool),
    "volume-subpath": _set("VolumeOptions", "Subpath"),
    "image-subpath": _set("ImageOptions", "Subpath"),
    "volume-label": _add("VolumeOptions", "Labels"),
    "volume-driver": _set("VolumeOptions", "DriverConfig", "Name"),
    "volume-opt": _add("VolumeOptions", "DriverConfig", "Options"),
    "tmpfs-size": _set("TmpfsOptions", "SizeBytes", convert=parse_bytes),
    "tmpfs-mode": _set("TmpfsOptions", "Mode", convert=lambda text: int(text, 8)),
}
