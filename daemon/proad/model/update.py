"""Sync, pure. ``POST /containers/{ref}/update``: new limits and a new restart policy over those a container
has.
"""

from msgspec.structs import asdict, replace

from proad.model import errors, limits
from proad.model.hostcheck import check_resources
from proad.model.hostconfig import HostConfig, RestartPolicy, UpdateRequest, api_name
from proad.model.hostfacts import HostFacts
from proad.model.limits import check_restart_policy

UPDATABLE = frozenset(
    {"blkio_weight", "cpu_shares", "nano_cpus", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems"}
    | {"memory", "memory_swap", "memory_reservation", "kernel_memory", "pids_limit", "restart_policy"}
)


def merge_update(
    host_config: HostConfig, request: UpdateRequest, facts: HostFacts
) -> tuple[HostConfig, list[str]]:
    """The container's configuration with what the request sets, and warnings for what the host cannot do.

    Raises:
        errors.InvalidParameter: a value that makes no sense, alone or with what is there already, or a
        field that
            cannot be changed.
    """
    nothing = asdict(UpdateRequest())
    asked = {name: value for name, value in asdict(request).items() if value != nothing[name]}
    for name in asked:
        if name not in UPDATABLE:
            raise errors.InvalidParameter(f"{api_name(name)} cannot be changed of an existing container")
    limits.check_resources(request)
    checked, warnings = check_resources(request, facts, update=True)
    kept = {name: getattr(checked, name) for name in asked}
    kept = {name: value for name, value in kept.items() if value != nothing[name]}
    if kept.get("pids_limit", 1) <= 0:
        kept["pids_limit"] = 0
    _check_with_present(host_config, kept)
    policy: RestartPolicy | None = kept.get("restart_policy")
    if policy is not None:
        check_restart_policy(policy)
        if host_config.auto_remove and policy.name not in ("", "no"):
            raise errors.InvalidParameter(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
    return replace(host_config, **kept), warnings


def _check_with_present(present: HostConfig, asked: dict[str, object]) -> None:
    if "nano_cpus" in asked and (present.cpu_period or present.cpu_quota):
        raise errors.InvalidParameter(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period/Quota has already been set"
        )
    if present.nano_cpus:
        for name, words in (("cpu_period", "CPU Period"), ("cpu_quota", "CPU Quota")):
            if name in asked:
                raise errors.InvalidParameter(
                    f"Conflicting options: {words} cannot be updated as NanoCPUs has already been set"
                )
    memory = asked.get("memory")
    if memory and "memory_swap" not in asked and 0 < present.memory_swap < int(str(memory)):
        raise errors.InvalidParameter(
            "Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time"
        )
