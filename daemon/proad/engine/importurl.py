"""Trio-flavoured. Import of a root filesystem's tar from a URL: downloaded and unpacked in one pipeline."""

import io
import os
from collections.abc import Sequence

from proad.engine.imageintake import Report
from proad.engine.images import Images
from proad.engine.piping import piped
from proad.host.registry import Registries
from proad.model import progress
from proad.model.image import Image
from proad.model.imagearchive import Platform
from proad.model.reference import Reference

MAX_ARCHIVE_BYTES = 1 << 40


class UrlImport:
    def __init__(self, images: Images, registries: Registries) -> None:
        self._images = images
        self._registries = registries

    async def import_(
        self,
        url: str,
        *,
        reference: Reference | None,
        message: str,
        changes: Sequence[str],
        platform: Platform | None,
        report: Report,
    ) -> Image:
        """Make an image of one layer from the archive at ``url``; a URL without a scheme is one of HTTP.

        Raises:
            errors.ProaError: the archive cannot be had, or not be taken; see ``Images.import_``.
        """
        if "://" not in url:
            url = f"http://{url}"
        is_there = False

        def told(current: int, total: int) -> None:
            nonlocal is_there
            if not is_there:
                report(progress.message(f"Downloading from {url}"))
            is_there = True
            report(progress.progress("", "Importing", current, total))

        async def pour(sink: int) -> None:
            await self._registries.download(url, sink, max_bytes=MAX_ARCHIVE_BYTES, progress=told)

        async def take(source: int) -> Image:
            return await self._images.import_(
                io.FileIO(os.dup(source), "rb"),
                reference=reference,
                message=message,
                changes=changes,
                platform=platform,
            )

        image = await piped(pour, take)
        report(progress.message(image.id))
        return image
