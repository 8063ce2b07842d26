"""Sync, pure. Volumes: the record, the rules of names and options, and which volumes a filter selects."""

import re
from collections.abc import Mapping, Sequence

import msgspec

from proad.model import errors

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""Docker's mark on volumes that nobody named; prune removes only these unless asked for all."""

LOCAL_DRIVER = "local"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_NAME_CHARACTERS = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME_BYTES = 255
_OPTIONS = frozenset({"type", "o", "device", "size"})
_LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS = frozenset({"all", "label", "label!"})
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """One volume. Its data is in ``volumes/<name>/_data`` below the data root.

    ``options`` are those of Docker's local driver: ``type``, ``o`` and ``device`` as of mount(8). A volume
    that has them is a file system of its own, mounted on the data directory while a container uses it.
    """

    name: str
    created_ns: int
    driver: str = LOCAL_DRIVER
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    scope: str = "local"
    anonymous: bool = False

    @property
    def is_mounted_on_use(self) -> bool:
        return bool(self.options.get("type") or self.options.get("device"))


def check_name(name: str) -> None:
    """Refuse a name that Docker's local driver refuses.

    Raises:
        errors.InvalidParameter: too short, too long for a file name, or made of other characters.
    """
    if len(name) == 1:
        raise errors.InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise errors.InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            f'"{_NAME_CHARACTERS}" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if len(name) > _NAME_BYTES:
        raise errors.InvalidParameter(
            f"create {name}: volume name is too long, at most {_NAME_BYTES} characters are allowed"
        )


def check_driver(name: str, driver: str) -> None:
    """Refuse any driver but ``local``.

    Raises:
        errors.NotFound: with Docker's text for a plugin that is not there.
    """
    if driver not in ("", LOCAL_DRIVER):
        raise errors.NotFound(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
        )


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Check the local driver's options against each other.

    Raises:
        errors.InvalidParameter: an unknown option, one without its partner, or a size limit (which needs
        project
            quotas of the file system).
    """
    for option in options:
        if option not in _OPTIONS:
            raise errors.InvalidParameter(f'create {name}: invalid option: "{option}"')
    if "size" in options:
        raise errors.InvalidParameter(f"create {name}: quota size requested but no quota support")
    for option, partners in (("device", ["type"]), ("type", ["device"]), ("o", ["device", "type"])):
        if option in options:
            for partner in partners:
                if partner not in options:
                    raise errors.InvalidParameter(f'create {name}: missing required option: "{partner}"')


def select(
    volumes: Sequence[Volume], filters: Mapping[str, Sequence[str]], in_use: frozenset[str]
) -> list[Volume]:
    """Return the volumes that all ``filters`` of a list request select, by name.

    ``filters`` maps ``dangling``, ``driver``, ``label`` and ``name`` to alternatives; a name matches by part.
    ``in_use`` are the names that a container refers to.

    Raises:
        errors.InvalidParameter: a filter that lists of volumes do not have, or a value that is no boolean.
    """
    _refuse_unknown(filters, _LIST_FILTERS)
    selected = sorted(volumes, key=lambda volume: volume.name)
    if names := filters.get("name"):
        selected = [v for v in selected if any(name in v.name for name in names)]
    if drivers := filters.get("driver"):
        selected = [v for v in selected if v.driver in drivers]
    if labels := filters.get("label"):
        selected = [v for v in selected if all(_has_label(v, label) for label in labels)]
    if filters.get("dangling"):
        dangling = _boolean("dangling", filters["dangling"])
        selected = [v for v in selected if (v.name not in in_use) == dangling]
    return selected


def select_prunable(
    volumes: Sequence[Volume], filters: Mapping[str, Sequence[str]], in_use: frozenset[str]
) -> list[Volume]:
    """Return the volumes that a prune removes: unused, without options, anonymous unless ``all`` is asked.

    Raises:
        errors.InvalidParameter: a filter that prune does not have, or a value that is no boolean.
    """
    _refuse_unknown(filters, _PRUNE_FILTERS)
    everything = bool(filters.get("all")) and _boolean("all", filters["all"])
    wanted = filters.get("label", ())
    unwanted = filters.get("label!", ())
    return [
        volume
        for volume in sorted(volumes, key=lambda volume: volume.name)
        if volume.name not in in_use
        and not volume.options
        and (everything or ANONYMOUS_LABEL in volume.labels)
        and all(_has_label(volume, label) for label in wanted)
        and not any(_has_label(volume, label) for label in unwanted)
    ]


def _refuse_unknown(filters: Mapping[str, Sequence[str]], known: frozenset[str]) -> None:
    for name in filters:
        if name not in known:
            raise errors.InvalidParameter(f"invalid filter '{name}'")


def _boolean(name: str, values: Sequence[str]) -> bool:
    verdicts = {True if v in _TRUE else False if v in _FALSE else None for v in values}
    if len(verdicts) != 1 or None in verdicts:
        raise errors.InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return True in verdicts


def _has_label(volume: Volume, wanted: str) -> bool:
    key, separator, value = wanted.partition("=")
    return key in volume.labels and (not separator or volume.labels[key] == value)
