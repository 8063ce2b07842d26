"""Dialogues about health checks, with commands that really run: State.Health, lists, events, what is left."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.support import schema
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.rawhttp import Api

MS = 10**6
QUICK: dict[str, Any] = {"Interval": 50 * MS, "Timeout": 5000 * MS, "Retries": 2}


class Switch:
    """A directory that a container sees as /switch; its check succeeds while a file is in there."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "on"
        self.fields: dict[str, Any] = {
            "Healthcheck": {"Test": ["CMD", "test", "-e", "/switch/on"], **QUICK},
            "HostConfig": {"Binds": [f"{directory}:/switch"]},
        }

    def on(self) -> None:
        self._file.touch()

    def off(self) -> None:
        self._file.unlink()


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    return Switch(tmp_path)


def checked(api: Api, image: str, *test: str, **asked: object) -> str:
    """Start a sleeper with a health check; return its id."""
    return steps.start(api, image, Healthcheck={"Test": list(test), **QUICK, **asked})


def health(api: Api, ref: str) -> Any:
    return steps.inspect(api, ref)["State"]["Health"]


def until_status(api: Api, ref: str, status: str) -> None:
    steps.until(lambda: health(api, ref)["Status"] == status)


def first_probe(api: Api, ref: str) -> Any:
    steps.until(lambda: health(api, ref)["Log"])
    return health(api, ref)["Log"][0]


def events(api: Api, since: float, ref: str) -> list[Any]:
    query: dict[str, Any] = {
        "since": f"{since:.9f}",
        "until": f"{time.time():.9f}",
        "filters": {"container": [ref]},
    }
    return [json.loads(line) for line in api("GET", "/events", **query).expect(200).body.splitlines()]


def listed(api: Api, **query: Any) -> list[str]:
    return [entry["Id"] for entry in api("GET", "/containers/json", **query).expect(200).json]


def processes(api: Api, ref: str) -> list[str]:
    """The command lines of all that runs in a container."""
    rows = api("GET", f"/containers/{ref}/top").expect(200).json["Processes"]
    return sorted(row[-1] for row in rows)


# --- a life -------------------------------------------------------------------------------------------------


def test_a_container_gets_well_and_ill_and_well(api: Api, image: str, switch: Switch) -> None:
    begin = time.time()
    made = steps.start(api, image, **switch.fields)
    assert health(api, made)["Status"] == "starting"
    switch.on()
    until_status(api, made, "healthy")
    switch.off()
    until_status(api, made, "unhealthy")
    assert health(api, made)["FailingStreak"] >= 2
    switch.on()
    until_status(api, made, "healthy")
    assert health(api, made)["FailingStreak"] == 0
    told = [event for event in events(api, begin, made) if event["Action"].startswith("health_status")]
    changes = [event["Action"].removeprefix("health_status: ") for event in told]
    assert changes[-3:] == ["healthy", "unhealthy", "healthy"]
    for event in told:
        schema.check(event, "EventMessage")
        assert event["Actor"]["Attributes"]["image"] == image
        assert event["status"] == event["Action"]


def test_a_check_is_an_exec_in_events(api: Api, image: str) -> None:
    begin = time.time()
    made = checked(api, image, "CMD-SHELL", "exit 0")
    until_status(api, made, "healthy")
    actions = [event["Action"] for event in events(api, begin, made)]
    assert actions[2:6] == [
        "exec_create: /bin/sh -c exit 0",
        "exec_start: /bin/sh -c exit 0",
        "exec_die",
        "health_status: healthy",
    ]


def test_the_state_is_of_dockers_shape(api: Api, image: str) -> None:
    made = checked(api, image, "CMD-SHELL", "echo out; echo err >&2; exit 3")
    steps.until(lambda: len(health(api, made)["Log"]) == 5)
    shown = api("GET", f"/containers/{made}/json").expect(200)
    schema.check_answer("GET", "/containers/{id}/json", 200, shown.json)
    state = shown.json["State"]["Health"]
    assert state.keys() == {"Status", "FailingStreak", "Log"}
    for probed in state["Log"]:
        assert probed.keys() == {"Start", "End", "ExitCode", "Output"}
        assert (probed["ExitCode"], probed["Output"]) == (3, "out\nerr\n")
        assert probed["Start"] < probed["End"]
    starts = [probed["Start"] for probed in state["Log"]]
    assert starts == sorted(starts)
    time.sleep(0.2)
    assert len(health(api, made)["Log"]) == 5


def test_lists_tell_health(api: Api, image: str, switch: Switch) -> None:
    made = steps.start(api, image, **switch.fields)
    plain = steps.start(api, image)
    switch.on()
    until_status(api, made, "healthy")
    words = {e["Id"]: e["Status"] for e in api("GET", "/containers/json").expect(200).json}
    assert words[made].startswith("Up ")
    assert words[made].endswith(" (healthy)")
    assert "(" not in words[plain]
    assert listed(api, filters={"health": ["healthy"]}) == [made]
    assert listed(api, filters={"health": ["none"]}) == [plain]
    assert listed(api, filters={"health": ["starting", "unhealthy"]}) == []
    switch.off()
    until_status(api, made, "unhealthy")
    assert listed(api, filters={"health": ["unhealthy"]}) == [made]


def test_what_starts_says_so(api: Api, image: str) -> None:
    made = checked(api, image, "CMD", "true", Interval=10**12)
    [entry] = api("GET", "/containers/json", filters={"health": ["starting"]}).expect(200).json
    assert entry["Id"] == made
    assert entry["Status"].endswith(" (health: starting)")


def test_the_start_period_has_its_own_interval_and_forgives(api: Api, image: str) -> None:
    asked = {"Interval": 10**12, "StartInterval": 50 * MS, "StartPeriod": 10**12, "Retries": 1}
    made = checked(api, image, "CMD", "false", **asked)
    steps.until(lambda: len(health(api, made)["Log"]) >= 3)
    assert (health(api, made)["Status"], health(api, made)["FailingStreak"]) == ("starting", 0)


# --- a probe ------------------------------------------------------------------------------------------------


def test_a_probe_has_the_containers_user_environment_and_directory(api: Api, image: str) -> None:
    made = steps.start(
        api, image, User="1234", Env=["COLOUR=red"], WorkingDir="/usr",
        Healthcheck={"Test": ["CMD-SHELL", "id -u; pwd; echo $COLOUR"], **QUICK},
    )  # fmt: skip
    assert first_probe(api, made)["Output"] == "1234\n/usr\nred\n"


def test_the_shell_of_the_container_is_used(api: Api, image: str) -> None:
    made = steps.start(
        api, image, Shell=["/bin/echo", "shell:"], Healthcheck={"Test": ["CMD-SHELL", "a b"], **QUICK}
    )
    assert first_probe(api, made)["Output"] == "shell: a b\n"


def test_much_output_is_cut(api: Api, image: str) -> None:
    made = checked(api, image, "CMD-SHELL", "yes | head -c 10000000")
    output = first_probe(api, made)["Output"]
    assert output == "y\n" * 2048 + "..."


def test_a_command_that_is_not_there_is_a_failure_that_says_so(api: Api, image: str) -> None:
    made = checked(api, image, "CMD", "/no/such/program")
    probed = first_probe(api, made)
    assert probed["ExitCode"] == -1
    assert "OCI runtime exec failed" in probed["Output"]
    until_status(api, made, "unhealthy")


def test_a_probe_that_hangs_is_killed_with_all_that_it_started(api: Api, image: str) -> None:
    script = "echo begun; sleep 2001 & setsid sleep 2002 & trap '' TERM; sleep 2003"
    made = checked(api, image, "CMD-SHELL", script, Timeout=300 * MS, Interval=10**9)
    probed = first_probe(api, made)
    assert (probed["ExitCode"], probed["Output"]) == (-1, "Health check exceeded timeout (300ms): begun\n")
    steps.until(lambda: processes(api, made) == ["sleep 1000"])


def test_a_probe_under_way_goes_with_its_container(daemon: Daemon, api: Api, image: str) -> None:
    begin = time.time()
    made = checked(api, image, "CMD", "sleep", "2004")
    steps.until(lambda: "sleep 2004" in processes(api, made))
    api("POST", f"/containers/{made}/kill").expect(204)
    state = steps.inspect(api, made)["State"]
    assert (state["Running"], state["Health"]["Log"]) == (False, [])
    actions = [event["Action"].partition(":")[0] for event in events(api, begin, made)]
    assert actions.count("exec_die") == actions.count("exec_start") >= 1
    api("DELETE", f"/containers/{made}").expect(204)


# --- states of the container --------------------------------------------------------------------------------


def test_what_never_ran_has_no_health(api: Api, image: str) -> None:
    made = steps.create(api, image, Healthcheck={"Test": ["CMD", "true"]})
    assert "Health" not in steps.inspect(api, made)["State"]
    assert listed(api, all=True, filters={"health": ["none"]}) == [made]


def test_what_asks_for_none_has_none(api: Api, image: str) -> None:
    made = checked(api, image, "NONE")
    assert "Health" not in steps.inspect(api, made)["State"]
    assert steps.inspect(api, made)["Config"]["Healthcheck"]["Test"] == ["NONE"]


def test_what_is_paused_is_not_probed(api: Api, image: str) -> None:
    begin = time.time()
    made = checked(api, image, "CMD", "true")
    until_status(api, made, "healthy")
    api("POST", f"/containers/{made}/pause").expect(204)
    assert health(api, made)["Status"] == "unhealthy"  # nobody can tell; told as no event
    before = health(api, made)["Log"]
    time.sleep(0.3)
    assert health(api, made)["Log"] == before
    api("POST", f"/containers/{made}/unpause").expect(204)
    until_status(api, made, "healthy")
    actions = [event["Action"] for event in events(api, begin, made)]
    assert [action for action in actions if "health" in action or "pause" in action] == [
        "health_status: healthy",
        "pause",
        "unpause",
        "health_status: healthy",
    ]


def test_a_probe_that_a_pause_interrupts_does_not_count(api: Api, image: str) -> None:
    begin = time.time()
    made = checked(api, image, "CMD", "sleep", "2005", Interval=10**9, Timeout=10**12, Retries=1)
    steps.until(lambda: "sleep 2005" in processes(api, made))
    api("POST", f"/containers/{made}/pause").expect(204)
    api("POST", f"/containers/{made}/unpause").expect(204)
    steps.until(lambda: "exec_die" in [event["Action"] for event in events(api, begin, made)])
    assert health(api, made)["Log"] == []


def test_an_end_is_not_healthy_and_a_start_begins_anew(api: Api, image: str) -> None:
    made = checked(api, image, "CMD", "true", Interval=200 * MS)
    until_status(api, made, "healthy")
    api("POST", f"/containers/{made}/stop", t=0).expect(204)
    ended = health(api, made)
    assert (ended["Status"], bool(ended["Log"])) == ("unhealthy", True)
    assert "healthy" not in api("GET", "/containers/json", all=True).expect(200).json[0]["Status"]
    api("POST", f"/containers/{made}/start").expect(204)
    assert health(api, made) == {**ended, "Status": "starting", "FailingStreak": 0}
    until_status(api, made, "healthy")


def test_a_policy_restarts_the_checks_too(api: Api, image: str) -> None:
    made = steps.start(
        api, image, "sleep", "0.3", Healthcheck={"Test": ["CMD", "true"], **QUICK},
        HostConfig={"RestartPolicy": {"Name": "always"}},
    )  # fmt: skip
    steps.until(lambda: steps.inspect(api, made)["RestartCount"] >= 1)
    until_status(api, made, "healthy")


# --- a new daemon -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_new_daemon_knows_what_was_and_goes_on(make_daemon: Callable[..., Daemon], end: str) -> None:
    daemon = make_daemon().start()
    image = daemon.import_busybox()
    made = checked(daemon.api, image, "CMD", "true", Interval=300 * MS)
    until_status(daemon.api, made, "healthy")
    before = health(daemon.api, made)
    getattr(daemon, end)()
    daemon.start()
    after = health(daemon.api, made)
    assert after["Status"] == "healthy"
    assert {probed["Start"] for probed in before["Log"]} & {probed["Start"] for probed in after["Log"]}
    steps.until(lambda: health(daemon.api, made)["Log"][-1]["Start"] > after["Log"][-1]["Start"])


def test_a_probe_that_its_daemon_left_behind_is_ended(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    image = daemon.import_busybox()
    begin = time.time()
    made = checked(daemon.api, image, "CMD", "sleep", "2006", Interval=10**9, Timeout=10**12)
    steps.until(lambda: "sleep 2006" in processes(daemon.api, made))
    daemon.kill()
    daemon.start()
    steps.until(lambda: "exec_die" in [e["Action"] for e in events(daemon.api, begin, made)])
    execs = [e for e in events(daemon.api, begin, made) if e["Action"].startswith("exec_")]
    first = execs[0]["Actor"]["Attributes"]["execID"]
    actions = [e["Action"].partition(":")[0] for e in execs if e["Actor"]["Attributes"]["execID"] == first]
    assert actions == ["exec_create", "exec_start", "exec_die"]
    steps.until(lambda: processes(daemon.api, made).count("sleep 2006") <= 1)


# --- asking for it ------------------------------------------------------------------------------------------


@pytest.fixture
def checked_image(api: Api) -> Iterator[str]:
    """An image that asks for a health check itself."""
    changes = ['CMD ["sleep", "1000"]', "HEALTHCHECK --interval=50ms --retries=7 CMD echo from the image"]
    api(
        "POST", "/images/create", body=busybox_tar(), headers={"Content-Type": "application/x-tar"},
        fromSrc="-", repo="checked", tag="1", changes="\n".join(changes),
    ).expect(200)  # fmt: skip
    yield "checked:1"
    api("DELETE", "/images/checked:1", force=True).expect(200)


def test_an_image_asks_for_a_check(api: Api, checked_image: str) -> None:
    made = steps.start(api, checked_image)
    assert first_probe(api, made)["Output"] == "from the image\n"
    assert steps.inspect(api, made)["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "echo from the image"], "Interval": 50 * MS, "Retries": 7,
    }  # fmt: skip


def test_a_request_changes_what_its_image_asks_for(api: Api, checked_image: str) -> None:
    none = steps.start(api, checked_image, Healthcheck={"Test": ["NONE"]})
    other = steps.start(api, checked_image, Healthcheck={"Test": ["CMD", "echo", "other"], "Retries": 9})
    assert first_probe(api, other)["Output"] == "other\n"
    assert steps.inspect(api, other)["Config"]["Healthcheck"] == {
        "Test": ["CMD", "echo", "other"], "Interval": 50 * MS, "Retries": 9,
    }  # fmt: skip
    assert "Health" not in steps.inspect(api, none)["State"]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"Interval": 1}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Timeout": -1}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"StartPeriod": 1}, "StartPeriod in Healthcheck cannot be less than 1ms"),
        ({"StartInterval": 1}, "StartInterval in Healthcheck cannot be less than 1ms"),
        ({"Retries": -1}, "Retries in Healthcheck cannot be negative"),
    ],
)
def test_checks_that_cannot_be_meant_are_refused(
    api: Api, image: str, asked: dict[str, int], error: str
) -> None:
    body = {"Image": image, "Healthcheck": {"Test": ["CMD", "true"], **asked}}
    assert api("POST", "/containers/create", json_body=body).expect(400).message == error


def test_the_docker_cli_asks_for_checks_and_shows_them(docker: DockerCli, image: str) -> None:
    done = docker(
        "run", "-d", "--name", "web", "--health-cmd", "echo fine", "--health-interval", "100ms",
        "--health-timeout", "2s", "--health-retries", "2", "--health-start-period", "1s",
        "--health-start-interval", "50ms", image, "sleep", "1000",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = "{{.State.Health.Status}} {{json .State.Health.Log}}"
    steps.until(lambda: docker("inspect", "-f", shown, "web").stdout.startswith(b"healthy "))
    assert b'"Output":"fine\\n"' in docker("inspect", "-f", shown, "web").stdout
    assert b"(healthy)" in docker("ps", "--filter", "health=healthy").stdout


def test_docker_py_asks_for_checks_and_reads_them(docker_client: docker_py.DockerClient, image: str) -> None:
    container = docker_client.containers.run(
        image, "sleep 1000", detach=True,
        healthcheck={"test": ["CMD", "true"], "interval": 50 * MS, "timeout": 10**9, "retries": 1},
    )  # fmt: skip

    def healthy() -> bool:
        container.reload()
        return bool(container.health == "healthy")

    steps.until(healthy)
