"""Sync, pure. The plugin that turns unexpected skips into failures, run on a suite of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

EXPECTED = "import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('needs a docker CLI')\n"
UNEXPECTED = (
    "import pytest\ndef test_a(): pass\n@pytest.mark.skip(reason='flaky today')\ndef test_b(): pass\n"
)
WHOLE_FILE = "import pytest\npytest.importorskip('no_such_module_anywhere')\n"


def run(suite: str, directory: Path, *, ci: bool) -> subprocess.CompletedProcess[str]:
    (directory / "test_suite.py").write_text(suite)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.strictness",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        ".",
    ]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "CI": "true" if ci else ""}
    return subprocess.run(
        [*command, "test_suite.py"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("suite", "ci", "exit_code"),
    [
        pytest.param(EXPECTED, True, 0, id="a foreseen lack passes on CI"),
        pytest.param(UNEXPECTED, True, 1, id="a skip without a lack fails on CI"),
        pytest.param(UNEXPECTED, False, 0, id="and passes elsewhere"),
        pytest.param(WHOLE_FILE, True, 1, id="a file that skips itself fails on CI"),
    ],
)
def test_skips(suite: str, ci: bool, exit_code: int, tmp_path: Path) -> None:
    done = run(suite, tmp_path, ci=ci)
    assert done.returncode == exit_code, done.stdout
    assert ("unexpected skips" in done.stdout) == (exit_code == 1)
