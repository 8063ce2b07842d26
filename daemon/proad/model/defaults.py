"""Sync, pure. What a host configuration means where it says nothing, written out for inspect and for later
runs.
"""

from typing import Any

from msgspec.structs import replace

from proad.model.hostconfig import HostConfig, LogConfig, RestartPolicy
from proad.model.hostfacts import HostFacts
from proad.model.spec import DEFAULT_SHM_BYTES, MASKED_PATHS, READONLY_PATHS

DEFAULT_LOG_DRIVER = "json-file"


def with_default_log(host_config: HostConfig, default: LogConfig) -> HostConfig:
    """The configuration with the daemon's log driver where it names none, and the daemon's options beside its
    own where it names no other driver (moby: ``mergeAndVerifyLogConfig``). For creation alone: what is there
    keeps its log when the daemon's default changes.
    """
    asked = host_config.log_config
    if asked.type not in ("", default.type):
        return host_config
    merged = LogConfig(type=default.type, config={**default.config, **asked.config})
    return replace(host_config, log_config=merged)


def with_defaults(host_config: HostConfig, facts: HostFacts) -> HostConfig:
    """The configuration with Docker's defaults (moby: ``adaptContainerSettings``); idempotent."""
    changes: dict[str, Any] = {}
    if host_config.memory > 0 and host_config.memory_swap == 0:
        changes["memory_swap"] = host_config.memory * 2
    if host_config.shm_size == 0:
        changes["shm_size"] = DEFAULT_SHM_BYTES
    if not host_config.ipc_mode:
        changes["ipc_mode"] = "private"
    if not host_config.cgroupns_mode:
        changes["cgroupns_mode"] = "private" if facts.is_v2 else "host"
    if host_config.oom_kill_disable is None and facts.can_disable_oom_killer:
        changes["oom_kill_disable"] = False
    if not host_config.restart_policy.name:
        changes["restart_policy"] = RestartPolicy(name="no")
    if not host_config.log_config.type:
        changes["log_config"] = LogConfig(type=DEFAULT_LOG_DRIVER, config=host_config.log_config.config)
    if not host_config.runtime:
        changes["runtime"] = facts.default_runtime
    if not host_config.privileged:
        if host_config.masked_paths is None:
            changes["masked_paths"] = (*MASKED_PATHS, *facts.more_masked_paths)
        if host_config.readonly_paths is None:
            changes["readonly_paths"] = READONLY_PATHS
    return replace(host_config, **changes) if changes else host_config
