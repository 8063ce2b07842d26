"""Sync, blocking. The image operations of the Python API (`Client.images`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from proa.errors import APIError
from proa.http1 import percent
from proa.transport import Readable, Transport

if TYPE_CHECKING:
    from proa.types import JSON, Filters, ImageSummary, Objects, Strings

Progress = Callable[[dict[str, Any]], None]


class Images:
    """Every `ref` is a name with an optional tag or digest, an id, or a unique prefix of one."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def list(
        self, *, all: bool = False, digests: bool = False, filters: Filters | None = None
    ) -> list[ImageSummary]:
        """The images; `all` includes intermediate ones."""
        query = {"all": all or None, "digests": digests or None, "filters": filters or None}
        return cast("list[ImageSummary]", self._http.json("GET", "/images/json", query))

    def inspect(self, ref: str) -> JSON:
        """Everything about one image."""
        return cast("JSON", self._http.json("GET", _path(ref, "json")))

    def history(self, ref: str) -> Objects:
        """Its layers, newest first."""
        return cast("Objects", self._http.json("GET", _path(ref, "history")))

    def tag(self, ref: str, repository: str, tag: str) -> None:
        """Give it another name."""
        self._http.json("POST", _path(ref, "tag"), {"repo": repository, "tag": tag})

    def remove(self, ref: str, *, force: bool = False, no_prune: bool = False) -> Objects:
        """Remove a name, and the image with its last one; returns {"Untagged": …}, {"Deleted": …} entries."""
        query = {"force": force or None, "noprune": no_prune or None}
        answer = self._http.json("DELETE", f"/images/{percent(ref, b'/:@')}", query, patient=True)
        return cast("Objects", answer or [])

    def prune(self, filters: Filters | None = None) -> tuple[Objects, int]:
        """Remove unused images; returns the entries as `remove` does and the bytes given back."""
        answer = self._http.json("POST", "/images/prune", {"filters": filters or None}, patient=True) or {}
        return answer.get("ImagesDeleted") or [], answer.get("SpaceReclaimed") or 0

    def import_(
        self,
        source: Readable | str,
        *,
        repository: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
        progress: Progress | None = None,
    ) -> str:
        """Make an image of one layer from a tar archive (a file, or a URL for the daemon to fetch).

        `changes` are Dockerfile instructions such as 'CMD ["sh"]'. Returns the new image's id.
        """
        query = {
            "fromSrc": source if isinstance(source, str) else "-",
            "repo": repository or None,
            "tag": tag or None,
            "message": message or None,
            "changes": list(changes),
            "platform": platform or None,
        }
        body = None if isinstance(source, str) else source
        status = ""
        with self._http.stream("POST", "/images/create", query, body) as answer:
            for entry in _checked(answer.objects(), progress):
                status = entry.get("status", status)
        return status

    def load(self, source: Readable, *, quiet: bool = False, progress: Progress | None = None) -> Strings:
        """Load images from an archive (docker save, OCI layout); returns the daemon's lines of text."""
        said: Strings = []
        with self._http.stream("POST", "/images/load", {"quiet": quiet}, source) as answer:
            for entry in _checked(answer.objects(), progress):
                if "stream" in entry:
                    said.append(entry["stream"])
        return said

    def pull(self, name: str, tag: str, *, platform: str = "", progress: Progress | None = None) -> None:
        """Fetch an image from its registry."""
        query = {"fromImage": name, "tag": tag, "platform": platform or None}
        with self._http.stream("POST", "/images/create", query) as answer:
            for _ in _checked(answer.objects(), progress):
                pass


def _checked(entries: Iterator[JSON], progress: Progress | None) -> Iterator[JSON]:
    """Pass progress entries on, and raise the error that such a stream ends with when the work failed."""
    for entry in entries:
        if "error" in entry or "errorDetail" in entry:
            detail = entry.get("errorDetail") or {}
            raise APIError(int(detail.get("code") or 500), detail.get("message") or entry.get("error", ""))
        if progress is not None:
            progress(entry)
        yield entry


def _path(ref: str, verb: str) -> str:
    return f"/images/{percent(ref, b'/:@')}/{verb}"
