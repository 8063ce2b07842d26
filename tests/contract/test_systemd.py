"""What systemd is asked, answered by a stand-in: no test takes its host down."""

from pathlib import Path

import pytest
import trio

from proad.host import systemd


def ask(tmp_path: Path, script: str) -> bool:
    stand_in = tmp_path / "systemctl"
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o755)

    async def main() -> bool:
        return await systemd.host_goes_down(booted=tmp_path, search_path=str(tmp_path))

    return trio.run(main)


def test_a_host_that_shuts_down_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    asked = '[ "$*" = is-system-running ] || exit 9; '
    assert ask(tmp_path, asked + "echo stopping; exit 1")
    for state in ("running", "degraded", "starting", "maintenance", "offline", "unknown", ""):
        assert not ask(tmp_path, asked + f"echo {state}; exit 1")


def test_no_answer_means_that_it_stays_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_ANSWER_S", 0.05)
    assert not ask(tmp_path, "exec sleep 60")


def test_without_systemd_nothing_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        assert not await systemd.host_goes_down(booted=tmp_path / "none", search_path=str(tmp_path))
        assert not await systemd.host_goes_down(booted=tmp_path, search_path=str(tmp_path))

    trio.run(main)
