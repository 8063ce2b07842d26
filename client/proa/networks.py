"""Sync, blocking. The network operations of the Python API (`Client.networks`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from proa.http1 import percent
from proa.results import Created
from proa.transport import Transport

if TYPE_CHECKING:
    from proa.types import JSON, Filters, Network, Strings


class Networks:
    """Every `ref` is a full id, a unique prefix of one, or a name; unknown ones raise NotFound."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def list(self, filters: Filters | None = None) -> list[Network]:
        """All networks that match; without their containers, which only `inspect` tells."""
        return cast("list[Network]", self._http.json("GET", "/networks", {"filters": filters or None}))

    def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnets: Sequence[JSON] = (),
        ipam_driver: str = "default",
        ipam_options: Mapping[str, str] | None = None,
        ipv4: bool | None = None,
        ipv6: bool | None = None,
        internal: bool = False,
        attachable: bool = False,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        more: JSON | None = None,
    ) -> Created:
        """Create a network; returns its id and what the daemon warned about.

        `subnets` are Docker's IPAMConfig dictionaries (`{"Subnet": "10.5.0.0/24", "Gateway": "10.5.0.1"}`);
        without any the daemon chooses. None for `ipv4` and `ipv6` leaves them to the daemon. `more` is laid
        over the request, for keys that have no argument here. Raises Conflict (the name is taken), Forbidden
        (a subnet overlaps with another network's), BadRequest.
        """
        body: JSON = {
            "Name": name,
            "Driver": driver,
            "IPAM": {"Driver": ipam_driver, "Config": [*subnets], "Options": dict(ipam_options or {})},
            "Internal": internal,
            "Attachable": attachable,
            "Options": dict(options or {}),
            "Labels": dict(labels or {}),
            **({} if ipv4 is None else {"EnableIPv4": ipv4}),
            **({} if ipv6 is None else {"EnableIPv6": ipv6}),
            **(more or {}),
        }
        answer = self._http.json("POST", "/networks/create", None, body, patient=True)
        # A text before API version 1.44, and in others' daemons one that says nothing.
        warnings = answer.get("Warnings") or answer.get("Warning") or []
        return Created(answer["Id"], [warnings] if isinstance(warnings, str) else warnings)

    def inspect(self, ref: str, *, verbose: bool = False) -> Network:
        """Everything about one network, with the running containers on it."""
        return cast("Network", self._http.json("GET", _path(ref), {"verbose": verbose or None}))

    def connect(self, ref: str, container: str, settings: JSON | None = None) -> None:
        """Put a container on it, running or not.

        `settings` is Docker's EndpointSettings dictionary (`{"Aliases": ["db"]}`). Raises Forbidden where it
        is on that network already, or where the network or the container's mode takes nobody.
        """
        body: JSON = {"Container": container, "EndpointConfig": settings or {}}
        self._http.json("POST", _path(ref, "/connect"), None, body, patient=True)

    def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        """Take a container off it. Raises Forbidden where it is not on it, unless `force`."""
        body: JSON = {"Container": container, "Force": force}
        self._http.json("POST", _path(ref, "/disconnect"), None, body, patient=True)

    def remove(self, ref: str) -> None:
        """Remove it. Raises Forbidden while containers run on it, and for the predefined ones."""
        self._http.json("DELETE", _path(ref), patient=True)

    def prune(self, filters: Filters | None = None) -> Strings:
        """Remove those that no container is on; returns their names."""
        answer = self._http.json("POST", "/networks/prune", {"filters": filters or None}, patient=True) or {}
        return answer.get("NetworksDeleted") or []


def _path(ref: str, verb: str = "") -> str:
    return f"/networks/{percent(ref)}{verb}"
