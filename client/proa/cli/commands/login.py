"""Sync, blocking. `proa login` and `proa logout`: credentials for registries, where docker keeps them."""

from __future__ import annotations

import os
import sys

import click

from proa.cli.group import Command
from proa.cli.session import Session, describe, pass_session
from proa.credentials import Credentials
from proa.credentialstore import ENVIRONMENT, CredentialStore, hostname, open_store
from proa.errors import APIError, CredentialsFailed
from proa.reference import DEFAULT_DOMAIN, HUB_KEY

INSECURE = "WARNING! Using --password via the CLI is insecure. Use --password-stdin."
UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{path}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""
HUB_HINT = (
    "Log in with your Docker ID or email address to push and pull images from Docker Hub. "
    "If you don't have a Docker ID, head over to https://hub.docker.com/ to create one."
)
AGAIN = """Authenticating with existing credentials... [Username: {username}]

 Info -> To login with a different account, run 'proa logout' followed by 'proa login'

"""
UNAUTHORIZED = 401
NO_TERMINAL = "Error: Cannot perform an interactive login from a non TTY device"
OVERRULED = f"""WARNING: {ENVIRONMENT} is set and takes precedence.
Unset {ENVIRONMENT} to restore the CLI auth behaviour.
"""


@click.command("login", cls=Command, usage="[OPTIONS] [SERVER]", help="Authenticate to a registry")
@click.option("-p", "--password", default="", help="Password or Personal Access Token (PAT)")
@click.option(
    "--password-stdin", is_flag=True, help="Take the Password or Personal Access Token (PAT) from stdin"
)
@click.option("-u", "--username", default="", help="Username")
@click.argument("server", required=False, default="")
@pass_session
def login(session: Session, /, password: str, password_stdin: bool, username: str, server: str) -> None:
    if password and password_stdin:
        raise click.ClickException("conflicting options: cannot specify both --password and --password-stdin")
    if password:
        print(INSECURE, file=sys.stderr)
    if password_stdin:
        if not username:
            raise click.ClickException("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    store = _opened()
    key = HUB_KEY if server in ("", DEFAULT_DOMAIN) else hostname(server)
    known = Credentials() if username or password else store.get(key)
    known = known._replace(server_address=key, identity_token="")
    if known.username and known.password and _log_in_again(session, store, known):
        return
    if (not username or not password) and not sys.stdin.isatty():
        raise click.ClickException(NO_TERMINAL)
    _log_in(session, store, _asked(username, password, known))


@click.command("logout", cls=Command, usage="[SERVER]", help="Log out from a registry")
@click.argument("server", required=False, default="")
@pass_session
def logout(session: Session, /, server: str) -> None:
    store = _opened()
    host = hostname(server)
    # What was once stored may have been stored by any of these names.
    keys = [server, host, f"http://{host}", f"https://{host}"] if server else [HUB_KEY]
    print(f"Removing login credentials for {host or HUB_KEY}")
    failures: list[str] = []
    for key in keys:
        try:
            store.erase(key)
        except CredentialsFailed as error:
            failures.append(f"{key}: {error}")
    if len(failures) == len(keys):
        print("WARNING: could not erase credentials:", *failures, sep="\n", file=sys.stderr)


def _opened() -> CredentialStore:
    if os.environ.get(ENVIRONMENT):
        print(OVERRULED, file=sys.stderr)
    return open_store()


def _log_in_again(session: Session, store: CredentialStore, known: Credentials) -> bool:
    """Try what is stored; returns whether the registry still takes it."""
    print(AGAIN.format(username=known.username), file=sys.stderr)
    try:
        _log_in(session, store, known)
    except APIError as error:
        is_refused = error.status == UNAUTHORIZED
        words = "Stored credentials invalid or expired" if is_refused else describe(error)
        print(words if is_refused else f"Login did not succeed, error: {words}", file=sys.stderr)
        return False
    return True


def _log_in(session: Session, store: CredentialStore, credentials: Credentials) -> None:
    status, token = session.client.system.login(credentials)
    if token:
        credentials = credentials._replace(password="", identity_token=token)
    try:
        is_in_file = store.store(credentials)
    except CredentialsFailed as error:
        raise CredentialsFailed(f"Error saving credentials: {error}") from None
    if is_in_file:
        print(UNENCRYPTED.format(path=store.config.path), file=sys.stderr)
    if status:
        print(status)


def _asked(username: str, password: str, known: Credentials) -> Credentials:
    """What was given on the command line, completed by what the user types."""
    username = username.strip()
    if not username:
        if known.server_address == HUB_KEY:
            print(HUB_HINT)
        username = _read(f"Username ({known.username}): " if known.username else "Username: ").strip()
        username = username or known.username
        if not username:
            raise click.ClickException("error: username is required")
    if not password.strip():
        from getpass import getpass

        password = getpass("Password: ", sys.stdout)
        if not password:
            raise click.ClickException("error: password is required")
    return Credentials(username, password, server_address=known.server_address)


def _read(prompt: str) -> str:
    print(prompt, end="", flush=True)
    return sys.stdin.readline()
