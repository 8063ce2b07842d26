"""Trio-flavoured. The daemon and its host as clients see them: info, version, and the event stream."""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proad.config import Config
from proad.engine.eventfilter import event_predicate
from proad.host import apparmor, facts
from proad.host.cgroup import Layout
from proad.host.runtime import Runtime, known_runtimes
from proad.model import errors
from proad.model.container import Status
from proad.store.db import Store
from proad.store.journal import Cursor

ID_SETTING = "engine-id"
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Info:
    """The daemon, its containers and its host at one moment; sizes in bytes, times in nanoseconds."""

    id: str
    time_ns: int
    running: int
    paused: int
    stopped: int
    images: int
    backing_filesystem: str
    machine: facts.Machine
    limits: facts.Limits
    security: Sequence[str]
    cgroup_version: int
    default_runtime: str
    runtimes: Mapping[str, str]
    tools: Mapping[str, facts.ToolVersion]
    """By role: ``runtime``, ``monitor``, ``init``."""
    open_descriptors: int
    event_listeners: int
    proxies: Mapping[str, str]
    warnings: Sequence[str]


class System:
    """Answers about the whole. ``runtime`` is the default one; ``init`` the program behind ``--init``."""

    def __init__(
        self, config: Config, store: Store, layout: Layout, runtime: Runtime, *, monitor: str, init: str
    ) -> None:
        self._config = config
        self._store = store
        self._layout = layout
        self._runtime = runtime
        self._monitor = monitor
        self._init = init
        self._tools = facts.Tools()
        self.id = self._load_id()

    def _load_id(self) -> str:
        """The daemon's own id, made with its state and kept with it."""
        known = self._store.setting(ID_SETTING)
        if known is not None:
            return known
        made = str(uuid.uuid4())
        with self._store.transaction() as tx:
            tx.put_setting(ID_SETTING, made)
        return made

    def reload(self, config: Config) -> None:
        """Tell of ``config`` from now on (the engine's labels)."""
        self._config = config

    # --- info and version ----------------------------------------------------------------------------------

    async def info(self) -> Info:
        """Read everything afresh; only versions of tools are remembered."""
        limits = facts.read_limits(self._layout)
        statuses = [container.status for container in self._store.containers.values()]
        running = sum(s in (Status.RUNNING, Status.RESTARTING) for s in statuses)
        paused = statuses.count(Status.PAUSED)
        return Info(
            id=self.id,
            time_ns=time.time_ns(),
            running=running,
            paused=paused,
            stopped=len(statuses) - running - paused,
            images=len(self._store.images),
            backing_filesystem=facts.filesystem_of(self._config.data_root),
            machine=facts.read_machine(),
            limits=limits,
            security=facts.security_features(),
            cgroup_version=self._layout.version,
            default_runtime=self._runtime.name,
            runtimes=self._runtimes(),
            tools=await self.tools(),
            open_descriptors=facts.open_descriptors(),
            event_listeners=self._store.journal.readers,
            proxies={name: _environment(name) for name in _PROXY_VARIABLES},
            warnings=_warnings(limits, self._config, self._layout),
        )

    async def tools(self) -> dict[str, facts.ToolVersion]:
        """Versions of the programs in use, by role."""
        return {
            "runtime": await self._tools.version(str(self._runtime.path)),
            "monitor": await self._tools.version(self._monitor),
            "init": await self._tools.version(self._init),
        }

    def machine(self) -> facts.Machine:
        return facts.read_machine()

    def _runtimes(self) -> dict[str, str]:
        known = {name: str(path) for name, path in known_runtimes(self._config.runtimes).items()}
        return {**known, self._runtime.name: str(self._runtime.path)}

    # --- events --------------------------------------------------------------------------------------------

    def events(
        self,
        filters: Mapping[str, Sequence[str]],
        *,
        since_ns: int | None = None,
        until_ns: int | None = None,
        after_seq: int | None = None,
    ) -> Cursor:
        """Open a cursor on the journal; the caller closes it.

        ``after_seq`` (the number of the last event that the reader has) goes before ``since_ns``.

        Raises:
            errors.InvalidParameter: an unknown filter, or ``since_ns`` after ``until_ns``.
        """
        matches = event_predicate(filters)
        if since_ns is not None and until_ns is not None and since_ns > until_ns:
            raise errors.InvalidParameter(
                f"`since` time ({_seconds(since_ns)}) cannot be after `until` time ({_seconds(until_ns)})"
            )
        return self._store.journal.cursor(since_ns, until_ns, matches, after_seq)


def _environment(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower(), "")


def _seconds(time_ns: int) -> str:
    return f"{time_ns // 10**9}.{time_ns % 10**9:09d}"


def _warnings(limits: facts.Limits, config: Config, layout: Layout) -> list[str]:
    """What a user should know is missing here, in Docker's words."""
    missing = {
        "No memory limit support": not limits.memory,
        "No swap limit support": not limits.swap,
        "No oom kill disable support": not limits.oom_kill_disable and layout.kind != "v2",
        "No cpu cfs quota support": not limits.cpu_quota,
        "No cpu shares support": not limits.cpu_shares,
        "No cpuset support": not limits.cpuset,
        "No pids limit support": not limits.pids,
        "No blkio weight support": not limits.blkio,
        "IPv4 forwarding is disabled": not limits.ipv4_forwarding,
        apparmor.NO_PARSER: apparmor.is_enabled() and apparmor.find_parser() is None,
    }
    warnings = [f"WARNING: {text}" for text, is_missing in missing.items() if is_missing]
    for host in config.hosts:
        if host.startswith("tcp://"):
            warnings.append(
                f"WARNING: API is accessible on {host.replace('tcp', 'http', 1)} without encryption. "
                "Access to the remote API is equivalent to root access on the host."
            )
    return warnings
