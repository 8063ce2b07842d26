"""Trio-flavoured. Containers as they are: find, list, wait, top, sizes; and what changes a record: rename,
update.

Finding and listing take no lock and never wait.
"""

import re
import shutil
from collections.abc import Collection

import structlog
from msgspec.structs import replace

from proad.engine.images import Images
from proad.engine.limits import Limits
from proad.engine.listing import ListQuery, list_containers
from proad.engine.locks import Locks
from proad.engine.lookup import event_attributes, find_container, named
from proad.engine.naming import Naming
from proad.engine.waiting import Waiter, Waiters, WaitResult
from proad.host.cgroup import Cgroups
from proad.host.hostfacts import HostFactsReader
from proad.host.overlay import Overlay
from proad.host.process import run
from proad.host.runtime import SEARCH_PATH
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.hostconfig import UpdateRequest
from proad.model.names import check_name
from proad.model.update import merge_update
from proad.store.db import Store

PS_TIMEOUT_S = 20.0
_SAFE_PS_ARGS = re.compile(r"[A-Za-z0-9 ,=:%_+.\-]*")

Texts = list[str]
Rows = list[Texts]

log = structlog.get_logger(__name__)


class Containers:
    """The records of all containers."""

    def __init__(
        self,
        store: Store,
        locks: Locks,
        waiters: Waiters,
        images: Images,
        overlay: Overlay,
        cgroups: Cgroups,
        facts: HostFactsReader,
        limits: Limits,
        naming: Naming,
    ) -> None:
        self._store = store
        self._locks = locks
        self._waiters = waiters
        self._images = images
        self._overlay = overlay
        self._cgroups = cgroups
        self._facts = facts
        self._limits = limits
        self._naming = naming

    def find(self, ref: str) -> Container:
        """See :func:`proad.engine.lookup.find_container`."""
        return find_container(self._store, ref)

    def list(self, query: ListQuery) -> list[Container]:
        """See :func:`proad.engine.listing.list_containers`."""
        return list_containers(self._store, query, self._images_named)

    def count(self) -> int:
        """How many containers there are, in whatever state."""
        return len(self._store.containers)

    def ids(self) -> Collection[str]:
        return self._store.containers.keys()

    def image_name(self, container: Container) -> str:
        """The image as a list shows it: as the user named it, or by id where that name means another image
        now.
        """
        try:
            same = self._images.resolve(container.image_ref).id == container.image_id
        except (errors.NotFound, errors.InvalidParameter):
            same = False
        return container.image_ref if same else container.image_id

    def link_names(self) -> dict[str, tuple[str, ...]]:
        """By container id, what links of others call it: ``/web/db``. Most have none and are left out."""
        names: dict[str, tuple[str, ...]] = {}
        for holder in self._store.containers.values():
            for link in holder.links:
                names[link.id] = (*names.get(link.id, ()), f"/{holder.name}/{link.alias}")
        return names

    def name_of(self, container_id: str) -> str | None:
        """What the container of that very id is called; None where there is none."""
        container = self._store.containers.get(container_id)
        return container.name if container is not None else None

    async def wait(self, ref: str, condition: str) -> Waiter:
        """Begin to wait; the waiter has its result when the condition is met, which may be at once.

        Raises:
            errors.NotFound: there is no such container.
            errors.InvalidParameter: there is no such condition.
        """
        container = find_container(self._store, ref)
        waiter = self._waiters.add(container.id, condition)
        runs = container.status.has_process or container.status in (Status.STARTING, Status.RESTARTING)
        if condition == "not-running" and not runs:
            self._waiters.discard(container.id, waiter)
            waiter.settle(WaitResult(container.exit_code, container.error))
        return waiter

    def stop_waiting(self, container_id: str, waiter: Waiter) -> None:
        """Whoever waits has gone."""
        self._waiters.discard(container_id, waiter)

    async def sizes(self, ref: str) -> tuple[int, int]:
        """Bytes of the writable layer, and of it and the image together (SizeRw, SizeRootFs)."""
        container = find_container(self._store, ref)
        writable = await self._overlay.size_rw(container.id)
        image = self._store.images.get(container.image_id)
        return writable, writable + (image.size_bytes if image else 0)

    async def top(self, ref: str, ps_args: str) -> tuple[Texts, Rows]:
        """What ``ps`` says of its processes: the titles, and a row for each.

        Raises:
            errors.Conflict: it is not running.
            errors.InvalidParameter: arguments that ``ps`` refuses, or without a PID column.
        """
        container = find_container(self._store, ref)
        if container.status is Status.RESTARTING:
            raise errors.Conflict(
                f"container {container.id} is restarting, wait until the container is running"
            )
        if not container.status.has_process or container.run is None:
            raise errors.Conflict(f"container {container.id} is not running")
        if not _SAFE_PS_ARGS.fullmatch(ps_args):
            raise errors.InvalidParameter(f"invalid ps_args: {ps_args!r}")
        pids = set(self._cgroups.processes(container.run.cgroup))
        done = await run([_ps(), *(ps_args or "-ef").split()], timeout_s=PS_TIMEOUT_S)
        if done.exit_code != 0:
            first, *_ = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise errors.InvalidParameter(f"ps: {first}")  # its usage follows
        titles, rows = _parse_ps(done.stdout.decode(errors="replace"), pids)
        with self._store.transaction(durable=False) as tx:
            tx.emit("container", "top", container.id, event_attributes(container))
        return titles, rows

    async def rename(self, ref: str, new_name: str) -> None:
        """Give it another name; event ``rename`` with ``oldName``.

        Raises:
            errors.InvalidParameter: no name, the same name, or not Docker's pattern.
            errors.Conflict: another container has it.
        """
        if not new_name:
            raise errors.InvalidParameter("Neither old nor new names may be empty")
        try:
            name = check_name(new_name)
        except errors.InvalidParameter as error:
            raise errors.InvalidParameter(f"Error when allocating new name: {error.message}") from error
        container = find_container(self._store, ref)
        async with self._locks.of(container.id):
            container = find_container(self._store, container.id)
            if container.name == name:
                raise errors.InvalidParameter("Renaming a container with the same name as its current name")
            try:
                refuse_taken_name(self._store, name)
            except errors.Conflict as error:
                raise errors.Conflict(f"Error when allocating new name: {error.message}") from error
            renamed = replace(container, name=name)
            with self._store.transaction() as tx:
                tx.put_container(renamed)
                tx.emit(
                    "container",
                    "rename",
                    container.id,
                    event_attributes(renamed, oldName=f"/{container.name}"),
                )
            self._naming.renamed(renamed)

    async def update(self, ref: str, request: UpdateRequest) -> Texts:
        """Change limits and restart policy, of a running one at once; returns warnings. Event ``update``.

        Raises:
            errors.InvalidParameter: limits that make no sense.
            errors.Conflict: they contradict what the container has, or it is being removed.
            errors.System: the kernel refused a limit; nothing is changed then.
        """
        container = find_container(self._store, ref)
        async with self._locks.of(container.id):
            container = find_container(self._store, container.id)
            if container.status in (Status.REMOVING, Status.DEAD):
                raise errors.Conflict('Container is marked for removal and cannot be "update".')
            facts = self._facts.read(container.host_config)
            try:
                merged, warnings = merge_update(container.host_config, request, facts)
            except (errors.InvalidParameter, errors.Conflict) as error:
                raise type(error)(f"Cannot update container {container.id}: {error.message}") from error
            if container.status.has_process:
                await self._limits.change(container, merged)
            current = self._store.containers[container.id]
            run = replace(current.run, limits_in_doubt=False) if current.run is not None else None
            try:
                with self._store.transaction() as tx:
                    tx.put_container(replace(current, host_config=merged, run=run))
                    tx.emit("container", "update", container.id, event_attributes(container))
            except errors.System:
                if container.status.has_process:
                    await self._limits.restore(container)
                raise
        return warnings

    def _images_named(self, ref: str) -> set[str]:
        """Ids of the image called ``ref`` and of all that were made on top of it; empty if there is none."""
        try:
            image = self._images.resolve(ref)
        except (errors.NotFound, errors.InvalidParameter):
            log.warning("ancestor filter names no image", ancestor=ref)
            return set()
        top = image.chain_ids
        return {other.id for other in self._store.images.values() if other.chain_ids[: len(top)] == top} | {
            image.id
        }


def refuse_taken_name(store: Store, name: str) -> None:
    """Raise errors.Conflict if a container is called ``name`` already."""
    if (other := named(store, name)) is not None:
        raise errors.Conflict(
            f'Conflict. The container name "/{name}" is already in use by container "{other.id}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )


def _ps() -> str:
    path = shutil.which("ps", path=SEARCH_PATH)
    if path is None:
        raise errors.Unavailable("top needs the ps program: install procps")
    return path


def _parse_ps(text: str, pids: set[int]) -> tuple[list[str], list[list[str]]]:
    """Split ``ps`` output into titles and the rows of ``pids``; the last column keeps its spaces."""
    lines = text.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise errors.InvalidParameter("Couldn't find PID field in ps output")
    pid_column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > pid_column and fields[pid_column].isdigit() and int(fields[pid_column]) in pids:
            rows.append(fields)
    return titles, rows
