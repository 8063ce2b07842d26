"""Trio-flavoured. The images that builds begin with, or copy from: here, or to be pulled."""

from collections.abc import Mapping
from dataclasses import dataclass

from proad.engine.buildoutput import BuildOutput
from proad.engine.images import Images
from proad.engine.pull import Puller
from proad.model import errors
from proad.model.credentials import NOBODY, Credentials
from proad.model.image import Image
from proad.model.imagearchive import Platform
from proad.model.reference import DEFAULT_DOMAIN, Reference, parse_reference

_HUB = "https://index.docker.io/v1/"
"""What clients call Docker Hub where they keep passwords."""


@dataclass(frozen=True)
class BaseRules:
    """``pull`` is to look for a newer one whatever is here; ``credentials`` are by the registry's address."""

    pull: bool
    platform: Platform | None
    credentials: Mapping[str, Credentials]


class Bases:
    """Finds the bases of one build; each is asked for once."""

    def __init__(self, images: Images, puller: Puller, rules: BaseRules, output: BuildOutput) -> None:
        self._images = images
        self._puller = puller
        self._rules = rules
        self._output = output
        self._found: dict[tuple[str, Platform | None], Image] = {}

    async def get(self, name: str, platform: Platform | None = None) -> Image:
        """The image of that name; ``platform`` goes before the request's.

        Raises:
            errors.InvalidParameter: it can be no name.
            errors.ProaError: it is neither here nor to be had.
        """
        platform = platform or self._rules.platform
        if (found := self._found.get((name, platform))) is not None:
            return found
        image = None if self._rules.pull else self._local(name, platform)
        if image is None:
            image = await self._pull(parse_reference(name), platform)
        self._found[name, platform] = image
        return image

    async def _pull(self, wanted: Reference, platform: Platform | None) -> Image:
        credentials = credentials_for(wanted, self._rules.credentials)
        return await self._puller.pull(
            wanted, platform=platform, credentials=credentials, report=self._output.put
        )

    def _local(self, name: str, platform: Platform | None) -> Image | None:
        try:
            image = self._images.resolve(name)
        except errors.NotFound:
            return None
        if platform is not None and not platform.matches(image.os, image.architecture, image.variant):
            return None
        return image


def credentials_for(wanted: Reference, known: Mapping[str, Credentials]) -> Credentials:
    """Those of the registry that an image is in; nobody's where there are none."""
    address = _HUB if wanted.domain == DEFAULT_DOMAIN else wanted.domain
    if (found := known.get(address)) is not None:
        return found
    return next((found for key, found in known.items() if _host(key) == _host(address)), NOBODY)


def _host(address: str) -> str:
    """The host, and the port if there is one, of an address as clients write it."""
    return address.removeprefix("https://").removeprefix("http://").partition("/")[0]
