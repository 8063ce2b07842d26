"""Restart policies and their delays."""

import pytest

from proad.model.hostconfig import RestartPolicy
from proad.model.restart import Backoff, restarts_after_exit, restarts_at_boot


@pytest.mark.parametrize(
    ("policy", "exit_code", "count", "by_user", "expected"),
    [
        ("no", 1, 0, False, False),
        ("", 1, 0, False, False),
        ("always", 0, 99, False, True),
        ("always", 1, 0, True, False),
        ("unless-stopped", 0, 0, False, True),
        ("unless-stopped", 0, 0, True, False),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 3, 99, False, True),
        ("on-failure", 3, 0, True, False),
    ],
)
def test_after_exit(policy: str, exit_code: int, count: int, by_user: bool, expected: bool) -> None:
    decided = restarts_after_exit(
        RestartPolicy(name=policy), exit_code=exit_code, restart_count=count, stopped_by_user=by_user
    )
    assert decided is expected


def test_on_failure_stops_after_its_tries() -> None:
    policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
    decided = [
        restarts_after_exit(policy, exit_code=1, restart_count=count, stopped_by_user=False)
        for count in range(4)
    ]
    assert decided == [True, True, False, False]


def test_at_boot() -> None:
    def at_boot(policy: str, *, was_running: bool = False, exit_code: int = 0, by_user: bool = False) -> bool:
        return restarts_at_boot(
            RestartPolicy(name=policy), was_running=was_running, exit_code=exit_code, stopped_by_user=by_user
        )

    assert at_boot("always", by_user=True)
    assert at_boot("unless-stopped")
    assert not at_boot("unless-stopped", by_user=True)
    assert at_boot("on-failure", was_running=True, exit_code=1)
    assert not at_boot("on-failure", exit_code=1)
    assert not at_boot("no", was_running=True, exit_code=1)


def test_delays_double_to_a_minute_and_start_again_after_a_long_run() -> None:
    backoff = Backoff()
    delays = [backoff.after_run(0.5) for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60.0
    assert backoff.after_run(10.0) == 0.1
    assert backoff.after_run(9.9) == 0.2
