"""Sync, pure. Mount points of a container, as values: recorded, sorted, turned into mounts of the OCI config.

``MountPoint`` is what a container's record keeps and inspect shows; ``SpecMount`` is one line of the OCI
runtime's ``mounts``, made for one run. How requests become mount points is in :mod:`proad.model.mountparse`.
"""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import msgspec

from proad.model import errors

PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
DEFAULT_PROPAGATION = "rprivate"


class MountPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One resolved mount of a container, kept in its record.

    ``type`` is ``bind``, ``volume``, ``image`` or ``tmpfs``. ``source`` is the absolute host path (empty for
    tmpfs), or the id of the image. ``name`` and ``driver`` are set for volumes; ``name`` is also how the user
    called the image, and ``layers`` are its chain IDs, lowest first. ``mode`` is the option string as asked
    (``ro,z``), shown by inspect. ``propagation`` is ``rprivate``, ``private``, ``rslave``, ``slave``,
    ``rshared`` or ``shared``, or empty.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    read_write: bool = True
    propagation: str = ""
    is_propagation_default: bool = False
    """The request named no propagation, and what was chosen may give way to what the host can do."""
    no_copy: bool = False
    subpath: str = ""
    layers: tuple[str, ...] = ()
    tmpfs_options: str = ""
    create_source: bool = False
    """Docker creates a missing host directory for ``-v`` binds and refuses it for ``--mount``."""
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    """Mounts below the source stay writable where the mount itself is read-only."""
    read_only_force_recursive: bool = False
    anonymous: bool = False
    """The engine chose the volume's name; it goes with ``rm -v`` and auto-remove."""


class SpecMount(msgspec.Struct, frozen=True):
    """One entry of ``mounts`` in an OCI runtime config (runtime-spec, config.md, "Mounts").

    ``type`` is ``bind``, ``tmpfs``, ``mqueue``...; ``options`` are those of mount(8) and the runtime's own
    (``rbind``, ``rro``, ``rslave``).
    """

    destination: str
    type: str
    source: str
    options: tuple[str, ...] = ()


def depth(destination: str) -> int:
    """Return how many directories deep a destination is: 1 for ``/etc``."""
    return len(PurePosixPath(destination).parts) - 1


def by_depth(mounts: Iterable[SpecMount]) -> list[SpecMount]:
    """Sort so that no mount hides another (``/etc`` before ``/etc/hosts``); equal depths keep their order."""
    return sorted(mounts, key=lambda mount: depth(mount.destination))


def rootfs_propagation(mounts: Iterable[SpecMount]) -> str:
    """Return the ``rootfsPropagation`` that the mounts' propagation needs; empty for its default.

    A shared mount works only below a shared root, a slave mount below a shared or slave one.
    """
    options = {option for mount in mounts for option in mount.options}
    if options & {"shared", "rshared"}:
        return "shared"
    if options & {"slave", "rslave"}:
        return "rslave"
    return ""


def bind_mount(point: MountPoint, source: str) -> SpecMount:
    """Return the bind of ``source`` on the mount point's destination, for a bind or a volume."""
    propagation = point.propagation or DEFAULT_PROPAGATION
    if point.non_recursive:
        # crun binds recursively if any option is recursive; one mount alone has nothing to recurse into.
        options = ["bind", *([] if point.read_write else ["ro"]), propagation.removeprefix("r")]
    else:
        read_only = "ro" if point.read_only_non_recursive else "rro"
        options = ["rbind", *([] if point.read_write else [read_only]), propagation]
    return SpecMount(point.destination, "bind", source, tuple(options))


# Flags of tmpfs that switch one thing, each with the one it overrides; the last that is named wins.
_OPPOSITES = {
    "ro": "rw", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "async": "sync", "dirsync": "nodirsync",
    "mand": "nomand", "atime": "noatime", "diratime": "nodiratime", "relatime": "norelatime",
    "strictatime": "nostrictatime",
}  # fmt: skip
_SWITCHES = {**_OPPOSITES, **{off: on for on, off in _OPPOSITES.items()}}
_TMPFS_DATA = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev", DEFAULT_PROPAGATION)


def tmpfs_mount(destination: str, options: str) -> SpecMount:
    """Return a tmpfs mount with Docker's defaults (``noexec,nosuid,nodev``), which ``options`` may override.

    Raises:
        errors.InvalidParameter: an option that tmpfs does not have.
    """
    return SpecMount(destination, "tmpfs", "tmpfs", tuple(_merge_tmpfs_options(options)))


def check_tmpfs_options(options: str) -> None:
    """Refuse what tmpfs cannot be mounted with.

    Raises:
        errors.InvalidParameter: an option that tmpfs does not have.
    """
    _merge_tmpfs_options(options)


def _merge_tmpfs_options(options: str) -> Sequence[str]:
    asked = [option for option in options.split(",") if option]
    seen: set[str] = set()
    merged: list[str] = []
    for option in reversed([*_TMPFS_DEFAULTS, *asked]):
        key, separator, _ = option.partition("=")
        if option in PROPAGATIONS:
            key = "propagation"
        elif separator:
            if key not in _TMPFS_DATA:
                raise errors.InvalidParameter(f'invalid tmpfs option "{option}"')
        elif option in _SWITCHES:
            key = min(option, _SWITCHES[option])
        elif option != "defaults":
            raise errors.InvalidParameter(f'invalid tmpfs option "{option}"')
        if key not in seen:
            seen.add(key)
            merged.append(option)
    merged.reverse()
    return [option for option in merged if option != "defaults"]
