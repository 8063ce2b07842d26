"""Sync, blocking. Programs that other firewalls bring along, run by their names."""

import shutil
import subprocess
from collections.abc import Sequence

from proad.model import errors

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT_S = 10.0


def run(name: str, arguments: Sequence[str], given: str = "") -> str:
    """Run a program with ``given`` as its input; return what it writes.

    Raises:
        errors.System: it is not there, does not end in time, or could not do it.
    """
    program = shutil.which(name, path=_SEARCH_PATH)
    if program is None:
        raise errors.System(f"the program {name} is not there")
    try:
        done = subprocess.run(
            [program, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.System(f"{name}: {error}") from error
    if done.returncode != 0:
        raise errors.System(f"{name}: {done.stderr.strip()}")
    return done.stdout
