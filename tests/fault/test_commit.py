"""A commit, broken at every transaction by the death of the daemon: the container runs on unpaused, there is
a whole image or none, and no work in progress stays on the disk.
"""

from collections.abc import Iterator

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon
from tests.fault.crash import AFTER, killed_at, make, moments, post, remove, state_of, sweep

WRITES = ["sh", "-c", "echo x >/x; echo done; sleep 1000"]


@pytest.fixture(autouse=True)
def swept(sabotaged: SabotagedDaemon) -> Iterator[None]:
    yield
    sweep(sabotaged)
    sabotaged.api("DELETE", "/images/made", force=True)


def writer(daemon: SabotagedDaemon) -> str:
    made = make(daemon, *WRITES)
    post(daemon, f"/containers/{made}/start").expect(204)
    steps.until(lambda: b"done" in daemon.api("GET", f"/containers/{made}/logs", stdout=True).body)
    return made


@pytest.mark.parametrize(("when", "commit"), moments(4))
def test_a_commit(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The intent to pause, the pause, its end, the image."""
    layers = set((sabotaged.data_root / "layers").iterdir())
    made = writer(sabotaged)
    with killed_at(sabotaged, when, commit):
        post(sabotaged, "/commit", container=made, repo="made")
    assert state_of(sabotaged, made)["Status"] == "running"
    known = (when, commit) == (AFTER, 4)
    assert sabotaged.api("GET", "/images/made/json").status == (200 if known else 404)
    assert list((sabotaged.data_root / "tmp").iterdir()) == []
    assert len(set((sabotaged.data_root / "layers").iterdir()) - layers) == known
    told = [action for action in sabotaged.told(made) if action in ("pause", "unpause", "commit")]
    assert told in ([], ["pause", "unpause"], ["pause", "unpause", "commit"])
    assert ("commit" in told) == known
    post(sabotaged, "/commit", container=made, repo="made").expect(201)
    remove(sabotaged, made)


@pytest.mark.parametrize("commit", [1, 2, 3, 4])
def test_a_transaction_that_fails(sabotaged: SabotagedDaemon, commit: int) -> None:
    made = writer(sabotaged)
    sabotaged.order("raise", "before", f"commit {commit}")
    answer = post(sabotaged, "/commit", container=made, repo="made")
    assert answer.status in (201, 500)
    sabotaged.order_path.unlink(missing_ok=True)
    steps.until(lambda: state_of(sabotaged, made)["Status"] in ("running", "paused"))
    if state_of(sabotaged, made)["Status"] == "paused":  # taking the pause off is what failed
        post(sabotaged, f"/containers/{made}/unpause").expect(204)
    assert list((sabotaged.data_root / "tmp").iterdir()) == []
    post(sabotaged, "/commit", container=made, repo="made").expect(201)
    remove(sabotaged, made)
