"""Trio-flavoured. Places on the host where parts of volumes, and images, are mounted for one container's run.

    <exec root>/stages/<container id>/<n>           what is bound into the container
    <exec root>/stages/<container id>/<n>-image     the image whose part that is

A path inside a volume could lead elsewhere by the time that the runtime mounts it; a place of its own cannot.
"""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
import trio

from proad.host import mounts
from proad.host.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from proad.host.overlay import Overlay
from proad.host.trees import open_directory, remove_tree
from proad.model import errors

log = structlog.get_logger(__name__)


class Staging:
    """Makes and clears the places. Clearing can be repeated, and works for runs of an earlier daemon."""

    def __init__(self, exec_root: Path, overlay: Overlay) -> None:
        self._root = exec_root / "stages"
        self._overlay = overlay

    def part(self, container_id: str, name: str, base: Path, subpath: str) -> Path:
        """Bind what is at ``subpath`` below ``base``, a file or a directory, and return where.

        Raises:
            errors.InvalidParameter: it leads out, or is not there; in Docker's words.
            errors.System: the kernel refused.
        """
        opened = open_below(base, subpath)
        try:
            target = self._place(container_id, name)
            if Path(f"/proc/self/fd/{opened}").is_dir():
                target.mkdir(exist_ok=True)
            else:
                target.touch()
            mounts.bind(f"/proc/self/fd/{opened}", target)
        finally:
            os.close(opened)
        return target

    def image(self, container_id: str, name: str, layers: Sequence[str], subpath: str) -> Path:
        """Mount an image's layers (chain IDs, lowest first) read-only and return where they, or a part, are.

        Raises:
            errors.InvalidParameter: see :meth:`part`.
            errors.System: a layer is missing, or the kernel refused.
        """
        place = self._place(container_id, f"{name}-image" if subpath else name)
        place.mkdir(exist_ok=True)
        self._overlay.mount_read_only(place, layers)
        return self.part(container_id, name, place, subpath) if subpath else place

    async def clear(self, container_id: str) -> None:
        """Unmount and remove a container's places; none is no error.

        Raises:
            errors.System: the kernel refused.
        """
        if (directory := self._root / container_id).exists():
            await mounts.unmount_tree(directory)
            await trio.to_thread.run_sync(remove_tree, directory)

    async def recover(self, is_used: Callable[[str], bool]) -> None:
        """Clear the places of all containers but those that ``is_used`` says use them."""
        if not self._root.is_dir():
            return
        for container_id in os.listdir(self._root):
            if not is_used(container_id):
                log.warning("unmounting what was staged for a run that is over", container=container_id)
                await self.clear(container_id)

    def _place(self, container_id: str, name: str) -> Path:
        place = self._root / container_id / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place


def open_below(base: Path, subpath: str) -> int:
    """Open a path that must not lead out of ``base``, whatever symlinks are in it.

    Raises:
        errors.InvalidParameter: it leads out, or is not there; in Docker's words.
    """
    root = open_directory(base)
    try:
        return openat2(root, subpath, os.O_PATH, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise errors.InvalidParameter(
                f"path concatenation escapes the base directory, base: {base}, subpath: {subpath}"
            ) from error
        raise errors.InvalidParameter(
            f"cannot access path {base / subpath}: {mounts.describe_errno(error.errno or 0)}"
        ) from error
    finally:
        os.close(root)
