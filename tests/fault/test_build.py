"""Builds that are cut off: by the client that hangs up, by a daemon that is told to end, or killed while a
step runs (the deaths at each change on the disk are in ``test_image_crash``). Nothing of theirs stays, and
every image is whole.
"""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon
from tests.fault.crash import sweep
from tests.fault.test_image_crash import Shelf
from tests.support.contexts import TAR, build, pack
from tests.support.rawhttp import UnixConnection

SLOW = "FROM busybox\nVOLUME /v\nRUN echo begun; sleep 1000\n"


@pytest.fixture
def shelf(sabotaged: SabotagedDaemon) -> Iterator[Shelf]:
    made = Shelf(sabotaged)
    yield made
    sweep(sabotaged)
    while len(made.images()) > 1:
        made.clear()
    made.check()


def nothing_is_left(daemon: SabotagedDaemon) -> None:
    steps.until(lambda: daemon.api("GET", "/containers/json", all=True).json == [])
    steps.until(lambda: list((daemon.data_root / "tmp").iterdir()) == [])
    assert daemon.settle() == []
    assert daemon.api("GET", "/volumes").json["Volumes"] == []


class Client:
    """A client that reads what a build says until it has heard enough."""

    def __init__(self, daemon: SabotagedDaemon, dockerfile: str, **query: str) -> None:
        self._connection = UnixConnection(daemon.socket)
        path = "/v1.51/build?" + urlencode(query)
        body = pack({"Dockerfile": dockerfile, "a": "a" * 100_000})
        self._connection.request("POST", path, body=body, headers=TAR)
        self._response = self._connection.getresponse()
        self.heard = ""

    def hear(self, text: str) -> None:
        while text not in self.heard:
            line = self._response.readline()
            assert line, self.heard
            self.heard += json.loads(line).get("stream", "")

    def hear_one(self) -> None:
        self._response.readline()

    def error(self) -> str:
        """What the build says at its end."""
        return str(json.loads(self._response.read().splitlines()[-1])["error"])

    def hang_up(self) -> None:
        self._response.close()
        self._connection.close()


def test_a_client_that_hangs_up(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    client = Client(sabotaged, SLOW)
    client.hear("\nbegun\n")
    (running,) = sabotaged.api("GET", "/containers/json").json
    client.hang_up()
    nothing_is_left(sabotaged)
    told = sabotaged.told(running["Id"])
    assert [action for action in told if action != "exec_die"][-2:] == ["die", "destroy"]
    shelf.check()


def test_a_client_that_hangs_up_anywhere(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    """After each of the lines that a build says."""
    dockerfile = "FROM busybox\nWORKDIR /w\nCOPY a .\nRUN seq 3; cat /w/a >/b\nENV A=b\n"
    lines = [line["stream"] for line in build(sabotaged.api, dockerfile, {"a": "a"}, nocache=True).lines[:-2]]
    for number in range(len(lines)):
        client = Client(sabotaged, dockerfile, nocache="1", t="made")
        for _ in range(number):
            client.hear_one()
        client.hang_up()
        nothing_is_left(sabotaged)
        shelf.check()


def test_a_context_that_breaks_off(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sabotaged.socket))
        body = pack({"Dockerfile": "FROM busybox\n", "a": "a" * 1_000_000})
        head = f"POST /v1.51/build HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[: len(body) // 2])
        steps.until(lambda: list((sabotaged.data_root / "tmp").glob("*/context/.*")) != [])
    nothing_is_left(sabotaged)
    shelf.check()


def test_cancel_by_id(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    client = Client(sabotaged, SLOW, buildid="mine")
    client.hear("\nbegun\n")
    sabotaged.api("POST", "/build/cancel", id="another").expect(200)
    sabotaged.api("POST", "/build/cancel", id="mine").expect(200)
    assert client.error() == "build cancelled"
    client.hang_up()
    nothing_is_left(sabotaged)
    assert sabotaged.api("POST", "/build/cancel").status == 400


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_daemon_that_ends(sabotaged: SabotagedDaemon, shelf: Shelf, end: str) -> None:
    """A step under way does not outlive it, or only until the next daemon comes."""
    client = Client(sabotaged, SLOW)
    client.hear("\nbegun\n")
    getattr(sabotaged, end)()
    client.hang_up()
    sabotaged.start()
    nothing_is_left(sabotaged)
    shelf.check()


def test_what_a_user_was_left_stays(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    build(sabotaged.api, "FROM busybox\nRUN exit 1\n")
    (left,) = sabotaged.api("GET", "/containers/json", all=True).json
    sabotaged.kill()
    sabotaged.start()
    assert [one["Id"] for one in sabotaged.api("GET", "/containers/json", all=True).json] == [left["Id"]]


def test_a_client_that_does_not_read(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    """The step waits for it; the daemon does not keep its output."""
    client = Client(sabotaged, "FROM busybox\nRUN yes | head -c 300000000\n")
    client.hear("y\n")
    pid = sabotaged.pid
    before = resident_bytes(pid)
    steps.until(lambda: not grows(pid), timeout_s=20)
    assert resident_bytes(pid) - before < 30 << 20
    client.hang_up()
    nothing_is_left(sabotaged)


def grows(pid: int) -> bool:
    """Whether it has read anything in the last moment."""
    first = read_bytes(pid)
    time.sleep(0.5)
    return read_bytes(pid) != first


def read_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/io").read_text()
    return int(text.partition("rchar: ")[2].split()[0])


def resident_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024
