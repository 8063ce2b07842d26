"""Sync, pure. The plugin that runs tests side by side, and some alone, on a suite of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import os, time
from pathlib import Path
import pytest

def stay(name):
    with open("said", "a") as said:
        said.write(f"+{name} {os.environ.get('PYTEST_XDIST_WORKER')}\\n")
        said.flush()
        time.sleep(0.1)
        said.write(f"-{name}\\n")

@pytest.mark.parametrize("number", range(4))
def test_beside(number): stay("beside")

@pytest.mark.alone
@pytest.mark.parametrize("number", range(2))
def test_alone(number): stay("alone")

def test_after(): stay("beside")
"""
DEADLY = "import os\ndef test_it(): os.kill(os.getpid(), 9)\ndef test_on(): pass\n"
WRONG = "import pytest\n@pytest.mark.alone\ndef test_wrong(): assert False\n"


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.alone",
        "-p",
        "tests.leaks",
        "-o",
        "markers=alone",
    ]
    command += ["--strict-markers", "-p", "no:cacheprovider", "--rootdir", ".", *arguments]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT}/daemon", "PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text(SUITE)
    return tmp_path


def test_those_that_want_it_are_alone_in_the_end_and_no_file_is_divided(suite: Path) -> None:
    done = run(suite, "-n", "3", "-v")
    assert done.returncode == 0, done.stdout
    assert "21 passed" in done.stdout
    said = [line.split() for line in (suite / "said").read_text().splitlines()]
    first = next(number for number, words in enumerate(said) if words[0] == "+alone")
    assert [words[0] for words in said[first:]] == ["+alone", "-alone"] * 6
    assert len({words[1] for words in said[first:] if len(words) == 2}) == 1
    for name in "abc":
        lines = [line for line in done.stdout.splitlines() if f"PASSED test_{name}.py::test_beside" in line]
        told = [line.split()[0] for line in lines]
        assert len(told) == 4
        assert len(set(told)) == 1


@pytest.mark.parametrize("arguments", [("-n", "2"), ()])
def test_failures_are_told_by_their_names(suite: Path, arguments: tuple[str, ...]) -> None:
    (suite / "test_wrong.py").write_text(WRONG)
    done = run(suite, *arguments)
    assert done.returncode == 1
    assert "FAILED test_wrong.py::test_wrong" in done.stdout
    assert "1 failed, 21 passed" in done.stdout


def test_one_by_itself(suite: Path) -> None:
    done = run(suite, "-n", "3", "test_a.py::test_alone[1]")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_worker_that_dies_is_replaced_and_told(suite: Path) -> None:
    (suite / "test_deadly.py").write_text(DEADLY)
    done = run(suite, "-n", "2")
    assert done.returncode == 1
    assert "crashed while running 'test_deadly.py::test_it'" in done.stdout
    assert "1 failed, 22 passed" in done.stdout
    said = (suite / "said").read_text().splitlines()
    first = next(number for number, line in enumerate(said) if line.startswith("+alone"))
    assert all("alone" in line for line in said[first:])
