"""Sync, pure. What an image is built from (directories, archives, repositories) as an archive."""
