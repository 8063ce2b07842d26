"""Logs: what is chosen, how it looks, and when following ends."""

import time
from collections.abc import Callable
from typing import Any

import docker as docker_py
import pytest

from proad.model.durations import format_rfc3339_ns
from tests.api import steps
from tests.support.daemon import Daemon
from tests.support.hijack import demultiplex, split_frames
from tests.support.rawhttp import Api

Create = Callable[..., str]


@pytest.fixture
def create(api: Api, image: str) -> Create:
    """Create and start a container that runs a shell script; with ``wait`` return when it has ended."""

    def make(script: str, *, wait: bool = True, log: dict[str, Any] | None = None, **config: Any) -> str:
        body = {
            "Image": image,
            "Cmd": ["sh", "-c", script],
            "HostConfig": {"NetworkMode": "none", "LogConfig": log or {}},
            **config,
        }
        container = str(api("POST", "/containers/create", json_body=body).expect(201).json["Id"])
        api("POST", f"/containers/{container}/start").expect(204)
        if wait:
            api("POST", f"/containers/{container}/wait").expect(200)
        return container

    return make


def logs(api: Api, container: str, **query: object) -> tuple[bytes, bytes]:
    options = {"stdout": 1, "stderr": 1, **query}
    return demultiplex(api("GET", f"/containers/{container}/logs", **options).expect(200).body)


def test_streams_and_their_frames(api: Api, create: Create) -> None:
    container = create("echo one; echo two >&2; printf part; sleep 0.05; echo ial; printf end")
    answer = api("GET", f"/containers/{container}/logs", stdout=1, stderr=1).expect(200)
    assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    assert (1, b"one\n") in split_frames(answer.body)
    assert demultiplex(answer.body) == (b"one\npartial\nend", b"two\n")
    assert logs(api, container, stderr=0) == (b"one\npartial\nend", b"")
    assert logs(api, container, stdout=0) == (b"", b"two\n")
    old = api("GET", f"/containers/{container}/logs", version="v1.41", stdout=1)
    assert old.headers["Content-Type"] == "application/vnd.docker.raw-stream"
    refused = api("GET", f"/containers/{container}/logs").expect(400)
    assert refused.message == "Bad parameters: you must choose at least one stream"
    api("GET", "/containers/nosuch/logs", stdout=1).expect(404)


@pytest.mark.parametrize(
    ("tail", "wanted"),
    [("all", 5), ("", 5), ("-1", 5), ("0", 0), ("1", 1), ("3", 3), ("99", 5), ("99999", 5), ("x", 5)],
)
def test_tail(api: Api, create: Create, tail: str, wanted: int) -> None:
    container = create("for i in 1 2 3 4; do echo $i; done; printf 5")
    whole = b"1\n2\n3\n4\n5"
    expected = b"\n".join(whole.split(b"\n")[5 - wanted :]) if wanted else b""
    assert logs(api, container, tail=tail)[0] == expected


def test_tail_of_long_and_broken_lines(api: Api, create: Create) -> None:
    container = create("echo first; head -c 300000 /dev/zero | tr '\\0' x; echo; echo last")
    assert logs(api, container, tail=1)[0] == b"last\n"
    assert logs(api, container, tail=2)[0] == b"x" * 300000 + b"\nlast\n"
    assert logs(api, container, tail=3)[0].startswith(b"first\nx")


def test_since_and_until(api: Api, create: Create) -> None:
    container = create("echo 1; sleep 0.3; echo 2; sleep 0.3; echo 3")
    stamped = logs(api, container, timestamps=1)[0].splitlines()
    assert [line.split(b" ")[1] for line in stamped] == [b"1", b"2", b"3"]
    stamps = [line.split(b" ")[0].decode() for line in stamped]
    assert all(len(stamp) == 30 and stamp.endswith("Z") for stamp in stamps)
    middle = stamps[1]
    assert logs(api, container, since=middle)[0] == b"2\n3\n"
    assert logs(api, container, until=middle)[0] == b"1\n2\n"
    assert logs(api, container, since=middle, until=middle)[0] == b"2\n"
    started = api("GET", f"/containers/{container}/json").json["State"]["StartedAt"]
    seconds = _unix(middle)
    assert seconds >= _unix(started)
    assert logs(api, container, since=f"{seconds:.9f}")[0].endswith(b"3\n")
    assert logs(api, container, since=f"{seconds + 0.15:.3f}")[0] == b"3\n"
    assert logs(api, container, until=f"{seconds + 0.15:.3f}")[0] == b"1\n2\n"
    assert logs(api, container, since="10m")[0] == b"1\n2\n3\n"
    assert logs(api, container, since=str(int(time.time()) + 100))[0] == b""
    assert logs(api, container, since="0", until="0")[0] == b"1\n2\n3\n"
    api("GET", f"/containers/{container}/logs", stdout=1, since="nonsense").expect(400)


def _unix(stamp: str) -> float:
    from proad.model.durations import parse_timestamp_ns

    assert format_rfc3339_ns(parse_timestamp_ns(stamp, now_ns=0))
    return parse_timestamp_ns(stamp, now_ns=0) / 1e9


def test_timestamps_and_details_come_once_a_line(api: Api, create: Create) -> None:
    log = {"Type": "json-file", "Config": {"labels": "color,none", "env": "TASTE"}}
    container = create(
        "printf a; sleep 0.05; echo b; echo c",
        log=log,
        Labels={"color": "light blue", "other": "x"},
        Env=["TASTE=sweet"],
    )
    assert logs(api, container, details=1)[0] == (
        b"TASTE=sweet,color=light+blue ab\nTASTE=sweet,color=light+blue c\n"
    )
    lines = logs(api, container, details=1, timestamps=1)[0].splitlines()
    assert [line.split(b" ", 1)[1] for line in lines] == [
        b"TASTE=sweet,color=light+blue ab",
        b"TASTE=sweet,color=light+blue c",
    ]


def test_a_terminals_log_is_raw(api: Api, create: Create) -> None:
    container = create("echo hi", Tty=True)
    answer = api("GET", f"/containers/{container}/logs", stdout=1)
    assert answer.headers["Content-Type"] == "application/vnd.docker.raw-stream"
    assert answer.body == b"hi\r\n"


def test_following_ends_with_the_container(api: Api, create: Create) -> None:
    container = create("echo 1; sleep 0.3; echo 2; printf end", wait=False)
    with api.stream("GET", f"/containers/{container}/logs", stdout=1, follow=1) as stream:
        assert demultiplex(stream.read()) == (b"1\n2\nend", b"")
    assert logs(api, container, follow=1)[0] == b"1\n2\nend"


def test_following_begins_at_the_tail_and_ends_at_until(api: Api, create: Create) -> None:
    container = create("echo 1; echo 2; sleep 60", wait=False)
    steps.until(lambda: logs(api, container)[0] == b"1\n2\n")
    began = time.monotonic()
    until = f"{time.time() + 0.5:.3f}"
    assert logs(api, container, follow=1, tail=1, until=until)[0] == b"2\n"
    assert 0.3 < time.monotonic() - began < 10


def test_a_follower_that_leaves_is_forgotten(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("sleep 60", wait=False)
    for _ in range(5):
        api.stream("GET", f"/containers/{container}/logs", stdout=1, follow=1).close()
    steps.until(lambda: "inotify" not in _descriptors(daemon))


def _descriptors(daemon: Daemon) -> str:
    import os
    from contextlib import suppress

    found = []
    for entry in os.scandir(f"/proc/{daemon.pid}/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(entry.path))
    return " ".join(found)


def test_all_runs_are_in_the_log(api: Api, create: Create) -> None:
    container = create("echo again")
    api("POST", f"/containers/{container}/start").expect(204)
    api("POST", f"/containers/{container}/wait").expect(200)
    assert logs(api, container)[0] == b"again\nagain\n"


def test_drivers(api: Api, create: Create) -> None:
    for kind in ("json-file", "local"):
        container = create("echo kept", log={"Type": kind})
        assert logs(api, container)[0] == b"kept\n"
    container = create("echo lost", log={"Type": "none"})
    refused = api("GET", f"/containers/{container}/logs", stdout=1).expect(501)
    assert refused.message == "configured logging driver does not support reading"


def test_a_fast_writer_is_followed_without_loss(api: Api, create: Create) -> None:
    container = create("seq 1 200000", wait=False)
    with api.stream("GET", f"/containers/{container}/logs", stdout=1, follow=1) as stream:
        out, _ = demultiplex(stream.read())
    assert out == b"".join(b"%d\n" % number for number in range(1, 200001))


def test_docker_py_yields_lines(docker_client: docker_py.DockerClient, image: str) -> None:
    container = docker_client.containers.run(
        image, ["sh", "-c", "echo a; echo b; sleep 0.2; echo c"], detach=True, network_mode="none"
    )
    assert list(container.logs(stream=True, follow=True)) == [b"a\n", b"b\n", b"c\n"]
    assert container.logs(tail=1) == b"c\n"
