"""Sync, pure. The shapes of what the daemon answers, as far as callers commonly use them.

They are plain dictionaries with Docker's keys (Engine API 1.51); keys beyond the named ones may be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

JSON: TypeAlias = dict[str, Any]
# For use in classes that have a method called `list`.
Objects: TypeAlias = list[JSON]
Strings: TypeAlias = list[str]
Pairs: TypeAlias = list[tuple[str, str]]
TerminalSize: TypeAlias = tuple[int, int]  # rows and columns
Table: TypeAlias = tuple[Strings, list[Strings]]
Filters: TypeAlias = Mapping[str, Sequence[str]]
WaitCondition: TypeAlias = Literal["not-running", "next-exit", "removed"]


class PortSummary(TypedDict, total=False):
    IP: str
    PrivatePort: int
    PublicPort: int
    Type: str


class ContainerSummary(TypedDict, total=False):
    """One entry of the container list. Created is in seconds since the epoch."""

    Id: str
    Names: list[str]
    Image: str
    ImageID: str
    Command: str
    Created: int
    Ports: list[PortSummary]
    SizeRw: int
    SizeRootFs: int
    Labels: dict[str, str]
    State: str
    Status: str
    HostConfig: JSON
    NetworkSettings: JSON
    Mounts: list[JSON]


class ContainerState(TypedDict, total=False):
    """`State` of an inspected container. Times are RFC 3339 texts."""

    Status: str
    Running: bool
    Paused: bool
    Restarting: bool
    OOMKilled: bool
    Dead: bool
    Pid: int
    ExitCode: int
    Error: str
    StartedAt: str
    FinishedAt: str


class ContainerDetails(TypedDict, total=False):
    """An inspected container. ProaTimeline is there when the daemon is proad and the container has run."""

    Id: str
    Name: str
    Created: str
    Path: str
    Args: list[str]
    State: ContainerState
    Image: str
    Config: JSON
    HostConfig: JSON
    NetworkSettings: JSON
    Mounts: list[JSON]
    ProaTimeline: Timeline


class TimelineStep(TypedDict):
    """One measured step of a start; milliseconds since the start began."""

    Name: str
    BeginMs: float
    EndMs: float


class Timeline(TypedDict):
    """The measured steps of a container's latest start."""

    RunID: str
    Steps: list[TimelineStep]


class ImageSummary(TypedDict, total=False):
    """One entry of the image list. Created is in seconds since the epoch, sizes are bytes."""

    Id: str
    RepoTags: list[str]
    RepoDigests: list[str]
    Created: int
    Size: int
    SharedSize: int
    Labels: dict[str, str]
    Containers: int


class Volume(TypedDict, total=False):
    """A volume as listed and inspected."""

    Name: str
    Driver: str
    Mountpoint: str
    CreatedAt: str
    Labels: dict[str, str]
    Options: dict[str, str]
    Scope: str
    UsageData: JSON


class Network(TypedDict, total=False):
    """A network as listed and inspected; only an inspected one has Containers, by their ids."""

    Id: str
    Name: str
    Created: str
    Scope: str
    Driver: str
    EnableIPv4: bool
    EnableIPv6: bool
    IPAM: JSON
    Internal: bool
    Attachable: bool
    Ingress: bool
    Containers: dict[str, JSON]
    Options: dict[str, str]
    Labels: dict[str, str]


class Event(TypedDict, total=False):
    """One event. `time` is in seconds and `timeNano` in nanoseconds since the epoch."""

    Type: str
    Action: str
    Actor: JSON
    scope: str
    time: int
    timeNano: int
