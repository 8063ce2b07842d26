"""Sync, blocking. A log that is followed for as long as the container runs, whatever becomes of the daemon.

A daemon may be restarted under running containers, and they go on writing. So a connection that breaks is
made again when a daemon answers, from where it broke: no line is missing, doubled or cut.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from proa.cli.parse.times import parse_instant
from proa.cli.session import Session
from proa.errors import Lost, NotFound, Unreachable
from proa.resume import Resumer
from proa.streams import StreamName

PATIENCE_S = 60.0
_PAUSE_S = 0.1


def follow_log(
    session: Session,
    name: str,
    *,
    tail: str,
    since: str | None,
    until: str | None,
    stamped: bool,
    details: bool,
) -> Iterator[tuple[StreamName, bytes]]:
    """Yield (stream, bytes) until the container stops or `until` has passed.

    Raises Lost when no daemon has come back after a minute.
    """
    container = session.client.containers.inspect(name)["Id"]
    resumer = Resumer(stamped=stamped)
    while True:
        try:
            with session.client.containers.logs(
                container, follow=True, tail=tail, since=since, until=until, timestamps=True, details=details
            ) as pieces:
                for stream, piece in pieces:
                    for new in resumer.feed(stream, piece):
                        yield stream, new
            return
        except Lost as lost:
            if not _is_back(session, container, lost):
                return
        if (last := resumer.begin_again()) is not None:
            since, tail = parse_instant(last, 0), "all"


def _is_back(session: Session, container: str, lost: Lost) -> bool:
    """Wait until a daemon answers; whether it still knows the container. Raises `lost` after a while."""
    print("The connection to the daemon broke; waiting for it to come back.", file=sys.stderr)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
        try:
            session.client.containers.inspect(container)
        except NotFound:
            return False
        except (Unreachable, Lost):
            continue
        return True
    raise lost
