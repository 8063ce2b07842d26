"""The driver journald: with a journal of the test's own, and on a host that has none."""

import time
from collections.abc import Iterator

import pytest

from proad.model.durations import parse_timestamp_ns
from tests.api import steps
from tests.conftest import _close, _needs_root
from tests.strictness import skip_for_lack_of
from tests.support.daemon import Daemon
from tests.support.hijack import demultiplex
from tests.support.journal import Journal, JournaledDaemon, UnjournaledDaemon, children_of, has_journald
from tests.support.rawhttp import Api


@pytest.fixture(scope="module")
def journal() -> Iterator[Journal]:
    _needs_root()
    if not has_journald():
        skip_for_lack_of("systemd-journald and journalctl")
    started = Journal()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def daemon(journal: Journal) -> Iterator[Daemon]:
    """The module's daemon has that journal for its host's."""
    started = JournaledDaemon(journal)
    try:
        yield started.start()
    finally:
        _close(started)


def start(api: Api, image: str, script: str, **options: str) -> str:
    host_config = {"NetworkMode": "none", "LogConfig": {"Type": "journald", "Config": options}}
    labels = {"color": "light blue"}
    return steps.start(api, image, "sh", "-c", script, HostConfig=host_config, Labels=labels)


def logs(api: Api, container: str, **query: object) -> tuple[bytes, bytes]:
    options = {"stdout": 1, "stderr": 1, **query}
    return demultiplex(api("GET", f"/containers/{container}/logs", **options).expect(200).body)


def test_output_comes_back_exactly(api: Api, image: str) -> None:
    script = (
        "echo one; echo two >&2; echo; printf part; sleep 0.05; printf 'ial\\n\\001\\377\\r\\n'; printf end"
    )
    container = start(api, image, script)
    steps.wait_exit(api, container)
    assert logs(api, container) == (b"one\n\npartial\n\x01\xff\r\nend", b"two\n")
    assert logs(api, container, stdout=0) == (b"", b"two\n")
    assert logs(api, container, tail=2)[0] == b"\x01\xff\r\nend"
    assert logs(api, container, tail=0) == (b"", b"")
    assert steps.inspect(api, container)["LogPath"] == ""
    stamped = logs(api, container, timestamps=1)[0].splitlines()
    assert all(line.partition(b" ")[0].endswith(b"Z") for line in stamped[:2])


def test_long_lines_and_many(api: Api, image: str) -> None:
    container = start(api, image, "head -c 30000 /dev/zero | tr '\\0' x; echo; seq 1 3000")
    wanted = b"x" * 30000 + b"\n" + b"".join(b"%d\n" % number for number in range(1, 3001))
    assert logs(api, container, follow=1)[0] == wanted
    assert logs(api, container)[0] == wanted


def test_since_and_until(api: Api, image: str) -> None:
    container = start(api, image, "echo 1; sleep 0.3; echo 2; sleep 0.3; echo 3")
    steps.wait_exit(api, container)
    stamps = [line.split()[0].decode() for line in logs(api, container, timestamps=1)[0].splitlines()]
    assert logs(api, container, since=stamps[1])[0] == b"2\n3\n"
    assert logs(api, container, until=stamps[1])[0] == b"1\n2\n"
    seconds = parse_timestamp_ns(stamps[0], now_ns=0) / 1e9
    assert logs(api, container, since=f"{seconds + 0.15:.3f}", until=f"{seconds + 0.45:.3f}")[0] == b"2\n"


def test_a_follower_sees_lines_as_they_come_and_the_end(api: Api, image: str, daemon: Daemon) -> None:
    container = start(api, image, "echo 1; sleep 1; echo 2; printf end")
    with api.stream("GET", f"/containers/{container}/logs", stdout=1, follow=1) as stream:
        assert next(stream.lines())[8:] == b"1"
        assert steps.status(api, container) == "running"
        assert demultiplex(stream.read()) == (b"2\nend", b"")
    container = start(api, image, "echo 1; sleep 1000")
    steps.until(lambda: logs(api, container)[0] == b"1\n")
    until = f"{time.time() + 0.5:.3f}"
    assert logs(api, container, follow=1, tail=1, until=until)[0] == b"1\n"
    for _ in range(3):
        api.stream("GET", f"/containers/{container}/logs", stdout=1, follow=1).close()
    steps.until(lambda: not any("journalctl" in command for command in children_of(daemon.pid)))


def test_the_fields_are_dockers(api: Api, image: str, journal: Journal) -> None:
    container = start(api, image, "echo hello", tag="{{.Name}}/{{ .ImageName }}/{{.FullID}}", labels="color")
    steps.wait_exit(api, container)
    name = steps.inspect(api, container)["Name"][1:]
    assert logs(api, container, details=1)[0] == b"color=light+blue hello\n"
    said = journal.ask("--output=export", f"CONTAINER_ID_FULL={container}").stdout.decode()
    for field in (
        f"CONTAINER_NAME={name}", f"CONTAINER_ID={container[:12]}", "PRIORITY=6",
        f"CONTAINER_TAG={name}/{image}/{container}", f"SYSLOG_IDENTIFIER={name}/{image}/{container}",
    ):  # fmt: skip
        assert f"\n{field}\n" in said, field
    plain = start(api, image, "echo hello")
    steps.wait_exit(api, plain)
    said = journal.ask("--output=export", f"CONTAINER_ID_FULL={plain}").stdout.decode()
    assert f"\nSYSLOG_IDENTIFIER={plain[:12]}\n" in said


def test_a_log_outlives_the_daemon(api: Api, image: str, daemon: Daemon) -> None:
    container = start(api, image, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
    steps.until(lambda: logs(api, container)[0])
    daemon.kill()
    daemon.start()
    api("POST", f"/containers/{container}/kill").expect(204)
    shown = [int(line) for line in logs(api, container)[0].splitlines()]
    assert shown == list(range(1, len(shown) + 1))


def test_a_tag_that_is_none(api: Api, image: str) -> None:
    log = {"Type": "journald", "Config": {"tag": "{{.Frob}}"}}
    body = {"Image": image, "HostConfig": {"LogConfig": log}}
    refused = api("POST", "/containers/create", json_body=body).expect(400)
    assert "unknown field '.Frob'" in refused.message


def test_a_host_without_a_journal() -> None:
    daemon = UnjournaledDaemon()
    try:
        daemon.start()
        image = daemon.import_busybox()
        log = {"Type": "journald"}
        made = steps.create(daemon.api, image, HostConfig={"NetworkMode": "none", "LogConfig": log})
        refused = daemon.api("POST", f"/containers/{made}/start").expect(500)
        assert refused.message == (
            "failed to create task for container: failed to initialize logging driver: "
            "journald is not enabled on this host"
        )
        state = steps.inspect(daemon.api, made)["State"]
        assert (state["Status"], state["ExitCode"]) == ("created", 128)
    finally:
        daemon.remove_containers()
        _close(daemon)
