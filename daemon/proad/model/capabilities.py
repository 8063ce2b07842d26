"""Sync, pure. Which capabilities a container's process has.

What the daemon does not hold itself cannot be given on: a runtime fails on the attempt. So ``--privileged``
and ``--cap-add ALL`` mean "all that the daemon holds", and a single one that it lacks is left out with a
warning.
"""

from collections.abc import Collection, Iterable

from proad.model import errors

DEFAULT: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What Docker documents as allowed by default."""

BY_NUMBER: tuple[str, ...] = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
    "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN",
    "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""All of capabilities(7); the index is the kernel's number."""

_ALL = "ALL"


def from_mask(mask: int) -> frozenset[str]:
    """The set that a mask of ``/proc/PID/status`` (``CapBnd``) stands for."""
    return frozenset(name for number, name in enumerate(BY_NUMBER) if mask >> number & 1)


def normalise(names: Iterable[str]) -> list[str]:
    """``net_admin`` → ``CAP_NET_ADMIN``; ``ALL`` stays.

    Raises:
        errors.InvalidParameter: a name is not a capability's.
    """
    result = []
    for name in names:
        full = name.upper()
        if full not in (_ALL, "CAP_ALL"):
            full = full if full.startswith("CAP_") else f"CAP_{full}"
            if full not in BY_NUMBER:
                raise errors.InvalidParameter(f'unknown capability: "{full}"')
        result.append(full.removeprefix("CAP_") if full.endswith("_ALL") else full)
    return result


def choose(
    add: Iterable[str], drop: Iterable[str], *, privileged: bool, held: Collection[str]
) -> tuple[list[str], list[str]]:
    """The capabilities to give, in a stable order, and those asked for by name that are not held."""
    adds, drops = normalise(add), normalise(drop)
    everything = [name for name in BY_NUMBER if name in held]
    if privileged:
        return everything, []
    if _ALL in adds:
        wanted = [name for name in everything if name not in drops]
    elif _ALL in drops:
        wanted = adds
    else:
        wanted = [name for name in DEFAULT if name not in drops] + adds
    given = [name for name in dict.fromkeys(wanted) if name in held]
    missing = [name for name in dict.fromkeys(adds) if name != _ALL and name not in held]
    return given, missing
