"""Trio-flavoured. Taking names off images and removing them, with Docker's rules about who is in the way."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import emit
from proad.engine.imagelisting import all_names
from proad.engine.lookup import images_of
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.image import Image
from proad.model.reference import Reference, parse_reference
from proad.store.db import Store, Transaction

_RUNNING = frozenset({Status.STARTING, Status.RUNNING, Status.PAUSED, Status.RESTARTING})


@dataclass(frozen=True)
class RemovedImage:
    """One line of what a removal did: a name that went, or the id of an image or layer that did."""

    untagged: str = ""
    deleted: str = ""


@dataclass(frozen=True)
class Removal:
    """What a removal did, in turn, and how many bytes of layers and blobs went."""

    items: Sequence[RemovedImage]
    space_bytes: int = 0


class ImageRemoval:
    def __init__(self, store: Store, garbage: Garbage) -> None:
        self._store = store
        self._garbage = garbage

    def names(self, image_id: str) -> list[Reference]:
        return all_names(self._store).get(image_id, [])

    async def remove(self, image: Image, ref: str, *, force: bool, prune: bool) -> Removal:
        """See :meth:`proad.engine.images.Images.remove`; ``ref`` is how the user called the image."""
        removed: list[RemovedImage] = []
        names = self.names(image.id)
        by_name = not _is_id_prefix(image.id, ref)
        with self._store.transaction() as tx:
            if by_name:
                gone = self._names_to_take(image, ref, names, force=force)
                remaining = [name for name in names if name not in gone]
                self._untag(tx, gone, removed)
                emit(tx, "untag", image)  # of the name that was given; its digests go without a word
                delete = not remaining and not self._obstacle(image, [], force=force)
            else:
                if _is_one_name(names):
                    self._check(image, [], force=force)
                else:
                    self._check(image, names, force=force)
                self._untag(tx, names, removed)
                for _ in names:
                    emit(tx, "untag", image)
                delete = True
            gone_images = self._delete(tx, image, prune=prune) if delete else []
        if not gone_images:
            return Removal(removed)
        swept = await self._garbage.sweep()
        return Removal([*removed, *_told(gone_images, swept.layers)], swept.space_bytes)

    def _names_to_take(
        self, image: Image, ref: str, names: Sequence[Reference], *, force: bool
    ) -> list[Reference]:
        """The name that ``ref`` is; with its repository's last tag the digests of that repository go as well.

        Raises:
            errors.Conflict: it is the image's only name, and a container needs the image.
        """
        wanted = parse_reference(ref).with_default_tag()
        if wanted.digest:
            wanted = msgspec.structs.replace(wanted, tag="")  # a digest says it all
        user = self._user(image)
        if user and not force and _is_one_name(names):
            raise errors.Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - '
                f"container {user.short_id} is using its referenced image {image.short_id}"
            )
        gone = [name for name in names if name == wanted]
        others = [name for name in names if name != wanted and name.name == wanted.name]
        if wanted.tag and not any(name.tag for name in others):
            gone += [name for name in others if name.digest]
        return gone

    def _untag(self, tx: Transaction, names: Sequence[Reference], removed: list[RemovedImage]) -> None:
        for name in names:
            tx.delete_reference(name.canonical)
            removed.append(RemovedImage(untagged=name.familiar))

    def _delete(self, tx: Transaction, image: Image, *, prune: bool) -> list[Image]:
        """Delete an image that nothing obstructs, and with ``prune`` those it was made from, as far as that
        goes."""
        gone: list[Image] = []
        current: Image | None = image
        while current:
            tx.delete_image(current.id)
            emit(tx, "delete", current)
            gone.append(current)
            parent = self._store.images.get(current.parent_id) if prune else None
            children = self._children(parent, {item.id for item in gone}) if parent else []
            usable = parent and not children and not self.names(parent.id) and not self._user(parent)
            current = parent if usable and parent and not self._garbage.is_held(parent.id) else None
        return gone

    # --- who is in the way ------------------------------------------------------------------------------

    def _check(self, image: Image, names: Sequence[Reference], *, force: bool) -> None:
        """
        Raises:
            errors.Conflict: something stands in the way of deleting the image.
        """
        obstacle = self._obstacle(image, names, force=force)
        if obstacle:
            hard, message = obstacle
            what = "cannot be forced" if hard else "must be forced"
            raise errors.Conflict(f"conflict: unable to delete {image.short_id} ({what}) - {message}")

    def _obstacle(self, image: Image, names: Sequence[Reference], *, force: bool) -> tuple[bool, str] | None:
        """What is in the way, and whether even ``force`` does not help."""
        if self._children(image, set()):
            return True, "image has dependent child images"
        if self._garbage.is_held(image.id):
            return True, "image is being used by a build that is under way"
        if running := self._user(image, running=True):
            return True, f"image is being used by running container {running.short_id}"
        if force:
            return None
        if names:
            return False, "image is referenced in multiple repositories"
        if stopped := self._user(image):
            return False, f"image is being used by stopped container {stopped.short_id}"
        return None

    def _children(self, image: Image, but: set[str]) -> list[Image]:
        return [
            other
            for other in self._store.images.values()
            if other.parent_id == image.id and other.id not in but
        ]

    def _user(self, image: Image, *, running: bool = False) -> Container | None:
        """A container that needs the image, if there is one."""
        return next(
            (
                container
                for container in self._store.containers.values()
                if image.id in images_of(container) and (not running or container.status in _RUNNING)
            ),
            None,
        )


def _told(gone: Sequence[Image], swept: Collection[str]) -> list[RemovedImage]:
    """Each image that went and the layers that went with it; what later ones have as well goes with those."""
    told: list[RemovedImage] = []
    for position, image in enumerate(gone):
        still_needed = {chain_id for other in gone[position + 1 :] for chain_id in other.chain_ids}
        told.append(RemovedImage(deleted=image.id))
        told += [
            RemovedImage(deleted=chain_id)
            for chain_id in reversed(image.chain_ids)
            if chain_id in swept and chain_id not in still_needed
        ]
    return told


def _is_id_prefix(image_id: str, ref: str) -> bool:
    return image_id.startswith(ref) or image_id.removeprefix("sha256:").startswith(ref)


def _is_one_name(names: Sequence[Reference]) -> bool:
    """Whether all names are of one repository, with at most one tag among them; false for none."""
    if len(names) <= 1:
        return len(names) == 1
    tags = [name for name in names if name.tag]
    return len(tags) <= 1 and len({name.name for name in names}) == 1
