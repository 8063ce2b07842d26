"""Sync, pure. What a container uses, reckoned from the daemon's readings, and as one row of `stats`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from proa.cli.text import units
from proa.cli.text.listing import Row

if TYPE_CHECKING:
    from proa.types import JSON

NO_TIME = "0001-01-01T00:00:00Z"
UNKNOWN = "--"
HISTORY = 60
"""Readings remembered of each container; a daemon makes one a second."""


class Usage(NamedTuple):
    """One reading. The CPU's share is in percent of one CPU, None where the reading before is missing."""

    name: str = ""
    id: str = ""
    cpu_percent: float | None = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    pids: int = 0

    @property
    def memory_percent(self) -> float:
        return self.memory_bytes / self.memory_limit_bytes * 100 if self.memory_limit_bytes else 0.0


def reckon(reading: JSON) -> Usage:
    """What a reading says, by Docker's formulas: page cache that can go at once is not memory in use."""
    networks = (reading.get("networks") or {}).values()
    memory = reading.get("memory_stats") or {}
    blocks = (reading.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    return Usage(
        name=reading.get("name", "").removeprefix("/"),
        id=reading.get("id", ""),
        cpu_percent=_cpu_percent(reading),
        memory_bytes=_memory_bytes(memory),
        memory_limit_bytes=memory.get("limit", 0),
        received_bytes=sum(network["rx_bytes"] for network in networks),
        sent_bytes=sum(network["tx_bytes"] for network in networks),
        read_bytes=sum(entry["value"] for entry in blocks if entry["op"].lower() == "read"),
        written_bytes=sum(entry["value"] for entry in blocks if entry["op"].lower() == "write"),
        pids=(reading.get("pids_stats") or {}).get("current", 0),
    )


def _cpu_percent(reading: JSON) -> float | None:
    now, before = reading.get("cpu_stats") or {}, reading.get("precpu_stats") or {}
    if "system_cpu_usage" not in before:
        return None if reading.get("read", NO_TIME) != NO_TIME else 0.0
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now.get("system_cpu_usage", 0) - before["system_cpu_usage"]
    cpus = now.get("online_cpus") or len(now["cpu_usage"].get("percpu_usage") or ())
    return used / passed * cpus * 100 if used > 0 and passed > 0 else 0.0


def _memory_bytes(memory: JSON) -> int:
    """Usage without inactive page cache, which the two cgroup versions call by different names."""
    usage: int = memory.get("usage", 0)
    numbers = memory.get("stats") or {}
    idle: int = numbers.get("total_inactive_file", numbers.get("inactive_file", 0))
    return usage - idle if idle < usage else usage


class Tracked:
    """A container that is looked at again and again. `usage` is None where the daemon cannot tell it."""

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.usage: Usage | None = None
        self.cpu_history: deque[float] = deque(maxlen=HISTORY)
        self.memory_history: deque[float] = deque(maxlen=HISTORY)

    def take(self, usage: Usage) -> None:
        self.usage = usage
        if usage.cpu_percent is not None:
            self.cpu_history.append(usage.cpu_percent)
            self.memory_history.append(usage.memory_percent)


class StatsRow(Row):
    """The fields of `proa stats --format`. `usage` is None where the daemon could not tell."""

    HEADERS: ClassVar[dict[str, str]] = {
        "Container": "CONTAINER",
        "ID": "CONTAINER ID",
        "Name": "NAME",
        "CPUPerc": "CPU %",
        "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %",
        "NetIO": "NET I/O",
        "BlockIO": "BLOCK I/O",
        "PIDs": "PIDS",
    }

    def __init__(self, asked: str, usage: Usage | None, no_trunc: bool = False) -> None:
        self._asked = asked
        self._usage = usage
        self._full = no_trunc

    def Container(self) -> str:
        return self._asked

    def ID(self) -> str:
        full = self._usage.id if self._usage else ""
        return full if self._full else units.short_id(full)

    def Name(self) -> str:
        return (self._usage.name if self._usage else "") or UNKNOWN

    def CPUPerc(self) -> str:
        if self._usage is None or self._usage.cpu_percent is None:
            return UNKNOWN
        return f"{self._usage.cpu_percent:.2f}%"

    def MemUsage(self) -> str:
        if self._usage is None:
            return f"{UNKNOWN} / {UNKNOWN}"
        used, limit = self._usage.memory_bytes, self._usage.memory_limit_bytes
        return f"{units.human_binary_size(used)} / {units.human_binary_size(limit)}"

    def MemPerc(self) -> str:
        return f"{self._usage.memory_percent:.2f}%" if self._usage else UNKNOWN

    def NetIO(self) -> str:
        return _both(self._usage.received_bytes, self._usage.sent_bytes) if self._usage else UNKNOWN

    def BlockIO(self) -> str:
        return _both(self._usage.read_bytes, self._usage.written_bytes) if self._usage else UNKNOWN

    def PIDs(self) -> str:
        return str(self._usage.pids) if self._usage else UNKNOWN


def _both(incoming: int, outgoing: int) -> str:
    return f"{units.human_size(incoming, 3)} / {units.human_size(outgoing, 3)}"
