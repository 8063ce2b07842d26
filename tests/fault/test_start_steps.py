"""Every step of a start fails, is cancelled, or sees the daemon killed: nothing is left, all is told once."""

import pytest

from tests.fault.conftest import STEPS, UNDOS, SabotagedDaemon

POINTS = [(when, step) for step in STEPS for when in ("before", "after")]
UNDONE = [point for point in POINTS if point != ("after", "record")]
"""After the last step the start has happened: an error there undoes nothing."""
TOO_LATE = (("after", "start"), ("before", "record"))
"""The command runs already: a cancellation waits until that is on record."""


def works_again(daemon: SabotagedDaemon, container_id: str) -> None:
    """The same container starts, runs and goes without a trace."""
    daemon.api("POST", f"/containers/{container_id}/start").expect(204)
    assert daemon.api("GET", f"/containers/{container_id}/json").expect(200).json["State"]["Running"]
    daemon.api("DELETE", f"/containers/{container_id}", force=True, v=True).expect(204)
    assert daemon.settle() == []


@pytest.mark.parametrize(
    ("how", "when", "step"),
    [
        (how, *point)
        for how in ("raise", "cancel")
        for point in UNDONE
        if not (how == "cancel" and point in TOO_LATE)
    ],
)
def test_a_step_that_fails_is_undone(sabotaged: SabotagedDaemon, how: str, when: str, step: str) -> None:
    container_id = sabotaged.create()
    sabotaged.order(how, when, step)
    answer = sabotaged.api("POST", f"/containers/{container_id}/start").expect(500)
    assert answer.message == ("sabotage" if how == "raise" else "cancelled")
    assert sabotaged.settle(container_id) == []
    state = sabotaged.api("GET", f"/containers/{container_id}/json").expect(200).json["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("created", 128, 0)
    assert state["Error"]
    assert sabotaged.told(container_id) == ["create", "die"]
    works_again(sabotaged, container_id)


@pytest.mark.parametrize(("when", "step"), TOO_LATE)
def test_a_cancellation_that_comes_too_late_changes_nothing(
    sabotaged: SabotagedDaemon, when: str, step: str
) -> None:
    container_id = sabotaged.create()
    sabotaged.order("cancel", when, step)
    sabotaged.api("POST", f"/containers/{container_id}/start").expect(204)
    assert sabotaged.told(container_id) == ["create", "start"]
    sabotaged.api("DELETE", f"/containers/{container_id}", force=True, v=True).expect(204)
    assert sabotaged.settle() == []


@pytest.mark.parametrize(("when", "step"), POINTS)
def test_the_daemon_is_killed_in_a_step(sabotaged: SabotagedDaemon, when: str, step: str) -> None:
    container_id = sabotaged.create()
    sabotaged.order("kill", when, step)
    with pytest.raises((ConnectionError, OSError)):
        sabotaged.api("POST", f"/containers/{container_id}/start")
    sabotaged.wait_for_death()
    sabotaged.start()
    state = sabotaged.api("GET", f"/containers/{container_id}/json").expect(200).json["State"]
    if (when, step) == ("after", "record"):
        assert state["Running"]
        assert sabotaged.told(container_id) == ["create", "start"]
        sabotaged.api("DELETE", f"/containers/{container_id}", force=True, v=True).expect(204)
        assert sabotaged.settle() == []
        return
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("created", 128, 0)
    assert sabotaged.settle(container_id) == []
    assert sabotaged.told(container_id) == ["create", "die"]
    works_again(sabotaged, container_id)


@pytest.mark.parametrize("name", UNDOS)
def test_an_undo_that_fails_leaves_its_piece_to_recovery(sabotaged: SabotagedDaemon, name: str) -> None:
    container_id = sabotaged.create()
    sabotaged.order("undo", "before", name)
    sabotaged.api("POST", f"/containers/{container_id}/start").expect(500)
    assert not sabotaged.order_path.exists(), "the undo never ran"
    sabotaged.restart()
    assert sabotaged.settle(container_id) == []
    works_again(sabotaged, container_id)


def test_auto_remove_is_honoured_by_a_start_that_fails(sabotaged: SabotagedDaemon) -> None:
    container_id = sabotaged.create(AutoRemove=True)
    sabotaged.order("raise", "before", "create")
    sabotaged.api("POST", f"/containers/{container_id}/start").expect(500)
    sabotaged.api("GET", f"/containers/{container_id}/json").expect(404)
    assert sabotaged.told(container_id) == ["create", "die", "destroy"]
    assert sabotaged.settle() == []
