"""Sync, blocking. Docker's configuration file: `config.json` in $DOCKER_CONFIG, else in ~/.docker.

It is shared with docker and its plugins, so whatever else stands in it stays.
"""

from __future__ import annotations

import binascii
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from proa.credentials import Credentials
from proa.errors import CredentialsFailed

_PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "noProxy": "NO_PROXY",
    "ftpProxy": "FTP_PROXY",
    "allProxy": "ALL_PROXY",
}


class DockerConfig:
    """The file as it was read. `auths` are the credentials in it, by what they are filed under."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self._content = content
        try:
            self.auths = read_auths(content.get("auths"))
        except ValueError as error:
            raise CredentialsFailed(f"{path}: {error}") from None

    @property
    def default_helper(self) -> str:
        """The credential helper for registries that have none of their own."""
        return str(self._content.get("credsStore") or "")

    @property
    def helpers(self) -> dict[str, str]:
        """The credential helpers of single registries."""
        return dict(self._content.get("credHelpers") or {})

    @property
    def mentions_credentials(self) -> bool:
        """Whether anybody has decided yet where credentials are kept."""
        return bool(self.default_helper or self.helpers or self.auths)

    def proxy_variables(self, host: str) -> dict[str, str]:
        """The environment that a daemon's containers are given, by `proxies`: each name in both spellings."""
        proxies = self._content.get("proxies") or {}
        chosen = proxies.get(host) or proxies.get("default") or {}
        found = {name: str(chosen[key]) for key, name in _PROXIES.items() if chosen.get(key)}
        return {**found, **{name.lower(): value for name, value in found.items()}}

    def keep(self, key: str, credentials: Credentials) -> bool:
        """File credentials; returns whether the file changed. Raises CredentialsFailed."""
        if self.auths.get(key) == credentials:
            return False
        self.auths[key] = credentials
        entry = {
            "auth": _joined(credentials),
            "identitytoken": credentials.identity_token,
            "registrytoken": credentials.registry_token,
        }
        entries = self._content.setdefault("auths", {})
        entries[key] = {name: value for name, value in entry.items() if value}
        self._save()
        return True

    def forget(self, key: str) -> None:
        """Remove credentials, if there are any. Raises CredentialsFailed."""
        if self.auths.pop(key, None) is not None:
            del self._content["auths"][key]
            self._save()

    def _save(self) -> None:
        target = self.path.resolve()  # where a symlink leads to, even if nothing is there yet
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(target, json.dumps(self._content, indent="\t", ensure_ascii=False))
        except OSError as error:
            raise CredentialsFailed(f"{self.path}: {(error.strerror or str(error)).lower()}") from None


def load_config(environ: Mapping[str, str]) -> DockerConfig:
    """Read the file; one that is not there is empty. Raises CredentialsFailed."""
    directory = environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    path = Path(directory, "config.json")
    try:
        content = json.loads(path.read_text() or "{}")
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except FileNotFoundError:
        content = {}
    except OSError as error:
        raise CredentialsFailed(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise CredentialsFailed(f"{path}: {error}") from None
    return DockerConfig(path, content)


def read_auths(entries: object) -> dict[str, Credentials]:
    """The credentials in the `auths` of the file. Raises ValueError."""
    if not isinstance(entries, dict | None):
        raise ValueError("auths is not an object")
    found: dict[str, Credentials] = {}
    for key, entry in (entries or {}).items():
        if not isinstance(entry, dict):
            raise ValueError(f"auths has no object for {key}")
        username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        if entry.get("auth"):
            username, password = _parted(str(entry["auth"]))
        found[key] = Credentials(
            username,
            password,
            str(entry.get("identitytoken") or ""),
            str(entry.get("registrytoken") or ""),
            key,
        )
    return found


def _joined(credentials: Credentials) -> str:
    if not credentials.username and not credentials.password:
        return ""
    both = f"{credentials.username}:{credentials.password}"
    return binascii.b2a_base64(both.encode(), newline=False).decode()


def _parted(encoded: str) -> tuple[str, str]:
    try:
        username, colon, password = binascii.a2b_base64(encoded).decode().partition(":")
    except ValueError as error:
        raise ValueError(f"the credentials are garbled: {error}") from None
    if not colon or not username:
        raise ValueError("Invalid auth configuration file")
    return username, password.strip("\0")


def _replace(target: Path, text: str) -> None:
    """Write a file at once or not at all; owner and mode stay as they were, else only we may read it."""
    import tempfile

    descriptor, unfinished = tempfile.mkstemp(prefix=target.name, dir=target.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            # There may be no old one, or one of another user that we may write and not give away.
            with suppress(FileNotFoundError, PermissionError):
                old = target.stat()
                os.fchmod(file.fileno(), old.st_mode & 0o777)
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
