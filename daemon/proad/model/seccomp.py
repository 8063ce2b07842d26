"""Sync, pure. Seccomp profiles: from the form that Docker and Debian ship to what an OCI runtime reads.

A profile's rules carry conditions (capabilities that the process has, architectures, a minimal kernel) that
the runtime does not know; they are settled here, for one set of capabilities on one machine. Debian's
profile is meant for podman and lets an unprivileged process make namespaces and mount inside them;
:func:`tighten` closes what Docker's documentation lists as blocked by default
(docs.docker.com/engine/security/seccomp).
"""

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from proad.model import errors
from proad.model.gojson import UNREADABLE

BUILTIN_PATH = "/usr/share/containers/seccomp.json"
"""Where Debian's golang-github-containers-common puts its profile."""

_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"

_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i386": ("x86", "SCMP_ARCH_X86"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv6l": ("arm", "SCMP_ARCH_ARM"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "armv8l": ("arm", "SCMP_ARCH_ARM"),
    "mips64": ("mips64", "SCMP_ARCH_MIPS64"),
    "mips64el": ("mipsel64", "SCMP_ARCH_MIPSEL64"),
    "ppc64": ("ppc64", "SCMP_ARCH_PPC64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}
"""By the kernel's name of the machine, the name in a profile's conditions and libseccomp's."""


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When a rule applies (``includes``) or does not (``excludes``); ``arches`` in Go's or libseccomp's
    names.
    """

    arches: list[str] | None = None
    caps: list[str] | None = None
    min_kernel: str = ""


class Argument(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A comparison of one argument of a call; ``value`` is the mask of ``SCMP_CMP_MASKED_EQ``."""

    index: int
    value: int
    op: str
    value_two: int = 0


class Rule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What to do on some calls; old profiles have one ``name``, newer ones ``names``."""

    action: str
    names: list[str] | None = None
    name: str = ""
    errno_ret: int | None = None
    args: list[Argument] | None = None
    includes: Condition | None = None
    excludes: Condition | None = None


class Architecture(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An architecture with those whose programs it runs as well."""

    architecture: str
    sub_architectures: list[str] | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A profile as its author wrote it."""

    default_action: str = ""
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    arch_map: list[Architecture] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: list[Rule] | None = None


def parse_profile(text: str | bytes) -> Profile:
    """Read a profile.

    Raises:
        errors.InvalidParameter: it is not JSON, not a profile, or contradicts itself.
    """
    try:
        profile = msgspec.json.decode(text, type=Profile)
    except UNREADABLE as error:
        raise errors.InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    for first, second, both in (
        ("architectures", "archMap", profile.architectures and profile.arch_map),
        ("name", "names", any(rule.name and rule.names for rule in profile.syscalls or ())),
    ):
        if both:
            raise errors.InvalidParameter(
                f"'{first}' and '{second}' were specified in the seccomp profile, "
                f"use either '{first}' or '{second}'"
            )
    return profile


def to_oci(
    profile: Profile, capabilities: Collection[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any] | None:
    """The ``linux.seccomp`` of an OCI runtime config (runtime-spec, config-linux.md, "Seccomp").

    ``capabilities`` are those of the process's bounding set, ``machine`` and ``kernel`` what uname(2) says.
    ``None`` for a profile without any rule, which switches seccomp off.
    """
    if not profile.default_action and not profile.syscalls:
        return None
    arch, native = _ARCHITECTURES.get(machine, (machine, ""))
    oci: dict[str, Any] = {"defaultAction": profile.default_action}
    if profile.default_errno_ret is not None:
        oci["defaultErrnoRet"] = profile.default_errno_ret
    architectures = profile.architectures or _with_sub_architectures(profile, native)
    if architectures:
        oci["architectures"] = architectures
    if profile.flags:
        oci["flags"] = profile.flags
    if profile.listener_path:
        oci["listenerPath"] = profile.listener_path
        oci["listenerMetadata"] = profile.listener_metadata
    applying = (rule for rule in profile.syscalls or () if _applies(rule, set(capabilities), arch, kernel))
    oci["syscalls"] = [_oci_rule(rule) for rule in applying]
    return oci


@lru_cache(maxsize=32)
def builtin(
    text: bytes, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any] | None:
    """The default profile, made from the ``text`` of Debian's and as tight as Docker's. Remembered; not to
    change.
    """
    return to_oci(tighten(parse_profile(text)), capabilities, machine, kernel)


# Beyond Debian's profile: what Docker lets through only with a capability (any one of those named), or never.
_GUARDED: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("CAP_SYS_ADMIN",),
        ("fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree",
         "setns", "umount", "umount2", "unshare"),
    ),
    (("CAP_SYS_ADMIN", "CAP_SYSLOG"), ("syslog",)),
    (("CAP_SYS_NICE",), ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node")),
    (("CAP_SYS_BOOT",), ("reboot",)),
    (("CAP_SYS_PTRACE",), ("pidfd_getfd",)),
    ((), ("add_key", "keyctl", "pivot_root", "request_key")),
)  # fmt: skip
_ALLOWED_BY_DOCKER = ("futex_waitv", "io_pgetevents", "io_pgetevents_time64", "vmsplice")
_NAMESPACE_FLAGS = {
    "CLONE_NEWNS": 0x0002_0000,
    "CLONE_NEWCGROUP": 0x0200_0000,
    "CLONE_NEWUTS": 0x0400_0000,
    "CLONE_NEWIPC": 0x0800_0000,
    "CLONE_NEWUSER": 0x1000_0000,
    "CLONE_NEWPID": 0x2000_0000,
    "CLONE_NEWNET": 0x4000_0000,
}


def tighten(profile: Profile) -> Profile:
    """``profile`` with the calls that Docker's default blocks blocked, and those that it allows allowed.

    ``clone`` is allowed as long as it makes no namespace; ``clone3`` passes its flags where no filter can
    look, so it pretends not to exist and libraries fall back to ``clone``.
    """
    rewritten = {"clone", "clone3", *_ALLOWED_BY_DOCKER}
    rewritten.update(name for _, names in _GUARDED for name in names)
    kept = (_without(rule, rewritten) for rule in profile.syscalls or ())
    rules = [rule for rule in kept if rule is not None]
    rules.append(Rule(action=_ALLOW, names=list(_ALLOWED_BY_DOCKER)))
    for capabilities, names in _GUARDED:
        rules += _guarded(list(names), list(capabilities), _EPERM)
    rules += _guarded(["clone3"], ["CAP_SYS_ADMIN"], _ENOSYS)
    rules += _clone_rules()
    return msgspec.structs.replace(profile, syscalls=rules)


def _without(rule: Rule, names: Collection[str]) -> Rule | None:
    left = [name for name in rule.names or [rule.name] if name not in names]
    return msgspec.structs.replace(rule, name="", names=left) if left else None


def _guarded(names: list[str], capabilities: list[str], errno: int) -> Iterator[Rule]:
    """Allow where a capability is held (the rules exclude each other), else fail with ``errno``."""
    for position, capability in enumerate(capabilities):
        before = Condition(caps=capabilities[:position])
        yield Rule(action=_ALLOW, names=names, includes=Condition(caps=[capability]), excludes=before)
    yield Rule(action=_ERRNO, errno_ret=errno, names=names, excludes=Condition(caps=capabilities))


def _clone_rules() -> Iterator[Rule]:
    """The flags are the first argument of clone(2), on s390 the second."""
    privileged = ["CAP_SYS_ADMIN"]
    s390 = ["s390", "s390x"]
    yield Rule(action=_ALLOW, names=["clone"], includes=Condition(caps=privileged))
    for index, includes, excluded_arches in ((0, None, s390), (1, Condition(arches=s390), None)):
        excludes = Condition(caps=privileged, arches=excluded_arches)
        plain = Argument(index=index, value=sum(_NAMESPACE_FLAGS.values()), op="SCMP_CMP_MASKED_EQ")
        yield Rule(action=_ALLOW, names=["clone"], args=[plain], includes=includes, excludes=excludes)
        for flag in _NAMESPACE_FLAGS.values():
            one = Argument(index=index, value=flag, value_two=flag, op="SCMP_CMP_MASKED_EQ")
            yield Rule(
                action=_ERRNO,
                errno_ret=_EPERM,
                names=["clone"],
                args=[one],
                includes=includes,
                excludes=excludes,
            )


def _with_sub_architectures(profile: Profile, native: str) -> list[str]:
    for entry in profile.arch_map or ():
        if entry.architecture == native:
            return [native, *(entry.sub_architectures or ())]
    return []


def _applies(rule: Rule, capabilities: set[str], arch: str, kernel: tuple[int, int]) -> bool:
    """Docker's reading: all that is included must hold, nothing that is excluded may."""
    includes, excludes = rule.includes or Condition(), rule.excludes or Condition()
    if arch in (excludes.arches or ()) or capabilities.intersection(excludes.caps or ()):
        return False
    if excludes.min_kernel and kernel >= _version(excludes.min_kernel):
        return False
    if includes.arches and arch not in includes.arches:
        return False
    if not capabilities.issuperset(includes.caps or ()):
        return False
    return not includes.min_kernel or kernel >= _version(includes.min_kernel)


def _version(text: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise errors.InvalidParameter(f'invalid kernel version in seccomp profile: "{text}"')
    return int(match[1]), int(match[2])


def _oci_rule(rule: Rule) -> dict[str, Any]:
    oci: dict[str, Any] = {"names": rule.names or [rule.name], "action": rule.action}
    if rule.errno_ret is not None:
        oci["errnoRet"] = rule.errno_ret
    if rule.args:
        oci["args"] = [msgspec.to_builtins(argument) for argument in rule.args]
    return oci
