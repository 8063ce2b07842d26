"""`proa run` and its relatives against a real daemon: streams, exit codes, signals, terminals."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Proa, environment
from tests.cli.dialogue import Dialogue
from tests.support.daemon import Daemon

Terminal = Callable[..., Dialogue]
OFFLINE = ("--network", "none")


def test_the_exit_code_and_both_streams_are_the_containers(proa: Proa, image: str) -> None:
    said = proa("run", "--rm", *OFFLINE, image, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert said == (7, "out\n", "err\n")
    assert proa("ps", "-aq").out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--rm", *OFFLINE, "IMAGE", "no-such-program"], 127, "executable file not found in $PATH"),
        (["--rm", *OFFLINE, "IMAGE", "/etc/passwd"], 126, "permission denied"),
        (["--rm", *OFFLINE, "IMAGE", "/tmp"], 126, ""),
        (["--pull", "never", "no-such-image"], 125, "No such image: no-such-image:latest"),
        (["--name", "/bad/name", "IMAGE"], 125, "Invalid container name"),
        (["--no-such-flag", "IMAGE"], 125, "unknown flag: --no-such-flag"),
        (["--gpus", "all", "IMAGE"], 125, "unknown flag: --gpus"),
        (["-m", "lots", "IMAGE"], 125, "invalid size: 'lots'"),
        (["-p", "x:80", "IMAGE"], 125, "invalid hostPort: x"),
        (["--rm", "--restart", "always", "IMAGE"], 125, "--restart and --rm"),
        (["-d", "-a", "stdout", "IMAGE"], 1, "--attach and --detach"),
        (["-it", "IMAGE"], 1, "the input device is not a TTY"),
        ([], 1, "'proa run' requires at least 1 argument"),
    ],
)
def test_failures_have_dockers_exit_codes(
    proa: Proa, image: str, arguments: list[str], code: int, words: str
) -> None:
    said = proa("run", *(image if argument == "IMAGE" else argument for argument in arguments))
    assert said.code == code
    assert words in said.err
    assert "Traceback" not in said.err
    assert proa("ps", "-aq").out == "" or arguments[0] != "--rm"


def test_a_signals_death_is_128_and_its_number(daemon: Daemon, proa: Proa, image: str) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "proa",
            "run",
            "--name",
            "doomed",
            *OFFLINE,
            image,
            "sh",
            "-c",
            "echo up; sleep 1000",
        ],
        stdout=subprocess.PIPE,
        env=environment(daemon.url),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    proa("kill", "doomed")
    assert process.wait(20) == 137


def test_stdin_goes_in_and_its_end_too(proa: Proa, image: str) -> None:
    assert proa("run", "--rm", "-i", *OFFLINE, image, "cat", input=b"hello") == (0, "hello", "")


def test_a_filter_may_write_more_than_any_buffer_holds(proa: Proa, image: str) -> None:
    size = 8 << 20
    said = proa("run", "--rm", "-i", *OFFLINE, image, "sh", "-c", "cat | tee /dev/stderr", input=b"x" * size)
    assert (said.code, len(said.out), len(said.err)) == (0, size, size)


def test_flags_behind_the_image_are_the_commands(proa: Proa, image: str) -> None:
    assert proa("run", "--rm=true", *OFFLINE, image, "echo", "--rm=false", "-it").out == "--rm=false -it\n"


SHOW = (
    "echo $A $FILE $FROM_OUTSIDE; pwd; id -u; id -g; hostname; cat /data/name; grep -c scratch /proc/mounts"
)


def test_what_is_asked_for_is_what_the_process_gets(proa: Proa, image: str, tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("# comment\nFILE=1\nFROM_OUTSIDE\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "name").write_text("content")
    said = proa(
        *("run", "--rm", *OFFLINE, "-e", "A=b c", "--env-file", str(env_file), "-w", "/tmp", "-u", "1:2"),
        *(
            "-h",
            "box",
            "-v",
            f"{tmp_path}/data:/data:ro",
            "--tmpfs",
            "/scratch:size=1m",
            "--entrypoint",
            "sh",
        ),
        *("--mount", "type=volume,dst=/volume", "--label", "l=1", image),
        *(
            "-c",
            SHOW,
        ),
        FROM_OUTSIDE="out",
    )
    assert said == (0, "b c 1 out\n/tmp\n1\n2\nbox\ncontent1\n", "")


def test_detached_it_prints_the_id_and_writes_it_to_the_file(proa: Proa, image: str, tmp_path: Path) -> None:
    cid = tmp_path / "cid"
    said = proa("run", "-d", "--name", "sleeper", "--cidfile", str(cid), *OFFLINE, image, "sleep", "1000")
    assert said.code == 0
    assert len(said.out.strip()) == 64
    assert cid.read_text() == said.out.strip()
    again = proa("run", "-d", "--cidfile", str(cid), image)
    assert again.code == 125
    assert "container ID file found" in again.err
    assert cid.exists()
    assert proa("run", "--cidfile", str(tmp_path / "new"), "--pull", "never", "no-such-image").code == 125
    assert not (tmp_path / "new").exists()


def test_create_start_wait_and_logs(proa: Proa, image: str) -> None:
    container_id = proa(
        "create", "--name", "made", *OFFLINE, image, "sh", "-c", "echo hi; exit 3"
    ).out.strip()
    assert proa("start", "-a", "made") == (3, "hi\n", "")
    assert proa("start", "made") == (0, "made\n", "")
    assert proa("wait", "made").out == "3\n"
    assert proa("logs", "-n", "1", container_id[:10]) == (0, "hi\n", "")
    missing = proa("start", "made", "missing")
    assert missing.code == 1
    assert "No such container: missing" in missing.err
    assert "failed to start containers: missing" in missing.err


def test_signals_are_the_containers(daemon: Daemon, proa: Proa, image: str) -> None:
    script = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [sys.executable, "-m", "proa", "run", "--rm", *OFFLINE, image, "sh", "-c", script],
        stdout=subprocess.PIPE,
        env=environment(daemon.url),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == b"got\n"
    assert process.wait(20) == 5


def test_without_sig_proxy_they_end_the_client_alone(daemon: Daemon, proa: Proa, image: str) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "proa", "run", "--sig-proxy=false", "--name", "stays", *OFFLINE, image),
            *("sh", "-c", "echo ready; sleep 1000"),
        ],
        stdout=subprocess.PIPE,
        env=environment(daemon.url),
        # A suite that runs in the background of a shell ignores SIGINT, and what it starts inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert proa("ps", "--format", "{{.Names}}").out == "stays\n"


def test_a_shell_on_a_terminal(terminal: Terminal, image: str) -> None:
    shell = terminal("run", "-it", "--rm", *OFFLINE, image, "sh", rows=31, columns=101)
    shell.expect("#")
    assert shell.is_raw()
    shell.type("stty size\n")
    shell.expect("31 101")
    shell.type("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo re''sized\n")
    shell.resize(40, 120)
    shell.expect("resized")
    shell.type("exit 9\n")
    assert shell.end() == 9
    assert not shell.is_raw()


def test_detaching_leaves_it_running_and_attaching_goes_on(
    proa: Proa, terminal: Terminal, image: str
) -> None:
    shell = terminal("run", "-it", "--name", "shell", *OFFLINE, image, "sh")
    shell.expect("#")
    shell.type("X=kept\n\x10\x11")
    assert shell.end() == 0
    assert proa("ps", "--format", "{{.Names}}").out == "shell\n"
    again = terminal("attach", "--detach-keys", "ctrl-a", "shell")
    again.type("echo $X\n")
    again.expect("kept")
    again.type("\x01")
    again.expect("read escape sequence")
    assert again.end() == 1
    last = terminal("attach", "shell")
    last.type("exit 4\n")
    assert last.end() == 4


def test_starting_attached_with_input(terminal: Terminal, proa: Proa, image: str) -> None:
    proa("create", "-it", "--name", "shell", *OFFLINE, image, "sh")
    shell = terminal("start", "-ai", "shell")
    shell.expect("#")
    shell.type("exit 6\n")
    assert shell.end() == 6


def test_attaching_to_what_does_not_run(proa: Proa, image: str) -> None:
    proa("create", "--name", "made", *OFFLINE, image)
    said = proa("attach", "made")
    assert said.code == 1
    assert "cannot attach to a stopped container" in said.err


def test_published_ports_are_shown_and_answer(proa: Proa, image: str) -> None:
    proa(
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1::80",
        image,
        "sh",
        "-c",
        "mkdir /w; httpd -f -p 80 -h /w",
    )
    address = proa("port", "web", "80").out.strip()
    assert address.startswith("127.0.0.1:")
    assert proa("port", "web").out == f"80/tcp -> {address}\n"
    assert f"{address}->80/tcp" in proa("ps").out
    missing = proa("port", "web", "90/udp")
    assert (missing.code, missing.err) == (1, "Error: No public port '90/udp' published for web\n")


def test_a_reader_that_has_had_enough_is_no_error(daemon: Daemon, proa: Proa, image: str) -> None:
    proa("run", "--name", "talker", *OFFLINE, image, "sh", "-c", "yes | head -c 1000000")
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "proa", "logs", "talker"],
        stdout=write,
        stderr=subprocess.PIPE,
        env=environment(daemon.url),
    )
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, complaint = process.communicate(timeout=20)
    assert complaint == b""
