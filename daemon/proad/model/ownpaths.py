"""Sync, pure. Paths in a container that the engine or the runtime makes for what is mounted there.

Docker makes most of them in a layer of their own, below what the container writes. Here they are made where
they are missing, and left out of what the container is said to have written as long as they are empty.
"""

from proad.model.spec import DEFAULT_MOUNTS, INIT_IN_CONTAINER

DOCKERENV = "/.dockerenv"
"""By which programs know that they are in a container."""

OWN_PATHS: tuple[str, ...] = (
    DOCKERENV,
    "/dev/console",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    INIT_IN_CONTAINER,
    f"/usr{INIT_IN_CONTAINER}",  # where /sbin is a symlink, as in most of today's images
    *(mount.destination for mount in DEFAULT_MOUNTS),
)
