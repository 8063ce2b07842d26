"""Sync, blocking. Where credentials are kept: docker's configuration file, or programs that know a safer one.

A helper is a program `docker-credential-NAME`, told what to do by its argument (`get`, `store`, `erase`,
`list`), given the rest on its standard input. Source: github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from proa.credentials import Credentials
from proa.dockerconfig import DockerConfig, load_config, read_auths
from proa.errors import CredentialsFailed

ENVIRONMENT = "DOCKER_AUTH_CONFIG"
"""A variable with `auths` as in the file, which come first."""
NOT_FOUND = "credentials not found in native keychain"
TOKEN_USER = "<token>"
"""The name under which helpers keep identity tokens."""
_DOING = {"get": "getting", "store": "storing", "erase": "erasing", "list": "listing"}


class CredentialStore:
    """All places where credentials are. Keys are names of registries; docker.io's is a URL, `HUB_KEY`."""

    def __init__(self, config: DockerConfig, environ: Mapping[str, str]) -> None:
        self.config = config
        self._environ = environ
        self._given = _from_environment(environ)

    def get(self, key: str) -> Credentials:
        """The credentials for a registry, empty where there are none. Raises CredentialsFailed."""
        if key in self._given:
            return self._given[key]
        helper = self._helper(key)
        return self._ask(helper, key) if helper else self._filed(key)

    def all(self) -> dict[str, Credentials]:
        """All credentials there are. Raises CredentialsFailed."""
        default = self._helper("")
        if default:
            listed = json.loads(self._run(default, "list", "") or "{}")
            found = {key: self._ask(default, key) for key in listed}
        else:
            found = dict(self.config.auths)
        for key, helper in self.config.helpers.items():
            found[key] = self._ask(helper, key)
        return {**found, **self._given}

    def store(self, credentials: Credentials) -> bool:
        """Keep credentials under their server address; returns whether a password went into the file.

        Raises CredentialsFailed.
        """
        key = credentials.server_address
        helper = self._helper(key)
        if not helper:
            return self.config.keep(key, credentials) and bool(credentials.password)
        token = credentials.identity_token
        secret = {
            "ServerURL": key,
            "Username": TOKEN_USER if token else credentials.username,
            "Secret": token or credentials.password,
        }
        self._run(helper, "store", json.dumps(secret))
        self.config.keep(key, Credentials(server_address=key))
        return False

    def erase(self, key: str) -> None:
        """Forget the credentials for a registry. Raises CredentialsFailed."""
        helper = self._helper(key)
        if helper:
            self._run(helper, "erase", key)
        self.config.forget(key)

    def _helper(self, key: str) -> str:
        helper = self.config.helpers.get(key) or self.config.default_helper
        if helper or self.config.mentions_credentials:
            return helper
        return _default_helper(self._environ)

    def _filed(self, key: str) -> Credentials:
        auths = self.config.auths
        if key in auths:
            return auths[key]
        # Perhaps filed as a URL, as docker once did.
        return next((auths[other] for other in auths if hostname(other) == key), Credentials())

    def _ask(self, helper: str, key: str) -> Credentials:
        answer = self._run(helper, "get", key)
        if not answer:
            return Credentials()
        try:
            told: dict[str, Any] = json.loads(answer)
            username, secret = str(told["Username"]), str(told["Secret"])
        except (ValueError, KeyError, TypeError):
            raise CredentialsFailed(f"docker-credential-{helper} answers no credentials for {key}") from None
        if username == TOKEN_USER:
            return Credentials(identity_token=secret, server_address=key)
        return Credentials(username, secret, server_address=key)

    def _run(self, helper: str, action: str, text: str) -> str:
        """What a helper says; empty when it knows nothing of that registry."""
        import subprocess

        program = f"docker-credential-{helper}"
        try:
            ended = subprocess.run(
                [program, action], input=text, stdout=subprocess.PIPE, env=dict(self._environ),
                text=True, check=False,
            )  # fmt: skip
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            why = "executable file not found in $PATH" if is_missing else error.strerror
            raise CredentialsFailed(
                f'error {_DOING[action]} credentials - err: exec: "{program}": {why}, out: ``'
            ) from None
        said = ended.stdout.strip()
        if ended.returncode == 0:
            return said
        if said == NOT_FOUND and action in ("get", "erase"):
            return ""
        raise CredentialsFailed(
            f"error {_DOING[action]} credentials - err: exit status {ended.returncode}, out: `{said}`"
        )


def open_store(environ: Mapping[str, str] | None = None) -> CredentialStore:
    """The credentials of whoever runs this. Raises CredentialsFailed."""
    environ = os.environ if environ is None else environ
    return CredentialStore(load_config(environ), environ)


def hostname(address: str) -> str:
    """The host of a registry's address, and its port: `https://reg:5000/v2/` is `reg:5000`."""
    rest = address.partition("://")[2] or address
    return rest.partition("/")[0].rpartition("@")[2] if "://" in address else rest.partition("/")[0]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Credentials]:
    text = environ.get(ENVIRONMENT)
    if not text:
        return {}
    try:
        content = json.loads(text)
        return read_auths(content.get("auths") if isinstance(content, dict) else content)
    except ValueError as error:
        raise CredentialsFailed(f"{ENVIRONMENT}: {error}") from None


def _default_helper(environ: Mapping[str, str]) -> str:
    """The helper that is used where nobody has said anything, if it is there."""
    import shutil

    path = environ.get("PATH")
    helper = "pass" if shutil.which("pass", path=path) else "secretservice"
    return helper if shutil.which(f"docker-credential-{helper}", path=path) else ""
