"""Sync, pure. The environment of a container's first process."""

from collections.abc import Iterable

from proad.model.container import Container
from proad.model.links import merge_environment

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def container_environment(container: Container, hostname: str, links: Iterable[str]) -> list[str]:
    """Docker's order: the defaults, then what links tell, then the container's own, each replacing by name.

    ``HOME`` is not among them: the OCI runtime adds it from the container's passwd where it is missing.
    """
    defaults = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={hostname}"]
    if container.config.tty:
        defaults.append("TERM=xterm")
    return merge_environment([*defaults, *links], container.config.env)
