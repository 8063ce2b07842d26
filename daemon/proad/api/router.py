"""Sync, pure. Which handler answers a method and a path, and which API version the path asks for.

Routes are aiohttp's own :class:`aiohttp.web.RouteDef` values with ``{name}`` or ``{name:regex}`` in their
paths. They are kept here, not in aiohttp's dispatcher, because each of them exists twice (with and without
``/vX.Y``): the prefix is cut off first and one small table serves both.
"""

import re
from collections.abc import Iterable

from aiohttp import web

from proad.model import errors

ApiVersion = tuple[int, int]

MAX_VERSION: ApiVersion = (1, 51)
MIN_VERSION: ApiVersion = (1, 22)

_PREFIX = re.compile(r"/v([0-9.]+)(/.*)")
_SLASHES = re.compile(r"/{2,}")
_PARAMETER = re.compile(r"\{(\w+)(?::([^}]*))?\}")


def show_version(version: ApiVersion) -> str:
    """Return ``1.51`` for ``(1, 51)``."""
    return f"{version[0]}.{version[1]}"


def split_version(path: str) -> tuple[ApiVersion, str]:
    """Return the API version that ``path`` asks for (the newest without a prefix) and the path without it.

    Raises:
        errors.InvalidParameter: the version is older or newer than what is served.
    """
    found = _PREFIX.fullmatch(path)
    if found is None:
        return MAX_VERSION, path
    text, rest = found.groups()
    numbers = tuple(int(part or 0) for part in text[:32].split("."))
    if numbers < MIN_VERSION:
        raise errors.InvalidParameter(
            f"client version {text} is too old. "
            f"Minimum supported API version is {show_version(MIN_VERSION)}, "
            "please upgrade your client to a newer version"
        )
    if numbers > MAX_VERSION:
        raise errors.InvalidParameter(
            f"client version {text} is too new. Maximum supported API version is {show_version(MAX_VERSION)}"
        )
    return (numbers[0], numbers[1]), rest


def _compile(path: str) -> re.Pattern[str]:
    pattern, at = "", 0
    for parameter in _PARAMETER.finditer(path):
        name, expression = parameter.groups()
        pattern += re.escape(path[at : parameter.start()]) + f"(?P<{name}>{expression or '[^/]+'})"
        at = parameter.end()
    return re.compile(pattern + re.escape(path[at:]))


class Router:
    """An immutable table of routes, looked up by method and first path segment; earlier routes win."""

    def __init__(self, routes: Iterable[web.RouteDef]) -> None:
        self.routes = tuple(routes)
        self._by_key: dict[tuple[str, str], list[tuple[re.Pattern[str], web.RouteDef]]] = {}
        for route in self.routes:
            key = (route.method, _first_segment(route.path))
            self._by_key.setdefault(key, []).append((_compile(route.path), route))

    def resolve(self, method: str, path: str) -> tuple[web.RouteDef, dict[str, str]]:
        """Return the route for a path without version prefix, and its parameters.

        Doubled slashes count as one: clients put container names with their leading slash into paths.

        Raises:
            errors.NotFound: there is none; also where only another method exists, as Docker answers.
        """
        path = _SLASHES.sub("/", path)
        for pattern, route in self._by_key.get((method, _first_segment(path)), ()):
            found = pattern.fullmatch(path)
            if found is not None:
                return route, found.groupdict()
        raise errors.NotFound("page not found")


def _first_segment(path: str) -> str:
    return path.split("/", 2)[1] if "/" in path else ""
