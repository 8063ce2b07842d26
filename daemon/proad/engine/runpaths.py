"""Trio-flavoured. Where a container's run keeps its files: the layout of its directories, in one place."""

from pathlib import Path

from proad.config import Config


class RunPaths:
    """Where a container's run keeps its files."""

    def __init__(self, config: Config, container_id: str) -> None:
        self.bundle: Path = config.exec_root / "runs" / container_id
        self.shm: Path = self.bundle / "shm"
        self.state: Path = config.data_root / "containers" / container_id
        self.log: Path = self.state / "container.log"
        self.hosts: Path = self.state / "hosts"
        self.hostname: Path = self.state / "hostname"
        self.resolv_conf: Path = self.state / "resolv.conf"
