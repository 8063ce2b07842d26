"""Sync, blocking. The daemon itself in the Python API (`Client.system`): versions, facts, events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from proa.transport import Answer, Transport

if TYPE_CHECKING:
    from proa.credentials import Credentials
    from proa.types import JSON, Event, Filters


class Events:
    """A subscription: iterate for events; it ends at `until`, or never. Use `with`, or close it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._answer.close()

    def __iter__(self) -> Iterator[Event]:
        return cast("Iterator[Event]", self._answer.objects())


class System:
    """Questions to the daemon about itself and its host."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def ping(self) -> str:
        """Whether it answers; returns its newest API version."""
        return self._http.head("/_ping").get("api-version", "")

    def version(self) -> JSON:
        """Versions of the daemon and its parts."""
        return cast("JSON", self._http.json("GET", "/version"))

    def info(self) -> JSON:
        """Counts, drivers, host facts, warnings."""
        return cast("JSON", self._http.json("GET", "/info"))

    def disk_usage(self) -> JSON:
        """Images, containers and volumes with their sizes."""
        return cast("JSON", self._http.json("GET", "/system/df", patient=True))

    def login(self, credentials: Credentials) -> tuple[str, str]:
        """Show credentials to their registry, `server_address`; returns what the daemon says of it, and an
        identity token to keep in place of the password, if the registry gives any. Raises APIError."""
        answer = self._http.json("POST", "/auth", body=credentials.fields(), patient=True)
        return answer.get("Status", ""), answer.get("IdentityToken", "")

    def events(
        self, *, since: str | None = None, until: str | None = None, filters: Filters | None = None
    ) -> Events:
        """Subscribe; `since` and `until` are seconds since the epoch as text ("1700000000.123456789")."""
        query = {"since": since, "until": until, "filters": filters or None}
        return Events(self._http.stream("GET", "/events", query))
