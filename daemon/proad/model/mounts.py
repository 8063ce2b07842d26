"""Sync, pure. Mount points of a container, as values: parsed from a request, sorted, shown."""

import msgspec


class MountPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One resolved mount of a container, kept in its record.

    ``type`` is ``bind``, ``volume`` or ``tmpfs``. ``source`` is the absolute host path (empty for tmpfs);
    ``name`` and ``driver`` are set for volumes. ``mode`` is the option string as asked (``ro,z``), shown by
    inspect. ``propagation`` is ``rprivate``, ``private``, ``rslave``, ``slave``, ``rshared`` or ``shared``, or empty.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    read_write: bool = True
    propagation: str = ""
    no_copy: bool = False
    subpath: str = ""
    tmpfs_options: str = ""
    create_source: bool = False
    """Docker creates a missing host directory for ``-v`` binds and refuses it for ``--mount``."""
    non_recursive: bool = False
    read_only_force_recursive: bool = False
    anonymous: bool = False
    """The engine chose the volume's name; it goes with ``rm -v`` and auto-remove."""
