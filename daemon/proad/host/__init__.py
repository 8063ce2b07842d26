"""Trio-flavoured. One adapter per kernel interface or tool, without policy."""

import importlib.util
import sys
import types


def _leave_out_pyroute2s_subsystems() -> None:
    """Let the message classes of pyroute2 be imported without all that its ``__init__`` imports.

    That loads NDB, IPDB and every socket it has: 120 modules, a fifth of a second and 6 MB of a daemon that
    only encodes and decodes messages with it. A module that stands for the package finds the same submodules.
    """
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or "pyroute2" in sys.modules:
        return  # the import that follows says what is missing, or all of it is here already
    package = types.ModuleType("pyroute2")
    package.__path__ = list(spec.submodule_search_locations or ())
    package.__spec__ = spec
    sys.modules["pyroute2"] = package


_leave_out_pyroute2s_subsystems()
