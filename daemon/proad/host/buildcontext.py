"""Sync, blocking. The helper's task ``context``: the archive of a build's context into an empty directory.

The task has ``target`` (the directory) and ``place``; the stream is a pipe that the archive comes through, in
whatever compression. The directory is the process's root meanwhile: no name and no link of the archive leads
out of it. A context is files, directories and links; devices are refused.
"""

import io
import os
from typing import Any

from proad.host import buildjail
from proad.host.copyin import TreeWriter, told_as_broken
from proad.host.decompress import BUFFER_BYTES, LONGEST_MAGIC, Source, compression_of, decompressed
from proad.host.helperchannel import Channel
from proad.host.jail import CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP
from proad.host.tarstream import TarReader

_CAPABILITIES = (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP)


def unpack(task: dict[str, Any], _channel: Channel, stream: int) -> dict[str, Any]:
    """Do the task; the result tells how many ``entries`` there were.

    Raises:
        Refusal: the archive is broken, or holds what no context can have.
        OSError: something cannot be made.
    """
    with told_as_broken():
        raw: io.BufferedReader[Any] = io.BufferedReader(Source(stream), BUFFER_BYTES)
        plain = decompressed(raw, compression_of(raw.peek(LONGEST_MAGIC)))
        context = {"name": "context", "directory": task["target"], "writable": True}
        buildjail.enter(task["place"], [context], "")
        os.chroot("/context")
        os.chdir("/")
        buildjail.restrict(_CAPABILITIES)
        writer = TreeWriter("/", replaces=True, owner=None, devices=False)
        entries = writer.write(TarReader(plain))
        while plain.read(BUFFER_BYTES):  # padding: whoever sends it wants to get rid of it
            pass
        return {"entries": entries}
