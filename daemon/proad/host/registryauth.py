"""asyncio-flavoured. Telling a registry who is there: Basic, tokens of a token server, a token given.

Tokens: https://distribution.github.io/distribution/spec/auth/token/ and, with an identity token,
https://distribution.github.io/distribution/spec/auth/oauth/.
"""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from proad.host.registryhttp import MAX_JSON_BYTES, Connections, error_of, read_bounded
from proad.model import gojson
from proad.model.credentials import Credentials
from proad.model.registrywire import Challenge, NoCredentials, RegistryError

CLIENT_ID = "docker"
SHORTEST_LIFE_S = 60
"""What a token lives that does not say how long, and at least."""
EARLY_S = 10.0


@dataclass
class _Token:
    text: str
    until: float


@dataclass
class Authority:
    """Answers the challenges of one registry on behalf of somebody.

    ``identity_token`` becomes what a token server gave to be kept in place of the password, where
    ``offline`` asked for it.
    """

    connections: Connections
    credentials: Credentials
    offline: bool = False
    identity_token: str = ""
    _tokens: dict[str, _Token] = field(default_factory=dict)

    async def header(self, challenges: Sequence[Challenge], scopes: Sequence[str], asking: str) -> str:
        """The ``Authorization`` that answers; empty where nothing is asked. ``asking`` is for errors.

        Raises:
            NoCredentials: a name is wanted, and there is none.
            RegistryError: the token server gives none.
        """
        schemes = {challenge.scheme: challenge for challenge in challenges}
        if "bearer" in schemes:
            if self.credentials.registry_token:
                return f"Bearer {self.credentials.registry_token}"
            return f"Bearer {await self._token(schemes['bearer'], scopes, asking)}"
        if "basic" in schemes:
            if not self.credentials.username:
                raise NoCredentials(f"{asking}: no basic auth credentials")
            return basic(self.credentials)
        return ""

    def forget(self) -> None:
        """Take new tokens from now on: one was not accepted."""
        self._tokens.clear()

    async def _token(self, challenge: Challenge, scopes: Sequence[str], asking: str) -> str:
        asked = challenge.parameters.get("scope", "").split()
        wanted = " ".join(dict.fromkeys((*scopes, *asked)))
        known = self._tokens.get(wanted)
        if known and known.until > time.monotonic():
            return known.text
        realm = challenge.parameters.get("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise RegistryError(f"{asking}: no valid realm specified in the challenge for a token")
        answer = await self._ask(realm, challenge.parameters.get("service", ""), wanted.split(), asking)
        text = answer.get("token") or answer.get("access_token")
        if not isinstance(text, str) or not text:
            raise RegistryError(f"{asking}: authorization server did not include a token in the response")
        given = answer.get("refresh_token")
        if isinstance(given, str):
            self.identity_token = given
        life = answer.get("expires_in")
        life_s = max(life if isinstance(life, (int, float)) else 0, SHORTEST_LIFE_S)
        self._tokens[wanted] = _Token(text, time.monotonic() + life_s - EARLY_S)
        return text

    async def _ask(self, realm: str, service: str, scopes: Sequence[str], asking: str) -> dict[str, Any]:
        credentials = self.credentials
        headers: dict[str, str] = {}
        if credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "service": service,
                "client_id": CLIENT_ID,
                "scope": " ".join(scopes),
            }
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            request = self.connections.request(
                "POST", realm, headers=headers, body=urlencode(form).encode(), follow=False
            )
        else:
            query = [("scope", scope) for scope in scopes]
            query += [("service", service)] if service else []
            if credentials.username:
                query.append(("account", credentials.username))
                headers["Authorization"] = basic(credentials)
            if self.offline:
                query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
            request = self.connections.request("GET", url, headers=headers)
        async with request as response:
            if response.status not in (200, 201):
                error = await error_of(response)
                error.args = (f"{asking}: {error.message}", *error.args[1:])
                raise error
            content = await read_bounded(response, MAX_JSON_BYTES)
        try:
            answer = msgspec.json.decode(content)
        except gojson.UNREADABLE as error:
            raise RegistryError(f"{asking}: unable to decode token response: {error}") from error
        if not isinstance(answer, dict):
            raise RegistryError(f"{asking}: unable to decode token response: not an object")
        return answer


def basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
