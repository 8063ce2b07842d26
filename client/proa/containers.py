"""Sync, blocking. The container operations of the Python API (`Client.containers`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from proa.errors import Lost
from proa.http1 import percent
from proa.pathstatus import PathArchive, PathStatus, path_status
from proa.results import Created, Pruned
from proa.streams import Demultiplexer, StreamName
from proa.transport import Answer, Hijacked, Readable, Transport

if TYPE_CHECKING:
    from proa.types import (
        JSON,
        ContainerDetails,
        ContainerSummary,
        Filters,
        Pairs,
        Strings,
        Table,
        WaitCondition,
    )


_CHANGES = ("C", "A", "D")  # Docker's numbers 0, 1, 2


class Waiter:
    """A wait the daemon has accepted; the exit cannot be missed any more. `result()` blocks for it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def result(self) -> int:
        """The container's exit code. Raises Lost when the daemon went away or could not wait."""
        try:
            with self._answer:
                outcome = next(self._answer.objects(), None)
        except Lost:
            outcome = None
        if outcome is None:
            raise Lost("the connection to the daemon broke while waiting for the container; it may still run")
        error = outcome.get("Error")
        if error and error.get("Message"):
            raise Lost(error["Message"])
        return int(outcome["StatusCode"])

    def close(self) -> None:
        self._answer.close()


class Logs:
    """A container's output: iterate for (stream, bytes); everything is "stdout" when it has a terminal."""

    def __init__(self, answer: Answer, tty: bool) -> None:
        self._answer = answer
        self._tty = tty

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._answer.close()

    def __iter__(self) -> Iterator[tuple[StreamName, bytes]]:
        if self._tty:
            yield from (("stdout", chunk) for chunk in self._answer)
            return
        cutter = Demultiplexer()
        for chunk in self._answer:
            yield from cutter.feed(chunk)


class Readings:
    """A container's statistics, about one a second: iterate for them until it is removed. Use `with`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __enter__(self) -> Readings:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._answer.close()

    def __iter__(self) -> Iterator[JSON]:
        return self._answer.objects()


class Containers:
    """Every `ref` is a full id, a unique prefix of one, or a name; unknown ones raise NotFound."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def list(
        self, *, all: bool = False, limit: int = 0, size: bool = False, filters: Filters | None = None
    ) -> list[ContainerSummary]:
        """The running containers, newest first; with `all` also those that are not running."""
        query = {"all": all or None, "limit": limit or None, "size": size or None, "filters": filters or None}
        return cast("list[ContainerSummary]", self._http.json("GET", "/containers/json", query))

    def create(
        self,
        config: JSON,
        host_config: JSON | None = None,
        *,
        name: str | None = None,
        networks: JSON | None = None,
        platform: str | None = None,
    ) -> Created:
        """Create a container from Docker's Config and HostConfig dictionaries (`{"Image": …, "Cmd": […]}`).

        Raises NotFound (no such image), Conflict (the name is taken), BadRequest.
        """
        body = {**config, "HostConfig": host_config or {}}
        if networks:
            body["NetworkingConfig"] = {"EndpointsConfig": networks}
        answer = self._http.json("POST", "/containers/create", {"name": name, "platform": platform}, body)
        return Created(answer["Id"], answer.get("Warnings") or [])

    def inspect(self, ref: str, *, size: bool = False) -> ContainerDetails:
        """Everything about one container."""
        return cast("ContainerDetails", self._http.json("GET", _path(ref, "json"), {"size": size or None}))

    def start(self, ref: str, *, detach_keys: str | None = None) -> None:
        """Start it; nothing happens when it runs already."""
        self._http.json("POST", _path(ref, "start"), {"detachKeys": detach_keys}, patient=True)

    def stop(self, ref: str, *, signal: str | None = None, timeout_s: int | None = None) -> None:
        """Ask its process to end, and kill it after `timeout_s` (None: as the container says; -1: never)."""
        self._http.json("POST", _path(ref, "stop"), {"signal": signal, "t": timeout_s}, patient=True)

    def restart(self, ref: str, *, signal: str | None = None, timeout_s: int | None = None) -> None:
        """Stop (as `stop` does) and start."""
        self._http.json("POST", _path(ref, "restart"), {"signal": signal, "t": timeout_s}, patient=True)

    def kill(self, ref: str, signal: str = "KILL") -> None:
        """Send a signal to its main process. Raises Conflict when it does not run."""
        self._http.json("POST", _path(ref, "kill"), {"signal": signal}, patient=True)

    def pause(self, ref: str) -> None:
        """Freeze all its processes."""
        self._http.json("POST", _path(ref, "pause"), patient=True)

    def unpause(self, ref: str) -> None:
        """Let them go on."""
        self._http.json("POST", _path(ref, "unpause"), patient=True)

    def wait(self, ref: str, condition: WaitCondition = "not-running") -> Waiter:
        """Begin to wait; on return the daemon is watching, so start the container after this call."""
        return Waiter(self._http.stream("POST", _path(ref, "wait"), {"condition": condition}))

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: str | int = "all",
        since: str | None = None,
        until: str | None = None,
        timestamps: bool = False,
        details: bool = False,
        stdout: bool = True,
        stderr: bool = True,
    ) -> Logs:
        """What it wrote. `since` and `until` are seconds since the epoch, as text ("1700000000.5")."""
        query = {
            "follow": follow or None,
            "tail": tail,
            "since": since,
            "until": until,
            "timestamps": timestamps or None,
            "details": details or None,
            "stdout": stdout or None,
            "stderr": stderr or None,
        }
        tty = bool((self.inspect(ref).get("Config") or {}).get("Tty"))
        return Logs(self._http.stream("GET", _path(ref, "logs"), query), tty)

    def attach(
        self,
        ref: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        detach_keys: str | None = None,
    ) -> Hijacked:
        """Connect to its standard streams; the socket is the caller's to use and close.

        Shut its writing side down to end the container's stdin. Without a terminal the output is framed
        (`proa.streams.Demultiplexer`).
        """
        query = {
            "stream": True,
            "stdin": stdin or None,
            "stdout": stdout or None,
            "stderr": stderr or None,
            "logs": logs or None,
            "detachKeys": detach_keys,
        }
        return self._http.hijack(_path(ref, "attach"), query)

    def resize(self, ref: str, *, height: int, width: int) -> None:
        """Tell its terminal how large it is, in rows and columns."""
        self._http.json("POST", _path(ref, "resize"), {"h": height, "w": width})

    def rename(self, ref: str, new_name: str) -> None:
        """Give it another name. Raises Conflict when that is taken."""
        self._http.json("POST", _path(ref, "rename"), {"name": new_name})

    def update(self, ref: str, resources: JSON) -> Strings:
        """Change resources and restart policy (Docker's UpdateConfig); returns the daemon's warnings."""
        answer = self._http.json("POST", _path(ref, "update"), None, resources, patient=True)
        return (answer or {}).get("Warnings") or []

    def changes(self, ref: str) -> Pairs:
        """What it changed in its filesystem: ("A" added, "C" changed or "D" deleted, and the path)."""
        answer = self._http.json("GET", _path(ref, "changes"), patient=True) or []
        return [(_CHANGES[item["Kind"]], item["Path"]) for item in answer]

    def export(self, ref: str) -> Answer:
        """All its files as a tar archive; iterate over it for chunks, and use `with`.

        Raises Lost where the archive breaks off.
        """
        return self._http.stream("GET", _path(ref, "export"))

    def path_status(self, ref: str, path: str) -> PathStatus:
        """What lies at a path in it, running or not; of a symlink, that itself. Raises NotFound."""
        return path_status(self._http.head(_path(ref, "archive"), {"path": path}))

    def get_archive(self, ref: str, path: str) -> PathArchive:
        """What lies at a path in it, as a tar archive; iterate over it for chunks, and use `with`.

        Raises NotFound, and Lost where the archive breaks off.
        """
        return PathArchive(self._http.stream("GET", _path(ref, "archive"), {"path": path}))

    def put_archive(
        self, ref: str, path: str, source: Readable, *, as_user: bool = False, replace: bool = True
    ) -> None:
        """Unpack a tar archive, compressed or not, into a directory in it.

        `as_user` gives all of it to the container's user; without `replace` directories and what is none do
        not take each other's place. Raises NotFound (no such directory), BadRequest.
        """
        query = {
            "path": path,
            "copyUIDGID": as_user or None,
            "noOverwriteDirNonDir": None if replace else True,
        }
        with self._http.stream("PUT", _path(ref, "archive"), query, source):
            pass

    def commit(
        self,
        ref: str,
        *,
        repository: str = "",
        tag: str = "",
        author: str = "",
        comment: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
        config: JSON | None = None,
    ) -> str:
        """Make an image of it as it is now; returns the image's id.

        `changes` are Dockerfile instructions such as 'CMD ["sh"]'; `config` (Docker's Config dictionary) is
        laid over the container's own. It is paused meanwhile unless `pause` is false.
        """
        query = {
            "container": ref,
            "repo": repository or None,
            "tag": tag or None,
            "author": author or None,
            "comment": comment or None,
            "changes": list(changes),
            "pause": pause,
        }
        return str(self._http.json("POST", "/commit", query, config, patient=True)["Id"])

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        """Remove it; `force` kills it first, `volumes` removes its anonymous volumes, `link` only a link."""
        query = {"force": force or None, "v": volumes or None, "link": link or None}
        self._http.json("DELETE", f"/containers/{percent(ref, b'/')}", query, patient=True)

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove all stopped containers."""
        answer = (
            self._http.json("POST", "/containers/prune", {"filters": filters or None}, patient=True) or {}
        )
        return Pruned(answer.get("ContainersDeleted") or [], answer.get("SpaceReclaimed") or 0)

    def top(self, ref: str, ps_args: str | None = None) -> Table:
        """Its processes as ps(1) shows them: the titles and the rows."""
        answer = self._http.json("GET", _path(ref, "top"), {"ps_args": ps_args})
        return answer["Titles"], answer["Processes"]

    def stats(self, ref: str, *, one_shot: bool = False) -> JSON:
        """What it uses (`ContainerStatsResponse` of the API); takes a second or two.

        With `one_shot` it is told at once, without the earlier reading that the CPU's share is reckoned from.
        """
        query = {"stream": False, "one-shot": one_shot or None}
        return cast("JSON", self._http.json("GET", _path(ref, "stats"), query))

    def watch_stats(self, ref: str) -> Readings:
        """What it uses, again and again. One that does not run has empty readings."""
        return Readings(self._http.stream("GET", _path(ref, "stats"), {"stream": True}))


def _path(ref: str, verb: str) -> str:
    return f"/containers/{percent(ref)}/{verb}"
