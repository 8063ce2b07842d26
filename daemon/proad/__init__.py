"""Sync, pure. proad: a container engine that serves the Docker Engine API from one event-driven process."""

__version__ = "0.1.0"
"""Also the distribution's (``pyproject.toml`` reads it here): asking the installed metadata costs 60 ms."""
