"""Trio-flavoured. The images that builds begin with, or copy from: here, or to be pulled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from proad.engine.buildoutput import BuildOutput
from proad.engine.images import Images
from proad.model import errors
from proad.model.image import Image
from proad.model.imagearchive import Platform
from proad.model.reference import parse_reference


class Pull(Protocol):
    """Gets an image out of a registry; see ``engine.pull``."""

    async def __call__(
        self, name: str, platform: Platform | None, registry_config: Mapping[str, Any], output: BuildOutput
    ) -> Image: ...


@dataclass(frozen=True)
class BaseRules:
    """``pull`` is to look for a newer one whatever is here; ``registry_config`` says who we are to registries."""

    pull: bool
    platform: Platform | None
    registry_config: Mapping[str, Any]


class Bases:
    """Finds the bases of one build; each is asked for once."""

    def __init__(self, images: Images, pull: Pull, rules: BaseRules, output: BuildOutput) -> None:
        self._images = images
        self._pull = pull
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
            image = await self._pull(name, platform, self._rules.registry_config, self._output)
        self._found[name, platform] = image
        return image

    def _local(self, name: str, platform: Platform | None) -> Image | None:
        try:
            image = self._images.resolve(name)
        except errors.NotFound:
            parse_reference(name)
            return None
        if platform is not None and not platform.matches(image.os, image.architecture, image.variant):
            return None
        return image
