"""`proa stats`: numbers, sparklines, the live table, and both in use."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import proa as proa_api
from proa.cli.livetable import render
from proa.cli.rows.stats import HISTORY, StatsRow, Tracked, Usage, reckon
from proa.cli.text.sparkline import sparkline
from tests.api import steps
from tests.cli.conftest import Proa, environment
from tests.cli.dialogue import Dialogue
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

Terminal = Callable[..., Dialogue]


def reading(**changed: Any) -> dict[str, Any]:
    return {
        "name": "/web",
        "id": "c" * 64,
        "read": "2026-01-01T00:00:01Z",
        "cpu_stats": {"cpu_usage": {"total_usage": 700}, "system_cpu_usage": 2000, "online_cpus": 2},
        "precpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 1000, "online_cpus": 2},
        "memory_stats": {
            "usage": 3000,
            "limit": 10000,
            "stats": {"total_inactive_file": 500, "inactive_file": 1},
        },
        "pids_stats": {"current": 3},
        "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": op, "value": value}
                for op, value in (("Read", 5), ("Write", 7), ("Total", 12), ("read", 1), ("write", 2))
            ]
        },
        **changed,
    }


def test_numbers_are_reckoned_as_docker_does() -> None:
    assert reckon(reading()) == Usage(
        name="web",
        id="c" * 64,
        cpu_percent=100.0,
        memory_bytes=2500,
        memory_limit_bytes=10000,
        received_bytes=11,
        sent_bytes=22,
        read_bytes=6,
        written_bytes=9,
        pids=3,
    )
    v2 = {"usage": 3000, "limit": 0, "stats": {"inactive_file": 1000}}
    assert reckon(reading(memory_stats=v2)).memory_bytes == 2000
    assert reckon(reading(memory_stats=v2)).memory_percent == 0
    mostly_cache = {"usage": 3000, "stats": {"inactive_file": 3000}}
    assert reckon(reading(memory_stats=mostly_cache)).memory_bytes == 3000


@pytest.mark.parametrize(
    ("changed", "percent"),
    [
        ({"precpu_stats": {"cpu_usage": {"total_usage": 0}}}, None),
        ({"precpu_stats": {"cpu_usage": {"total_usage": 0}}, "read": "0001-01-01T00:00:00Z"}, 0.0),
        ({"precpu_stats": {"cpu_usage": {"total_usage": 900}, "system_cpu_usage": 1000}}, 0.0),
        ({"precpu_stats": {"cpu_usage": {"total_usage": 0}, "system_cpu_usage": 2000}}, 0.0),
        (
            {
                "cpu_stats": {
                    "cpu_usage": {"total_usage": 1200, "percpu_usage": [1] * 3},
                    "system_cpu_usage": 2000,
                }
            },
            300.0,
        ),
    ],
)
def test_the_share_of_the_cpu(changed: dict[str, Any], percent: float | None) -> None:
    assert reckon(reading(**changed)).cpu_percent == percent


def test_a_row() -> None:
    row = StatsRow("web", reckon(reading()))
    assert row.template_json() == {
        "Container": "web",
        "ID": "c" * 12,
        "Name": "web",
        "CPUPerc": "100.00%",
        "MemUsage": "2.441KiB / 9.766KiB",
        "MemPerc": "25.00%",
        "NetIO": "11B / 22B",
        "BlockIO": "6B / 9B",
        "PIDs": "3",
    }
    unknown = StatsRow("web", None).template_json()
    assert (unknown.pop("Container"), unknown.pop("ID"), unknown.pop("MemUsage")) == ("web", "", "-- / --")
    assert set(unknown.values()) == {"--"}
    assert StatsRow("web", reckon(reading()), no_trunc=True).ID() == "c" * 64


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([9, 9, 0, 7], 2) == "▁█"
    assert sparkline([1, 1], 5) == "██"
    assert sparkline([1, 5], 5, least_top=10.0) == "▂▅"
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([], 5) == sparkline([1, 2], 0) == ""


def tracked(count: int, readings: int = 0) -> list[Tracked]:
    made = []
    for number in range(count):
        made.append(Tracked(f"ref{number}"))
        for step in range(readings):
            made[-1].take(reckon(reading(name=f"/name{number}"))._replace(cpu_percent=float(step)))
    return made


def plain(picture: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", picture).split("\n")


def test_the_live_table_fits_its_terminal() -> None:
    for columns in (20, 80, 103, 104, 130, 160, 400):
        for rows in (2, 5, 24):
            for colourful in (False, True):
                picture = render(tracked(8, 99), rows=rows, columns=columns, colourful=colourful)
                lines = plain(picture)
                assert len(lines) <= rows
                assert max(map(len, lines)) <= columns
                assert ("HISTORY" in picture) == (columns >= 130), columns
    assert plain(render(tracked(8, 9), rows=5, columns=200))[-1] == "… and 5 more"
    assert plain(render([], rows=5, columns=200))[0].startswith("CONTAINER ID")
    assert "--" in render(tracked(1), rows=5, columns=200)
    wide = plain(render(tracked(1, 99), rows=5, columns=500))[1]
    assert len(re.findall("[▁-█]", wide)) == 2 * HISTORY


# --- in use -------------------------------------------------------------------------------------------------


def test_once(proa: Proa, api: Api, image: str) -> None:
    made = steps.start(api, image, name="one")
    steps.create(api, image, name="two")
    shown = proa("stats", "--no-stream")
    assert (shown.code, shown.err) == (0, "")
    title, row = shown.out.splitlines()
    assert (
        re.sub("  +", "|", title) == "CONTAINER ID|NAME|CPU %|MEM USAGE / LIMIT|MEM %|NET I/O|BLOCK I/O|PIDS"
    )
    assert row.startswith(f"{made[:12]}   one ")
    listed = [
        json.loads(line) for line in proa("stats", "--no-stream", "-a", "--format", "json").out.splitlines()
    ]
    assert {row["Name"]: row["PIDs"] for row in listed} == {"one": "1", "two": "0"}
    named = proa("stats", "--no-stream", "--no-trunc", "--format", "{{.Container}} {{.ID}}", "one")
    assert named.out == f"one {made}\n"
    assert proa("container", "stats", "--no-stream", "-q").code == 125


def test_unknown_containers(proa: Proa, api: Api, image: str) -> None:
    steps.start(api, image, name="known")
    for arguments in (("--no-stream",), ()):
        said = proa("stats", *arguments, "known", "nobody", "noone")
        assert (said.code, said.out) == (1, "")
        assert re.findall("No such container: (no[a-z]+)", said.err) == ["nobody", "noone"]


def test_what_docker_prints(proa: Proa, api: Api, docker: Any, image: str) -> None:
    steps.create(api, image, name="still")
    for form in ("table", "json", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.PIDs}}"):
        theirs = docker("stats", "--no-stream", "-a", "--format", form)
        assert proa("stats", "--no-stream", "-a", "--format", form).out == theirs.stdout.decode()


def test_into_a_pipe_come_lists_without_escapes(api: Api, daemon: Daemon, image: str) -> None:
    steps.start(api, image, name="piped")
    command = [sys.executable, "-m", "proa", "stats", "--format", "{{.Name}}"]
    with subprocess.Popen(command, env=environment(daemon.url), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == [b"piped\n"] * 3
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def test_live(terminal: Terminal, api: Api, image: str) -> None:
    steps.start(
        api, image, "sh", "-c", "while :; do :; done", name="busy", HostConfig={"NanoCpus": 300_000_000}
    )
    shown = terminal("stats", columns=160)
    shown.expect("CPU HISTORY")
    shown.expect("busy")
    shown.expect("█")
    steps.start(api, image, name="newcomer")
    shown.expect("newcomer")
    api("DELETE", "/containers/newcomer", force=True).expect(204)
    steps.until(lambda: "newcomer" not in _last_picture(shown))
    shown.resize(24, 60)
    steps.until(lambda: "HISTORY" not in _last_picture(shown))
    shown.type("\x03")
    assert shown.end() == 130
    assert shown.shown.rstrip().endswith(b"\x1b[?25h")


def _last_picture(shown: Dialogue) -> str:
    shown._read(1.0)
    return shown.shown.rpartition(b"\x1b[H")[2].decode(errors="replace") or "newcomer HISTORY"


def test_live_by_name_ends_with_the_container_or_the_daemon(
    terminal: Terminal, api: Api, daemon: Daemon, image: str
) -> None:
    steps.start(api, image, name="mortal")
    shown = terminal("stats", "mortal", columns=160)
    shown.expect("mortal")
    api("DELETE", "/containers/mortal", force=True).expect(204)
    assert shown.end() == 0
    steps.start(api, image, name="survivor")
    everything = terminal("stats", columns=160)
    everything.expect("survivor")
    daemon.restart()
    assert everything.end() == 1
    assert b"daemon" in everything.shown


@pytest.mark.alone
def test_the_python_api(client: proa_api.Client, api: Api, image: str) -> None:
    made = steps.start(api, image, name="measured")
    began = time.monotonic()
    assert client.containers.stats("measured", one_shot=True)["id"] == made
    assert time.monotonic() - began < 0.9
    assert reckon(client.containers.stats("measured")).pids == 1
    with client.containers.watch_stats("measured") as readings:
        assert [next(iter(readings))["id"] for _ in range(2)] == [made, made]
    with pytest.raises(proa_api.NotFound):
        client.containers.watch_stats("nobody")
