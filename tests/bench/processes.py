"""Sync, blocking. Which processes belong to an engine, and how much memory they take.

Memory is PSS: each page shared with other processes counts with its share (proc(5), smaps_rollup), so the
sum over processes is what the machine really gave.
"""

import os
import re
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def peer_pid(socket_path: str) -> int:
    """Return the pid of the process that listens on a unix socket (unix(7), SO_PEERCRED)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(socket_path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of all ``pids`` together; one that has ended counts nothing."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total


def engine_processes(engine_pid: int, container_ids: Iterable[str] = ()) -> set[int]:
    """Return the engine's own processes: its descendants, its containerd, the monitors of ``container_ids``.

    Monitors (conmon, a containerd shim) are nobody's children but init's; they bear the container's id on
    their command line. What runs inside a container, in a pid namespace of its own, is not the engine's.
    """
    ids = [container_id.encode() for container_id in container_ids]
    parents: dict[int, int] = {}
    lines: dict[int, bytes] = {}
    own_namespace = os.stat("/proc/self/ns/pid").st_ino
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.stat(entry / "ns" / "pid").st_ino != own_namespace:
                continue
            stat = (entry / "stat").read_text()
            lines[int(entry.name)] = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone, or more privileged than we are and so no engine of ours
        parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {engine_pid}
    if served := re.search(rb"--containerd[=\0]([^\0]+)", lines.get(engine_pid, b"")):
        found.add(peer_pid(served[1].decode()))
    found |= {pid for pid, line in lines.items() if any(container_id in line for container_id in ids)}
    while children := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= children
    return found
