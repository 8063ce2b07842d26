"""Rules of volumes: names, drivers, options, and what filters select."""

import pytest

from proad.model import errors
from proad.model.volume import (
    ANONYMOUS_LABEL,
    Volume,
    check_driver,
    check_name,
    check_options,
    select,
    select_prunable,
)

VOLUMES = [
    Volume(name="web-data", created_ns=1, labels={"app": "web", "tier": "1"}),
    Volume(name="db", created_ns=2, labels={"app": "db"}),
    Volume(name="f" * 64, created_ns=3, labels={ANONYMOUS_LABEL: ""}, anonymous=True),
    Volume(name="ram", created_ns=4, options={"type": "tmpfs", "device": "tmpfs"}),
]


@pytest.mark.parametrize("name", ["ab", "A_b.c-d", "0x", "f" * 64])
def test_good_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "-x", "a b", "a\n", "ü1", "a\0b", "x" * 256])
def test_bad_names(name: str) -> None:
    with pytest.raises(errors.InvalidParameter):
        check_name(name)


def test_wording_of_bad_names() -> None:
    with pytest.raises(errors.InvalidParameter, match="create x: volume name is too short, names should be"):
        check_name("x")
    with pytest.raises(errors.InvalidParameter, match="includes invalid characters for a local volume name"):
        check_name("a/b")


def test_only_the_local_driver() -> None:
    check_driver("v1", "")
    check_driver("v1", "local")
    with pytest.raises(errors.NotFound) as raised:
        check_driver("v1", "rexray")
    assert raised.value.message == (
        'create v1: error looking up volume plugin rexray: plugin "rexray" not found'
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"color": "red"}, 'create v1: invalid option: "color"'),
        ({"type": "tmpfs"}, 'create v1: missing required option: "device"'),
        ({"device": "/x"}, 'create v1: missing required option: "type"'),
        ({"o": "bind"}, 'create v1: missing required option: "device"'),
        ({"size": "1g"}, "create v1: quota size requested but no quota support"),
    ],
)
def test_refused_options(options: dict[str, str], text: str) -> None:
    with pytest.raises(errors.InvalidParameter) as raised:
        check_options("v1", options)
    assert raised.value.message == text


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["db", "f" * 64, "ram", "web-data"]),
        ({"name": ["web", "db"]}, ["db", "web-data"]),
        ({"driver": ["local"]}, ["db", "f" * 64, "ram", "web-data"]),
        ({"driver": ["other"]}, []),
        ({"label": ["app"]}, ["db", "web-data"]),
        ({"label": ["app=web", "tier"]}, ["web-data"]),
        ({"dangling": ["true"]}, ["f" * 64, "ram", "web-data"]),
        ({"dangling": ["0"]}, ["db"]),
        ({"dangling": ["true"], "name": ["ram"]}, ["ram"]),
    ],
)
def test_listing(filters: dict[str, list[str]], names: list[str]) -> None:
    assert [v.name for v in select(VOLUMES, filters, frozenset({"db"}))] == names


@pytest.mark.parametrize("filters", [{"dangling": ["maybe"]}, {"dangling": ["1", "0"]}, {"color": ["red"]}])
def test_refused_filters(filters: dict[str, list[str]]) -> None:
    with pytest.raises(errors.InvalidParameter, match="invalid filter"):
        select(VOLUMES, filters, frozenset())


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["f" * 64]),
        ({"all": ["true"]}, ["f" * 64, "web-data"]),
        ({"all": ["true"], "label": ["app=web"]}, ["web-data"]),
        ({"all": ["true"], "label!": ["app=web"]}, ["f" * 64]),
    ],
)
def test_pruning_spares_what_is_used_named_or_elsewhere(
    filters: dict[str, list[str]], names: list[str]
) -> None:
    assert [v.name for v in select_prunable(VOLUMES, filters, frozenset({"db"}))] == names
