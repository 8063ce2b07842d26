"""``proad --check``: a line a fact, each with a consequence, and an exit status that sums it up."""

from pathlib import Path

import pytest

from proad.check import Finding, Level, check, exit_code, print_findings, render
from proad.config import load
from proad.host import cgroup


def findings(tmp_path: Path, **flags: object) -> dict[str, Finding]:
    config = load({"data_root": str(tmp_path / "data"), "exec_root": str(tmp_path / "exec"), **flags})
    return {finding.name: finding for finding in check(config)}


def test_every_fact_has_a_value_and_a_consequence(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert {
        "kernel",
        "overlayfs",
        "pidfd",
        "cgroups",
        "runtime",
        "conmon",
        "nftables",
        "capabilities",
    } <= set(found)
    assert all(finding.value and finding.consequence for finding in found.values())


def test_each_finding_is_one_line(tmp_path: Path) -> None:
    found = list(findings(tmp_path).values())
    assert len(render(found).splitlines()) == len(found)


@pytest.mark.alone
def test_nothing_is_made(tmp_path: Path) -> None:
    links = sorted(Path("/sys/class/net").iterdir())
    findings(tmp_path)
    assert not list(tmp_path.iterdir())
    assert sorted(Path("/sys/class/net").iterdir()) == links


@pytest.mark.parametrize(
    ("levels", "code"),
    [
        ([Level.OK, Level.OK], 0),
        ([Level.OK, Level.ABSENT], 0),
        ([Level.ABSENT, Level.MISSING], 1),
    ],
)
def test_only_what_is_needed_fails_the_check(levels: list[Level], code: int) -> None:
    assert exit_code(Finding("x", level, "value", "then") for level in levels) == code


def test_a_runtime_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"data_root": str(tmp_path), "exec_root": str(tmp_path), "default_runtime": "/nowhere/runtime"}
    assert print_findings(load(flags)) == 1
    printed = capsys.readouterr().out
    assert "MISSING  runtime" in printed
    assert printed.splitlines()[-1].startswith("proad cannot run containers here")


def test_a_host_without_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cgroup.detect_layout
    monkeypatch.setattr(
        "proad.check.tools.detect_layout", lambda: real("25 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    )
    assert findings(tmp_path)["cgroups"].level is Level.MISSING


def test_a_data_root_that_overlayfs_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proad.check.tools.filesystem_of", lambda path: "nfs4")
    assert findings(tmp_path)["data root"].level is Level.MISSING
