"""Sync, pure. ``SecurityOpt``: what a container may be allowed beyond, or denied below, the defaults."""

from collections.abc import Iterable
from dataclasses import dataclass

from proad.model import capabilities, errors
from proad.model.hostconfig import HostConfig

_TRUTH = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


@dataclass(frozen=True)
class SecurityOptions:
    """``seccomp`` is empty for the default, ``unconfined``, ``builtin``, or the JSON of a profile.

    ``apparmor`` names a loaded profile. ``labels`` are SELinux options, without meaning on a host without it.
    """

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    labels: tuple[str, ...] = ()


def parse_security_opt(options: Iterable[str]) -> SecurityOptions:
    """Read the options, ``name=value`` or, as older clients write, ``name:value``.

    Raises:
        errors.InvalidParameter: an unknown option or value.
    """
    no_new_privileges, seccomp, apparmor = False, "", ""
    labels: list[str] = []
    for option in options:
        if option == "no-new-privileges":
            no_new_privileges = True
            continue
        if option == "disable":
            labels.append(option)
            continue
        separator = "=" if "=" in option else ":"
        key, found, value = option.partition(separator)
        if not found:
            raise errors.InvalidParameter(f'invalid --security-opt 1: "{option}"')
        if key == "label":
            labels.append(value)
        elif key == "apparmor":
            apparmor = value
        elif key == "seccomp":
            seccomp = value
        elif key == "no-new-privileges" and value.lower() in _TRUTH:
            no_new_privileges = _TRUTH[value.lower()]
        else:
            raise errors.InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(no_new_privileges, seccomp, apparmor, tuple(labels))


def may_configure_network(host_config: HostConfig) -> bool:
    """Whether a container may change its interfaces and addresses: what it does with them is its own affair.

    Raises:
        errors.InvalidParameter: a name is not a capability's.
    """
    given, _ = capabilities.choose(
        host_config.cap_add,
        host_config.cap_drop,
        privileged=host_config.privileged,
        held=capabilities.BY_NUMBER,
    )
    return "CAP_NET_ADMIN" in given
