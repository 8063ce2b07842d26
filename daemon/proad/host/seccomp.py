"""Trio-flavoured. The seccomp filter of a container: the default profile, or what it brings along."""

import os
import re
from pathlib import Path
from typing import Any

from proad.model import capabilities, errors, seccomp
from proad.model.hostconfig import HostConfig
from proad.model.security import parse_security_opt

DEFAULTS = ("", "builtin", "default")


class SeccompProfiles:
    """Turns the wish of a container into what the OCI runtime reads; the default profile is read once."""

    def __init__(self, path: Path = Path(seccomp.BUILTIN_PATH)) -> None:
        self._default = path.read_bytes() if path.exists() else None
        system = os.uname()
        self._machine = system.machine
        numbers = re.match(r"(\d+)\.(\d+)", system.release)
        self._kernel = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)

    def for_container(self, host_config: HostConfig, held: frozenset[str]) -> dict[str, Any] | None:
        """The filter, None for none. ``held`` are the daemon's own capabilities.

        Raises:
            errors.InvalidParameter: the profile that it brings is none.
            errors.Unavailable: the default profile is not installed, and it does not ask to run without.
        """
        wish = parse_security_opt(host_config.security_opt).seccomp
        if wish == "unconfined" or host_config.privileged:
            return None
        given, _ = capabilities.choose(
            host_config.cap_add, host_config.cap_drop, privileged=host_config.privileged, held=held
        )
        if wish not in DEFAULTS:
            return seccomp.to_oci(seccomp.parse_profile(wish), frozenset(given), self._machine, self._kernel)
        if self._default is None:
            raise errors.Unavailable(
                f"the default seccomp profile {seccomp.BUILTIN_PATH} is not installed "
                "(Debian: golang-github-containers-common); run with --security-opt seccomp=unconfined "
                "to do without"
            )
        return seccomp.builtin(self._default, frozenset(given), self._machine, self._kernel)
