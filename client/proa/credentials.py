"""Sync, pure. Who one is to a registry, and how the API's headers tell it.

Source: "Authentication" in the Engine API: base64url of JSON, in X-Registry-Auth for one registry and in
X-Registry-Config for all of them.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from typing import NamedTuple

_URL_SAFE = str.maketrans("+/", "-_")


class Credentials(NamedTuple):
    """What a registry is shown: a name and a password, or a token that stands for them. All may be empty."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server_address: str = ""

    def fields(self) -> dict[str, str]:
        """As the API calls them; what is empty is left out."""
        named = {
            "username": self.username,
            "password": self.password,
            "serveraddress": self.server_address,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
        }
        return {key: value for key, value in named.items() if value}


def auth_header(credentials: Credentials) -> dict[str, str]:
    """The header that says who one is to the registry of a pull, a push or a search."""
    return {"X-Registry-Auth": _encode(credentials.fields())}


def config_header(credentials: Mapping[str, Credentials]) -> dict[str, str]:
    """The header that says who one is to each registry a build may need."""
    return {"X-Registry-Config": _encode({key: value.fields() for key, value in credentials.items()})}


def _encode(value: object) -> str:
    encoded = binascii.b2a_base64(json.dumps(value).encode(), newline=False).decode()
    return encoded.translate(_URL_SAFE)
