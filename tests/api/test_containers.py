"""Dialogues about one container's life: each verb, what it answers, and what it refuses with which text."""

import time

import pytest

from tests.api import steps
from tests.support import schema
from tests.support.rawhttp import Api, UnixConnection

NO_SUCH = "No such container: nosuch"


def test_create_start_wait_inspect_remove(api: Api, image: str) -> None:
    made = steps.create(api, image, "sh", "-c", "exit 3", name="life")
    created = steps.inspect(api, made)
    schema.check_answer("GET", f"/containers/{made}/json", 200, created)
    assert (created["State"]["Status"], created["State"]["StartedAt"]) == ("created", "0001-01-01T00:00:00Z")
    api("POST", "/containers/life/start").expect(204)
    assert steps.wait_exit(api, "life") == 3
    ended = steps.inspect(api, made)
    schema.check_answer("GET", f"/containers/{made}/json", 200, ended)
    assert (ended["State"]["Status"], ended["State"]["ExitCode"], ended["State"]["Pid"]) == ("exited", 3, 0)
    assert ended["State"]["StartedAt"] < ended["State"]["FinishedAt"]
    assert ended["ProaTimeline"]["Steps"]
    api("DELETE", f"/containers/{made}").expect(204)
    assert api("GET", f"/containers/{made}/json").expect(404).message == f"No such container: {made}"


def test_a_running_container_by_inspect(api: Api, image: str) -> None:
    made = steps.start(api, image, name="shown", ExposedPorts={"80/tcp": {}}, Labels={"a": "b"})
    shown = steps.inspect(api, "shown")
    schema.check_answer("GET", f"/containers/{made}/json", 200, shown)
    assert shown["Name"] == "/shown"
    assert shown["State"]["Running"] is True
    assert shown["State"]["Pid"] > 1
    assert (shown["Path"], shown["Args"]) == ("sleep", ["1000"])
    assert shown["Config"]["Labels"] == {"a": "b"}
    assert shown["Config"]["Hostname"] == made[:12]
    network = shown["NetworkSettings"]["Networks"]["bridge"]
    assert network["IPAddress"] == shown["NetworkSettings"]["IPAddress"] != ""
    assert shown["NetworkSettings"]["Ports"] == {"80/tcp": None}
    assert "SizeRw" not in shown
    sized = api("GET", f"/containers/{made}/json", size=True).expect(200).json
    assert sized["SizeRootFs"] > sized["SizeRw"] >= 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/nosuch/json"), ("GET", "/containers/nosuch/top"),
        ("POST", "/containers/nosuch/start"), ("POST", "/containers/nosuch/stop"),
        ("POST", "/containers/nosuch/restart"),
        ("POST", "/containers/nosuch/pause"), ("POST", "/containers/nosuch/unpause"),
        ("POST", "/containers/nosuch/wait"),
        ("POST", "/containers/nosuch/rename?name=other"),
        ("POST", "/containers/nosuch/resize?h=1&w=1"), ("DELETE", "/containers/nosuch"),
    ],
)  # fmt: skip
def test_every_verb_says_when_there_is_no_such_container(api: Api, method: str, path: str) -> None:
    target, _, query = path.partition("?")
    given = dict(pair.split("=") for pair in query.split("&")) if query else {}
    answer = api(method, target, **given).expect(404)
    schema.check(answer.json, "ErrorResponse")
    assert answer.message == NO_SUCH


def test_kill_says_when_there_is_no_such_container(api: Api) -> None:
    assert NO_SUCH in api("POST", "/containers/nosuch/kill").expect(404).message


def test_update_says_when_there_is_no_such_container(api: Api) -> None:
    assert api("POST", "/containers/nosuch/update", json_body={}).expect(404).message == NO_SUCH


# --- names and ids ----------------------------------------------------------------------------------------


def test_a_container_is_found_by_name_slash_name_and_id_prefix(api: Api, image: str) -> None:
    made = steps.create(api, image, name="found")
    for ref in ("found", "/found", made, made[:12], made[:5]):
        assert steps.inspect(api, ref)["Id"] == made


def test_an_ambiguous_prefix_is_refused(api: Api, image: str) -> None:
    ids = [steps.create(api, image) for _ in range(18)]
    prefix = next(i[0] for i in ids if sum(other[0] == i[0] for other in ids) > 1)
    answer = api("GET", f"/containers/{prefix}/json").expect(400)
    assert answer.message == f"multiple IDs found with provided prefix: {prefix}"


def test_names_are_unique(api: Api, image: str) -> None:
    first = steps.create(api, image, name="mine")
    answer = api("POST", "/containers/create", json_body={"Image": image}, name="mine").expect(409)
    assert answer.message == (
        f'Conflict. The container name "/mine" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


@pytest.mark.parametrize("name", ["-x", "a b", "ä", "../up", "x/y", "a"])
def test_bad_names_are_refused(api: Api, image: str, name: str) -> None:
    answer = api("POST", "/containers/create", json_body={"Image": image}, name=name).expect(400)
    assert answer.message.startswith(f"Invalid container name ({name})")


def test_a_name_is_made_up_if_none_is_given(api: Api, image: str) -> None:
    name = steps.inspect(api, steps.create(api, image))["Name"]
    assert name.startswith("/")
    assert "_" in name


def test_rename(api: Api, image: str) -> None:
    steps.create(api, image, name="old")
    steps.create(api, image, name="taken")
    api("POST", "/containers/old/rename", name="new").expect(204)
    assert steps.inspect(api, "new")["Name"] == "/new"
    api("GET", "/containers/old/json").expect(404)
    assert "is already in use" in api("POST", "/containers/new/rename", name="taken").expect(409).message
    assert (
        api("POST", "/containers/new/rename").expect(400).message == "Neither old nor new names may be empty"
    )
    api("POST", "/containers/new/rename", name="b@d").expect(400)


# --- create -----------------------------------------------------------------------------------------------


def test_create_answers_with_id_and_warnings(api: Api, image: str) -> None:
    answer = api("POST", "/containers/create", json_body={"Image": image}).expect(201)
    schema.check_answer("POST", "/containers/create", 201, answer.json)
    assert len(answer.json["Id"]) == 64
    assert isinstance(answer.json["Warnings"], list)


def test_create_checks_the_platform(api: Api, image: str) -> None:
    body = {"Image": image}
    api("POST", "/containers/create", json_body=body, platform="linux").expect(201)
    answer = api("POST", "/containers/create", json_body=body, platform="linux/s390x").expect(404)
    assert "does not match the specified platform (linux/s390x)" in answer.message
    api("POST", "/containers/create", json_body=body, platform="linux//").expect(400)


def test_create_without_the_image(api: Api) -> None:
    answer = api("POST", "/containers/create", json_body={"Image": "nosuch:1"}).expect(404)
    assert answer.message == "No such image: nosuch:1"


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (b"", {"Content-Type": "application/json"}, "EOF"),
        (b"{", {"Content-Type": "application/json"}, "invalid JSON"),
        (b"[]", {"Content-Type": "application/json"}, "invalid JSON"),
        (b"null", {"Content-Type": "application/json"}, "config cannot be empty"),
        (b'{"Image": 5}', {"Content-Type": "application/json"}, "Image"),
        (b'{"Image": "x", "HostConfig": []}', {"Content-Type": "application/json"}, "HostConfig"),
        (b'{"Image": "x"}', {"Content-Type": "text/plain"}, "unsupported Content-Type header (text/plain)"),
        (b'{"Image": "x"}', {}, "malformed Content-Type header"),
        (b"\xff\xfe", {"Content-Type": "application/json"}, "invalid JSON"),
    ],
)
def test_bad_bodies_are_refused(api: Api, body: bytes, headers: dict[str, str], text: str) -> None:
    assert text in api("POST", "/containers/create", body=body, headers=headers).expect(400).message


def test_a_huge_body_is_refused(api: Api) -> None:
    body = b'{"Image": "' + b"x" * (17 << 20) + b'"}'
    answer = api(
        "POST", "/containers/create", body=body, headers={"Content-Type": "application/json"}
    ).expect(400)
    assert "larger than" in answer.message


# --- start ------------------------------------------------------------------------------------------------


def test_start_of_a_running_container_changes_nothing(api: Api, image: str) -> None:
    made = steps.start(api, image)
    answer = api("POST", f"/containers/{made}/start").expect(304)
    assert answer.body == b""


def test_start_of_a_paused_container_is_refused(api: Api, image: str) -> None:
    made = steps.start(api, image)
    api("POST", f"/containers/{made}/pause").expect(204)
    assert api("POST", f"/containers/{made}/start").expect(409).message == (
        "cannot start a paused container, try unpause instead"
    )


@pytest.mark.parametrize("body", [b"", b"{}", b" {} ", b"null"])
def test_start_takes_an_empty_body(api: Api, image: str, body: bytes) -> None:
    made = steps.create(api, image)
    api("POST", f"/containers/{made}/start", body=body, headers={"Content-Type": "application/json"}).expect(
        204
    )


def test_start_with_a_host_config_is_refused_since_1_24(api: Api, image: str) -> None:
    made = steps.create(api, image)
    answer = api("POST", f"/containers/{made}/start", json_body={"Binds": []}, version="v1.24").expect(400)
    assert answer.message == (
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
    )
    assert steps.status(api, made) == "created"


def test_start_with_a_host_config_before_1_24_configures(api: Api, image: str) -> None:
    made = steps.create(api, image, "sh", "-c", "test -e /from-start/passwd")
    body = {"Binds": ["/etc:/from-start:ro"]}
    api("POST", f"/containers/{made}/start", json_body=body, version="v1.23").expect(204)
    assert steps.wait_exit(api, made) == 0
    assert steps.inspect(api, made)["HostConfig"]["Binds"] == ["/etc:/from-start:ro"]


def test_start_with_a_bad_host_config_before_1_24(api: Api, image: str) -> None:
    made = steps.create(api, image)
    start = f"/containers/{made}/start"
    api("POST", start, json_body={"Binds": "text"}, version="v1.23").expect(400)
    api("POST", start, json_body={"SecurityOpt": ["nonsense"]}, version="v1.23").expect(400)
    assert steps.status(api, made) == "created"


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [(["nosuch"], 127, "executable file not found"), (["/etc/passwd"], 126, "permission denied")],
)
def test_start_of_what_cannot_run(api: Api, image: str, command: list[str], code: int, text: str) -> None:
    made = steps.create(api, image, *command)
    answer = api("POST", f"/containers/{made}/start").expect(400)
    assert text in answer.message.lower()
    state = steps.inspect(api, made)["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", code)
    assert text in state["Error"].lower()


# --- stop, kill, restart, pause ---------------------------------------------------------------------------


def test_stop(api: Api, image: str) -> None:
    made = steps.start_trapping(api, image, "'exit 5' TERM")
    api("POST", f"/containers/{made}/stop").expect(204)
    assert steps.inspect(api, made)["State"]["ExitCode"] == 5
    api("POST", f"/containers/{made}/stop").expect(304)


def test_stop_kills_what_does_not_listen(api: Api, image: str) -> None:
    made = steps.start_trapping(api, image, "'' TERM")
    begin = time.monotonic()
    api("POST", f"/containers/{made}/stop", t=1).expect(204)
    assert 0.9 < time.monotonic() - begin < 8
    assert steps.inspect(api, made)["State"]["ExitCode"] == 137


def test_stop_with_a_signal(api: Api, image: str) -> None:
    made = steps.start_trapping(api, image, "'exit 7' USR1")
    api("POST", f"/containers/{made}/stop", signal="SIGUSR1").expect(204)
    assert steps.inspect(api, made)["State"]["ExitCode"] == 7


@pytest.mark.parametrize(("name", "value"), [("t", "soon"), ("t", "1.5"), ("signal", "SIGNOTHING")])
def test_stop_refuses_bad_values(api: Api, image: str, name: str, value: str) -> None:
    made = steps.start(api, image)
    api("POST", f"/containers/{made}/stop", **{name: value}).expect(400)
    assert steps.status(api, made) == "running"


def test_kill(api: Api, image: str) -> None:
    made = steps.start(api, image)
    api("POST", f"/containers/{made}/kill").expect(204)
    assert steps.wait_exit(api, made) == 137
    answer = api("POST", f"/containers/{made}/kill").expect(409)
    assert answer.message.endswith(f"container {made} is not running")


def test_kill_with_a_signal(api: Api, image: str) -> None:
    made = steps.start_trapping(api, image, "'exit 9' HUP")
    api("POST", f"/containers/{made}/kill", signal="hup").expect(204)
    assert steps.wait_exit(api, made) == 9


@pytest.mark.parametrize("signal", ["NOTHING", "0", "999", "-1"])
def test_kill_refuses_unknown_signals(api: Api, image: str, signal: str) -> None:
    made = steps.start(api, image)
    assert "signal" in api("POST", f"/containers/{made}/kill", signal=signal).expect(400).message.lower()
    assert steps.status(api, made) == "running"


def test_restart(api: Api, image: str) -> None:
    made = steps.start(api, image)
    before = steps.inspect(api, made)["State"]
    api("POST", f"/containers/{made}/restart", t=0).expect(204)
    after = steps.inspect(api, made)["State"]
    assert after["Status"] == "running"
    assert after["Pid"] != before["Pid"]
    assert after["StartedAt"] > before["StartedAt"]


def test_pause_and_unpause(api: Api, image: str) -> None:
    made = steps.start(api, image)
    assert "is not paused" in api("POST", f"/containers/{made}/unpause").expect(409).message
    api("POST", f"/containers/{made}/pause").expect(204)
    state = steps.inspect(api, made)["State"]
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    assert "is already paused" in api("POST", f"/containers/{made}/pause").expect(409).message
    api("POST", f"/containers/{made}/unpause").expect(204)
    assert steps.status(api, made) == "running"


def test_pause_of_what_does_not_run(api: Api, image: str) -> None:
    made = steps.create(api, image)
    assert "is not running" in api("POST", f"/containers/{made}/pause").expect(409).message


# --- wait -------------------------------------------------------------------------------------------------


def test_wait_sends_its_header_before_it_waits(api: Api, image: str) -> None:
    made = steps.start(api, image)
    with api.stream("POST", f"/containers/{made}/wait") as waiting:
        assert waiting.status == 200
        assert waiting.headers["Content-Type"] == "application/json"
        assert steps.status(api, made) == "running"
        api("POST", f"/containers/{made}/kill").expect(204)
        assert waiting.read() == b'{"StatusCode":137}\n'


def test_wait_for_the_next_exit(api: Api, image: str) -> None:
    made = steps.create(api, image, "sh", "-c", "exit 4")
    with api.stream("POST", f"/containers/{made}/wait", condition="next-exit") as waiting:
        api("POST", f"/containers/{made}/start").expect(204)
        assert waiting.read() == b'{"StatusCode":4}\n'


def test_wait_for_removal(api: Api, image: str) -> None:
    made = steps.start_trapping(api, image, "'exit 6' TERM", HostConfig={"AutoRemove": True})
    with api.stream("POST", f"/containers/{made}/wait", condition="removed") as waiting:
        api("POST", f"/containers/{made}/kill", signal="TERM").expect(204)
        assert waiting.read() == b'{"StatusCode":6}\n'
    api("GET", f"/containers/{made}/json").expect(404)


def test_wait_of_a_stopped_container_is_over_at_once(api: Api, image: str) -> None:
    made = steps.create(api, image)
    answer = api("POST", f"/containers/{made}/wait").expect(200)
    schema.check_answer("POST", f"/containers/{made}/wait", 200, answer.json)
    assert answer.json["StatusCode"] == 0


def test_wait_refuses_unknown_conditions(api: Api, image: str) -> None:
    made = steps.create(api, image)
    answer = api("POST", f"/containers/{made}/wait", condition="bored").expect(400)
    assert answer.message == 'invalid condition: "bored"'


def test_a_waiter_that_hangs_up_is_forgotten(api: Api, image: str) -> None:
    made = steps.start(api, image)
    waits = [api.stream("POST", f"/containers/{made}/wait") for _ in range(20)]
    for waiting in waits:
        waiting.close()
    api("POST", f"/containers/{made}/kill").expect(204)
    assert steps.wait_exit(api, made) == 137


# --- update, resize, top, remove, prune -------------------------------------------------------------------


def test_update(api: Api, image: str) -> None:
    made = steps.start(api, image)
    body = {
        "Memory": 64 << 20,
        "MemorySwap": 64 << 20,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
    }
    answer = api("POST", f"/containers/{made}/update", json_body=body).expect(200)
    schema.check_answer("POST", f"/containers/{made}/update", 200, answer.json)
    config = steps.inspect(api, made)["HostConfig"]
    assert config["Memory"] == 64 << 20
    assert config["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}


@pytest.mark.parametrize(
    "body", [{"Memory": 1000}, {"Memory": "much"}, {"RestartPolicy": {"Name": "sometimes"}}]
)
def test_update_refuses_bad_values(api: Api, image: str, body: dict[str, object]) -> None:
    made = steps.create(api, image)
    api("POST", f"/containers/{made}/update", json_body=body).expect(400)


@pytest.mark.parametrize("query", [{}, {"h": 5}, {"h": "x", "w": 1}, {"h": -1, "w": 1}, {"h": 70000, "w": 1}])
def test_resize_refuses_bad_sizes(api: Api, image: str, query: dict[str, object]) -> None:
    made = steps.start(api, image, Tty=True)
    api("POST", f"/containers/{made}/resize", **query).expect(400)


def test_resize(api: Api, image: str) -> None:
    until_resized = 'until [ "$(stty size)" = "33 77" ]; do sleep 0.01; done'
    made = steps.start(api, image, "sh", "-c", until_resized, Tty=True)
    api("POST", f"/containers/{made}/resize", h=33, w=77).expect(200)
    assert steps.wait_exit(api, made) == 0


def test_top(api: Api, image: str) -> None:
    made = steps.start(api, image)
    answer = api("GET", f"/containers/{made}/top").expect(200)
    schema.check_answer("GET", f"/containers/{made}/top", 200, answer.json)
    assert "PID" in answer.json["Titles"]
    [process] = answer.json["Processes"]
    assert process[-1] == "sleep 1000"
    assert api("GET", f"/containers/{made}/top", ps_args="-o pid,comm").expect(200).json["Titles"][0] == "PID"
    api("GET", f"/containers/{made}/top", ps_args="-o comm").expect(400)


def test_top_of_what_does_not_run(api: Api, image: str) -> None:
    made = steps.create(api, image)
    assert "is not running" in api("GET", f"/containers/{made}/top").expect(409).message


def test_remove_of_a_running_container(api: Api, image: str) -> None:
    made = steps.start(api, image, name="busy")
    answer = api("DELETE", f"/containers/{made}").expect(409)
    assert answer.message.startswith('cannot remove container "/busy": container is running')
    api("DELETE", f"/containers/{made}", force=True).expect(204)
    api("GET", f"/containers/{made}/json").expect(404)


def test_remove_refuses_bad_values(api: Api, image: str) -> None:
    made = steps.create(api, image)
    assert 'for "force"' in api("DELETE", f"/containers/{made}", force="perhaps").expect(400).message
    assert steps.status(api, made) == "created"


def test_prune(api: Api, image: str) -> None:
    kept = steps.create(api, image, Labels={"keep": "me"})
    running = steps.start(api, image)
    gone = steps.create(api, image)
    answer = api("POST", "/containers/prune", filters={"label!": ["keep"]}).expect(200)
    schema.check_answer("POST", "/containers/prune", 200, answer.json)
    assert answer.json["ContainersDeleted"] == [gone]
    assert {c["Id"] for c in api("GET", "/containers/json", all=True).json} == {kept, running}
    api("POST", "/containers/prune", filters={"colour": ["red"]}).expect(400)
    api("POST", "/containers/prune", filters="{").expect(400)


def test_a_client_that_hangs_up_does_not_cancel_a_start(api: Api, image: str) -> None:
    made = steps.create(api, image)
    connection = UnixConnection(api.path)
    api.send(connection, "POST", f"/containers/{made}/start", None, None, None, "v1.51", {})
    connection.close()
    steps.until(lambda: steps.status(api, made) == "running")
