"""Sync, pure. The `proa` command, written with the package's own Python API."""
