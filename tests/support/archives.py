"""Sync. Tar archives made on the spot: honest ones, images of ``docker save`` and OCI layouts, and hostile
ones."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Item:
    """One entry; ``type`` is one of ``tarfile``'s, ``content`` for files."""

    name: str
    content: bytes = b""
    type: bytes = tarfile.REGTYPE
    link: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)
    pax: Mapping[str, str] = field(default_factory=dict)


def directory(name: str, mode: int = 0o755) -> Item:
    return Item(name, type=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Item:
    return Item(name, type=tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str) -> Item:
    return Item(name, type=tarfile.LNKTYPE, link=target)


def make_tar(items: Sequence[Item], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.linkname, info.mode = item.type, item.link, item.mode
            info.uid, info.gid, info.size = item.uid, item.gid, len(item.content)
            info.devmajor, info.devminor = item.device
            info.pax_headers = dict(item.pax)
            info.mtime = 1_700_000_000
            tar.addfile(info, io.BytesIO(item.content))
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def image_config(layers: Sequence[bytes], **config: object) -> bytes:
    """The configuration of an image of these (uncompressed) layers."""
    fields = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-05-06T07:08:09.123456789Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
        "history": [
            {"created": "2024-05-06T07:08:09Z", "created_by": f"step {number}"}
            for number in range(len(layers))
        ],
    }
    return json.dumps(fields).encode()


def docker_archive(layers: Sequence[bytes], tags: Sequence[str], **config: object) -> bytes:
    """What ``docker save`` of old made: ``manifest.json``, a configuration, a directory for each layer."""
    content = image_config(layers, **config)
    name = sha256(content)[7:] + ".json"
    manifest = [
        {"Config": name, "RepoTags": list(tags), "Layers": [f"{n}/layer.tar" for n in range(len(layers))]}
    ]
    return make_tar(
        [
            Item(name, content),
            *(Item(f"{number}/layer.tar", layer) for number, layer in enumerate(layers)),
            Item("manifest.json", json.dumps(manifest).encode()),
        ]
    )


def legacy_archive(layers: Sequence[bytes], tags: Sequence[str], **config: object) -> bytes:
    """What dockerd 20.10 saves: for each layer a directory with ``VERSION``, ``json``, ``layer.tar``; that is
    a link where an earlier directory has the same layer.
    """
    content = image_config(layers, **config)
    name = sha256(content)[7:] + ".json"
    ids = [sha256(f"{number}".encode() + layer)[7:] for number, layer in enumerate(layers)]
    first: dict[bytes, str] = {}
    items = [Item(name, content)]
    for number, (layer_id, layer) in enumerate(zip(ids, layers, strict=True)):
        described = {"id": layer_id, "created": "1970-01-01T00:00:00Z", "os": "linux"}
        if number:
            described["parent"] = ids[number - 1]
        items += [
            directory(f"{layer_id}/"),
            Item(f"{layer_id}/VERSION", b"1.0"),
            Item(f"{layer_id}/json", json.dumps(described).encode()),
            symlink(f"{layer_id}/layer.tar", f"../{first[layer]}/layer.tar")
            if layer in first
            else Item(f"{layer_id}/layer.tar", layer),
        ]
        first.setdefault(layer, layer_id)
    manifest = [
        {"Config": name, "RepoTags": list(tags) or None, "Layers": [f"{each}/layer.tar" for each in ids]}
    ]
    repositories: dict[str, dict[str, str]] = {}
    for tag in tags:
        repository, _, text = tag.rpartition(":")
        repositories.setdefault(repository, {})[text] = ids[-1]
    items += [
        Item("manifest.json", json.dumps(manifest).encode()),
        Item("repositories", json.dumps(repositories).encode()),
    ]
    return make_tar(items)


def oci_layout(layers: Sequence[bytes], name: str = "", **config: object) -> bytes:
    """An OCI image layout whose layers are compressed."""
    blobs: dict[str, bytes] = {}

    def keep(content: bytes, media_type: str) -> dict[str, object]:
        blobs[sha256(content)] = content
        return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(image_config(layers, **config), "application/vnd.oci.image.config.v1+json"),
        "layers": [
            keep(gzip.compress(layer, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
            for layer in layers
        ],
    }
    described = keep(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    if name:
        described["annotations"] = {"io.containerd.image.name": name}
    index = {"schemaVersion": 2, "manifests": [described]}
    return make_tar(
        [
            Item("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
            Item("index.json", json.dumps(index).encode()),
            *(Item(f"blobs/sha256/{digest[7:]}", content) for digest, content in blobs.items()),
        ]
    )
