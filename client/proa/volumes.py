"""Sync, blocking. The volume operations of the Python API (`Client.volumes`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from proa.http1 import percent
from proa.results import Pruned
from proa.transport import Transport

if TYPE_CHECKING:
    from proa.types import JSON, Filters, Volume


class Volumes:
    """Volumes are known by their names; unknown ones raise NotFound."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def list(self, filters: Filters | None = None) -> list[Volume]:
        """All volumes that match."""
        answer = self._http.json("GET", "/volumes", {"filters": filters or None})
        return cast("list[Volume]", answer.get("Volumes") or [])

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Create a volume, or return the one of that name; without a name it gets a random one."""
        body: JSON = {
            "Name": name,
            "Driver": driver,
            "DriverOpts": dict(options or {}),
            "Labels": dict(labels or {}),
        }
        return cast("Volume", self._http.json("POST", "/volumes/create", None, body))

    def inspect(self, name: str) -> Volume:
        """Everything about one volume."""
        return cast("Volume", self._http.json("GET", f"/volumes/{percent(name)}"))

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it. Raises Conflict while a container refers to it."""
        path = f"/volumes/{percent(name)}"
        self._http.json("DELETE", path, {"force": force or None}, patient=True)

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the anonymous volumes nobody uses; named ones too with the filter {"all": ["true"]}."""
        answer = self._http.json("POST", "/volumes/prune", {"filters": filters or None}, patient=True) or {}
        return Pruned(answer.get("VolumesDeleted") or [], answer.get("SpaceReclaimed") or 0)
