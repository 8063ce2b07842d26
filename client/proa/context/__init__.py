"""Sync, pure. What an image is built from: directories, archives and repositories, as an archive to upload."""
