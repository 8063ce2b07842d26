"""Sync, blocking. The engines that are measured: a private proad, and a peer that runs already."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proad.config import Config, load
from tests.bench import processes
from tests.bench.http import Client, connected

IMAGE = "proa-bench"
LINE = b"x" * 127 + b"\n"
LINES_BYTES = 1 << 20
READY_TIMEOUT_S = 60.0


@dataclass
class Engine:
    """One engine under measurement; ``restart`` is there only for one that the bench started itself."""

    name: str
    socket: str
    pid: int
    ps_command: list[str] | None
    proad: "Proad | None" = None
    version: str = field(default="", init=False)

    def prepare(self) -> None:
        """Import the image that all measurements use, and learn the engine's version."""
        with connected(self.socket) as client:
            client.call("POST", f"/images/create?fromSrc=-&repo={IMAGE}&tag=latest", raw=busybox_tar())
            self.version = client.call("GET", "/version")["Version"]

    def clean(self) -> None:
        """Remove the containers and images of the bench, and nothing else."""
        with Client(self.socket) as client:
            for container in client.call("GET", "/containers/json?all=1"):
                if container["Image"].startswith(IMAGE):
                    client.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            for image in client.call("GET", "/images/json"):
                for tag in image["RepoTags"] or ():
                    if tag.startswith(IMAGE):
                        client.call("DELETE", f"/images/{tag}?force=1")


def busybox_tar() -> bytes:
    """Return a root file system of the host's static busybox, and a file of a MiB of log lines."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for applet in ("sh", "cat", "sleep", "true"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        lines = tarfile.TarInfo("lines")
        lines.size, lines.mode = LINES_BYTES, 0o644
        tar.addfile(lines, io.BytesIO(LINE * (LINES_BYTES // len(LINE))))
    return buffer.getvalue()


class Proad:
    """A proad with a state of its own, that can be killed and started again."""

    def __init__(self, directory: Path, exec_root: Path) -> None:
        self.directory = directory
        self.socket = str(directory / "proa.sock")
        self.process: subprocess.Popen[bytes] | None = None
        self._flags: dict[str, Any] = {
            "host": [f"unix://{self.socket}"],
            "data_root": str(directory / "data"),
            "exec_root": str(exec_root),
        }

    @property
    def config(self) -> Config:
        return load(dict(self._flags))

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> float:
        """Exec the daemon; return the seconds until it answered a list of its containers."""
        command = [str(Path(sys.executable).with_name("proad")), "--host", f"unix://{self.socket}"]
        command += ["--data-root", self._flags["data_root"], "--exec-root", self._flags["exec_root"]]
        began = time.monotonic()
        with (self.directory / "proad.log").open("ab") as log:
            # A session of its own: an interrupt at the terminal is for the bench, which then cleans up.
            self.process = subprocess.Popen(
                [*command, "--log-level", "warn"],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        while time.monotonic() < began + READY_TIMEOUT_S and self.process.poll() is None:
            try:
                with Client(self.socket) as client:
                    client.call("GET", "/containers/json")
                return time.monotonic() - began
            except (FileNotFoundError, ConnectionError):
                time.sleep(0.005)
        log_text = (self.directory / "proad.log").read_text()
        raise RuntimeError(f"proad did not become ready; its log ends:\n{log_text[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def remove_traces(self) -> None:
        """Remove what a daemon keeps while it is down: its bridge, its table of rules, its cgroup."""
        config = self.config
        for command in (
            ["ip", "link", "delete", config.bridge],
            *(["nft", "delete", "table", family, config.table] for family in ("ip", "ip6", "inet", "bridge")),
        ):
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
        for parent in Path("/sys/fs/cgroup").rglob(config.cgroup_parent.lstrip("/")):
            for directory, _, _ in os.walk(parent, topdown=False):
                Path(directory).rmdir()


def _memory_directory() -> str:
    """Where exec roots belong: in memory, as ``/run`` is wherever systemd runs."""
    kind = subprocess.run(["stat", "-fc", "%T", "/run"], capture_output=True, text=True, check=True).stdout
    return "/run" if kind.strip() == "tmpfs" else "/dev/shm"


@contextmanager
def private_proad() -> Iterator[Engine]:
    """Yield a running proad whose every trace is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="proa-bench."))
    exec_root = Path(tempfile.mkdtemp(prefix="proa-bench.", dir=_memory_directory()))
    proad = Proad(directory, exec_root)
    try:
        proad.start()
        assert proad.process is not None
        engine = Engine(
            "proa", proad.socket, proad.process.pid, [str(Path(sys.executable).with_name("proa"))], proad
        )
        engine.prepare()
        try:
            yield engine
        finally:
            if not proad.is_running:  # only a daemon knows how to take containers down
                proad.start()
            engine.clean()
    finally:
        proad.stop()
        proad.remove_traces()
        shutil.rmtree(exec_root)
        shutil.rmtree(directory)


@contextmanager
def running_peer(url: str) -> Iterator[Engine]:
    """Yield the engine at ``unix:///path``; only what the bench made there is removed at the end."""
    path = url.removeprefix("unix://")
    pid = processes.peer_pid(path)
    if pid == 1:
        raise RuntimeError(f"{url}: the socket is systemd's; name the one that the engine itself opened")
    name = (Path("/proc") / str(pid) / "comm").read_text().strip()
    docker = shutil.which("docker")
    engine = Engine(name, path, pid, [docker] if docker else None)
    engine.prepare()
    try:
        yield engine
    finally:
        engine.clean()
