"""Sync, pure. proad: a container engine that serves the Docker Engine API from one event-driven process."""

from importlib.metadata import version

__version__ = version("proa")
