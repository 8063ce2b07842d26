"""Sync, pure. The container record, its runs, and the one table of states.

A record is never changed in place: a use case makes a new one with :func:`msgspec.structs.replace` and the
store swaps it in one transaction. Each run of a container has an id; what arrives late with another run id is
ignored.
"""

from enum import StrEnum
from typing import Literal

import msgspec

from proad.model import errors
from proad.model.health import Health, HealthStatus
from proad.model.hostconfig import ContainerConfig, HostConfig
from proad.model.links import Link
from proad.model.mounts import MountPoint
from proad.model.network import DEFAULT_BRIDGE, Endpoint, EndpointSettings
from proad.model.ports import PublishedPort


class Status(StrEnum):
    """Where a container is in its life."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"  # between two runs, waiting for the restart policy's delay
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"  # removal could not finish; only remove is allowed

    @property
    def has_process(self) -> bool:
        return self in (Status.RUNNING, Status.PAUSED)


MOVES: dict[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.STARTING, Status.REMOVING}),
    Status.STARTING: frozenset({Status.RUNNING, Status.EXITED, Status.CREATED, Status.RESTARTING}),
    Status.RUNNING: frozenset({Status.PAUSED, Status.EXITED, Status.RESTARTING}),
    Status.PAUSED: frozenset({Status.RUNNING, Status.EXITED, Status.RESTARTING}),
    Status.RESTARTING: frozenset({Status.STARTING, Status.EXITED, Status.REMOVING}),
    Status.EXITED: frozenset({Status.STARTING, Status.REMOVING}),
    Status.REMOVING: frozenset({Status.DEAD}),
    Status.DEAD: frozenset({Status.REMOVING}),
}


class StepTime(msgspec.Struct, frozen=True):
    """When a named step of a start ran, in milliseconds since the start was asked for."""

    name: str
    begin_ms: float
    end_ms: float


class Ending(msgspec.Struct, frozen=True):
    """A stop or a restart that was asked for while a run lasted: the end of the run completes the stop.

    ``timeout_s`` is how long the process may take before it is killed; negative is for ever.
    """

    verb: Literal["stop", "restart"]
    timeout_s: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a container, or the attempt at one.

    Times are nanoseconds since the epoch, 0 for "not yet". ``pid_start`` and ``monitor_start`` are the
    processes' start times in clock ticks since boot (field 22 of ``/proc/PID/stat``): with the pid they name
    a process for good.
    """

    id: str
    begun_ns: int
    pid: int = 0
    pid_start: int = 0
    monitor_pid: int = 0
    monitor_start: int = 0
    runtime: str = ""
    """The OCI runtime by the name, or path, under which it is found again."""
    started_ns: int = 0
    cgroup: str = ""
    netns: str = ""
    """Path of the network namespace's bind mount, where the run has one of its own."""
    endpoints: tuple[Endpoint, ...] = ()
    """Its attachments to networks, in the order of its interfaces."""
    held_ports: tuple[PublishedPort, ...] = ()
    """The host's ports that are kept for it, whether a network of its publishes them now or not."""
    late_ports: bool = False
    """Some were chosen after its start: their sockets are given to the monitor once this is on record."""
    steps: tuple[StepTime, ...] = ()
    apparmor: str = ""
    """The AppArmor profile that it is confined by; empty where the host has no AppArmor."""
    restarted: bool = False
    """The verb restart began it: event ``restart`` is told with its start."""
    signal: int = 0
    """A signal that is being sent, its event ``kill`` not told yet; 0 for none."""
    paused_briefly: bool = False
    """A pause lasts no longer than what the daemon is doing meanwhile; it says nothing unless paused."""
    ending: Ending | None = None
    """What shall end it; after the end only a restart stays here, until the next run begins."""
    limits_in_doubt: bool = False
    """An update is changing its limits in the kernel; what the record says is not certain."""

    @property
    def default_endpoint(self) -> Endpoint | None:
        """Its attachment to the default bridge, which legacy links are for."""
        return next((endpoint for endpoint in self.endpoints if endpoint.network == DEFAULT_BRIDGE), None)

    @property
    def ports(self) -> tuple[PublishedPort, ...]:
        """All that it publishes, by whichever endpoint."""
        return tuple(port for endpoint in self.endpoints for port in endpoint.ports)


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one container.

    ``layers`` are the chain IDs of the image's layers, lowest first. ``exit_code``, ``error``,
    ``finished_ns`` and ``oom_killed`` tell of the last run that ended. ``image_ref`` is the image as the user
    named it.
    """

    id: str
    name: str
    created_ns: int
    image_id: str
    image_ref: str
    layers: tuple[str, ...]
    config: ContainerConfig
    host_config: HostConfig
    networks: dict[str, EndpointSettings] = {}
    links: tuple[Link, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    status: Status = Status.CREATED
    run: Run | None = None
    started_ns: int = 0
    """When the last run that came to life did; 0 if none did."""
    finished_ns: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    has_been_started: bool = False
    stopped_by_user: bool = False
    """The user stopped it by hand: ``unless-stopped`` does not start it at boot."""
    restart_count: int = 0
    health: Health | None = None
    """What its probes said; None where none are asked for or it never ran."""
    of_build: bool = False
    """A build that is under way made it for one of its steps, and removes it."""

    @property
    def short_id(self) -> str:
        return self.id[:12]

    @property
    def health_status(self) -> HealthStatus:
        """How it is, as far as probes can tell."""
        return self.health.status if self.health is not None else HealthStatus.NONE

    def with_status(self, status: Status) -> "Container":
        """Return the record moved to ``status``. What runs no more, or is frozen, is not healthy: nobody can
        tell until it is probed again.

        Raises:
            errors.System: the table of moves has no such arrow; always a defect of the engine.
        """
        if status not in MOVES[self.status]:
            raise errors.System(f"container {self.short_id} cannot go from {self.status} to {status}")
        health = self.health
        if self.status is Status.RUNNING and health is not None:
            health = msgspec.structs.replace(health, status=HealthStatus.UNHEALTHY)
        return msgspec.structs.replace(self, status=status, health=health)
