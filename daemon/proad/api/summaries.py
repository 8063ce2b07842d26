"""Sync, pure. The body of a container list, fast: what does not change by itself is encoded once per record.

Records are replaced whole, never changed, so the encoded summary of one stays true for as long as the same
record object, image name and networks are shown; only the status text ("Up 5 minutes") is made anew for each
list.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from proad.api import wire
from proad.api.statewire import status_text
from proad.model.container import Container

Sizes = Mapping[str, tuple[int, int]]


_Entry = tuple[Container, str, tuple[str, ...], list[str], bytes]
"""A record, and what else its summary was made of: its image's name, its links' names, its networks' ids."""


class Summaries:
    """Encodes lists; holds one encoded summary per container and API version that was asked for."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, wire.ApiVersion], _Entry] = {}

    def encode(
        self,
        containers: Iterable[Container],
        *,
        now_ns: int,
        version: wire.ApiVersion,
        network_ids: Mapping[str, str],
        image_name: Callable[[Container], str],
        link_names: Mapping[str, tuple[str, ...]],
        sizes: Sizes | None = None,
    ) -> bytes:
        """Return the JSON list.

        ``link_names`` are the names that links of others give a container, by its id; ``sizes``, by id, are
        the bytes of its own layer and of its whole root filesystem.
        """
        kept, parts = self._kept, []
        shown_images: dict[tuple[str, str], str] = {}
        for container in containers:
            image_key = (container.image_ref, container.image_id)
            image = shown_images.get(image_key)
            if image is None:
                image = shown_images[image_key] = image_name(container)
            links = link_names.get(container.id, ())
            key = (container.id, version)
            ids = [network_ids.get(name, "") for name in container.networks]
            entry = kept.get(key)
            if entry is None or entry[0] is not container or entry[1:4] != (image, links, ids):
                summary = wire.summary(container, image, links, network_ids, version)
                entry = kept[key] = (container, image, links, ids, msgspec.json.encode(summary)[:-1])
            status = msgspec.json.encode(status_text(container, now_ns))
            size = b""
            if sizes is not None and container.id in sizes:
                size = b',"SizeRw":%d,"SizeRootFs":%d' % sizes[container.id]
            parts.append(entry[4] + b',"Status":' + status + size + b"}")
        return b"[" + b",".join(parts) + b"]\n"

    def forget_all_but(self, container_ids: Iterable[str]) -> None:
        """Drop what is kept of containers that are gone."""
        alive = set(container_ids)
        self._kept = {key: entry for key, entry in self._kept.items() if key[0] in alive}

    def __len__(self) -> int:
        return len(self._kept)
