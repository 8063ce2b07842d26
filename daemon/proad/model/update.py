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
        errors.InvalidParameter: a value that makes no sense, or a field that cannot be changed.
        errors.Conflict: one that does not go with what is there already.
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
            raise errors.Conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
    return replace(host_config, **kept), warnings


def _check_with_present(present: HostConfig, asked: dict[str, object]) -> None:
    """In Docker's words and with its conditions (moby, ``container/container_unix.go``)."""

    def is_set(name: str) -> bool:
        value = asked.get(name)
        return isinstance(value, int) and value > 0

    for name, words in (("cpu_period", "CPU Period"), ("cpu_quota", "CPU Quota")):
        if is_set("nano_cpus") and getattr(present, name) > 0:
            raise errors.Conflict(
                f"Conflicting options: Nano CPUs cannot be updated as {words} has already been set"
            )
        if is_set(name) and present.nano_cpus > 0:
            raise errors.Conflict(
                f"Conflicting options: {words} cannot be updated as NanoCPUs has already been set"
            )
    memory = asked.get("memory")
    if isinstance(memory, int) and memory > present.memory_swap and "memory_swap" not in asked:
        raise errors.Conflict(
            "Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time"
        )
