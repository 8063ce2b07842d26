"""Trio-flavoured. The context of a build: an archive that the client sends, or what a URL leads to; and the
Dockerfile in it.

    a tar, in whatever compression      unpacked in a jail
    http(s)://…                         such a tar, or a Dockerfile alone
    git://…, git@…, ….git#ref:directory    a repository, by git

It lies in the build's workspace and goes with that. Nothing in it is trusted: its symlinks end inside of it.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from proad.engine.buildsources import Downloads
from proad.engine.imagekeeping import make_directory
from proad.host import git
from proad.host.buildtrees import BuildTrees, Tree
from proad.host.rootfs import Rootfs
from proad.model import errors, gopath
from proad.model.dockerfile import Dockerfile, parse_dockerfile
from proad.model.dockerignore import parse_dockerignore
from proad.model.giturl import is_git_url, parse_git_url

DEFAULT_DOCKERFILE = "Dockerfile"
IGNORE_FILE = ".dockerignore"
MAX_DOCKERFILE_BYTES = 4 << 20
_PREAMBLE_BYTES = 512
_ARCHIVES = ("tar", "gzip", "bzip", "xz", "zstd", "octet-stream")


@dataclass(frozen=True)
class Context:
    """``files`` is None where there is a Dockerfile and nothing else."""

    files: Tree | None
    dockerfile: Dockerfile


class Contexts:
    """Gets the contexts of builds."""

    def __init__(self, trees: BuildTrees) -> None:
        self._trees = trees

    async def sent(self, source: int, dockerfile: str, workspace: Path) -> Context:
        """The context that a client sends as an archive.

        Raises:
            errors.InvalidParameter: the archive is broken; there is no such Dockerfile, or it is wrong.
            errors.System: the disk is full, or the like.
        """
        directory = make_directory(workspace / "context")
        await self._trees.unpack_context(source, directory)
        return _of_directory(directory, dockerfile)

    async def remote(self, url: str, dockerfile: str, workspace: Path, downloads: Downloads) -> Context:
        """The context that a URL leads to.

        Raises:
            errors.InvalidParameter: it is no URL, or what it leads to is no context.
            errors.ProaError: it cannot be had.
        """
        if is_git_url(url):
            directory = await git.clone(parse_git_url(url), workspace / "repository")
            return _of_directory(directory, dockerfile)
        if not url.startswith(("http://", "https://")):
            raise errors.InvalidParameter(f"remoteURL ({url}) could not be recognized as URL")
        path, told = await downloads.context(url)
        with path.open("rb") as file:
            preamble = file.read(_PREAMBLE_BYTES)
            if not preamble:
                raise errors.InvalidParameter(
                    f"error detecting content type for remote {url}: empty response"
                )
            file.seek(0)
            kind = told.content_type.partition(";")[0].strip().lower()
            if kind == "text/plain" or (kind in ("", "application/octet-stream") and _is_text(preamble)):
                return Context(None, parse_dockerfile(file.read(MAX_DOCKERFILE_BYTES), dockerfile))
            if kind and not any(word in kind for word in _ARCHIVES):
                raise errors.InvalidParameter(
                    f'error detecting content type for remote {url}: unsupported Content-Type "{kind}"'
                )
            return await self.sent(file.fileno(), dockerfile, workspace)


def _is_text(preamble: bytes) -> bool:
    return not any(byte < 0x20 and byte not in b"\t\n\r\f\x1b" for byte in preamble)


def _of_directory(directory: Path, name: str) -> Context:
    """Read the Dockerfile, and take away what .dockerignore excludes: clients send these two in any case."""
    with Rootfs(directory) as files:
        name, content = _read_dockerfile(files, name)
        dockerfile = parse_dockerfile(content, name)
        ignored = _read(files, IGNORE_FILE)
        if ignored is not None:
            patterns = parse_dockerignore(ignored)
            for path in (IGNORE_FILE, name):
                if patterns.excludes(path):
                    _remove(files, path)
    return Context(Tree("context", directory=directory), dockerfile)


def _read_dockerfile(files: Rootfs, name: str) -> tuple[str, bytes]:
    content = _read(files, name)
    if content is None and name == DEFAULT_DOCKERFILE:
        name = name.lower()
        content = _read(files, name)
    if content is None:
        raise errors.InvalidParameter(f"Cannot locate specified Dockerfile: {name}")
    return name, content


def _read(files: Rootfs, path: str) -> bytes | None:
    """What a file of the context holds; None where there is no file."""
    if not path or "\0" in path or not stat.S_ISREG(getattr(files.status(path), "st_mode", 0)):
        return None
    descriptor = files.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        content = file.read(MAX_DOCKERFILE_BYTES + 1)
    if len(content) > MAX_DOCKERFILE_BYTES:
        raise errors.InvalidParameter(f"{path} has more than {MAX_DOCKERFILE_BYTES} bytes")
    return content


def _remove(files: Rootfs, path: str) -> None:
    parent, name = os.path.split(gopath.clean(path))
    directory = files.open(parent or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)
