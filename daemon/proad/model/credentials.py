"""Sync, pure. Who somebody is to a registry, as clients of the Engine API say it in headers and bodies.

Form: https://docs.docker.com/reference/api/engine/ ("Authentication").
"""

import base64
import binascii
from typing import Any

import msgspec

from proad.model import errors, gojson


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A name with a password, or with an identity token that takes its place, or a registry token to be
    passed on as it is; all empty for somebody without a name.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server_address: str = ""


NOBODY = Credentials()


class _AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON that clients send."""

    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""
    serveraddress: str = ""


def parse_auth_config(body: bytes) -> Credentials:
    """Credentials from the JSON object that ``POST /auth`` brings.

    Raises:
        errors.InvalidParameter: it is none.
    """
    return _credentials(gojson.parse_object(body))


def parse_registry_auth(header: str) -> Credentials:
    """The credentials of ``X-Registry-Auth``: base64url of a JSON object; nobody's for an empty header.

    Raises:
        errors.InvalidParameter: it is not of that form.
    """
    fields = _decoded("X-Registry-Auth", header)
    return _credentials(fields) if fields else NOBODY


def parse_registry_config(header: str) -> dict[str, Credentials]:
    """The credentials of ``X-Registry-Config``, by the address of the registry that each is for.

    Raises:
        errors.InvalidParameter: it is not base64url of a JSON object of objects.
    """
    found = {}
    for address, fields in _decoded("X-Registry-Config", header).items():
        if not isinstance(fields, dict):
            raise errors.InvalidParameter(f"invalid X-Registry-Config header: {address} is not an object")
        found[address] = _credentials(fields)
    return found


def _decoded(name: str, header: str) -> dict[str, Any]:
    if not header.strip():
        return {}
    text = header.strip().replace("+", "-").replace("/", "_").rstrip("=")
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise errors.InvalidParameter(f"invalid {name} header: not base64url") from None
    try:
        return gojson.parse_object(content)
    except errors.InvalidParameter as error:
        raise errors.InvalidParameter(f"invalid {name} header: {error.message}") from error


def _credentials(fields: dict[str, Any]) -> Credentials:
    told = gojson.convert(fields, _AuthConfig)
    return Credentials(
        username=told.username,
        password=told.password,
        identity_token=told.identitytoken,
        registry_token=told.registrytoken,
        server_address=told.serveraddress,
    )
