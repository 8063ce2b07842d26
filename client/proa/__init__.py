"""Sync, pure. proa's client: a small typed Python API, and the `proa` command that is written with it.

`proa.connect(host=None, timeout=60.0)` returns a `proa.Client`; see `proa.client` for an example and
`proa.errors` for what it raises. The names are imported on first use, which keeps the command quick to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proa.client import Client, connect
    from proa.errors import APIError, Conflict, NotFound, ProaError, Unreachable

__version__ = "0.1.0"
__all__ = ["APIError", "Client", "Conflict", "NotFound", "ProaError", "Unreachable", "__version__", "connect"]

_HOME = {"Client": "proa.client", "connect": "proa.client"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'proa' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME.get(name, "proa.errors")), name)
