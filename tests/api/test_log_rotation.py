"""Logs that may not grow for ever: rotated while containers write, followed, and whole after a crash."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.support.daemon import Daemon, DaemonFailed
from tests.support.hijack import demultiplex
from tests.support.rawhttp import Api

COUNTING = "i=0; while :; do i=$((i+1)); echo number $i; done"
STEADY = "i=0; while :; do for x in 1 2 3 4 5 6 7 8 9; do i=$((i+1)); echo number $i; done; usleep 500; done"
"""Some ten thousand lines a second: 40 kB are full every hundredth of one or so."""


def start(api: Api, image: str, script: str, kind: str = "json-file", **options: str) -> str:
    names = {key.replace("_", "-"): value for key, value in options.items()}
    host_config = {"NetworkMode": "none", "LogConfig": {"Type": kind, "Config": names}}
    return steps.start(api, image, "sh", "-c", script, HostConfig=host_config)


def logs(api: Api, container: str, **query: object) -> bytes:
    answer = api("GET", f"/containers/{container}/logs", stdout=1, **query).expect(200)
    return demultiplex(answer.body)[0]


def log_files(daemon: Daemon, container: str) -> dict[str, int]:
    """Names and sizes of the log's files."""
    directory = daemon.data_root / "containers" / container
    sizes: dict[str, int] = {}
    for path in directory.glob("container.log*"):
        with suppress(FileNotFoundError):  # it has just got another name
            sizes[path.name] = path.stat().st_size
    return sizes


def assert_numbers_in_a_row(text: bytes, last: int | None = None) -> int:
    """Every line is whole and follows the one before; returns the last number."""
    lines = text.splitlines()
    assert lines
    assert all(re.fullmatch(rb"(number )?\d+", line) for line in lines), lines[:3]
    numbers = [int(line.split()[-1]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert last is None or numbers[-1] == last
    return numbers[-1]


def test_sizes_names_and_the_newest_lines(api: Api, image: str, daemon: Daemon) -> None:
    container = start(api, image, "seq 1 5000", max_size="10k", max_file="3")
    steps.wait_exit(api, container)
    files = log_files(daemon, container)
    # An end while conmon was being told of the next file leaves the number that was made free without a file.
    assert {*files, "container.log.1"} == {"container.log", "container.log.1", "container.log.2"}
    assert all(0 < size <= 11_250 for size in files.values())
    path = Path(steps.inspect(api, container)["LogPath"])
    assert path.name == "container.log"
    assert path.read_text().splitlines()[-1].endswith("stdout F 5000")
    assert_numbers_in_a_row(logs(api, container), last=5000)
    assert logs(api, container, tail=250).splitlines() == [b"%d" % n for n in range(4751, 5001)]


def test_one_file_keeps_the_newest_too(api: Api, image: str, daemon: Daemon) -> None:
    container = start(api, image, "seq 1 5000; sleep 1000", max_size="20k")
    steps.until(lambda: logs(api, container, tail=1) == b"5000\n")
    steps.until(lambda: sum(log_files(daemon, container).values()) <= 22_500)
    assert_numbers_in_a_row(logs(api, container), last=5000)


def test_local_and_compressed(api: Api, image: str, daemon: Daemon) -> None:
    container = start(api, image, "seq 1 30000; sleep 1000", kind="local", max_size="100k", max_file="4")
    steps.until(lambda: sum(name.endswith(".gz") for name in log_files(daemon, container)) == 3)
    files = log_files(daemon, container)
    assert sorted(files) == ["container.log", *(f"container.log.{n}.gz" for n in (1, 2, 3))]
    assert steps.inspect(api, container)["LogPath"] == ""  # the driver's own affair, as with Docker
    assert_numbers_in_a_row(logs(api, container), last=30000)
    assert logs(api, container, tail=3000).startswith(b"27001\n")
    assert logs(api, container, follow=1, until=str(int(time.time()) - 1000)) == b""


def test_a_follower_gets_every_byte_that_the_log_itself_does_not_keep(
    api: Api, image: str, daemon: Daemon
) -> None:
    container = start(api, image, "sleep 0.3; seq 1 400000", max_size="200k", max_file="2")
    with api.stream("GET", f"/containers/{container}/logs", stdout=1, follow=1) as stream:
        out, _ = demultiplex(stream.read())
    assert out == b"".join(b"%d\n" % number for number in range(1, 400001))
    steps.wait_exit(api, container)
    assert sum(log_files(daemon, container).values()) <= 450_000
    assert_numbers_in_a_row(logs(api, container), last=400000)


def test_long_lines_are_shown_whole_or_not_at_all(api: Api, image: str, daemon: Daemon) -> None:
    """A line of 20,000 characters is logged in parts, and the oldest file seldom begins with a line."""
    long = 'x=$(head -c 20000 /dev/zero | tr "\\0" x)'
    script = f'{long}; i=0; while [ $i -lt 300 ]; do echo "<$x>"; i=$((i+1)); done; echo end'
    container = start(api, image, f"{script}; sleep 1000", max_size="300k", max_file="3")
    line = b"<" + b"x" * 20000 + b">"
    steps.until(lambda: logs(api, container, tail=1) == b"end\n")
    steps.until(lambda: sum(log_files(daemon, container).values()) < 1_000_000)
    shown = logs(api, container).split(b"\n")
    assert (shown.pop(), shown.pop()) == (b"", b"end")
    assert set(shown) == {line}
    assert 10 <= len(shown) < 100


def test_since_and_until_over_several_files(api: Api, image: str) -> None:
    script = "for i in 1 2 3 4; do seq $((i*1000)) $((i*1000+999)); sleep 0.3; done; sleep 1000"
    container = start(api, image, script, max_size="100k", max_file="10")
    steps.until(lambda: logs(api, container, tail=1) == b"4999\n")
    stamped = logs(api, container, timestamps=1).splitlines()
    assert [int(line.split()[1]) for line in stamped] == list(range(1000, 5000))
    of = {int(line.split()[1]): line.split()[0].decode() for line in stamped}
    since, until = of[2000], of[3999]
    assert assert_numbers_in_a_row(logs(api, container, since=since)) == 4999
    some = logs(api, container, since=since, until=until).splitlines()
    assert (some[0], some[-1]) == (b"2000", b"3999")


def test_a_new_run_goes_on_in_the_same_log(api: Api, image: str, daemon: Daemon) -> None:
    container = start(api, image, "seq 1 500", max_size="10k", max_file="20")
    for _ in range(3):
        steps.wait_exit(api, container)
        api("POST", f"/containers/{container}/start").expect(204)
    steps.wait_exit(api, container)
    assert logs(api, container) == b"".join(b"%d\n" % n for n in range(1, 501)) * 4
    assert max(log_files(daemon, container).values()) <= 11_250


def test_the_daemon_has_a_default_for_containers_that_say_nothing(make_daemon: Any) -> None:
    daemon = make_daemon("--log-driver", "local", "--log-opt", "max-size=1m", "--log-opt", "max-file=3")
    api = daemon.start().api
    image = daemon.import_busybox()
    try:
        made = {}
        for name, log in (
            ("plain", {}),
            ("own", {"Config": {"max-size": "2m"}}),
            ("other", {"Type": "json-file", "Config": {"max-size": "3m"}}),
            ("none", {"Type": "none"}),
        ):
            container = steps.create(api, image, HostConfig={"LogConfig": log})
            made[name] = steps.inspect(api, container)["HostConfig"]["LogConfig"]
        assert made == {
            "plain": {"Type": "local", "Config": {"max-size": "1m", "max-file": "3"}},
            "own": {"Type": "local", "Config": {"max-size": "2m", "max-file": "3"}},
            "other": {"Type": "json-file", "Config": {"max-size": "3m"}},
            "none": {"Type": "none", "Config": {}},
        }
        info = api("GET", "/info").expect(200).json
        assert info["LoggingDriver"] == "local"
        assert info["Plugins"]["Log"] == ["journald", "json-file", "local"]
        body = {"Image": image, "HostConfig": {"LogConfig": {"Config": {"max-file": "1"}}}}
        refused = api("POST", "/containers/create", json_body=body).expect(400)
        assert refused.message == "compression cannot be enabled when max file count is 1"
    finally:
        daemon.remove_containers()


def test_a_daemon_whose_default_is_none_says_so(make_daemon: Any) -> None:
    with pytest.raises(DaemonFailed, match="no log driver named 'frob' is registered"):
        make_daemon("--log-driver", "frob").start()


@pytest.fixture
def private(make_daemon: Any) -> Iterator[Daemon]:
    daemon: Daemon = make_daemon()
    daemon.start()
    yield daemon
    daemon.remove_containers()


def test_what_was_written_while_no_daemon_looked_is_brought_to_size(private: Daemon) -> None:
    image = private.import_busybox()
    going = start(private.api, image, COUNTING, max_size="50k", max_file="3")
    ending = start(private.api, image, "sleep 0.5; seq 1 20000", max_size="50k", max_file="3")
    private.kill()
    live = private.data_root / "containers" / going / "container.log"
    steps.until(lambda: live.stat().st_size > 500_000)
    done = private.data_root / "containers" / ending / "container.log"
    steps.until(lambda: done.exists() and b"F 20000\n" in done.read_bytes()[-100:])
    private.start()
    assert sum(log_files(private, ending).values()) <= 170_000
    assert_numbers_in_a_row(logs(private.api, ending), last=20000)
    steps.until(lambda: len(log_files(private, going)) == 3)
    steps.until(lambda: sum(log_files(private, going).values()) < 400_000)
    assert_numbers_in_a_row(logs(private.api, going))


def test_a_daemon_that_dies_again_and_again_while_it_rotates_loses_no_line(private: Daemon) -> None:
    container = start(private.api, private.import_busybox(), STEADY, max_size="40k", max_file="9")
    last = 0
    for lap in range(5):
        time.sleep(0.05 + 0.03 * lap)
        private.kill()
        private.start()
        shown = logs(private.api, container)
        now = assert_numbers_in_a_row(shown)
        assert now > last
        last = now
    with private.api.stream("GET", f"/containers/{container}/logs", stdout=1, follow=1, tail=10) as stream:
        api = private.api
        time.sleep(0.5)
        api("POST", f"/containers/{container}/kill").expect(204)
        followed, _ = demultiplex(stream.read())
    assert_numbers_in_a_row(followed)
    assert followed.splitlines()[-1] == logs(api, container, tail=1).strip()


def test_readers_beside_a_writer_that_rotates(api: Api, image: str) -> None:
    """Whenever one looks, the lines are there in a row: between two names no line is missing or double. The
    last may be a piece of one: the monitor logs what a read of the pipe gives it.
    """
    container = start(api, image, COUNTING, max_size="30k", max_file="5", compress="true")
    last = 0
    for _ in range(60):
        shown = logs(api, container, tail=1000) if last % 2 else logs(api, container)
        whole, _, piece = shown.rpartition(b"\n")
        if not whole:
            continue
        now = assert_numbers_in_a_row(whole)
        assert (b"number %d" % (now + 1)).startswith(piece)
        assert now >= last
        last = now
    assert last > 1000


def test_a_removed_container_takes_all_its_log_along(api: Api, image: str, daemon: Daemon) -> None:
    container = start(api, image, COUNTING, max_size="10k", max_file="5", compress="true")
    steps.until(lambda: len(log_files(daemon, container)) == 5)
    api("DELETE", f"/containers/{container}", force=1).expect(204)
    assert not (daemon.data_root / "containers" / container).exists()
