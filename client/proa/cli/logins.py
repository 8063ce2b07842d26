"""Sync, blocking. The credentials that a command sends along, as `proa login` or `docker login` stored them.

Most images are for everybody, so credentials that cannot be had are a warning and no more.
"""

from __future__ import annotations

import sys

from proa.credentials import Credentials
from proa.credentialstore import open_store
from proa.errors import CredentialsFailed
from proa.reference import Reference


def credentials_for(reference: Reference) -> Credentials:
    """Those for the registry of an image."""
    try:
        return open_store().get(reference.registry_key)
    except CredentialsFailed as error:
        _warn(error)
        return Credentials()


def all_credentials() -> dict[str, Credentials]:
    """Those for every registry, for a build that may need any."""
    try:
        return open_store().all()
    except CredentialsFailed as error:
        _warn(error)
        return {}


def _warn(error: CredentialsFailed) -> None:
    print(f"WARNING: asking without credentials: {error}", file=sys.stderr)
