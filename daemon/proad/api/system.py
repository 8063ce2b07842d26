"""asyncio-flavoured. The daemon itself: ping, version, info, disk usage."""

import sys

from aiohttp import web

import proad
from proad.api import wire
from proad.api.router import MAX_VERSION, MIN_VERSION, show_version
from proad.api.server import VERSION, call, json_response, roles_of
from proad.engine.roles import Roles
from proad.engine.system import Info
from proad.model.durations import format_rfc3339_ns
from proad.model.logoptions import LOG_DRIVERS, NO_LOG

_NO_CACHE = {"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache"}
_PING_HEADERS = {**_NO_CACHE, "Docker-Experimental": "false", "Swarm": "inactive", "Builder-Version": "1"}
NETWORK_DRIVERS = ("bridge", "host", "null")


def routes() -> list[web.RouteDef]:
    return [
        web.get("/_ping", get_ping, allow_head=False),
        web.head("/_ping", get_ping),
        web.get("/version", get_version),
        web.get("/info", get_info),
    ]


async def get_ping(request: web.Request) -> web.StreamResponse:
    body = b"" if request.method == "HEAD" else b"OK"
    return web.Response(body=body, headers=_PING_HEADERS, content_type="text/plain", charset="utf-8")


# --- version ----------------------------------------------------------------------------------------------


async def get_version(request: web.Request) -> web.StreamResponse:
    system = roles_of(request).system
    tools = await call(request, system.tools)
    machine = system.machine()
    details = {
        "ApiVersion": show_version(MAX_VERSION),
        "MinAPIVersion": show_version(MIN_VERSION),
        "Os": "linux",
        "Arch": machine.go_architecture,
        "KernelVersion": machine.kernel,
        "Experimental": "false",
        "PythonVersion": sys.version.split()[0],
    }
    components = [{"Name": "Engine", "Version": proad.__version__, "Details": details}]
    for tool in tools.values():
        if tool.version:
            components.append(
                {"Name": tool.name, "Version": tool.version, "Details": {"GitCommit": tool.commit}}
            )
    return json_response(
        {
            "Platform": {"Name": "proa"},
            "Components": components,
            "Version": proad.__version__,
            "ApiVersion": show_version(MAX_VERSION),
            "MinAPIVersion": show_version(MIN_VERSION),
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": machine.go_architecture,
            "KernelVersion": machine.kernel,
            "BuildTime": "",
        }
    )


# --- info -------------------------------------------------------------------------------------------------


async def get_info(request: web.Request) -> web.StreamResponse:
    roles = roles_of(request)
    info = await call(request, roles.system.info)
    shown = _info(roles, info, request[VERSION])
    return json_response(shown)


def _info(roles: Roles, info: Info, version: wire.ApiVersion) -> wire.Json:
    config, machine, limits = roles.config, info.machine, info.limits
    shown: wire.Json = {
        "ID": info.id,
        "Containers": info.running + info.paused + info.stopped,
        "ContainersRunning": info.running,
        "ContainersPaused": info.paused,
        "ContainersStopped": info.stopped,
        "Images": info.images,
        "Driver": wire.STORAGE_DRIVER,
        "DriverStatus": [
            ["Backing Filesystem", info.backing_filesystem],
            ["Supports d_type", "true"],
            ["Native Overlay Diff", "true"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": list(NETWORK_DRIVERS),
            "Authorization": [],
            "Log": [driver for driver in LOG_DRIVERS if driver != NO_LOG],
        },
        "MemoryLimit": limits.memory,
        "SwapLimit": limits.swap,
        "KernelMemoryTCP": limits.kernel_memory_tcp,
        "CpuCfsPeriod": limits.cpu_quota,
        "CpuCfsQuota": limits.cpu_quota,
        "CPUShares": limits.cpu_shares,
        "CPUSet": limits.cpuset,
        "PidsLimit": limits.pids,
        "IPv4Forwarding": limits.ipv4_forwarding,
        "Debug": config.log_level == "debug",
        "NFd": info.open_descriptors,
        "OomKillDisable": limits.oom_kill_disable,
        "NGoroutines": 0,
        "SystemTime": format_rfc3339_ns(info.time_ns),
        "LoggingDriver": config.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(info.cgroup_version),
        "NEventsListener": info.event_listeners,
        "KernelVersion": machine.kernel,
        "OperatingSystem": machine.system,
        "OSVersion": machine.system_version,
        "OSType": "linux",
        "Architecture": machine.architecture,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {},
            "Mirrors": list(config.registry_mirrors),
        },
        "NCPU": machine.cpus,
        "MemTotal": machine.memory_bytes,
        "GenericResources": [],
        "DockerRootDir": str(config.data_root),
        "HttpProxy": info.proxies["HTTP_PROXY"],
        "HttpsProxy": info.proxies["HTTPS_PROXY"],
        "NoProxy": info.proxies["NO_PROXY"],
        "Name": machine.hostname,
        "Labels": list(config.labels),
        "ExperimentalBuild": False,
        "ServerVersion": proad.__version__,
        "Runtimes": {name: {"path": path} for name, path in info.runtimes.items()},
        "DefaultRuntime": info.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": info.tools["init"].name,
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": info.tools["runtime"].commit or info.tools["runtime"].version},
        "InitCommit": {"ID": info.tools["init"].commit or info.tools["init"].version},
        "SecurityOptions": [_security_option(name) for name in info.security],
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": [],
        "DefaultAddressPools": [
            {"Base": pool.base, "Size": pool.size} for pool in config.default_address_pools
        ],
        "Warnings": list(info.warnings),
    }
    if version < (1, 42):
        shown["KernelMemory"] = False
    if version < (1, 44):
        del shown["CDISpecDirs"]
    if version < (1, 49):
        del shown["FirewallBackend"]
    return shown


def _security_option(name: str) -> str:
    return "name=seccomp,profile=builtin" if name == "seccomp" else f"name={name}"
