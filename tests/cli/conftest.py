"""Fixtures of the client's tests: the `proa` command as a process of its own, on pipes or on a terminal."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import proa as proa_api
from tests.cli.dialogue import Dialogue
from tests.cli.recorder import Both, Outcome, Recorder, recording
from tests.conftest import find_docker_cli
from tests.support.daemon import Daemon


class Said(NamedTuple):
    """What a command printed and exited with."""

    code: int
    out: str
    err: str


Proa = Callable[..., Said]
CONFIG = {"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "reg:5000": {"auth": "Yzpk"}}}
"""Docker's configuration file, as `both` finds it."""


def environment(host: str) -> dict[str, str]:
    """The environment of a command that talks to `host` and nobody else."""
    foreign = ("PROA_", "DOCKER_")
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(foreign) or key == "DOCKER_CONFIG"
    }
    return {**kept, "PROA_HOST": host, "TERM": "xterm", "COLUMNS": "100"}


def run_proa(
    host: str, *arguments: str, input: bytes | None = None, timeout_s: float = 60.0, **env: str
) -> Said:
    """Run `proa` to its end, its stdin empty unless `input` is given."""
    completed = subprocess.run(
        [sys.executable, "-m", "proa", *arguments],
        input=input if input is not None else b"",
        capture_output=True,
        env={**environment(host), **env},
        timeout=timeout_s,
        check=False,
    )
    return Said(completed.returncode, completed.stdout.decode(), completed.stderr.decode())


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's configuration file is the test's own; it is not there yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))
    return tmp_path / "docker-config" / "config.json"


@pytest.fixture
def proa(daemon: Daemon, clean: None) -> Proa:
    """Run the command against `daemon`: `proa("run", "--rm", image, "true")`."""

    def run(*arguments: str, **more: object) -> Said:
        return run_proa(daemon.url, *arguments, **more)  # type: ignore[arg-type]

    return run


@pytest.fixture
def terminal(daemon: Daemon, clean: None) -> Iterator[Callable[..., Dialogue]]:
    """Run the command on a terminal: `terminal("run", "-it", image, "sh")` gives a Dialogue."""
    begun: list[Dialogue] = []

    def begin(*arguments: str, rows: int = 24, columns: int = 80) -> Dialogue:
        dialogue = Dialogue(
            [sys.executable, "-m", "proa", *arguments], environment(daemon.url), rows=rows, columns=columns
        )
        begun.append(dialogue)
        return dialogue

    yield begin
    for each in begun:
        each.close()


@pytest.fixture
def client(daemon: Daemon, clean: None) -> Iterator[proa_api.Client]:
    """The Python API, connected to `daemon`."""
    with proa_api.connect(daemon.url) as connected:
        yield connected


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A root filesystem with busybox, as a tar archive."""
    from tests.support.images import busybox_tar

    path = tmp_path / "rootfs.tar"
    path.write_bytes(busybox_tar())
    return path


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recording() as made:
        yield made


@pytest.fixture
def both(recorder: Recorder, docker_config: Path) -> Both:
    """Run docker, then proa, with the same words, the same files and the same answers of the daemon."""
    docker = find_docker_cli()
    docker_config.parent.mkdir()
    recorder.take()

    programs = {"docker": [docker], "proa": [sys.executable, "-m", "proa"]}

    def run(
        *words: str, whose: str = "", input: bytes = b"", cwd: Path | None = None, **environ: str
    ) -> tuple[Outcome, ...]:
        outcomes = []
        for program in [programs[whose]] if whose else programs.values():
            docker_config.write_text(json.dumps(CONFIG))
            env = {
                **environment(recorder.host),
                "DOCKER_HOST": recorder.host,
                "DOCKER_CLI_HINTS": "false",
                "DOCKER_BUILDKIT": "0",
                **environ,
            }
            answers = list(recorder.answers)
            ended = subprocess.run(
                [*program, *words],
                env=env,
                input=input,
                capture_output=True,
                cwd=cwd,
                timeout=60,
                check=False,
            )
            recorder.answers = answers
            config = json.loads(docker_config.read_text())
            outcomes.append(Outcome(ended, recorder.take(), config))
        return tuple(outcomes)

    return run
