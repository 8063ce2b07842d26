"""Trio-flavoured. Other containers whose namespaces a container joins."""

from dataclasses import dataclass

from msgspec.structs import replace

from proad.engine.lookup import find_container
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.hostconfig import HostConfig
from proad.store.db import Store

PREFIX = "container:"


@dataclass(frozen=True)
class Joined:
    """The live containers whose namespaces this one joins; None where it has its own or the host's."""

    network: Container | None
    ipc: Container | None
    pid: Container | None


def with_ids(store: Store, asked: HostConfig) -> HostConfig:
    """Return it with the ids of the containers whose namespaces it joins: they may be renamed.

    One that is not there stays as it is: it may be by the time of the start.
    """
    return replace(
        asked,
        network_mode=_with_id(store, asked.network_mode),
        ipc_mode=_with_id(store, asked.ipc_mode),
        pid_mode=_with_id(store, asked.pid_mode),
    )


def find_joined(store: Store, container: Container) -> Joined:
    """Find the containers of the modes ``container:X``.

    Raises:
        errors.Conflict: one does not run, or does not share.
        errors.NotFound: one is not there.
    """
    asked = container.host_config
    ipc = _find(store, asked.ipc_mode, "IPC")
    if ipc is not None and ipc.host_config.ipc_mode != "shareable":
        raise errors.Conflict(
            f"cannot join IPC of a container which is not shareable: {ipc.id}: "
            "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        )
    return Joined(
        network=_find(store, asked.network_mode, "network"), ipc=ipc, pid=_find(store, asked.pid_mode, "PID")
    )


def joiners_of(store: Store, owner: Container) -> list[Container]:
    """The running containers that share the network of another: with its end they have none any more."""
    found = []
    for container in store.containers.values():
        mode = container.host_config.network_mode
        if mode.startswith(PREFIX) and container.status.has_process:
            ref = mode.removeprefix(PREFIX)
            if ref == owner.name or owner.id.startswith(ref):
                found.append(container)
    return found


def live_run(container: Container) -> Run:
    """The run of a container that has a process; :func:`find_joined` gives no others."""
    assert container.run is not None
    return container.run


def _with_id(store: Store, mode: str) -> str:
    if not mode.startswith(PREFIX):
        return mode
    try:
        return PREFIX + find_container(store, mode.removeprefix(PREFIX)).id
    except (errors.NotFound, errors.InvalidParameter):
        return mode


def _find(store: Store, mode: str, kind: str) -> Container | None:
    if not mode.startswith(PREFIX):
        return None
    other = find_container(store, mode.removeprefix(PREFIX))
    if not other.status.has_process:
        raise errors.Conflict(f"cannot join {kind} namespace of a non running container: {other.id}")
    return other
