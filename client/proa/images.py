"""Sync, blocking. The image operations of the Python API (`Client.images`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from proa.credentials import Credentials, auth_header, config_header
from proa.errors import WorkFailed
from proa.http1 import percent
from proa.results import Pruned
from proa.transport import Answer, Readable, Transport

if TYPE_CHECKING:
    from proa.reference import Reference
    from proa.types import JSON, Filters, ImageSummary, Objects, Strings

Progress = Callable[[dict[str, Any]], object]


class Images:
    """Every `ref` is a name with an optional tag or digest, an id, or a unique prefix of one.

    `progress` is called with each of the daemon's messages about work that takes long. `credentials` are for
    the registry that is asked; None takes those that `docker login` or `proa login` stored.
    """

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

    def load(
        self,
        source: Readable,
        *,
        quiet: bool = False,
        platforms: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Strings:
        """Load images from an archive (docker save, OCI layout); returns the daemon's lines of text."""
        said: Strings = []
        query = {"quiet": quiet, "platform": [_platform(text) for text in platforms]}
        with self._http.stream("POST", "/images/load", query, source) as answer:
            for entry in _checked(answer.objects(), progress):
                if "stream" in entry:
                    said.append(entry["stream"])
        return said

    def save(self, refs: Sequence[str], *, platforms: Sequence[str] = ()) -> Answer:
        """The archive of one or more images, to iterate over for its bytes; use `with`, or close it."""
        query = {"names": list(refs), "platform": [_platform(text) for text in platforms]}
        return self._http.stream("GET", "/images/get", query)

    def pull(
        self,
        name: str,
        *,
        all_tags: bool = False,
        platform: str = "",
        credentials: Credentials | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fetch an image from its registry: `name` has a tag, a digest, or means `latest`.

        Raises BadName, CredentialsFailed; WorkFailed where the registry or the daemon gave up on the way.
        """
        wanted = _meant(name, all_tags)
        query = {
            "fromImage": wanted.full_name,
            "tag": wanted.version or None,
            "platform": platform or None,
        }
        headers = _auth(wanted, credentials)
        with self._http.stream("POST", "/images/create", query, headers=headers) as answer:
            for _ in _checked(answer.objects(), progress):
                pass

    def push(
        self,
        name: str,
        *,
        all_tags: bool = False,
        platform: str = "",
        credentials: Credentials | None = None,
        progress: Progress | None = None,
    ) -> Objects:
        """Send an image to its registry; returns {"Tag": …, "Digest": …, "Size": …} of each tag.

        Raises what `pull` raises.
        """
        given = _meant(name, all_tags)
        query = {"tag": given.tag or None, "platform": _platform(platform) if platform else None}
        path = _path(given.full_name, "push")
        pushed: Objects = []
        with self._http.stream("POST", path, query, headers=_auth(given, credentials)) as answer:
            for entry in _checked(answer.objects(), progress):
                if "Digest" in (entry.get("aux") or {}):
                    pushed.append(entry["aux"])
        return pushed

    def search(
        self,
        term: str,
        *,
        limit: int | None = None,
        filters: Filters | None = None,
        credentials: Credentials | None = None,
    ) -> Objects:
        """Repositories of a registry that have to do with a term."""
        from proa.reference import searched

        query = {"term": term, "limit": limit or None, "filters": filters or None}
        headers = _auth(searched(term), credentials)
        return cast("Objects", self._http.json("GET", "/images/search", query, patient=True, headers=headers))

    def build(
        self,
        context: str | Readable,
        *,
        dockerfile: str = "",
        tags: Sequence[str] = (),
        build_args: Mapping[str, str | None] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        platform: str = "",
        use_cache: bool = True,
        cache_from: Sequence[str] = (),
        pull: bool = False,
        quiet: bool = False,
        options: Mapping[str, Any] | None = None,
        credentials: Mapping[str, Credentials] | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Build an image and return its id.

        `context` is a directory, a URL of an archive, a Dockerfile or a git repository, or an archive that is
        open for reading. `dockerfile` is a path: within an archive or repository, else from here. A build
        argument of None takes the daemon's default. `options` are more of the API's parameters (`{"memory":
        1 << 30, "networkmode": "none"}`). `credentials` are for all the registries that may be asked.

        Raises ContextFailed, CredentialsFailed; WorkFailed where a step failed.
        """
        if isinstance(context, str):
            from proa.context.prepare import prepare

            with prepare(context, dockerfile) as prepared:
                return self.build(
                    prepared.archive, dockerfile=prepared.dockerfile, tags=tags, build_args=build_args,
                    labels=labels, target=target, platform=platform, use_cache=use_cache,
                    cache_from=cache_from, pull=pull, quiet=quiet, options=options, credentials=credentials,
                    progress=progress,
                )  # fmt: skip
        if credentials is None:
            from proa.credentialstore import open_store

            credentials = open_store().all()
        query = {
            "dockerfile": dockerfile or None,
            "t": list(tags),
            "buildargs": json.dumps(build_args) if build_args else None,
            "labels": labels or None,
            "target": target or None,
            "platform": platform or None,
            "nocache": not use_cache or None,
            "cachefrom": json.dumps(list(cache_from)) if cache_from else None,
            "pull": pull or None,
            "q": quiet or None,
            "version": "1",
            **(options or {}),
        }
        image_id = ""
        with self._http.stream("POST", "/build", query, context, config_header(credentials)) as answer:
            for entry in _checked(answer.objects(), progress):
                if "ID" in (entry.get("aux") or {}):
                    image_id = entry["aux"]["ID"]
                elif quiet and entry.get("stream", "").startswith("sha256:"):
                    image_id = entry["stream"].strip()
        return image_id

    def prune_builds(
        self, *, all: bool = False, keep_bytes: int | None = None, filters: Filters | None = None
    ) -> Pruned:
        """Remove what builds kept to be quicker next time; `all` includes what is in use by images."""
        query = {"all": all or None, "keep-storage": keep_bytes, "filters": filters or None}
        answer = self._http.json("POST", "/build/prune", query, patient=True) or {}
        return Pruned(answer.get("CachesDeleted") or [], answer.get("SpaceReclaimed") or 0)


def _checked(entries: Iterator[JSON], progress: Progress | None) -> Iterator[JSON]:
    """Pass progress entries on, and raise the error that such a stream ends with when the work failed."""
    for entry in entries:
        if "error" in entry or "errorDetail" in entry:
            detail = entry.get("errorDetail") or {}
            raise WorkFailed(int(detail.get("code") or 0), detail.get("message") or entry.get("error", ""))
        if progress is not None:
            progress(entry)
        yield entry


def _path(ref: str, verb: str) -> str:
    return f"/images/{percent(ref, b'/:@')}/{verb}"


def _meant(name: str, all_tags: bool) -> Reference:
    from proa.reference import parse_reference, parse_tagged  # listing images needs no names taken apart

    return parse_reference(name) if all_tags else parse_tagged(name)


def _auth(reference: Reference, credentials: Credentials | None) -> dict[str, str]:
    if credentials is None:
        from proa.credentialstore import open_store

        credentials = open_store().get(reference.registry_key)
    return auth_header(credentials)


def _platform(text: str) -> str:
    """`os[/architecture[/variant]]` as the API's JSON."""
    names = ("os", "architecture", "variant")
    return json.dumps(dict(zip(names, text.split("/"), strict=False)))
