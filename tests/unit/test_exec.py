"""Execs as values: requests, the OCI process, what runtimes say of failures, and how many are remembered."""

from pathlib import Path
from typing import Any

import pytest

from proad.engine import exectable
from proad.engine.exectable import ExecEntry, ExecTable
from proad.host.execprocess import ExecEnd, ExecProcess
from proad.host.process import ProcessId
from proad.host.runtime import exec_error
from proad.model import errors
from proad.model.exec import ExecConfig, parse_exec_create, parse_exec_start, process_spec
from proad.model.user import ProcessUser

PREFIX = "OCI runtime exec failed: exec failed: "


# --- requests -----------------------------------------------------------------------------------------------


def test_a_command_may_be_one_string() -> None:
    assert parse_exec_create(b'{"Cmd": "ls"}', (1, 51)).cmd == ("ls",)


def test_null_is_nothing() -> None:
    body = (
        b'{"Cmd": ["ls"], "Env": null, "User": null, "Tty": null, "ConsoleSize": null, "cOnsolesize": null}'
    )
    assert parse_exec_create(body, (1, 51)) == ExecConfig(cmd=("ls",))


@pytest.mark.parametrize(
    ("size", "version", "wanted"),
    [
        ("[30, 80]", (1, 42), (30, 80)),
        ("[30, 80]", (1, 41), None),
        ("[30]", (1, 42), (30, 0)),
        ("[30, 80, 7]", (1, 42), (30, 80)),
        ("[]", (1, 42), (0, 0)),
    ],
)
def test_console_size_of_create(size: str, version: tuple[int, int], wanted: tuple[int, int] | None) -> None:
    body = f'{{"Cmd": ["ls"], "ConsoleSize": {size}}}'.encode()
    assert parse_exec_create(body, version).console_size == wanted


def test_console_size_of_start_needs_a_terminal() -> None:
    assert parse_exec_start(b'{"Tty": true, "ConsoleSize": [1, 2]}', (1, 42)).console_size == (1, 2)
    assert parse_exec_start(b'{"Tty": false, "ConsoleSize": [1, 2]}', (1, 42)).console_size is None
    assert parse_exec_start(b'{"Tty": true, "ConsoleSize": [1, 2]}', (1, 41)).console_size is None


# --- the process --------------------------------------------------------------------------------------------

OWN = {
    "terminal": False,
    "user": {"uid": 0, "gid": 0, "additionalGids": [0]},
    "args": ["sleep", "1000"],
    "env": ["PATH=/bin", "HOSTNAME=h", "A=1"],
    "cwd": "/work",
    "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
    "noNewPrivileges": True,
    "apparmorProfile": "proa-default",
}


def spec(own: dict[str, Any] | None = None, user: ProcessUser | None = None, **config: Any) -> dict[str, Any]:
    asked = ExecConfig(**{"cmd": ("ls", "-l"), **config})
    return process_spec(own or OWN, asked, user, asked.console_size, {"CAP_KILL", "CAP_SYS_ADMIN"})


def test_it_inherits_what_is_not_asked_for() -> None:
    assert spec() == {**OWN, "args": ["ls", "-l"]}


def test_environment_on_top_of_the_containers() -> None:
    assert spec(env=("A=2", "B=3", "HOSTNAME"))["env"] == ["PATH=/bin", "A=2", "B=3"]


def test_a_terminal_has_a_term_and_nothing_else_has() -> None:
    with_terminal = {**OWN, "terminal": True, "env": ["PATH=/bin", "TERM=xterm"]}
    assert spec(tty=True)["env"] == ["TERM=xterm", "PATH=/bin", "HOSTNAME=h", "A=1"]
    assert spec(with_terminal)["env"] == ["PATH=/bin"]
    assert spec({**with_terminal, "env": ["TERM=vt100"]})["env"] == ["TERM=vt100"]
    assert spec(with_terminal, tty=True, env=("TERM=dumb",))["env"] == ["TERM=dumb", "PATH=/bin"]


def test_home_is_the_users_unless_set() -> None:
    user = ProcessUser(uid=7, gid=8, additional_gids=(8, 9), home="/home/u", name="u")
    assert spec(user=user)["env"][0] == "HOME=/home/u"
    assert spec(user=ProcessUser(uid=7))["env"][0] == "HOME=/"
    assert spec({**OWN, "env": ["HOME=/own"]}, user=user)["env"] == ["HOME=/own"]
    assert spec(user=user)["user"] == {"uid": 7, "gid": 8, "additionalGids": [8, 9]}


def test_capabilities_follow_the_user() -> None:
    bounded = {"bounding": ["CAP_KILL"]}
    assert spec(user=ProcessUser(uid=7))["capabilities"] == bounded
    assert spec({**OWN, "capabilities": bounded}, user=ProcessUser())["capabilities"] == OWN["capabilities"]


def test_privileged_means_all_that_is_held() -> None:
    everything = ["CAP_KILL", "CAP_SYS_ADMIN"]
    all_sets = {"bounding": everything, "effective": everything, "permitted": everything}
    assert spec(privileged=True)["capabilities"] == all_sets
    assert spec(privileged=True, user=ProcessUser(uid=7))["capabilities"] == {"bounding": everything}
    assert spec(privileged=True)["noNewPrivileges"] is True


def test_console_size() -> None:
    own = {**OWN, "consoleSize": {"height": 1, "width": 1}}
    assert "consoleSize" not in spec(own, console_size=(3, 4))
    assert spec(own, tty=True, console_size=(3, 4))["consoleSize"] == {"height": 3, "width": 4}
    assert "consoleSize" not in spec(own, tty=True, console_size=(0, 0))


# --- what runtimes say --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        (
            "executable file `no` not found in $PATH: No such file or directory", 127,
            'unable to start container process: exec: "no": executable file not found in $PATH: unknown',
        ),
        (
            'exec failed: unable to start container process: exec: "no": executable file not found in $PATH',
            127, 'unable to start container process: exec: "no": executable file not found in $PATH: unknown',
        ),
        (
            "open executable: Operation not permitted", 126,
            'unable to start container process: exec: "no": permission denied: unknown',
        ),
        (
            "exec: Exec format error", 126,
            "unable to start container process: exec no: exec format error: unknown",
        ),
        (
            "chdir `/x`: No such file or directory", 127,
            'unable to start container process: chdir to cwd ("/x") set in config.json failed: '
            "no such file or directory: unknown",
        ),
        (
            "chdir to `/x`: No such file or directory", 127,
            'unable to start container process: chdir to cwd ("/x") set in config.json failed: '
            "no such file or directory: unknown",
        ),
        (
            "the path `/etc` is not a regular file: Operation not permitted", 126,
            'unable to start container process: exec: "/etc": permission denied: unknown',
        ),
        ("something else", 128, "something else: unknown"),
    ],
)  # fmt: skip
def test_failures_in_dockers_words(said: str, code: int, text: str) -> None:
    error = exec_error(said, "no")
    assert (error.exit_code, error.message) == (code, PREFIX + text)


@pytest.mark.parametrize(
    ("code", "last_words", "judged"),
    [
        (1, b"exec: Exec format error\n", 126),
        (1, b"\x1b[1;31m2026-01-01T00:00:00Z: exec: Exec format error\x1b[0m\r\n", 126),
        (1, b"exec: No such file or directory\n", 127),
        (1, b"sh: exec: line 0: /bad: Exec format error\n", 1),
        (1, b"exec: Exec format error\nand more\n", 1),
        (1, b"", 1),
        (2, b"exec: Exec format error\n", 2),
    ],
)
def test_a_refusal_on_stderr_alone(tmp_path: Path, code: int, last_words: bytes, judged: int) -> None:
    """It is crun's only if it is all that was said, and the code is crun's as well."""
    process = ExecProcess(tmp_path / "no", ProcessId(0, 0), "/bad")
    end = process.judged(ExecEnd(code), last_words)
    assert end.exit_code == judged
    assert (end.failure is None) == (code == judged)
    told = ExecEnd(1, errors.StartFailed("in its log", 1))
    assert process.judged(told, last_words) is told


# --- the table ----------------------------------------------------------------------------------------------


def entry(number: int, container: str = "c") -> ExecEntry:
    return ExecEntry(f"{number}", container, "run", ExecConfig(cmd=("ls",), env=("A=1",)))


def test_those_that_have_not_ended_are_a_containers() -> None:
    table = ExecTable()
    first, second, other = entry(1), entry(2), entry(3, "d")
    for each in (first, second, other):
        table.add(each)
    table.run(first)
    assert list(table.ids_of("c", "run")) == ["1", "2"]
    table.end(first, 5)
    assert list(table.ids_of("c", "run")) == ["2"]
    assert (table.find("1").exit_code, table.find("1").config.env) == (5, ())
    table.forget_container("c")
    with pytest.raises(errors.NotFound, match="No such exec instance: 1"):
        table.find("1")
    assert table.find("3") is other


def test_not_many_that_have_ended_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exectable, "MAX_ENDED", 3)
    monkeypatch.setattr(exectable, "MAX_CREATED", 3)
    table = ExecTable()
    for number in range(10):
        table.add(made := entry(number))
        table.run(made)
        table.end(made, 0)
    for number in range(10):
        table.add(entry(100 + number))
    known = [number for number in (*range(10), *range(100, 110)) if _knows(table, str(number))]
    assert known == [7, 8, 9, 107, 108, 109]


def test_those_that_have_ended_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    table = ExecTable()
    table.add(made := entry(1))
    table.run(made)
    table.end(made, 0)
    assert _knows(table, "1")
    made.ended_s -= exectable.KEPT_S + 1
    assert not _knows(table, "1")


def _knows(table: ExecTable, exec_id: str) -> bool:
    try:
        table.find(exec_id)
    except errors.NotFound:
        return False
    return True
