"""The build cache: what is found again, and what is not; and what is left of it."""

from collections.abc import Iterator

import pytest

from tests.support.contexts import Content, File, build, text_of
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

DOCKERFILE = "FROM busybox\nENV A=b\nCOPY a d /c/\nRUN echo x >/x\nLABEL l=v\n"
FILES: dict[str, Content] = {"a": "a", "d/e": "e"}


@pytest.fixture(autouse=True)
def no_images(daemon: Daemon, clean: None) -> Iterator[None]:
    """Each test begins with the base and nothing else."""
    daemon.import_busybox()
    yield
    daemon.api("POST", "/images/prune", filters={"dangling": ["false"]}).expect(200)


def test_all_of_it_is_found_again(api: Api) -> None:
    first = build(api, DOCKERFILE, FILES)
    assert first.text.count("Using cache") == 0
    again = build(api, DOCKERFILE, FILES)
    assert again.text.count("Using cache") == 4
    assert again.image_id == first.image_id
    assert build(api, DOCKERFILE, FILES, nocache=True).image_id != first.image_id


@pytest.mark.parametrize(
    ("dockerfile", "files", "found"),
    [
        (DOCKERFILE, {**FILES, "a": File(b"a", mtime=5)}, 4),
        (DOCKERFILE, {**FILES, "other": "not copied"}, 4),
        (DOCKERFILE, {**FILES, "a": "b"}, 1),
        (DOCKERFILE, {**FILES, "a": File(b"a", mode=0o600)}, 1),
        (DOCKERFILE, {**FILES, "d/f": ""}, 1),
        (DOCKERFILE.replace("A=b", "A=c"), FILES, 0),
        (DOCKERFILE.replace("echo x", "echo  x"), FILES, 2),
        (DOCKERFILE.replace("l=v", "l=w"), FILES, 3),
        (DOCKERFILE.replace("/c/", "/c/./"), FILES, 1),
        (DOCKERFILE + "RUN true\n", FILES, 4),
    ],
)
def test_what_counts(api: Api, dockerfile: str, files: dict[str, Content], found: int) -> None:
    build(api, DOCKERFILE, FILES)
    assert build(api, dockerfile, files).text.count("Using cache") == found


def test_arguments_count_for_commands_that_see_them(api: Api) -> None:
    dockerfile = "FROM busybox\nRUN echo 1 >/1\nARG A\nRUN echo 2 >/2\n"
    build(api, dockerfile, buildargs={"A": "1"})
    assert build(api, dockerfile, buildargs={"A": "1"}).text.count("Using cache") == 3
    assert build(api, dockerfile, buildargs={"A": "2"}).text.count("Using cache") == 2
    build(api, dockerfile, buildargs={"A": "1", "HTTP_PROXY": "http://x"})
    proxied = build(api, dockerfile, buildargs={"A": "1", "HTTP_PROXY": "http://y"})
    assert proxied.text.count("Using cache") == 3, "another proxy is no reason to do it again"


def test_a_stage_of_scratch(api: Api) -> None:
    dockerfile = "FROM scratch\nCOPY a /a\nCOPY a /b\n"
    build(api, dockerfile, FILES)
    assert build(api, dockerfile, FILES).text.count("Using cache") == 2


def test_the_latest_is_taken(api: Api) -> None:
    build(api, "FROM busybox\nRUN date +%N >/d\n")
    second = build(api, "FROM busybox\nRUN date +%N >/d\n", nocache=True)
    assert build(api, "FROM busybox\nRUN date +%N >/d\n").image_id == second.image_id


def test_committed_images_are_none(api: Api) -> None:
    made = api(
        "POST", "/containers/create", json_body={"Image": "busybox", "Cmd": ["/bin/sh", "-c", "echo 1"]}
    )
    api("POST", "/commit", container=made.json["Id"]).expect(201)
    assert build(api, "FROM busybox\nRUN echo 1\n").text.count("Using cache") == 0


def test_cache_from(api: Api) -> None:
    """Only what the named images were made of; theirs goes by what their history says."""
    source = build(api, DOCKERFILE, FILES, t="source")
    build(api, DOCKERFILE.replace("echo x", "echo other"), FILES, t="other")
    from_source = build(api, DOCKERFILE, FILES, cachefrom=["source", "not-there"])
    assert (from_source.image_id, from_source.text.count("Using cache")) == (source.image_id, 4)
    from_other = build(api, DOCKERFILE, FILES, cachefrom=["other"])
    assert from_other.text.count("Using cache") == 2


def test_cache_from_an_image_that_was_not_built_here(daemon: Daemon, api: Api) -> None:
    source = build(api, DOCKERFILE, FILES, t="source")
    _forget_builds(daemon)
    assert build(api, DOCKERFILE, FILES).text.count("Using cache") == 0
    restored = build(api, DOCKERFILE, FILES, cachefrom=["source"])
    assert (restored.image_id, restored.text.count("Using cache")) == (source.image_id, 4)
    longer = build(api, DOCKERFILE + "RUN echo more >/more\n", FILES, cachefrom=["source"], t="longer")
    assert longer.text.count("Using cache") == 4
    assert text_of(api, "longer", "/x") == "x\n"
    shorter = build(api, DOCKERFILE.replace("l=v", "l=w"), FILES, cachefrom=["source"], t="shorter")
    assert shorter.text.count("Using cache") == 3
    assert text_of(api, "shorter", "/x") == "x\n"


def _forget_builds(daemon: Daemon) -> None:
    """As if the images had come from elsewhere: they have no parents, and nobody knows what made them."""
    import json
    import sqlite3

    daemon.stop()
    with sqlite3.connect(daemon.data_root / "state.db") as connection:
        for image_id, record in connection.execute("SELECT id, record FROM images").fetchall():
            fields = {**json.loads(record), "built_with": None, "parent_id": ""}
            connection.execute(
                "UPDATE images SET record = ? WHERE id = ?", (json.dumps(fields).encode(), image_id)
            )
    daemon.start()


# --- what is left -------------------------------------------------------------------------------------------


def ids(api: Api) -> set[str]:
    return {image["Id"] for image in api("GET", "/images/json", all=True).json}


def test_prune(api: Api) -> None:
    before = ids(api)
    build(api, "FROM busybox\nRUN echo 1 >/f\nENV A=1\n", t="named")
    first = ids(api) - before
    build(api, "FROM busybox\nRUN echo 2 >/f\nENV A=1\n", t="named")
    assert api("POST", "/build/prune", filters={"until": ["1h"]}).json["CachesDeleted"] == []
    assert api("POST", "/build/prune", **{"keep-storage": 1 << 40}).json["CachesDeleted"] == []
    pruned = api("POST", "/build/prune").expect(200).json
    assert set(pruned["CachesDeleted"]) == first, "what the name was taken from, and what it was made of"
    assert pruned["SpaceReclaimed"] == 2
    assert len(ids(api) - before) == 2
    assert api("POST", "/build/prune", filters={"nope": ["1"]}).status == 400
    assert api("GET", "/system/df").json["BuildCache"] == []


def test_an_image_that_a_build_needs_stays(api: Api) -> None:
    """What nobody but a build under way knows is not pruned from under it."""
    import threading

    told: list[str] = []
    dockerfile = "FROM busybox\nRUN echo 1 >/f\nRUN sleep 2; cat /f\nRUN cat /f\n"
    thread = threading.Thread(target=lambda: told.append(build(api, dockerfile, t="slow").text))
    thread.start()
    while thread.is_alive():
        api("POST", "/images/prune", filters={"dangling": ["true"]}).expect(200)
        api("POST", "/build/prune").expect(200)
        api("POST", "/containers/prune").expect(200)
        thread.join(0.05)
    assert told[0].endswith("Successfully tagged slow:latest\n")
