"""Sync. Another engine in proad's place, to see what that one does: ``ENGINE=unix:///path/to/docker.sock``.

It must be one that nobody needs: tests remove all containers and networks.
"""

import os
from pathlib import Path

from tests.support.daemon import Engine

VARIABLE = "ENGINE"


def named_engine() -> Engine | None:
    """The engine that the environment names."""
    address = os.environ.get(VARIABLE, "")
    return Engine(Path(address.removeprefix("unix://"))) if address else None
