"""Sync, pure. The pieces of `proa cp`."""
