"""The other commands against a real daemon."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Proa, environment, run_proa
from tests.cli.dialogue import Dialogue
from tests.support.daemon import Daemon

Terminal = Callable[..., Dialogue]


@pytest.fixture
def sleeper(proa: Proa, image: str) -> str:
    """A running container."""
    script = "trap 'exit 0' TERM; echo out; echo err >&2; while :; do sleep 0.1; done"
    said = proa("run", "-d", "--name", "sleeper", "--network", "none", "-l", "a=b", image, "sh", "-c", script)
    assert said.code == 0, said.err
    return "sleeper"


def test_the_list_of_containers(proa: Proa, sleeper: str, image: str) -> None:
    proa("create", "--name", "idle", image)
    titles, row = proa("ps").out.splitlines()
    assert titles.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert row.endswith("sleeper")
    assert proa("ps", "-a", "--format", "{{.Names}} {{.State}}").out == "idle created\nsleeper running\n"
    assert proa("container", "ls", "-a", "-f", "name=idle", "--format", "{{.Names}}").out == "idle\n"
    assert proa("ps", "-l", "--format", "{{.Names}}").out == "idle\n"
    assert json.loads(proa("ps", "--format", "json").out)["Labels"] == "a=b"
    assert "virtual" in proa("ps", "-s").out
    refused = proa("ps", "-f", "nonsense=1")
    assert refused.code == 1
    assert "Error response from daemon" in refused.err


def test_colours_only_on_a_terminal(proa: Proa, terminal: Terminal, sleeper: str) -> None:
    assert "\x1b" not in proa("ps").out
    on_terminal = terminal("ps")
    on_terminal.expect("\x1b[1mCONTAINER ID\x1b[0m")
    on_terminal.expect("\x1b[32mUp")
    assert on_terminal.end() == 0


def test_the_short_verbs(proa: Proa, sleeper: str) -> None:
    assert proa("pause", sleeper) == (0, "sleeper\n", "")
    assert "(Paused)" in proa("ps").out
    assert proa("unpause", sleeper).out == "sleeper\n"
    assert proa("rename", sleeper, "renamed") == (0, "", "")
    assert proa("restart", "-t", "1", "renamed").out == "renamed\n"
    assert proa("update", "--restart", "on-failure:3", "renamed").out == "renamed\n"
    policy = "{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}"
    assert proa("inspect", "-f", policy, "renamed").out == "on-failure:3\n"
    assert "sleep 0.1" in proa("top", "renamed", "-o", "pid,args").out
    refused = proa("rm", "renamed")
    assert refused.code == 1
    assert "container is running" in refused.err
    assert proa("stop", "-t", "5", "renamed").out == "renamed\n"
    assert proa("start", "renamed").code == 0
    assert proa("kill", "-s", "KILL", "renamed").out == "renamed\n"
    assert proa("wait", "renamed").out == "137\n"
    assert proa("rm", "-v", "renamed").out == "renamed\n"
    assert proa("rm", "-f", "renamed").code == 0


def test_several_at_once(proa: Proa, image: str) -> None:
    for name in ("one", "two"):
        proa("run", "-d", "--name", name, "--network", "none", image, "sleep", "1000")
    said = proa("rm", "-f", "one", "two")
    assert said == (0, "one\ntwo\n", "")
    some = proa("kill", "one", "two")
    assert some.code == 1
    assert len(some.err.splitlines()) == 2


def test_logs(proa: Proa, sleeper: str, daemon: Daemon) -> None:
    assert proa("logs", sleeper) == (0, "out\n", "err\n")
    stamped = proa("logs", "-t", sleeper).out
    assert stamped.endswith(" out\n")
    assert proa("logs", "--until", "2001-01-01", sleeper) == (0, "", "")
    assert proa("logs", "--since", "1h", "-n", "0", sleeper) == (0, "", "")
    assert "is not a time" in proa("logs", "--since", "x", sleeper).err
    follower = subprocess.Popen(
        [sys.executable, "-m", "proa", "logs", "-f", sleeper],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(daemon.url),
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"out\n"
    proa("kill", sleeper)
    assert follower.stdout.read() == b""
    assert follower.wait(20) == 0


def test_followed_logs_outlive_the_daemon(make_daemon: Callable[..., Daemon]) -> None:
    """Killed or restarted, with the container writing on: no line is missing, doubled or cut."""
    daemon = make_daemon().start()
    image = daemon.import_busybox()
    script = "i=0; while :; do i=$((i+1)); echo out $i; echo err $i >&2; usleep 2000; done"
    run_proa(daemon.url, "run", "-d", "--name", "talker", "--network", "none", image, "sh", "-c", script)
    follower = subprocess.Popen(
        [sys.executable, "-m", "proa", "logs", "-f", "talker"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(daemon.url),
        bufsize=0,  # communicate() does not know of what a readline() has read ahead
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"out 1\n"
    daemon.kill()
    daemon.start()
    time.sleep(0.2)
    daemon.restart()
    time.sleep(0.2)
    run_proa(daemon.url, "kill", "talker")
    out, err = follower.communicate(timeout=30)
    assert follower.returncode == 0
    outs = [line for line in err.splitlines() if b"daemon broke" in line]
    assert len(outs) == 2
    rest = [line for line in err.splitlines() if b"daemon broke" not in line]
    for said, word, first in ((out.splitlines(), b"out", 2), (rest, b"err", 1)):
        assert said == [b"%s %d" % (word, number) for number in range(first, first + len(said))]
        assert len(said) > 100
    daemon.remove_containers()


def test_events(proa: Proa, image: str) -> None:
    begin = str(time.time())
    proa("run", "--rm", "--name", "short", "--network", "none", image, "sh", "-c", "exit 3")
    until = str(time.time() + 0.01)
    window = ("--since", begin, "--until", until, "--filter", "container=short")
    actions = proa("events", *window, "--format", "{{.Action}}").out.split()
    told = [action for action in actions if action in ("create", "start", "die", "destroy")]
    assert told == ["create", "start", "die", "destroy"]
    lines = proa("events", *window, "--filter", "event=die").out.splitlines()
    assert len(lines) == 1
    assert " container die " in lines[0]
    assert "exitCode=3" in lines[0]
    event = json.loads(proa("events", *window, "--filter", "event=die", "--format", "json").out)
    assert event["Actor"]["Attributes"]["name"] == "short"


def test_inspect(proa: Proa, sleeper: str, image: str) -> None:
    (details,) = json.loads(proa("inspect", sleeper).out)
    assert details["Name"] == "/sleeper"
    found = proa("inspect", sleeper, image, "no-such-thing")
    assert found.code == 1
    assert found.err == "Error: No such object: no-such-thing\n"
    assert len(json.loads(found.out)) == 2
    form = "{{.State.Status}} {{len .Config.Cmd}} {{json .Config.Labels}}"
    assert proa("inspect", "-f", form, sleeper).out == 'running 3 {"a":"b"}\n'
    wrong = proa("inspect", "-f", "{{.Nope}}", sleeper)
    assert (wrong.code, wrong.err) == (1, 'failed to execute template: map has no entry for key "Nope"\n')
    assert proa("inspect", "--type", "image", sleeper).code == 1
    assert json.loads(proa("image", "inspect", image).out)[0]["RepoTags"] == [image]


def test_the_steps_of_a_start(proa: Proa, image: str) -> None:
    proa("create", "--name", "timed", "--network", "none", image, "true")
    assert "no measured start" in proa("inspect", "--timeline", "timed").out
    shown = proa("start", "--timeline", "timed").out
    assert shown.startswith("timed\ntimed: started in ")
    assert "rootfs" in shown
    assert "█" in shown or "▏" in shown
    assert "STEP" in proa("container", "inspect", "--timeline", "timed").out


def test_images(proa: Proa, image: str, archive: Path) -> None:
    titles, row = proa("images", image).out.splitlines()
    assert titles.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert row.split()[:2] == image.split(":")
    assert proa("tag", image, "other/name:v1") == (0, "", "")
    assert proa("images", "-q", "other/name").out == proa("images", "-q", image).out
    assert proa("rmi", "other/name:v1").out == "Untagged: other/name:v1\n"
    imported = proa("import", "-c", 'CMD ["true"]', "-m", "said", str(archive), "imported:x")
    assert imported.out.startswith("sha256:")
    assert "said" in proa("history", "imported:x").out
    assert proa("run", "--rm", "--network", "none", "imported:x").code == 0
    assert "deleted: sha256:" in proa("rmi", "imported:x").out.lower()
    piped = proa("import", "-", input=archive.read_bytes())
    assert proa("images", "-q", "--no-trunc", "-f", "dangling=true").out == piped.out
    assert "Total reclaimed space" in proa("image", "prune", "-f").out
    missing = proa("rmi", "no-such-image")
    assert missing.code == 1
    assert "No such image: no-such-image:latest" in missing.err
    assert proa("import", "/does/not/exist").err == "open /does/not/exist: no such file or directory\n"


def test_load_refuses_what_is_no_archive(proa: Proa, image: str) -> None:
    said = proa("load", input=b"this is no archive" * 1000)
    assert said.code == 1
    assert "archive" in said.err
    missing = proa("load", "-i", "/does/not/exist")
    assert missing == (1, "", "open /does/not/exist: no such file or directory\n")


def test_a_large_upload_shows_its_progress(
    proa: Proa, terminal: Terminal, image: str, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"no archive" * (1 << 20))
    upload = terminal("load", "-i", str(path))
    upload.expect("Loading")
    upload.expect("MB/s")
    upload.expect("archive")
    assert upload.end() == 1


def test_volumes(proa: Proa, image: str) -> None:
    assert proa("volume", "create", "--label", "a=b", "data").out == "data\n"
    assert proa("volume", "ls", "-f", "label=a").out == "DRIVER    VOLUME NAME\nlocal     data\n"
    assert json.loads(proa("volume", "inspect", "data").out)[0]["Labels"] == {"a": "b"}
    proa("run", "-d", "--name", "user", "-v", "data:/data", "--network", "none", image, "sleep", "1000")
    busy = proa("volume", "rm", "data")
    assert busy.code == 1
    assert "volume is in use" in busy.err
    proa("rm", "-f", "user")
    assert proa("volume", "rm", "data").out == "data\n"
    assert proa("volume", "rm", "-f", "data").code == 0
    assert "no such volume" in proa("volume", "inspect", "data").err
    proa("run", "--name", "user", "-v", "/anonymous", "--network", "none", image, "true")
    proa("container", "prune", "-f")
    assert "Deleted Volumes:\n" in proa("volume", "prune", "-f").out


def test_the_daemon_about_itself(proa: Proa, daemon: Daemon, image: str, sleeper: str) -> None:
    assert "Server:\n Engine:\n" in proa("version").out
    assert proa("version", "-f", "{{.Client.ApiVersion}} {{.Server.ApiVersion}}").out == "1.51 1.51\n"
    assert "  Running: 1\n" in proa("info").out
    assert proa("system", "info", "-f", "{{.ContainersRunning}}").out == "1\n"
    usage = proa("system", "df").out.splitlines()
    assert [line.split()[0] for line in usage] == ["TYPE", "Images", "Containers", "Local", "Build"]
    assert "Containers space usage:" in proa("system", "df", "-v").out


def test_prune_asks_first(proa: Proa, image: str) -> None:
    proa("create", "--name", "idle", image)
    question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "
    assert proa("container", "prune", input=b"n\n") == (0, question, "")
    assert proa("ps", "-aq").out != ""
    pruned = proa("system", "prune", input=b"y\n")
    assert pruned.code == 0
    assert "Deleted Containers:\n" in pruned.out
    assert proa("ps", "-aq").out == ""


def test_completion_knows_the_names(proa: Proa, sleeper: str, daemon: Daemon) -> None:
    assert "_PROA_COMPLETE" in proa("completion", "bash").out

    def suggestions(*words: str) -> set[str]:
        said = run_proa(
            daemon.url,
            _PROA_COMPLETE="bash_complete",
            COMP_WORDS=" ".join(words),
            COMP_CWORD=str(len(words) - 1),
        )
        return {line.partition(",")[2] for line in said.out.splitlines()}

    assert "sleeper" in suggestions("proa", "stop", "sle")
    assert "sleeper" not in suggestions("proa", "start", "sle")
    assert "busybox:latest" in suggestions("proa", "run", "busy")
    assert suggestions("proa", "p") == {"pause", "port", "ps", "pull", "push"}
    assert "--detach" in suggestions("proa", "run", "--det")


def test_unknown_commands_and_arguments(proa: Proa, daemon: Daemon) -> None:
    said = proa("stopp")
    assert said.code == 1
    assert said.err.startswith("proa: unknown command: proa stopp (did you mean stop")
    assert proa("ps", "extra").err.startswith("proa: 'proa ps' accepts no arguments\n")
    assert proa("rename", "one").err.startswith("proa: 'proa rename' requires 2 arguments\n")
    assert proa("ps", "--nope").code == 125
    assert proa("--version").out.startswith("proa version ")
    assert proa().out.startswith("Usage: proa")
    assert proa("container").code == 0


def test_an_unknown_name_says_what_to_do(proa: Proa, daemon: Daemon) -> None:
    said = proa("stop", "nobody")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "Error response from daemon: No such container: nobody "
        "(`proa ps -a` lists the containers there are)\n"
    )


@pytest.mark.parametrize("command", [("ps",), ("run", "--rm", "busybox"), ("stop", "a", "b"), ("version",)])
def test_a_daemon_that_is_not_there_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    said = run_proa(f"unix://{tmp_path}/none.sock", *command)
    assert said.code == (125 if command[0] == "run" else 1)
    first = said.err.splitlines()[0]
    assert f"cannot connect to the daemon at unix://{tmp_path}/none.sock" in first
    assert "systemctl start proad" in first
    assert command[0] == "run" or len(said.err.splitlines()) == 1


def test_the_host_flag_wins(daemon: Daemon, tmp_path: Path) -> None:
    assert run_proa(f"unix://{tmp_path}/none", "-H", daemon.url, "ps").code == 0
    assert run_proa("", "ps", DOCKER_HOST=daemon.url).code == 0


def test_a_short_command_imports_only_what_it_needs(daemon: Daemon) -> None:
    """What makes `proa ps` quick; the time itself is for the bench to measure."""
    program = (
        "import sys; sys.argv = ['proa', 'ps']\n"
        "from proa.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*sorted(sys.modules))"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(daemon.url),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(completed.stdout.split())
    heavy = {
        "rich",
        "aiohttp",
        "asyncio",
        "http.client",
        "email",
        "ssl",
        "msgspec",
        "trio",
        "proad",
    }
    unneeded = heavy | {"proa.cli.text.template", "proa.cli.commands.run"}
    assert loaded & unneeded == set()
