"""Sync, pure. What people type: ports, mounts, sizes and the like into the API's terms."""
