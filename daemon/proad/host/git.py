"""Trio-flavoured. Repositories as contexts of builds: one commit, fetched by the git of the host.

The repository is not trusted: git reads no configuration but its own defaults, asks nobody for anything, runs
no hooks and follows submodules over the network only.
"""

import os
import shutil
from pathlib import Path

from proad.host import process
from proad.host.rootfs import Rootfs
from proad.model import errors
from proad.model.giturl import GitUrl

TIMEOUT_S = 600.0
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "protocol.allow=never",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    "protocol.git.allow=always",
    "protocol.ssh.allow=always",
    "advice.detachedHead=false",
)


async def clone(url: GitUrl, directory: Path) -> Path:
    """Check a commit out into ``directory``, which is not there yet; returns where the context is in it.

    Raises:
        errors.Unavailable: there is no git on this host.
        errors.InvalidParameter: the repository, or what is asked for of it, cannot be had; git says why.
    """
    git = shutil.which("git")
    if git is None:
        raise errors.Unavailable("a context in a git repository needs git, which this host does not have")
    directory.mkdir(mode=0o755)
    run = _Git(git, directory)
    await run("failed to init repo", "init", "--quiet")
    await run("failed add origin repo", "remote", "add", "origin", "--", url.remote)
    try:
        await run("error fetching", "fetch", "--quiet", "--depth", "1", "origin", "--", url.ref)
    except errors.InvalidParameter:  # a server that is not smart has no part of a history to give
        await run("error fetching", "fetch", "--quiet", "origin", "--", url.ref)
    await run(f"error checking out {url.ref}", "checkout", "--quiet", "FETCH_HEAD")
    await run(
        "error initializing submodules",
        "submodule",
        "--quiet",
        "update",
        "--init",
        "--recursive",
        "--depth=1",
    )
    return _below(directory, url.directory) if url.directory else directory


class _Git:
    def __init__(self, program: str, directory: Path) -> None:
        settings = (word for setting in _SETTINGS for word in ("-c", setting))
        self._argv = [*_dying_with_us(), program, *settings, "-C", str(directory)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self._environment = {
            **kept,
            "HOME": str(directory),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_PROTOCOL_FROM_USER": "0",
            "LC_ALL": "C",
        }

    async def __call__(self, what: str, *arguments: str) -> None:
        done = await process.run([*self._argv, *arguments], timeout_s=TIMEOUT_S, env=self._environment)
        if done.exit_code:
            raise errors.InvalidParameter(f"{what}: {done.text}")


def _dying_with_us() -> list[str]:
    """What has a program told to end when the daemon dies; git then ends its own children."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv is not None else []


def _below(directory: Path, part: str) -> Path:
    """A directory of the repository; links lead nowhere else."""
    with Rootfs(directory) as files:
        try:
            opened = files.open(part, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            raise errors.InvalidParameter(
                f"error setting git context, not a directory: {part}: {error.strerror}"
            ) from error
        try:
            return Path(os.readlink(f"/proc/self/fd/{opened}"))
        finally:
            os.close(opened)
