"""Sync, pure. Which events pass Docker's filters."""

import pytest

from proad.engine.eventfilter import event_predicate
from proad.model import errors
from proad.store.journal import Event


def event(type_: str, action: str, actor: str = "c" * 64, **attributes: str) -> Event:
    return Event(1, 1, type_, action, actor, attributes)


START = event("container", "start", image="busybox:1", name="web", tier="front")
PULL = event("image", "tag", "sha256:" + "f" * 64, name="busybox:1")
HEALTH = event("container", "health_status: healthy", image="other", name="db")


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        ({}, [START, PULL, HEALTH]),
        ({"type": ["container"]}, [START, HEALTH]),
        ({"type": ["container", "image"]}, [START, PULL, HEALTH]),
        ({"event": ["start", "tag"]}, [START, PULL]),
        ({"event": ["health_status"]}, [HEALTH]),
        ({"event": ["health_status: healthy"]}, [HEALTH]),
        ({"event": ["sta"]}, []),
        ({"container": ["web"]}, [START]),
        ({"container": ["cccc"]}, [START, HEALTH]),
        ({"container": ["web", "db"], "event": ["start"]}, [START]),
        ({"image": ["busybox:1"]}, [START, PULL]),
        ({"image": ["busybox"]}, [START, PULL]),
        ({"image": ["busybox:2"]}, []),
        ({"label": ["tier"]}, [START]),
        ({"label": ["tier=front"]}, [START]),
        ({"label": ["tier=back"]}, []),
        ({"label": ["tier", "name=web"]}, [START]),
        ({"scope": ["local"]}, [START, PULL, HEALTH]),
        ({"scope": ["swarm"]}, []),
        ({"volume": ["web"]}, []),
    ],
)
def test_filters(filters: dict[str, list[str]], passing: list[Event]) -> None:
    matches = event_predicate(filters)
    assert [e for e in (START, PULL, HEALTH) if matches(e)] == passing


def test_unknown_filters_are_refused() -> None:
    with pytest.raises(errors.InvalidParameter, match="invalid filter 'colour'"):
        event_predicate({"colour": ["red"]})
