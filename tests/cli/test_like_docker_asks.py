"""What `docker` and `proa` ask a daemon, and what they make of the same answers: both typed the same."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG
from tests.cli.recorder import Both, Recorder, meaning, only
from tests.strictness import skip_for_older_docker

# --- pull, push, save, load, search -------------------------------------------------------------------------

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "words",
    [
        "pull busybox", "pull -q busybox", "pull busybox:1", "pull ada/tool", "pull -a busybox",
        "pull -a -q reg:5000/x", f"pull reg:5000/a/b@{DIGEST}", "pull localhost/x",
        "pull --platform linux/arm64 x", "pull docker.io/x",
        "push busybox", "push -q busybox:1", "push reg:5000/a/b:c", "push -a reg:5000/a",
        "pull Upper", "pull -a x:1", "push -a x:1", "pull x@sha256:1", "pull", "push a b", "push Upper",
        "search word", "search --limit 3 -f stars=3 -f is-official=true word", "search reg:5000/word",
        "search", "search --no-trunc word", "search --format {{.Name}}/{{.IsOfficial}} word",
        "search --format json word",
        "save busybox a:1", "save",
        "load -i /no/such/file", "load --nonsense",
        "builder prune -f", "builder prune -a -f --filter until=24h --keep-storage 1g", "builder prune x",
        "image prune -f", "image prune -a -f --filter label=a",
        "system prune -f --filter label=a --filter until=1h --volumes",
    ],
)  # fmt: skip
def test_the_same_is_asked_and_said(both: Both, recorder: Recorder, words: str) -> None:
    skip_for_older_docker(28)
    recorder.answers = [(200, answer_to(words))]
    theirs, ours = both(*words.split())
    assert ours.code == theirs.code
    assert ours.out == theirs.out
    assert [(asked.method, asked.path, meaning(asked.query)) for asked in ours.asked] == [
        (asked.method, asked.path, meaning(asked.query)) for asked in theirs.asked
    ]
    for first, second in zip(theirs.asked, ours.asked, strict=True):
        if "x-registry-auth" in first.headers:
            assert second.told("X-Registry-Auth") == first.told("X-Registry-Auth")


def answer_to(words: str) -> bytes:
    """Something that each of them can make something of."""
    if words.startswith("search"):
        found = [
            {
                "name": "a",
                "description": "x" * 60,
                "star_count": 3,
                "is_official": False,
                "is_automated": False,
            },
            {"name": "b", "description": "two\nlines", "star_count": 30, "is_official": True},
        ]
        return json.dumps(found).encode()
    if "prune" in words:
        pruned = {
            "SpaceReclaimed": 12345, "CachesDeleted": ["c1", "c2"], "ContainersDeleted": ["x"],
            "ImagesDeleted": [{"Untagged": "a:1"}, {"Deleted": "sha256:1"}],
        }  # fmt: skip
        return json.dumps(pruned).encode()
    if words.startswith("save"):
        return b"an archive"
    lines = (
        {"status": "Pulling from x", "id": "1"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "abc"},
        {
            "status": "Downloading",
            "progressDetail": {"current": 1, "total": 2},
            "progress": "[>]",
            "id": "abc",
        },
        {"status": "Digest: x"},
        {"aux": {"Tag": "1", "Digest": "x", "Size": 1}},
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_errors_on_the_way(both: Both, recorder: Recorder) -> None:
    recorder.say(
        {"status": "Pulling"}, {"errorDetail": {"message": "layer is broken"}, "error": "layer is broken"}
    )
    for words in (("pull", "x"), ("push", "x"), ("pull", "-q", "x"), ("push", "-q", "x")):
        theirs, ours = both(*words)
        assert (ours.code, ours.out) == (theirs.code, theirs.out)
        assert ours.err.splitlines()[-1] == theirs.err.splitlines()[-1] == "layer is broken"


def test_archives_go_both_ways(both: Both, recorder: Recorder, tmp_path: Path) -> None:
    skip_for_older_docker(28)
    recorder.answers = [(200, b"bytes of an archive")]
    target = tmp_path / "out.tar"
    theirs, ours = both("save", "-o", str(target), "x", "--platform", "linux/arm64/v8")
    assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err) == (0, "", "")
    assert meaning(only(ours.asked).query) == meaning(only(theirs.asked).query)
    assert target.read_bytes() == b"bytes of an archive"
    assert target.stat().st_mode & 0o777 == 0o600
    for place in ("/no/such/place/x", str(tmp_path)):
        theirs, ours = both("save", "-o", place, "x")
        assert (ours.code, ours.err) == (theirs.code, theirs.err)
    recorder.say({"stream": "Loaded image: x:latest\n"})
    for words in (("load", "-i", str(target)), ("load", "-q"), ("load", "--platform", "linux/arm64")):
        theirs, ours = both(*words, input=b"piped")
        assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)
        assert meaning(only(ours.asked).query) == meaning(only(theirs.asked).query)
        assert only(ours.asked).body == only(theirs.asked).body


def test_a_save_that_fails_leaves_nothing(both: Both, recorder: Recorder, tmp_path: Path) -> None:
    recorder.say({"message": "No such image: x"}, status=404)
    (tmp_path / "dir").mkdir()
    theirs, ours = both("save", "-o", str(tmp_path / "dir/out"), "x")
    assert ours.code == theirs.code == 1
    assert "No such image: x" in ours.err
    assert os.listdir(tmp_path / "dir") == []


def test_a_missing_image_is_pulled(both: Both, recorder: Recorder) -> None:
    missing = (404, b'{"message": "No such image: reg:5000/x:latest"}')
    pulled = (200, b'{"status": "Pulling from x", "id": "latest"}\n{"status": "Status: done"}\n')
    created = (201, b'{"Id": "1234", "Warnings": []}')
    for words in (
        ("create",),
        ("create", "-q"),
        ("create", "--pull", "always"),
        ("create", "--pull", "never"),
    ):
        recorder.answers = [pulled, created] if "always" in words else [missing, pulled, created]
        theirs, ours = both(*words, "reg:5000/x")
        assert (ours.code, ours.out) == (theirs.code, theirs.out)
        assert [(asked.path, asked.query.get("fromImage")) for asked in ours.asked] == [
            (asked.path, asked.query.get("fromImage")) for asked in theirs.asked
        ]
        if "never" not in words:
            assert ours.err == theirs.err


# --- logging in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "login -u ada -p secret reg2:5000",
        "login -u ada --password-stdin reg2:5000",
        "login -u ada --password-stdin https://reg2:5000/v2/",
        "login -u ada --password-stdin",
        "login -u ada --password-stdin docker.io",
        "login --password-stdin",
        "login -u ada reg2:5000",
        "login reg2:5000",
        "login reg:5000",
        "login -u a -p b --password-stdin",
        "login a b",
        "logout",
        "logout reg:5000",
        "logout nobody:1",
        "logout a b",
    ],
)
@pytest.mark.parametrize("token", ["", "an identity token"])
def test_logins(both: Both, recorder: Recorder, words: str, token: str) -> None:
    skip_for_older_docker(28)
    recorder.say({"Status": "Login Succeeded", "IdentityToken": token})
    theirs, ours = both(*words.split(), input=b"from stdin\n")
    assert (ours.code, ours.out) == (theirs.code, theirs.out)
    assert [(asked.path, json.loads(asked.body)) for asked in ours.asked] == [
        (asked.path, json.loads(asked.body)) for asked in theirs.asked
    ]
    assert ours.config == theirs.config
    assert ours.err == theirs.err or "Usage" in theirs.err


def test_a_refused_login(both: Both, recorder: Recorder) -> None:
    skip_for_older_docker(28)
    recorder.say({"message": "unauthorized: incorrect username or password"}, status=401)
    for words in ("login -u ada -p wrong reg2:5000", "login reg:5000"):
        theirs, ours = both(*words.split())
        assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)
        assert ours.config == CONFIG
