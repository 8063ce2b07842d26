"""Sync, pure. A repository that a search found, as one row."""

from __future__ import annotations

from typing import Any, ClassVar

from proa.cli.text import units
from proa.cli.text.listing import Row

DESCRIPTION_WIDTH = 45


class SearchRow(Row):
    """The fields of `proa search --format`."""

    HEADERS: ClassVar[dict[str, str]] = {
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "StarCount": "STARS",
        "IsOfficial": "OFFICIAL",
    }

    def __init__(self, found: dict[str, Any], no_trunc: bool = False) -> None:
        self._found = found
        self._full = no_trunc

    def Name(self) -> str:
        return str(self._found.get("name", ""))

    def Description(self) -> str:
        text = str(self._found.get("description") or "").replace("\n", " ").replace("\r", " ")
        return text if self._full else units.ellipsis(text, DESCRIPTION_WIDTH)

    def StarCount(self) -> str:
        return str(self._found.get("star_count", 0))

    def IsOfficial(self) -> str:
        return "[OK]" if self._found.get("is_official") else ""

    def template_json(self) -> dict[str, Any]:
        """All fields, for `{{json .}}`, where a mark would be no answer."""
        official = "true" if self._found.get("is_official") else "false"
        return {**super().template_json(), "IsOfficial": official}
