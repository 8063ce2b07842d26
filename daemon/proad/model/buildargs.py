"""Sync, pure. The arguments of a build: where they are known, and what value they have (``buildargs.go``).

An argument is visible from the ARG that declares it to the end of its stage; one that is declared before the
first FROM is visible in FROMs, and gives its value to an ARG without default in a stage. What the request
gives goes before any default. The proxies need no ARG, and leave no trace in the image unless they have one.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from proad.model.instructions import Arg

PREDEFINED = frozenset(
    f"{name}_PROXY" if is_capital else f"{name}_PROXY".lower()
    for name in ("HTTP", "HTTPS", "FTP", "NO", "ALL")
    for is_capital in (True, False)
)


class BuildArgs(msgspec.Struct, frozen=True):
    """As they are at one place of a Dockerfile.

    ``given`` is what the request said, None for a name without value; ``before_from`` and ``declared`` have
    the defaults of ARGs before the first FROM and of those in the stage so far; ``used`` all names that an
    ARG had, also in other stages.
    """

    given: Mapping[str, str | None] = {}
    before_from: Mapping[str, str | None] = {}
    declared: Mapping[str, str | None] = {}
    used: frozenset[str] = frozenset()

    def with_argument(self, argument: Arg, *, before_from: bool = False) -> "BuildArgs":
        """After an ARG, whose variables have been put in."""
        defaults = dict(argument.defaults)
        return replace(
            self,
            before_from={**self.before_from, **defaults} if before_from else self.before_from,
            declared={**self.declared, **defaults},
            used=self.used | set(defaults),
        )

    def new_stage(self) -> "BuildArgs":
        """At a FROM: what stages declared is forgotten."""
        return replace(self, declared={})

    def in_from(self) -> dict[str, str]:
        """What a FROM, or an ARG before it, may refer to."""
        return self._values(self.before_from)

    def variables(self, environment: Iterable[str]) -> dict[str, str]:
        """What an instruction may refer to: the environment, and arguments that it does not hide."""
        return {**self._values(self.declared), **_as_mapping(environment)}

    def for_run(self, environment: Iterable[str]) -> tuple[str, ...]:
        """The variables that a RUN has beside the environment, sorted."""
        hidden = _as_mapping(environment)
        values = self._values(self.declared)
        return tuple(sorted(f"{name}={value}" for name, value in values.items() if name not in hidden))

    def for_history(self, environment: Iterable[str]) -> tuple[str, ...]:
        """Those of them that the image's history tells, and that the cache goes by."""
        return tuple(
            variable
            for variable in self.for_run(environment)
            if (name := variable.partition("=")[0]) in self.declared or name not in PREDEFINED
        )

    def unused(self) -> tuple[str, ...]:
        """Names that the request gave and no ARG asked for, sorted."""
        return tuple(sorted(set(self.given) - self.used - PREDEFINED))

    def _values(self, defaults: Mapping[str, str | None]) -> dict[str, str]:
        values: dict[str, str] = {}
        for name in (*defaults, *PREDEFINED):
            for source in (self.given, defaults, self.before_from):
                value = source.get(name)
                if value is not None:
                    values[name] = value
                    break
        return values


def _as_mapping(environment: Iterable[str]) -> dict[str, str]:
    return dict(variable.partition("=")[::2] for variable in environment)
