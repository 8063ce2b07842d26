"""Trio-flavoured. What is asked of registries beside pulls and pushes: login, inspection, search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proad.host.registry import Registries
from proad.model import errors, filters, imagearchive
from proad.model.credentials import Credentials
from proad.model.filters import Filters
from proad.model.imagearchive import Descriptor, Platform
from proad.model.reference import DEFAULT_DOMAIN, Reference
from proad.model.registrywire import SCHEMA1, Refused

MAX_RESULTS = 100
DEFAULT_RESULTS = 25
SEARCH_FILTERS = ("is-automated", "is-official", "stars")


@dataclass(frozen=True)
class Distribution:
    """What a name stands for in its registry, without pulling it."""

    descriptor: Descriptor
    platforms: Sequence[Platform]


@dataclass(frozen=True)
class Found:
    """One repository that a search has found."""

    name: str
    description: str
    stars: int
    is_official: bool


class RegistryQueries:
    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def login(self, credentials: Credentials) -> str:
        """The identity token that the registry gives in place of the password; empty where it gives none.

        Raises:
            errors.Unauthorized: the registry does not know that name with that password.
            errors.System: it cannot be reached, or fails.
        """
        return await self._registries.login(credentials)

    async def distribution(self, wanted: Reference, credentials: Credentials) -> Distribution:
        """Inspect an image in its registry.

        Raises:
            errors.Unauthorized, errors.Forbidden, errors.NotFound: the registry says so.
            errors.InvalidParameter: it is of a form that nothing can be told of.
        """
        wanted = wanted.with_default_tag()
        repository = self._registries.repository(wanted, credentials)
        try:
            fetched = await repository.manifest(wanted.digest or wanted.tag)
            descriptor = Descriptor(
                media_type=fetched.media_type, digest=fetched.digest, size=len(fetched.content)
            )
            if fetched.media_type in imagearchive.INDEXES:
                listed = imagearchive.parse_index(fetched.content)
                return Distribution(descriptor, [_platform(item.platform) for item in listed])
            if fetched.media_type in SCHEMA1:
                raise errors.InvalidParameter(
                    f"{wanted.familiar} has a manifest of schema 1, which is not supported any more"
                )
            config = imagearchive.parse_manifest(fetched.content).config
            image = imagearchive.parse_image(await repository.blob(config.digest))
            return Distribution(descriptor, [Platform(image.os, image.architecture, image.variant)])
        except Refused as error:
            raise _meaning(error) from error

    async def search(self, term: str, limit: int, wanted: Filters, credentials: Credentials) -> list[Found]:
        """Search the index of a registry, Docker Hub's unless the term begins with another's address.

        Raises:
            errors.InvalidParameter: the limit, a filter or the term cannot be.
            errors.System: the index cannot be reached, or fails.
        """
        automated = filters.parse_boolean(wanted, "is-automated")
        official = filters.parse_boolean(wanted, "is-official")
        least_stars = max(map(_stars, wanted.get("stars", [])), default=0)
        if "://" in term:
            raise errors.InvalidParameter(
                f"invalid repository name: repository name ({term}) should not have a scheme"
            )
        if not 1 <= limit <= MAX_RESULTS:
            raise errors.InvalidParameter(f"limit {limit} is outside the range of [1, {MAX_RESULTS}]")
        if automated:
            return []  # nothing is called so any more
        domain, rest = _split_term(term)
        found = [_found(item) for item in await self._registries.search(domain, rest, limit, credentials)]
        return [item for item in found if item.stars >= least_stars and official in (None, item.is_official)]


def _split_term(term: str) -> tuple[str, str]:
    head, slash, rest = term.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return (DEFAULT_DOMAIN if head == "index.docker.io" else head), rest
    return DEFAULT_DOMAIN, term.removeprefix("library/")


def _stars(text: str) -> int:
    if not text.isdecimal():
        raise errors.InvalidParameter(f"invalid filter 'stars={text}'")
    return int(text)


def _found(item: dict[str, Any]) -> Found:
    stars = item.get("star_count")
    return Found(
        name=str(item.get("name") or ""),
        description=str(item.get("description") or ""),
        stars=stars if isinstance(stars, int) else 0,
        is_official=item.get("is_official") is True,
    )


def _platform(said: dict[str, Any]) -> Platform:
    return Platform(
        str(said.get("os") or ""), str(said.get("architecture") or ""), str(said.get("variant") or "")
    )


def _meaning(error: Refused) -> errors.ProaError:
    meanings: dict[str, type[errors.ProaError]] = {
        "UNAUTHORIZED": errors.Unauthorized,
        "DENIED": errors.Forbidden,
        "MANIFEST_UNKNOWN": errors.NotFound,
        "NAME_UNKNOWN": errors.NotFound,
        "BLOB_UNKNOWN": errors.NotFound,
    }
    meaning = meanings.get(error.code)
    return meaning(error.message) if meaning else error
