"""Sync, pure. Which events a subscriber wants: Docker's filters as one predicate."""

from collections.abc import Callable, Mapping, Sequence

from proad.model import errors
from proad.model.filters import match_labels
from proad.model.reference import parse_reference
from proad.store.journal import Event

EVENT_TYPES = (
    "container",
    "daemon",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "volume",
    "config",
)
FILTERS = frozenset({*EVENT_TYPES, "event", "label", "scope", "type"})
_WITH_DETAILS = ("health_status", "exec_create", "exec_start")
"""Actions that carry more behind a colon (``health_status: healthy``): the bare word means all of them."""

Matches = Callable[[Event], bool]


def everything(_event: Event) -> bool:
    return True


def event_predicate(filters: Mapping[str, Sequence[str]]) -> Matches:
    """Return what says whether an event passes all ``filters``; values of one filter are alternatives.

    Raises:
        errors.InvalidParameter: an unknown filter.
    """
    for name in filters:
        if name not in FILTERS:
            raise errors.InvalidParameter(f"invalid filter '{name}'")
    tests = [_test(name, tuple(values)) for name, values in filters.items() if values]
    if not tests:
        return everything
    return lambda event: all(test(event) for test in tests)


def _test(name: str, values: tuple[str, ...]) -> Matches:
    match name:
        case "type":
            return lambda event: event.type in values
        case "event":
            prefixes = tuple(f"{word}:" for word in values if word in _WITH_DETAILS)
            return lambda event: (
                event.action in values or (bool(prefixes) and event.action.startswith(prefixes))
            )
        case "scope":
            return lambda _event: "local" in values
        case "label":
            return lambda event: match_labels(event.attributes, values)
        case "image":
            return lambda event: not _image_names(event).isdisjoint(values)
        case _:
            return lambda event: event.type == name and _names(event, values)


def _names(event: Event, values: tuple[str, ...]) -> bool:
    """An id or a name, either by its beginning, as Docker matches them."""
    return event.actor_id.startswith(values) or event.attributes.get("name", "").startswith(values)


def _image_names(event: Event) -> set[str]:
    """All that the event's image, or its container's, may be called: id, name, and both without a tag."""
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    return {event.actor_id, name, _without_tag(name), _without_tag(event.actor_id)} - {""}


def _without_tag(name: str) -> str:
    try:
        return parse_reference(name).familiar_name
    except errors.InvalidParameter:
        return name
