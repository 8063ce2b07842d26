"""Trio-flavoured. AppArmor on this host: whether it is there, and the default profile loaded into the kernel.

All daemons of a host share one profile; loading it again replaces it, under those who run confined by it too.
"""

import shutil
from pathlib import Path

import structlog
import trio

from proad.host.process import run
from proad.host.runtime import SEARCH_PATH
from proad.model import apparmor, errors

_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_PROFILES = Path("/sys/kernel/security/apparmor/profiles")
_OWN_LABELS = (Path("/proc/self/attr/apparmor/current"), Path("/proc/self/attr/current"))
_LOAD_S = 30.0
NO_PARSER = "AppArmor is enabled, but apparmor_parser is not installed: containers run unconfined by default"

log = structlog.get_logger(__name__)


def is_enabled() -> bool:
    """Whether the kernel confines by AppArmor, and its interface can be reached."""
    try:
        return _ENABLED.read_text().strip() == "Y" and _PROFILES.parent.exists()
    except OSError:
        return False


def find_parser() -> str | None:
    """The program that profiles are compiled and loaded with; None if it is not installed."""
    return shutil.which("apparmor_parser", path=SEARCH_PATH)


class AppArmor:
    """Confines containers where the host can; elsewhere it does nothing."""

    def __init__(self) -> None:
        self._enabled = is_enabled()
        self._parser = find_parser() if self._enabled else None
        self._loading = trio.Lock()
        if self._enabled and self._parser is None:
            log.warning(NO_PARSER)

    async def load_at_start(self) -> None:
        """Load the default profile, as this version has it; what goes wrong is told, and tried again when a
        container needs it.
        """
        if self._parser is None:
            return
        async with self._loading:
            try:
                await self._load(self._parser)
            except errors.System as error:
                log.error("default AppArmor profile not loaded", error=error.message)

    async def for_container(self, security_opt: tuple[str, ...], *, privileged: bool) -> str:
        """The profile to run a container under, loaded if it is the default one; empty for none.

        Raises:
            errors.System: the default profile cannot be loaded.
        """
        if not self._enabled:
            return ""
        profile = apparmor.profile_of(security_opt, privileged=privileged)
        if profile != apparmor.DEFAULT:
            return profile
        if self._parser is None:
            return ""
        async with self._loading:  # the daemon may be loading it right now
            if not _is_loaded():  # an upgrade of other software may have unloaded what it does not know
                await self._load(self._parser)
        return profile

    async def _load(self, parser: str) -> None:
        text = apparmor.default_profile(_own_label())
        done = await run([parser, "--replace", "--skip-cache"], input=text.encode(), timeout_s=_LOAD_S)
        if done.exit_code != 0:
            raise errors.System(
                f"AppArmor enabled on system but the {apparmor.DEFAULT} profile could not be loaded: "
                f"{done.text}"
            )


def _is_loaded() -> bool:
    """Whether the kernel has the default profile (lines as ``name (enforce)``)."""
    with _PROFILES.open() as lines:
        return any(line.rpartition(" (")[0] == apparmor.DEFAULT for line in lines)


def _own_label() -> str:
    """What the daemon itself is confined by, without the mode that the kernel puts behind it."""
    for path in _OWN_LABELS:
        if path.exists():
            return path.read_text().strip("\0\n").partition(" (")[0]
    return apparmor.UNCONFINED
