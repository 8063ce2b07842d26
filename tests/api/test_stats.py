"""Dialogues about statistics: their forms, their truth, and what they cost."""

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import docker as docker_py
import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.support import schema
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

NO_TIME = "0001-01-01T00:00:00Z"
BUSY = ["sh", "-c", "while :; do :; done"]
TRIES = 10


def read(api: Api, ref: str, **query: object) -> Any:
    frame = api("GET", f"/containers/{ref}/stats", stream=False, **query).expect(200).json
    schema.check(frame, "ContainerStatsResponse")
    return frame


def one_shot(api: Api, ref: str) -> Any:
    return read(api, ref, **{"one-shot": True})


def cpu_percent(frame: Any) -> float:
    """By the formula of the API's description."""
    now, before = frame["cpu_stats"], frame["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now["system_cpu_usage"] - before["system_cpu_usage"]
    return float(used / passed * now["online_cpus"] * 100)


@pytest.mark.alone
def test_one_shot_is_at_once_and_has_nothing_before_it(api: Api, image: str) -> None:
    made = steps.start(api, image, name="shot")
    began = time.monotonic()
    frame = one_shot(api, "shot")
    assert time.monotonic() - began < 0.9
    assert (frame["name"], frame["id"], frame["preread"]) == ("/shot", made, NO_TIME)
    assert "system_cpu_usage" not in frame["precpu_stats"]
    assert frame["cpu_stats"]["online_cpus"] == os.cpu_count()
    assert frame["pids_stats"]["current"] == 1
    assert 0 < frame["memory_stats"]["usage"] < frame["memory_stats"]["limit"]
    # Older clients know no one-shot: they get two readings compared.
    old = api("GET", "/containers/shot/stats", version="v1.40", stream=False, **{"one-shot": True}).expect(
        200
    )
    assert old.json["preread"] != NO_TIME


def test_without_stream_two_readings_are_compared(api: Api, image: str) -> None:
    steps.start(api, image, name="two")
    frame = read(api, "two")
    assert frame["preread"] < frame["read"]
    assert frame["cpu_stats"]["system_cpu_usage"] > frame["precpu_stats"]["system_cpu_usage"]


@pytest.mark.alone
def test_a_stream_has_a_reading_a_second_and_ends_with_the_container(api: Api, image: str) -> None:
    steps.start(api, image, name="flow")
    with api.stream("GET", "/containers/flow/stats") as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "application/json"
        lines = stream.lines()
        began = time.monotonic()
        frames = [json.loads(next(lines)) for _ in range(4)]
        assert time.monotonic() - began == pytest.approx(3, abs=0.9)
        assert [frame["preread"] for frame in frames[1:]] == [frame["read"] for frame in frames[:-1]]
        assert frames[0]["preread"] == NO_TIME
        api("POST", "/containers/flow/rename", name="other").expect(204)
        next(lines)
        assert json.loads(next(lines))["name"] == "/other"
        api("POST", "/containers/other/kill").expect(204)
        steps.until(lambda: json.loads(next(lines))["read"] == NO_TIME)
        api("POST", "/containers/other/start").expect(204)
        steps.until(lambda: json.loads(next(lines))["read"] != NO_TIME)
        api("POST", "/containers/other/pause").expect(204)
        assert json.loads(next(lines))["read"] != NO_TIME
        api("DELETE", "/containers/other", force=True).expect(204)
        for _ in lines:
            pass


@pytest.mark.alone
def test_one_that_does_not_run(api: Api, image: str) -> None:
    made = steps.create(api, image, name="off")
    began = time.monotonic()
    assert read(api, "off") == one_shot(api, "off")
    assert time.monotonic() - began < 0.9
    frame = read(api, made[:12])
    assert (frame["id"], frame["read"], frame["memory_stats"], frame["pids_stats"]) == (made, NO_TIME, {}, {})
    with api.stream("GET", "/containers/off/stats") as stream:
        lines = stream.lines()
        assert json.loads(next(lines)) == frame
        assert json.loads(next(lines)) == frame


def test_bad_questions(api: Api, image: str) -> None:
    steps.create(api, image, name="here")
    unknown = api("GET", "/containers/nobody/stats", stream=True, **{"one-shot": True}).expect(404)
    assert unknown.message == "No such container: nobody"
    both = api("GET", "/containers/here/stats", **{"one-shot": True}).expect(400)
    assert both.message == "cannot have stream=true and one-shot=true"
    api("GET", "/containers/here/stats", stream="perhaps").expect(400)
    api("GET", "/containers/here/stats", stream=False, **{"one-shot": "2"}).expect(400)
    api("POST", "/containers/here/stats").expect(404)
    api("GET", "/containers//here/stats", stream=False).expect(200)


def test_removal_while_readings_are_awaited(api: Api, image: str) -> None:
    steps.start(api, image, name="brief")
    statuses: list[int] = []

    def ask() -> None:
        with api.stream("GET", "/containers/brief/stats", stream=False) as stream:
            statuses.append(stream.status)

    asking = Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    api("DELETE", "/containers/brief", force=True).expect(204)
    asking.join(10)
    assert statuses in ([404], [200])


# --- the truth ----------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_known_load_is_told_within_five_percent(api: Api, image: str) -> None:
    """The scheduler's own account of the one process, in nanoseconds, is what is known."""
    made = steps.start(api, image, *BUSY, HostConfig={"NanoCpus": 400_000_000})
    schedstat = Path(f"/proc/{steps.inspect(api, made)['State']['Pid']}/schedstat")

    def ran_ns() -> int:
        return int(schedstat.read_text().split()[0])

    with api.stream("GET", f"/containers/{made}/stats") as stream:
        lines = stream.lines()
        next(lines)
        began_s, began_ns, told = time.monotonic(), ran_ns(), []
        for _ in range(3):
            told.append(cpu_percent(json.loads(next(lines))))
        passed_s, used_ns = time.monotonic() - began_s, ran_ns() - began_ns
    assert sum(told) / len(told) == pytest.approx(used_ns / 1e7 / passed_s, rel=0.05)


@pytest.mark.alone
def test_docker_stats_shows_a_known_load(api: Api, docker: DockerCli, image: str) -> None:
    """What is known is the limit: so low that the container gets it on a busy machine too, if not always."""
    steps.start(api, image, *BUSY, name="load", HostConfig={"NanoCpus": 100_000_000})
    shown = []
    for _ in range(TRIES):
        done = docker("stats", "--no-stream", "--format", "{{.CPUPerc}}", "load")
        assert done.returncode == 0, done.stderr
        shown.append(float(done.stdout.decode().strip().rstrip("%")))
        if shown[-1] == pytest.approx(10, rel=0.05):
            break
    else:
        raise AssertionError(f"{shown} instead of 10 percent")
    throttling = one_shot(api, "load")["cpu_stats"]["throttling_data"]
    assert throttling["periods"] >= throttling["throttled_periods"] > 0
    assert throttling["throttled_time"] > 0


@pytest.mark.alone
def test_cpu_time_is_the_kernels(api: Api, image: str) -> None:
    """The process's own account, in nanoseconds, lies between what two readings tell."""
    made = steps.start(api, image, *BUSY, name="busy")
    schedstat = Path(f"/proc/{steps.inspect(api, made)['State']['Pid']}/schedstat")
    before_ns = int(schedstat.read_text().split()[0])
    used_ns = one_shot(api, made)["cpu_stats"]["cpu_usage"]["total_usage"]
    after_ns = int(schedstat.read_text().split()[0])
    assert (
        before_ns - 20_000_000 <= used_ns <= after_ns + 100_000_000
    )  # what its creation took is the group's


def test_memory_and_tasks(api: Api, image: str) -> None:
    script = (
        "dd if=/dev/zero of=/dev/shm/x bs=1M count=48 2>/dev/null; sleep 600 & sleep 600 & echo full; wait"
    )
    limits = {"Memory": 100 << 20, "PidsLimit": 50}
    made = steps.start(api, image, "sh", "-c", script, HostConfig=limits)
    steps.until(lambda: b"full" in api("GET", f"/containers/{made}/logs", stdout=True).body)
    frame = one_shot(api, made)
    assert frame["memory_stats"]["limit"] == 100 << 20
    assert frame["memory_stats"]["usage"] == pytest.approx(48 << 20, rel=0.05)
    steps.until(lambda: one_shot(api, made)["pids_stats"] == {"current": 3, "limit": 50})
    unlimited = one_shot(api, steps.start(api, image))
    assert unlimited["memory_stats"]["limit"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_networks_are_those_that_the_container_sees(api: Api, daemon: Daemon, image: str) -> None:
    gateway = daemon.bip.partition("/")[0]
    script = f"ping -q -c 5 -i 0.1 -s 1000 {gateway}; cat /proc/net/dev; echo done; sleep 600"
    made = steps.start(api, image, "sh", "-c", script, name="talker")

    def log() -> str:
        return api("GET", f"/containers/{made}/logs", stdout=True, stderr=True).body.decode(errors="replace")

    steps.until(lambda: "done" in log())
    found = re.search(r"eth0: *(\d+) +(\d+)(?: +\d+){6} +(\d+) +(\d+)", log())
    assert found is not None
    seen = dict(
        zip(("rx_bytes", "rx_packets", "tx_bytes", "tx_packets"), map(int, found.groups()), strict=True)
    )
    told = one_shot(api, made)["networks"]
    assert list(told) == ["eth0"]
    assert seen["tx_bytes"] >= 5 * 1042
    for name, least in seen.items():
        # A bridge's own chatter may have come since; hardly a packet.
        assert least <= told["eth0"][name] <= least + 2000, name
    sharing = steps.start(api, image, HostConfig={"NetworkMode": "container:talker"})
    assert one_shot(api, sharing)["networks"]["eth0"]["tx_bytes"] >= seen["tx_bytes"]
    for mode in ("host", "none"):
        assert "networks" not in one_shot(api, steps.start(api, image, HostConfig={"NetworkMode": mode}))


# --- clients ------------------------------------------------------------------------------------------------


def test_docker_stats_shows_all(api: Api, docker: DockerCli, image: str) -> None:
    steps.start(api, image, name="one")
    steps.create(api, image, name="two")
    shown = docker("stats", "--no-stream", "-a", "--format", "{{.Name}}|{{.PIDs}}|{{.MemUsage}}|{{.CPUPerc}}")
    assert shown.returncode == 0, shown.stderr
    rows = dict(line.split("|", 1) for line in shown.stdout.decode().splitlines())
    assert rows["two"] == "0|0B / 0B|0.00%"
    assert rows["one"].startswith("1|")
    unknown = docker("stats", "--no-stream", "nobody")
    assert unknown.returncode == 1
    assert b"No such container: nobody" in unknown.stderr


def test_docker_py(docker_client: docker_py.DockerClient, api: Api, image: str) -> None:
    made = docker_client.containers.get(steps.start(api, image))
    assert made.stats(stream=False)["id"] == made.id
    assert made.stats(stream=False, one_shot=True)["preread"] == NO_TIME
    readings = made.stats(decode=True)
    assert [next(readings)["id"] for _ in range(2)] == [made.id] * 2
    readings.close()


def test_clients_that_vanish_or_do_not_read_cost_nothing(api: Api, daemon: Daemon, image: str) -> None:
    steps.start(api, image, name="watched")

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    one_shot(api, "watched")
    before = descriptors()
    with ExitStack() as streams:
        for _ in range(50):
            streams.enter_context(api.stream("GET", "/containers/watched/stats"))
        during = descriptors()
        time.sleep(1.5)
        assert read(api, "watched")["name"] == "/watched"
    # Connections of earlier clients may end meanwhile, so the fifty are counted from what was open with them.
    steps.until(lambda: descriptors() <= min(before, during - 50))


def test_streams_end_when_the_daemon_does(make_daemon: Callable[..., Daemon]) -> None:
    own = make_daemon().start()
    image = own.import_busybox()
    steps.start(own.api, image, name="lasting")
    with own.api.stream("GET", "/containers/lasting/stats") as stream:
        next(stream.lines())
        began = time.monotonic()
        own.restart()
        assert time.monotonic() - began < 10
    assert one_shot(own.api, "lasting")["pids_stats"]["current"] == 1
