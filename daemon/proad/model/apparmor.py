"""Sync, pure. AppArmor: which profile a container runs under, and the text of the default one.

The default profile allows what the container's namespaces, capabilities and mounts allow, and denies on top
what would reach the host all the same should one of those be opened: mounting, and writing to the parts of
/proc and /sys that are the host's. (apparmor.d(5); what Docker's own denies:
docs.docker.com/engine/security/apparmor)
"""

from collections.abc import Iterator

from proad.model.security import parse_security_opt

DEFAULT = "proa-default"
UNCONFINED = "unconfined"
_DOCKERS_DEFAULT = "docker-default"
_RUNTIMES = ("crun", "runc")
_READ_TOO = (
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/sys/firmware/**",
    "/sys/kernel/security/**",
    "/sys/devices/virtual/powercap/**",
)
"""What may not even be read: switches of the host, its memory, its firmware, its policy, its power meters."""


def profile_of(security_opt: tuple[str, ...], *, privileged: bool) -> str:
    """The profile that a container asks for, the default one by proa's or by Docker's name for it."""
    if privileged:
        return UNCONFINED
    wish = parse_security_opt(security_opt).apparmor
    return DEFAULT if wish in ("", _DOCKERS_DEFAULT) else wish


def default_profile(daemon_label: str = UNCONFINED) -> str:
    """The text of the default profile. ``daemon_label`` is what the daemon is confined by itself."""
    senders = dict.fromkeys((UNCONFINED, daemon_label, *_RUNTIMES))
    lines = [
        "network,",
        "capability,",
        "file,",
        "umount,",
        "unix,",
        *(f'signal (receive) peer="{sender}",' for sender in senders),
        f"signal (send, receive) peer={DEFAULT},",
        f"ptrace (trace, read, tracedby, readby) peer={DEFAULT},",
        "deny mount,",
        *(f"deny {path} w," for path in denied_writes()),
        *(f"deny {path} wkl," for path in denied_changes()),
        *(f"deny {path} rwkl," for path in _READ_TOO),
    ]
    body = "".join(f"  {line}\n" for line in lines)
    return f"profile {DEFAULT} flags=(attach_disconnected, mediate_deleted) {{\n{body}}}\n"


def denied_writes() -> list[str]:
    """Globs for all of /proc but the processes' own directories and the limits of shared memory."""
    return [
        "/proc/*",
        *_all_but("/proc", "sys", also_kept="0-9"),
        *_all_but("/proc/sys", "kernel"),
        *_all_but("/proc/sys/kernel", "shm", and_longer=True),
    ]


def denied_changes() -> list[str]:
    """Globs for all of /sys but the control groups."""
    return [*_all_but("/sys", "fs"), *_all_but("/sys/fs", "cgroup")]


def _all_but(directory: str, kept: str, *, also_kept: str = "", and_longer: bool = False) -> Iterator[str]:
    """Globs for what is below a directory, its child ``kept`` aside; there is no "not" but for a character.

    ``also_kept`` are first characters of other children to keep; with ``and_longer``, so are all children
    whose names begin with ``kept``.
    """
    yield f"{directory}/[^{also_kept}{kept[0]}]**"
    for length in range(1, len(kept)):
        yield f"{directory}/{kept[:length]}"
        yield f"{directory}/{kept[:length]}[^{kept[length]}]**"
    if not and_longer:
        yield f"{directory}/{kept}[^/]**"
