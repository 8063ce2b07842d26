"""Trio-flavoured. Reads the numbers that control groups keep of what is in them, and the host's CPU time.

A reading is a dozen files of some microseconds each. They are opened anew every time: kept open they would
take a fifth of the time, and descriptors by the thousand.
"""

import errno
import os
import time
from functools import partial

from proad.host.cgroup import Layout
from proad.model import errors
from proad.model.cgroupfiles import count_cpus, parse_v1, parse_v2
from proad.model.stats import GroupStats, HostCpu

CPUS_FRESH_NS = 10**9
_ONLINE_CPUS = "/sys/devices/system/cpu/online"
_READ_BYTES = 1 << 16
_CONTROLLERS = {"cpuacct": "cpuacct", "cpu": "cpu", "memory": "memory", "pids": "pids", "blkio": "blkio"}


class CgroupStats:
    """Reads groups of the host's layout; they are named by paths as in :mod:`proad.host.cgroup`."""

    def __init__(self, layout: Layout) -> None:
        self._is_v2 = layout.kind == "v2"
        self._unified = str(layout.unified)
        self._controllers = {
            name: str(layout.controllers[name]) for name in _CONTROLLERS if name in layout.controllers
        }
        self._host_memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._cpus = 1
        self._cpus_read_ns = -CPUS_FRESH_NS

    def read(self, cgroup: str) -> GroupStats | None:
        """The group's numbers now, with those of all below it; None if it is gone.

        Raises:
            errors.System: the kernel refused a file for another reason.
        """
        directory = cgroup if cgroup.startswith("/") else f"/{cgroup}"
        if self._is_v2:
            text = partial(self._text_v2, directory)
            return parse_v2(text, self._host_memory_bytes) if text("cpu.stat") else None
        if not any(os.path.isdir(root + directory) for root in self._controllers.values()):
            return None
        return parse_v1(partial(self._text_v1, directory), self._host_memory_bytes)

    def host_cpu(self) -> HostCpu:
        """The CPU time that the host had: the clock's, for each CPU that is on.

        What ``/proc/stat`` adds up to should be the same, and is what Docker tells. But it counts ticks, and
        a virtual machine whose host is busy loses some: then a container seems to use more than it does, by
        5 % and more where this was measured. Where CPUs come or go, one reading cannot be compared.
        """
        now_ns = time.monotonic_ns()
        if now_ns - self._cpus_read_ns > CPUS_FRESH_NS:
            self._cpus = count_cpus(_read(_ONLINE_CPUS)) or 1
            self._cpus_read_ns = now_ns
        return HostCpu(now_ns * self._cpus, self._cpus)

    def _text_v2(self, directory: str, name: str) -> str:
        return _read(f"{self._unified}{directory}/{name}")

    def _text_v1(self, directory: str, name: str) -> str:
        root = self._controllers.get(name.partition(".")[0])
        return _read(f"{root}{directory}/{name}") if root is not None else ""


def _read(path: str) -> str:
    """The file's text, empty if it is not there or the group goes away at this moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise errors.System(f"{path}: {error.strerror}") from error
    try:
        data = os.read(descriptor, _READ_BYTES)
        while len(data) % _READ_BYTES == 0 and data and (more := os.read(descriptor, _READ_BYTES)):
            data += more
    except OSError as error:
        if error.errno == errno.ENODEV:
            return ""
        raise errors.System(f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return data.decode()
