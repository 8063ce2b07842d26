"""Sync, pure. An image, or a layer of its history, as one row."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from proa.cli.text import units
from proa.cli.text.listing import Row

if TYPE_CHECKING:
    from proa.types import ImageSummary

NONE = "<none>"
CREATED_BY_WIDTH = 45


class ImageRow(Row):
    """The fields of `proa images --format`: one name of an image."""

    HEADERS: ClassVar[dict[str, str]] = {
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "ID": "IMAGE ID",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Size": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
        "Containers": "CONTAINERS",
    }

    def __init__(
        self, summary: ImageSummary, repository: str, tag: str, digest: str, no_trunc: bool = False
    ) -> None:
        self._summary = summary
        self._repository = repository
        self._tag = tag
        self._digest = digest
        self._full = no_trunc

    def Repository(self) -> str:
        return self._repository

    def Tag(self) -> str:
        return self._tag

    def Digest(self) -> str:
        return self._digest

    def ID(self) -> str:
        return self._summary["Id"] if self._full else units.short_id(self._summary["Id"])

    def CreatedSince(self) -> str:
        return units.human_since(self._summary["Created"]) if self._summary["Created"] > 0 else "N/A"

    def CreatedAt(self) -> str:
        return units.local_time(self._summary["Created"])

    def Size(self) -> str:
        return units.human_size(self._summary["Size"], 3)

    def SharedSize(self) -> str:
        shared = self._summary.get("SharedSize", -1)
        return units.human_size(shared) if shared >= 0 else "N/A"

    def UniqueSize(self) -> str:
        shared = self._summary.get("SharedSize", -1)
        return units.human_size(self._summary["Size"] - shared) if shared >= 0 else "N/A"

    def Containers(self) -> str:
        count = self._summary.get("Containers", -1)
        return str(count) if count >= 0 else "N/A"


def image_rows(
    summaries: Iterable[ImageSummary], *, digests: bool = False, no_trunc: bool = False
) -> Iterator[ImageRow]:
    """A row for each name of each image, with `digests` for each digest of it too; "<none>" without any."""
    for summary in summaries:
        tags = [split_reference(tag) for tag in summary.get("RepoTags") or [] if tag != f"{NONE}:{NONE}"]
        known: dict[str, list[str]] = {}
        for entry in summary.get("RepoDigests") or []:
            repository, _, digest = entry.partition("@")
            if repository != NONE:
                known.setdefault(repository, []).append(digest)
        for repository, tag in tags:
            for digest in (known.get(repository) or [NONE]) if digests else [NONE]:
                yield ImageRow(summary, repository, tag, digest, no_trunc)
        for repository in known.keys() - {name for name, _ in tags}:
            for digest in known[repository] if digests else [NONE]:
                yield ImageRow(summary, repository, NONE, digest, no_trunc)
        if not tags and not known:
            yield ImageRow(summary, NONE, NONE, NONE, no_trunc)


def split_reference(reference: str) -> tuple[str, str]:
    """ "host:5000/name:tag" as repository and tag; the tag is empty where there is none."""
    head, slash, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag


class HistoryRow(Row):
    """The fields of `proa history --format`."""

    HEADERS: ClassVar[dict[str, str]] = {
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    }

    def __init__(self, entry: dict[str, Any], *, human: bool = True, no_trunc: bool = False) -> None:
        self._entry = entry
        self._human = human
        self._full = no_trunc

    def ID(self) -> str:
        return str(self._entry["Id"]) if self._full else units.short_id(self._entry["Id"])

    def CreatedSince(self) -> str:
        if not self._human:
            return self.CreatedAt()
        return units.human_since(self._entry["Created"]) if self._entry["Created"] > 0 else "N/A"

    def CreatedAt(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._entry["Created"]))

    def CreatedBy(self) -> str:
        command = str(self._entry.get("CreatedBy", "")).replace("\t", " ")
        return command if self._full else units.ellipsis(command, CREATED_BY_WIDTH)

    def Size(self) -> str:
        size = self._entry.get("Size", 0)
        return units.human_size(size, 3) if self._human else str(size)

    def Comment(self) -> str:
        return str(self._entry.get("Comment", ""))
