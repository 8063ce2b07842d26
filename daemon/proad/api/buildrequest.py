"""Sync, pure. What a client asks of a build, read from the query and the headers and checked."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from proad.api import params
from proad.api.router import ApiVersion
from proad.engine.build import BuildRequest
from proad.engine.buildcontext import DEFAULT_DOCKERFILE
from proad.model import errors, imagearchive
from proad.model.credentials import parse_registry_config
from proad.model.gojson import UNREADABLE
from proad.model.hostconfig import ContainerConfig, HostConfig, LogConfig, Ulimit
from proad.model.imagearchive import Platform, parse_platform
from proad.model.reference import Reference, parse_reference
from proad.model.requestcheck import check_request

T = TypeVar("T")

_MAX_INT64 = 2**63 - 1
_PLATFORM_SINCE = (1, 32)
_LIMITS = {
    "memory": "memory", "memswap": "memory_swap", "cpushares": "cpu_shares", "cpuperiod": "cpu_period",
    "cpuquota": "cpu_quota", "shmsize": "shm_size",
}  # fmt: skip
_TEXTS = {"cpusetcpus": "cpuset_cpus", "cpusetmems": "cpuset_mems", "cgroupparent": "cgroup_parent"}
_DEFAULT_NETWORKS = ("", "default")


def parse_build(request: web.Request, version: ApiVersion) -> BuildRequest:
    """Read a request of that version of the API.

    Raises:
        errors.InvalidParameter: a value cannot be meant, or asks for what this builder does not do.
    """
    query = request.query
    _refuse(query)
    removes = params.boolean(query, "rm") if query.get("rm") else True
    force_remove = params.boolean(query, "forcerm")
    return BuildRequest(
        names=_names(query.getall("t", [])),
        dockerfile=query.get("dockerfile", "") or DEFAULT_DOCKERFILE,
        remote=query.get("remote", ""),
        target=query.get("target", ""),
        arguments=_json(query, "buildargs", dict[str, str | None], "error reading build args") or {},
        labels=_json(query, "labels", dict[str, str], "error reading labels") or {},
        host_config=_host_config(query, query.getall("extrahosts", [])),
        use_cache=not params.boolean(query, "nocache"),
        cache_from=_json(query, "cachefrom", list[str], "error reading cache-from") or [],
        pull=params.boolean(query, "pull"),
        platform=_platform(query.get("platform", "")) if version >= _PLATFORM_SINCE else None,
        credentials=parse_registry_config(request.headers.get("X-Registry-Config", "")),
        remove=removes or force_remove,
        force_remove=force_remove,
        id=query.get("buildid", ""),
    )


def _refuse(query: Mapping[str, str]) -> None:
    """What the classic builder of this engine does not do is said before anything is done."""
    version = query.get("version", "")
    if version == "2":
        raise errors.InvalidParameter(
            "buildkit is not enabled on daemon: this engine has the classic builder (DOCKER_BUILDKIT=0)"
        )
    if version not in ("", "1"):
        raise errors.InvalidParameter(f"invalid version {version}")
    if params.boolean(query, "squash"):
        raise errors.InvalidParameter("squash is only supported with experimental mode")
    if query.get("securityopt"):
        raise errors.InvalidParameter(
            "The daemon on this platform does not support setting security options on build"
        )
    if query.get("isolation", "") not in ("", "default"):
        raise errors.InvalidParameter(f'Unsupported isolation: "{query["isolation"]}"')
    if query.get("outputs", "") not in ("", "[]", "null"):
        raise errors.InvalidParameter("custom outputs need BuildKit, which this engine does not have")


def _names(texts: list[str]) -> tuple[Reference, ...]:
    names: dict[Reference, None] = {}
    for text in filter(None, texts):
        try:
            name = parse_reference(text)
        except errors.InvalidParameter as error:
            raise errors.InvalidParameter(f'invalid argument "{text}" for "t": {error.message}') from error
        if name.digest:
            raise errors.InvalidParameter("build tag cannot contain a digest")
        names[name.with_default_tag()] = None
    return tuple(names)


def _host_config(query: params.Query, hosts: list[str]) -> HostConfig:
    limits: dict[str, Any] = {
        field: params.integer(query, name, minimum=-(2**63), maximum=_MAX_INT64) or 0
        for name, field in _LIMITS.items()
    }
    limits |= {field: query.get(name, "") for name, field in _TEXTS.items()}
    network = query.get("networkmode", "")
    host_config = HostConfig(
        **limits,
        ulimits=tuple(_json(query, "ulimits", list[Ulimit], "error reading ulimit settings") or ()),
        network_mode="bridge" if network in _DEFAULT_NETWORKS else network,
        extra_hosts=tuple(hosts),
        log_config=LogConfig(type="none"),
    )
    check_request(ContainerConfig(), host_config)
    return host_config


def _platform(text: str) -> Platform | None:
    if not text:
        return None
    platform = parse_platform(text)
    host = imagearchive.host_platform()
    if platform is not None and platform.os != host.os:
        raise errors.InvalidParameter(f'operating system "{platform.os}" is not supported')
    return platform


def _json(query: Mapping[str, str], name: str, type_: type[T], problem: str) -> T | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        return msgspec.json.decode(text.encode(), type=type_ | None)
    except UNREADABLE as error:
        raise errors.InvalidParameter(f"{problem}: {error}") from error
