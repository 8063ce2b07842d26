"""Trio-flavoured. What systemd says of the host: whether it is going down."""

import shutil
from pathlib import Path

import structlog

from proad.host.process import run
from proad.host.runtime import SEARCH_PATH
from proad.model import errors

_BOOTED = Path("/run/systemd/system")
_ANSWER_S = 5.0

log = structlog.get_logger(__name__)


async def host_goes_down(*, booted: Path = _BOOTED, search_path: str = SEARCH_PATH) -> bool:
    """Whether the host is shutting down or rebooting; False where systemd does not run (sd_booted(3)) or does
    not answer.
    """
    systemctl = shutil.which("systemctl", path=search_path)
    if systemctl is None or not booted.is_dir():
        return False
    try:
        # Its exit code tells "running" from all else; the word is what counts here.
        done = await run([systemctl, "is-system-running"], timeout_s=_ANSWER_S)
    except errors.System as error:
        log.warning("cannot tell whether the host goes down", error=error.message)
        return False
    return done.stdout.strip() == b"stopping"
