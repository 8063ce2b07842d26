"""The small grammars: container names, signals, users and groups, filters."""

from random import Random

import pytest

from proad.model import errors, filters
from proad.model.names import check_name, generate_name
from proad.model.signals import parse_signal, signal_name
from proad.model.user import ProcessUser, resolve_user

PASSWD = """root:x:0:0:root:/root:/bin/sh
bob:x:1000:100:Bob:/home/bob:/bin/sh

broken
12:x:13:14::/:
ann:x:bad:1::/:
"""
GROUP = """root:x:0:root
wheel:x:10:bob,ann
users:x:100:
video:x:44:ann, bob
"""


@pytest.mark.parametrize("name", ["a1", "web.1", "A_b-c", "0x", "/web"])
def test_names_that_fit(name: str) -> None:
    assert check_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["", "a", "-a", "_a", "a b", "a/b", "a\n", "ä1", "//a", "a" + "\0"])
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        check_name(name)
    assert caught.value.message == (
        f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )


def test_generated_names_fit_and_are_new() -> None:
    taken: set[str] = set()
    random = Random(1)
    for _ in range(20_000):
        name = generate_name(taken, random)
        assert name not in taken
        taken.add(check_name(name))
    with pytest.raises(errors.System):
        generate_name(lambda name: True, random)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15), ("term", 15), ("15", 15), ("KILL", 9), ("sigusr1", 10), ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63), ("SIGRTMAX", 64), ("64", 64), ("CHLD", 17), ("CLD", 17), ("WINCH", 28), ("IOT", 6),
    ],
)  # fmt: skip
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "-1", "SIG", "FROB", "1.5", "SIGSIGTERM", "٣"])
def test_no_signals(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=r"invalid signal: |does not support signal "):
        parse_signal(text)


def test_signals_have_names() -> None:
    assert [signal_name(number) for number in (9, 15, 37)] == ["SIGKILL", "SIGTERM", "SIGRTMIN+3"]


@pytest.mark.parametrize(
    ("user", "add", "expected"),
    [
        ("", [], ProcessUser(additional_gids=(0,), home="/root", name="root")),
        (
            "bob",
            [],
            ProcessUser(uid=1000, gid=100, additional_gids=(100, 10, 44), home="/home/bob", name="bob"),
        ),
        ("1000", ["77"], ProcessUser(
            uid=1000, gid=100, additional_gids=(100, 10, 44, 77), home="/home/bob", name="bob"
        )),
        ("bob:wheel", [], ProcessUser(uid=1000, gid=10, additional_gids=(10,), home="/home/bob", name="bob")),
        ("bob:5", [], ProcessUser(uid=1000, gid=5, additional_gids=(5,), home="/home/bob", name="bob")),
        ("4242", [], ProcessUser(uid=4242, additional_gids=(0,))),
        ("4242:video", ["wheel"], ProcessUser(uid=4242, gid=44, additional_gids=(44, 10))),
        ("0:0", ["wheel", "10"], ProcessUser(additional_gids=(0, 10), home="/root", name="root")),
    ],
)  # fmt: skip
def test_users(user: str, add: list[str], expected: ProcessUser) -> None:
    assert resolve_user(user, PASSWD, GROUP, add) == expected


@pytest.mark.parametrize(
    ("user", "add", "text"),
    [
        ("carl", [], "unable to find user carl: no matching entries in passwd file"),
        ("ann", [], "unable to find user ann: no matching entries in passwd file"),
        ("bob:frob", [], "unable to find group frob: no matching entries in group file"),
        ("bob", ["frob"], "Unable to find group frob: no matching entries in group file"),
        ("99999999999", [], "uids and gids must be in range 0-2147483647"),
        ("-1", [], "uids and gids must be in range 0-2147483647"),
        ("0:-1", [], "uids and gids must be in range 0-2147483647"),
    ],
)
def test_users_that_are_not_there(user: str, add: list[str], text: str) -> None:
    with pytest.raises(errors.StartFailed) as caught:
        resolve_user(user, PASSWD, GROUP, add)
    assert caught.value.message == text
    assert caught.value.exit_code == 128


def test_an_image_without_files_has_root_and_numbers() -> None:
    assert resolve_user("", "", "", []).uid == 0
    assert resolve_user("7:8", "", "", []) == ProcessUser(uid=7, gid=8, additional_gids=(8,))


def test_filters_in_both_forms() -> None:
    assert filters.parse("") == {}
    assert filters.parse("null") == {}
    assert filters.parse('{"status":["a","b"],"label":{"x":true,"y":false},"id":[]}') == {
        "status": ["a", "b"],
        "label": ["x"],
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"a":"b"}', '{"a":[1]}', '{"a":{"b":1}}'])
def test_bad_filters(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match="invalid filter"):
        filters.parse(text)


def test_unknown_filters_are_named() -> None:
    with pytest.raises(errors.InvalidParameter, match="invalid filter 'frob'"):
        filters.parse('{"frob":["x"]}', allowed={"name"})


def test_boolean_filters() -> None:
    assert filters.parse_boolean({"dangling": ["true"]}, "dangling") is True
    assert filters.parse_boolean({"dangling": ["0", "false"]}, "dangling") is False
    assert filters.parse_boolean({}, "dangling") is None
    for values in (["true", "false"], ["perhaps"]):
        with pytest.raises(errors.InvalidParameter, match="invalid filter 'dangling="):
            filters.parse_boolean({"dangling": values}, "dangling")


def test_label_filters() -> None:
    labels = {"a": "1", "b": ""}
    assert filters.match_labels(labels, ["a", "a=1", "b="])
    assert not filters.match_labels(labels, ["a", "a=2"])
    assert not filters.match_labels(labels, ["c"])


def test_matches() -> None:
    wanted = {"id": ["abc"], "name": ["^we", "("]}
    assert filters.match_exact(wanted, "id", "abc")
    assert not filters.match_exact(wanted, "id", "abcd")
    assert filters.match_prefix(wanted, "id", "abcd")
    assert filters.match_pattern(wanted, "name", "x", "web")
    assert filters.match_pattern(wanted, "name", "f(x")
    assert not filters.match_pattern(wanted, "name", "bweb")
    assert filters.match_exact(wanted, "other", "x")
