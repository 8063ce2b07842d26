"""Sync, blocking. `proa run` and `proa create`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from proa.cli import complete, signals, terminal
from proa.cli.attachment import Attachment
from proa.cli.create_body import Wanted, build
from proa.cli.group import Command
from proa.cli.run_flags import container_flags, switch, text
from proa.cli.session import Session, describe, pass_session, warn
from proa.errors import APIError, NotFound, ProaError
from proa.reference import parse_tagged
from proa.results import Created

FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
RESIZE_TRIES = 10
PER_NETWORK_MAC = (1, 44)  # older daemons know one MAC address for the whole container
USAGE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"


def _arguments() -> list[click.Parameter]:
    return [
        click.Argument(["image"], shell_complete=complete.image),
        click.Argument(["command"], nargs=-1, required=False),
    ]


@click.command(
    "create",
    cls=Command,
    usage=USAGE,
    stops_at_argument=True,
    help="Create a new container",
    params=[*container_flags(), *_arguments()],
)
@pass_session
def create(session: Session, /, image: str, command: tuple[str, ...], **flags: Any) -> None:
    try:
        wanted = _wanted(flags, image, command)
    except ValueError as error:
        raise click.ClickException(f"proa: {error}") from None
    print(_create(session, wanted, flags))


@click.command(
    "run",
    cls=Command,
    usage=USAGE,
    stops_at_argument=True,
    help="Create and run a new container from an image",
    params=[
        switch("-d", "--detach", help="Run container in background and print container ID"),
        text("--detach-keys", help="Override the key sequence for detaching a container"),
        click.Option(
            ["--sig-proxy"], is_flag=True, default=True, help="Proxy received signals (default true)"
        ),
        *container_flags(),
        *_arguments(),
    ],
)
@pass_session
def run(
    session: Session,
    /,
    image: str,
    command: tuple[str, ...],
    detach: bool | None,
    detach_keys: str | None,
    sig_proxy: bool,
    **flags: Any,
) -> int:
    try:
        wanted = _wanted(flags, image, command)
        keys = terminal.parse_detach_keys(detach_keys or terminal.DEFAULT_DETACH_KEYS)
    except ValueError as error:
        return _failed(str(error), FAILED)
    if detach and flags["attach"]:
        raise click.ClickException("conflicting options: cannot specify both --attach and --detach")
    if detach:
        wanted.config.update(AttachStdin=False, AttachStdout=False, AttachStderr=False)
        wanted.config.pop("StdinOnce", None)
    if not detach and wanted.config.get("Tty") and wanted.config["AttachStdin"] and not sys.stdin.isatty():
        raise click.ClickException("the input device is not a TTY")
    try:
        container_id = _create(session, wanted, flags)
    except ProaError as error:
        return _failed(describe(error), exit_code_of(error))
    try:
        return _Run(session, container_id, wanted, keys, detach_keys, sig_proxy).run()
    except ProaError as error:
        return _failed(describe(error), FAILED)


def _wanted(flags: dict[str, Any], image: str, command: tuple[str, ...]) -> Wanted:
    wanted = build(flags, image, command, os.environ, lambda name: Path(name).read_text())
    if wanted.config.get("Tty"):
        rows, columns = terminal.size(1)
        if rows and columns:
            wanted.host_config["ConsoleSize"] = [rows, columns]
    return wanted


def _create(session: Session, wanted: Wanted, flags: dict[str, Any]) -> str:
    """Create the container, fetching the image where that is asked for; write the cidfile."""
    with _cid_file(flags["cidfile"]) as write:
        if flags["pull"] == "always":
            _pull(session, wanted, flags)
        try:
            created = _post(session, wanted)
        except NotFound as error:
            if "No such image" not in error.message or flags["pull"] == "never":
                raise
            if not flags["quiet"]:
                missing = parse_tagged(wanted.config["Image"]).familiar
                print(f"Unable to find image '{missing}' locally", file=sys.stderr)
            _pull(session, wanted, flags)
            created = _post(session, wanted)
        warn(created.warnings)
        write(created.id)
        return created.id


def _post(session: Session, wanted: Wanted) -> Created:
    if wanted.mac_address and _older(session.client.api_version, PER_NETWORK_MAC):
        wanted.config["MacAddress"] = wanted.mac_address
    return session.client.containers.create(
        wanted.config,
        wanted.host_config,
        name=wanted.name,
        networks=wanted.networks or None,
        platform=wanted.platform,
    )


def _older(version: str, than: tuple[int, int]) -> bool:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) < than


def _pull(session: Session, wanted: Wanted, flags: dict[str, Any]) -> None:
    """Fetch the image; of its progress standard error hears, for standard output is the container's."""
    from proa.cli.logins import credentials_for
    from proa.cli.messages import Messages

    image = parse_tagged(wanted.config["Image"])
    session.client.images.pull(
        image.full,
        platform=wanted.platform or "",
        credentials=credentials_for(image),
        progress=None if flags["quiet"] else Messages(sys.stderr).show,
    )


@contextmanager
def _cid_file(path: str | None) -> Iterator[Any]:
    """Gives the function that writes the id. The file must be new; it goes again when nothing was written."""
    if path is None:
        yield lambda _container_id: None
        return
    try:
        file = open(path, "x")  # noqa: SIM115 - closed below, before it may be removed
    except FileExistsError:
        raise ProaError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as error:
        raise ProaError(f"failed to create the container ID file {path}: {error.strerror}") from None
    try:
        with file:
            yield file.write
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def exit_code_of(error: ProaError) -> int:
    """127 and 126 when the daemon says that the command is missing or cannot be executed, otherwise 125."""
    if not isinstance(error, APIError):
        return FAILED  # a missing socket is "no such file" as well, but then nothing was run at all
    words = error.message.lower()
    if "executable file not found" in words or "no such file or directory" in words:
        return NOT_FOUND
    if "permission denied" in words or "is a directory" in words or "exec format error" in words:
        return NOT_EXECUTABLE
    return FAILED


def _failed(words: str, code: int) -> int:
    print(f"proa: {words}\n\nRun 'proa run --help' for more information", file=sys.stderr)
    return code


class _Run:
    """A container that has been created and is now to be attached, started and waited for."""

    def __init__(
        self,
        session: Session,
        container_id: str,
        wanted: Wanted,
        keys: bytes,
        detach_keys: str | None,
        sig_proxy: bool,
    ) -> None:
        self._session = session
        self._id = container_id
        self._config = wanted.config
        self._removes = bool(wanted.host_config.get("AutoRemove"))
        self._keys = keys
        self._detach_keys = detach_keys
        self._sig_proxy = sig_proxy

    def run(self) -> int:
        config = self._config
        shows_output = config["AttachStdout"] or config["AttachStderr"]
        attaches = shows_output or config["AttachStdin"]
        containers = self._session.client.containers
        with ExitStack() as stack:
            if self._sig_proxy and attaches:
                stack.enter_context(signals.forwarding(self._session.another_client, self._id))
            if not shows_output:
                print(self._id, flush=True)
            attachment = self._attach() if attaches else None
            waiter = (
                containers.wait(self._id, "removed" if self._removes else "next-exit") if attaches else None
            )
            try:
                containers.start(self._id)
            except ProaError as error:
                if attachment is not None:
                    attachment.close()
                if self._removes and waiter is not None:
                    waiter.result()
                return _failed(describe(error), exit_code_of(error))
            if attachment is None or waiter is None:
                return 0
            if config.get("Tty") and os.isatty(1):
                stack.enter_context(signals.resizing(self._session.another_client, self._id))
                self._resize()
            if not attachment.serve() or not shows_output:
                return 0  # detached
            return waiter.result()

    def _attach(self) -> Attachment:
        config = self._config
        hijacked = self._session.client.containers.attach(
            self._id,
            stdin=config["AttachStdin"],
            stdout=config["AttachStdout"],
            stderr=config["AttachStderr"],
            detach_keys=self._detach_keys,
        )
        return Attachment(
            hijacked, stdin=config["AttachStdin"], tty=bool(config.get("Tty")), detach_keys=self._keys
        )

    def _resize(self) -> None:
        """Some daemons answer the start a moment before the terminal can be resized."""
        import time

        for attempt in range(RESIZE_TRIES):
            if signals.resize(self._session.another_client, self._id):
                return
            time.sleep(0.01 * attempt)
