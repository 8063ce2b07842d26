"""Sync, pure. Whether a container is started again after its process ended, and how long it waits before."""

from dataclasses import dataclass

from proad.model.hostconfig import RestartPolicy

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 60.0
SETTLED_AFTER_S = 10.0
"""A run this long sets the delay back to the first one."""


@dataclass
class Backoff:
    """The delay before the next restart: 100 ms, doubled at each until 1 min."""

    delay_s: float = 0.0

    def after_run(self, ran_s: float) -> float:
        """The delay after a run of ``ran_s`` seconds."""
        if self.delay_s == 0.0 or ran_s >= SETTLED_AFTER_S:
            self.delay_s = FIRST_DELAY_S
        else:
            self.delay_s = min(self.delay_s * 2, LONGEST_DELAY_S)
        return self.delay_s


def restarts_after_exit(
    policy: RestartPolicy, *, exit_code: int, restart_count: int, stopped_by_user: bool
) -> bool:
    """Whether ``policy`` starts a container again whose process has just ended."""
    if stopped_by_user:
        return False
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name == "on-failure":
        limit = policy.maximum_retry_count
        return exit_code != 0 and (limit == 0 or restart_count < limit)
    return False


def restarts_at_boot(
    policy: RestartPolicy, *, was_running: bool, exit_code: int, stopped_by_user: bool
) -> bool:
    """Whether ``policy`` starts a container that is not running when the daemon comes up.

    ``was_running`` tells that it was meant to run when the daemon went down.
    """
    if policy.name == "always":
        return True
    if policy.name == "unless-stopped":
        return not stopped_by_user
    return policy.name == "on-failure" and was_running and exit_code != 0 and not stopped_by_user
