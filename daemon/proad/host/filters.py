"""Sync, blocking. Compiled seccomp filters, kept for the next container.

To compile the default profile for the three ABIs of x86-64 takes libseccomp 15 to 20 ms, more than all else
in a create. crun leaves the program that it compiled in the container's state directory, and takes a ready
one from the annotation ``run.oci.seccomp_bpf_data`` (crun(1)). So what crun compiled once, for a profile, it
is given again::

    annotate(spec, runtime, container_id)    before create: a known profile comes with its program
    learn(runtime, container_id)             after create: a new one's program is read

The rules themselves are then left out, which saves crun the reading of 12 KB; a runtime that did not know the
annotation would be left with the default action, and refuse every call: it fails closed. Nothing is kept on
disk, so another kernel, libseccomp or crun starts afresh with the daemon.
"""

import base64
import hashlib
from collections import OrderedDict
from typing import Any

import msgspec

from proad.host.runtime import Runtime

ANNOTATION = "run.oci.seccomp_bpf_data"
MAX_KEPT = 64
_INSTRUCTION_BYTES = 8
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_compiled: OrderedDict[bytes, str] = OrderedDict()
_awaited: dict[str, bytes] = {}


def annotate(spec: dict[str, Any], runtime: Runtime, container_id: str) -> None:
    """Add the compiled program of the spec's profile, if it is known; else have :func:`learn` keep it."""
    profile = spec.get("linux", {}).get("seccomp")
    if runtime.name != "crun" or not profile:
        return
    key = hashlib.sha256(f"{runtime.path}\0".encode() + msgspec.json.encode(profile)).digest()
    program = _compiled.get(key)
    if program is None:
        _awaited[container_id] = key
        return
    _compiled.move_to_end(key)
    spec["linux"]["seccomp"] = {**profile, "syscalls": []}
    spec["annotations"] = {ANNOTATION: program, **spec.get("annotations", {})}


def learn(runtime: Runtime, container_id: str) -> None:
    """Keep the program that crun compiled for a container just created."""
    key = _awaited.pop(container_id, None)
    if key is None:
        return
    try:
        program = (runtime.root / container_id / "seccomp.bpf").read_bytes()
    except OSError:  # this crun keeps none
        return
    instructions, rest = divmod(len(program), _INSTRUCTION_BYTES)
    if not rest and 0 < instructions <= _MAX_INSTRUCTIONS:
        _compiled[key] = base64.b64encode(program).decode()
        while len(_compiled) > MAX_KEPT:
            _compiled.popitem(last=False)


def forget(container_id: str) -> None:
    """The create failed: there is nothing to learn."""
    _awaited.pop(container_id, None)
