"""Dialogues about the event stream: its forms, its filters, replay, slow readers, many readers."""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.api import steps
from tests.support import schema
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api, Stream


def past(api: Api, since: float, **filters: object) -> list[Any]:
    """Events from ``since`` until now."""
    query: dict[str, object] = {"since": f"{since:.9f}", "until": f"{time.time():.9f}"}
    if filters:
        query["filters"] = filters
    return [json.loads(line) for line in api("GET", "/events", **query).expect(200).body.splitlines()]


def actions(events: list[Any]) -> list[str]:
    return [f"{event['Type']} {event['Action']}" for event in events]


def test_a_life_in_events(api: Api, image: str) -> None:
    begin = time.time()
    made = steps.start(api, image, "sh", "-c", "exit 2", name="told", Labels={"colour": "red"})
    steps.wait_exit(api, made)
    api("DELETE", f"/containers/{made}").expect(204)
    events = past(api, begin, type=["container"])
    assert actions(events) == ["container create", "container start", "container die", "container destroy"]
    for event in events:
        schema.check(event, "EventMessage")
        assert event["Actor"]["ID"] == event["id"] == made
        assert event["status"] == event["Action"]
        assert event["from"] == image
        attributes = event["Actor"]["Attributes"]
        assert (attributes["name"], attributes["image"], attributes["colour"]) == ("told", image, "red")
        assert event["time"] == event["timeNano"] // 10**9
    assert events[2]["Actor"]["Attributes"]["exitCode"] == "2"
    assert "execDuration" in events[2]["Actor"]["Attributes"]


def test_events_come_as_they_happen(api: Api, image: str) -> None:
    with api.stream("GET", "/events") as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "application/json"
        made = steps.create(api, image)
        assert json.loads(next(stream.lines()))["id"] == made


@pytest.mark.parametrize(
    ("accept", "content_type", "begin"),
    [
        ("", "application/json", b"{"),
        ("*/*", "application/json", b"{"),
        ("application/json", "application/json", b"{"),
        ("application/x-ndjson", "application/x-ndjson", b"{"),
        ("application/json-seq", "application/json-seq", b"\x1e{"),
        (
            "text/html, application/json-seq;q=0.9, application/x-ndjson;q=0.5",
            "application/json-seq",
            b"\x1e{",
        ),
        ("text/event-stream", "text/event-stream", b"id: "),
    ],
)
def test_forms(api: Api, image: str, accept: str, content_type: str, begin: bytes) -> None:
    headers = {"Accept": accept} if accept else {}
    with api.stream("GET", "/events", headers=headers) as stream:
        assert stream.headers["Content-Type"] == content_type
        made = steps.create(api, image)
        line = next(stream.lines())
        assert line.startswith(begin)
        if content_type != "text/event-stream":
            assert json.loads(line.lstrip(b"\x1e"))["id"] == made


def test_an_event_stream_resumes_after_the_last_event_seen(api: Api, image: str) -> None:
    headers = {"Accept": "text/event-stream"}
    with api.stream("GET", "/events", headers=headers) as stream:
        first = steps.create(api, image)
        lines = stream.lines()
        number = next(lines).removeprefix(b"id: ").decode()
        assert json.loads(next(lines).removeprefix(b"data: "))["id"] == first
        assert next(lines) == b""
    second = steps.create(api, image)
    with api.stream("GET", "/events", headers={**headers, "Last-Event-ID": number}) as stream:
        lines = stream.lines()
        assert int(next(lines).removeprefix(b"id: ")) == int(number) + 1
        assert json.loads(next(lines).removeprefix(b"data: "))["id"] == second


def test_filters(api: Api, image: str) -> None:
    begin = time.time()
    steps.create(api, image, name="one", Labels={"tier": "a"})
    steps.create(api, image, name="two", Labels={"tier": "b"})
    api("POST", "/containers/one/rename", name="uno").expect(204)
    assert actions(past(api, begin, container=["two"])) == ["container create"]
    assert actions(past(api, begin, event=["rename"])) == ["container rename"]
    assert actions(past(api, begin, label=["tier=b"])) == ["container create"]
    assert actions(past(api, begin, type=["image"])) == []
    assert len(past(api, begin, image=[image])) == 3


@pytest.mark.parametrize(
    "query",
    [
        {"filters": {"colour": ["red"]}}, {"filters": "{"}, {"since": "then"}, {"until": "soon"},
        {"since": "20", "until": "10"},
    ],
)  # fmt: skip
def test_bad_queries_are_refused(api: Api, query: dict[str, object]) -> None:
    api("GET", "/events", **query).expect(400)


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "9" * 30])
def test_bad_numbers_of_the_last_event_are_refused(api: Api, number: str) -> None:
    api("GET", "/events", headers={"Last-Event-ID": number}, until="1").expect(400)


def test_until_ends_a_stream(api: Api) -> None:
    begin = time.monotonic()
    api("GET", "/events", until=f"{time.time() + 0.5:.3f}").expect(200)
    assert 0.3 < time.monotonic() - begin < 5


def test_replay_is_exact_across_a_restart(make_daemon: Callable[..., Daemon]) -> None:
    private = make_daemon().start()
    image = private.import_busybox()
    begin = time.time()
    made = steps.create(private.api, image)
    before = past(private.api, begin)
    private.restart()
    assert past(private.api, begin)[: len(before)] == before
    assert before[-1]["id"] == made
    cut = before[-1]["timeNano"]
    exact = private.api(
        "GET", "/events", since=f"{cut // 10**9}.{cut % 10**9:09d}", until=f"{time.time():.9f}"
    )
    assert json.loads(exact.expect(200).body.splitlines()[0])["timeNano"] == cut


READERS, ROUNDS = 200, 40


def test_many_readers_lose_nothing_and_one_that_never_reads_delays_nobody(
    api: Api, image: str, daemon: Daemon
) -> None:
    made = steps.create(api, image, name="n0", Labels={"filler": "x" * 2000})
    idle = socket.socket(socket.AF_UNIX)
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    idle.connect(str(daemon.socket))
    idle.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    streams = [api.stream("GET", "/events", filters={"event": ["rename"]}) for _ in range(READERS)]
    counts = [0] * READERS

    def read(index: int, stream: Stream) -> None:
        for line in stream.lines():
            assert json.loads(line)["Actor"]["Attributes"]["name"] == f"n{counts[index] + 1}"
            counts[index] += 1
            if counts[index] == ROUNDS:
                return

    threads = [threading.Thread(target=read, args=pair, daemon=True) for pair in enumerate(streams)]
    for thread in threads:
        thread.start()
    for number in range(1, ROUNDS + 1):
        api("POST", f"/containers/{made}/rename", name=f"n{number}").expect(204)
    for thread in threads:
        thread.join(30)
    for stream in streams:
        stream.close()
    idle.close()
    assert counts == [ROUNDS] * READERS


def test_readers_that_hang_up_are_forgotten(api: Api, image: str) -> None:
    before = api("GET", "/info").json["NEventsListener"]
    streams = [api.stream("GET", "/events") for _ in range(20)]
    steps.until(lambda: api("GET", "/info").json["NEventsListener"] == before + 20)
    for stream in streams:
        stream.close()
    steps.until(lambda: api("GET", "/info").json["NEventsListener"] == before)
