"""Sync, pure. The bench's own arithmetic: what counts as reached, how the table and the JSON come about."""

import json
import socket
import threading
from pathlib import Path

import pytest

from tests.bench.http import LAST_CHUNK, Client, Refused
from tests.bench.report import ROWS, Row, as_json, as_text, merge


@pytest.mark.parametrize(
    ("row", "value", "peer", "reached"),
    [
        (Row("start", "start", 20, peer_fraction=1 / 8), 19.0, 160.0, True),
        (Row("start", "start", 20, peer_fraction=1 / 8), 19.0, 80.0, False),
        (Row("start", "start", 20, peer_fraction=1 / 8), 19.0, None, True),
        (Row("start", "start", 20), 20.1, None, False),
        (Row("crowd", "crowd", 40, higher=True), 40.0, None, True),
        (Row("crowd", "crowd", 40, higher=True), 39.9, None, False),
    ],
)
def test_reached(row: Row, value: float, peer: float | None, reached: bool) -> None:
    assert row.reached(value, peer) is reached


def test_table_tells_the_ratio_in_the_better_direction() -> None:
    measured = {
        "proa": {"start_bridge": [10.0, 20.0, 30.0], "crowd": [50.0]},
        "dockerd": {"start_bridge": [200.0], "crowd": [5.0]},
    }
    lines = {line.split("  ")[0]: line.split() for line in as_text(measured).splitlines()}
    assert lines["start, bridge network, ms"][-2:] == ["yes", "10.0"]
    assert lines["the same, 16 clients at once, per second"][-2:] == ["yes", "10.0"]
    assert len(lines) == 3, "rows without a number are left out"


def test_table_of_a_peer_alone_judges_nothing() -> None:
    assert "must reach" not in as_text({"dockerd": {"start_bridge": [200.0]}})


def test_json_has_every_row_and_survives_encoding() -> None:
    report = json.loads(json.dumps(as_json({"proa": {"list": [3.0, 1.0, 2.0]}}, {"machine": {}})))
    assert [row["key"] for row in report["rows"]] == [row.key for row in ROWS]
    numbers = next(row for row in report["rows"] if row["key"] == "list")["engines"]["proa"]
    assert numbers == {"median": 2.0, "min": 1.0, "max": 3.0, "samples": 3}


def test_laps_are_merged() -> None:
    assert merge([{"a": [1.0]}, {"a": [2.0], "b": [3.0]}]) == {"a": [1.0, 2.0], "b": [3.0]}


def answering(path: Path, *pieces: bytes) -> None:
    """Serve one connection: after a request, send the pieces one by one."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)
            connection.recv(65536)

    threading.Thread(target=serve, daemon=True).start()


def test_client_reads_chunks_cut_anywhere(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answering(tmp_path / "s", head + b'5\r\n{"a":\r', b'\n3\r\n"b"', b"\r\n1\r\n}\r\n0\r\n\r\n")
    with Client(str(tmp_path / "s")) as client:
        assert client.call("GET", "/") == {"a": "b"}


def test_client_drains_to_the_last_chunk_wherever_it_is_cut(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answering(tmp_path / "s", head, b"3\r\nxyz", LAST_CHUNK[:3], LAST_CHUNK[3:])
    with Client(str(tmp_path / "s")) as client:
        assert client.drain("/") == len(b"3\r\nxyz" + LAST_CHUNK)


def test_client_raises_what_the_engine_said(tmp_path: Path) -> None:
    answering(tmp_path / "s", b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
    with Client(str(tmp_path / "s")) as client, pytest.raises(Refused, match="404 gone"):
        client.call("GET", "/x")
