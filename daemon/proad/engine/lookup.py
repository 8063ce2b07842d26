"""Trio-flavoured. From what a user calls a container to its record, and to what events say of it."""

from proad.model import errors
from proad.model.container import Container
from proad.model.links import Link
from proad.store.db import Store


def find_container(store: Store, ref: str) -> Container:
    """Find by full id, by name, by link (``holder/alias``), then by unique id prefix, as Docker does.

    Raises:
        errors.NotFound: nothing bears that name.
        errors.InvalidParameter: several ids begin so.
    """
    if container := store.containers.get(ref):
        return container
    name = ref.removeprefix("/")
    if container := named(store, name):
        return container
    if (linked := find_link(store, name)) and (target := store.containers.get(linked[1].id)):
        return target
    matches = [c for c in store.containers.values() if ref and c.id.startswith(ref)]
    if len(matches) > 1:
        raise errors.InvalidParameter(f"multiple IDs found with provided prefix: {ref}")
    if not matches:
        raise errors.NotFound(f"No such container: {ref}")
    return matches[0]


def find_link(store: Store, path: str) -> tuple[Container, Link] | None:
    """The link that ``holder/alias`` (no leading slash) names, and its holder; None if there is none."""
    name, slash, alias = path.partition("/")
    holder = named(store, name) if slash else None
    links = (link for link in holder.links if link.alias == alias) if holder else iter(())
    return next(((holder, link) for link in links if holder), None)


def named(store: Store, name: str) -> Container | None:
    """The container of that name, without a leading slash."""
    return next((c for c in store.containers.values() if c.name == name), None)


def images_of(container: Container) -> set[str]:
    """Ids of the images that a container needs: its own, and those that it mounts."""
    return {container.image_id, *(point.source for point in container.mounts if point.type == "image")}


def event_attributes(container: Container, **extra: str) -> dict[str, str]:
    """What every event of a container carries: its labels, image and name, then what the action adds."""
    return {**(container.config.labels or {}), "image": container.image_ref, "name": container.name, **extra}


def is_blob_of_layer(store: Store, digest: str, diff_id: str) -> bool:
    """Whether it is known without unpacking that a blob holds that layer, and not merely claimed."""
    return digest == diff_id or any(
        (digest, diff_id) in zip(image.layer_blobs, image.diff_ids, strict=True)
        for image in store.images.values()
    )
