"""Sync, pure. Environment variables and labels, from flags and from files of them. All raise ValueError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_BOM = "\ufeff"


def parse_env(
    flags: Iterable[str], files: Iterable[tuple[str, str]], environ: Mapping[str, str]
) -> list[str]:
    """The `Env` of a container: the files' (name, text) lines first, then the flags'.

    A name without "=" takes its value from `environ`; where it has none there, a flag removes the variable
    from the image's and a line of a file says nothing.
    """
    env: list[str] = []
    for name, text in files:
        for line in _lines(name, text):
            key, equals, _ = line.partition("=")
            if equals:
                env.append(line)
            elif key in environ:
                env.append(f"{key}={environ[key]}")
    for flag in flags:
        key, equals, _ = flag.partition("=")
        if not key:
            raise ValueError(f"invalid environment variable: {flag}")
        env.append(f"{key}={environ[key]}" if not equals and key in environ else flag)
    return env


def parse_labels(flags: Iterable[str], files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Labels: the files' lines first, then the flags'; one without "=" is empty."""
    labels: dict[str, str] = {}
    entries = [line for name, text in files for line in _lines(name, text)]
    for entry in [*entries, *flags]:
        key, _, value = entry.partition("=")
        if not key:
            raise ValueError(f"invalid label '{entry}': empty name")
        labels[key] = value
    return labels


def parse_pairs(flags: Iterable[str], what: str) -> dict[str, str]:
    """ "key=value" entries of a flag such as --sysctl, named by `what` in the error."""
    pairs: dict[str, str] = {}
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid {what} '{flag}': give key=value")
        pairs[key] = value
    return pairs


def _lines(name: str, text: str) -> Iterable[str]:
    for number, raw in enumerate(text.removeprefix(_BOM).splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        key = line.partition("=")[0]
        if not key:
            raise ValueError(f"invalid file ({name}): no variable name on line {number}: '{line}'")
        if any(char.isspace() for char in key):
            raise ValueError(f"invalid file ({name}): variable '{key}' contains whitespaces")
        yield line
