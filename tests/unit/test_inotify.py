"""Sync. Alarms on files: each goes off once, and is forgotten with its file."""

from pathlib import Path

import pytest

from proad.host.inotify import DirectoryWatch, WriteAlarms
from proad.model import errors


def test_an_alarm_goes_off_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    alarms = WriteAlarms()
    number = alarms.set(first)
    assert alarms.set(first) == number  # one that is set already stays
    other = alarms.set(second)
    assert alarms.gone() == []
    first.write_text("x")
    first.write_text("y")
    assert {*alarms.gone()} == {(number, True), (number, False)}
    first.write_text("z")
    assert alarms.gone() == []
    second.unlink()
    assert alarms.gone() == [(other, False)]
    alarms.close()


def test_what_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    alarms = WriteAlarms()
    with pytest.raises(errors.System, match="No such file"):
        alarms.set(tmp_path / "none")
    alarms.close()
    with pytest.raises(errors.System, match="No such file"):
        DirectoryWatch(tmp_path / "none")
