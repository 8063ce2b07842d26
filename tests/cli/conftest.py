"""Fixtures of the client's tests: the `proa` command as a process of its own, on pipes or on a terminal."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import proa as proa_api
from tests.cli.dialogue import Dialogue
from tests.support.daemon import Daemon


class Said(NamedTuple):
    """What a command printed and exited with."""

    code: int
    out: str
    err: str


Proa = Callable[..., Said]


def environment(host: str) -> dict[str, str]:
    """The environment of a command that talks to `host` and nobody else."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PROA_", "DOCKER_"))}
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
