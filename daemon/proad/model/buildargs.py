"""Sync, pure. The arguments of a build: what the request gives, what ARG allows, and what nobody asked for.

Rules of moby (builder/dockerfile/buildargs.go): an argument counts from its ARG to the end of the stage; the
request's value goes before the default; one without a value takes that of an ARG before the first FROM; those of
proxies are always allowed, and leave no trace in the image unless an ARG names them.
"""

from collections.abc import Mapping, Sequence

PROXIES = frozenset(
    {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy"}
    | {"ALL_PROXY", "all_proxy"}
)


class BuildArgs:
    """The arguments of one build; :meth:`for_stage` of one stage of it."""

    def __init__(self, given: Mapping[str, str | None]) -> None:
        """``given`` is the request's; None is one that was named without a value."""
        self._given = given
        self._global: dict[str, str | None] = {}
        self._allowed: dict[str, str | None] = {}
        self._referenced: set[str] = set()

    def for_stage(self) -> "BuildArgs":
        """The arguments as a new stage finds them; what it asks for counts for the whole build."""
        stage = BuildArgs(self._given)
        stage._global = dict(self._global)
        stage._referenced = self._referenced
        return stage

    def add_global(self, name: str, default: str | None) -> None:
        """An ARG before the first FROM."""
        self._global[name] = default
        self.add(name, default)

    def add(self, name: str, default: str | None) -> None:
        """An ARG."""
        self._allowed[name] = default
        self._referenced.add(name)

    def global_values(self) -> dict[str, str]:
        """What FROM may use."""
        return self._values(self._global)

    def values(self) -> dict[str, str]:
        """What instructions may use, in the order of their ARGs."""
        return self._values(self._allowed)

    def beside(self, environment: Sequence[str]) -> dict[str, str]:
        """Those that the environment does not hide."""
        hidden = {variable.partition("=")[0] for variable in environment}
        return {name: value for name, value in self.values().items() if name not in hidden}

    def is_told(self, name: str) -> bool:
        """Whether an argument is part of what a step is known by."""
        return name in self._allowed or name not in PROXIES

    def unused(self) -> list[str]:
        """What the request gives and no ARG asked for."""
        return sorted(name for name in self._given if name not in self._referenced | PROXIES)

    def _values(self, allowed: Mapping[str, str | None]) -> dict[str, str]:
        values: dict[str, str] = {}
        for name in (*allowed, *sorted(PROXIES - allowed.keys())):
            value = self._value(name, allowed)
            if value is not None:
                values[name] = value
        return values

    def _value(self, name: str, allowed: Mapping[str, str | None]) -> str | None:
        if (given := self._given.get(name)) is not None:
            return given
        if (default := allowed.get(name)) is not None:
            return default
        return self._global.get(name)
