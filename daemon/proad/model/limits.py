"""Sync, pure. Limits that make no sense on any host: ranges, contradictions, lists of CPUs, ulimits."""

import re
from collections.abc import Iterable

from proad.model import errors
from proad.model.hostconfig import Resources, RestartPolicy, Ulimit

MIN_MEMORY_BYTES = 6 * 1024 * 1024
"""Below this a runtime cannot even set up the container's process."""

ULIMITS: tuple[str, ...] = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
"""As github.com/docker/go-units knows them; ``as`` is not among them."""

_LARGEST_CPU = 8192
_CPU_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def check_resources(resources: Resources) -> None:
    """Refuse what no host could do.

    Raises:
        errors.InvalidParameter: a value out of range, or two that exclude each other; in Docker's words.
    """
    for refuse in (_check_memory, _check_cpu, _check_block_io):
        refuse(resources)
    for name, value in (("cpus", resources.cpuset_cpus), ("mems", resources.cpuset_mems)):
        try:
            parse_cpu_list(value)
        except ValueError as error:
            raise errors.InvalidParameter(f"Invalid value {value} for cpuset {name}: {error}") from error
    check_ulimits(resources.ulimits)


def _check_memory(resources: Resources) -> None:
    if 0 != resources.memory < MIN_MEMORY_BYTES:
        raise errors.InvalidParameter("Minimum memory limit allowed is 6MB")
    if 0 != resources.memory_reservation < MIN_MEMORY_BYTES:
        raise errors.InvalidParameter("Minimum memory reservation allowed is 6MB")
    if resources.memory_swap < -1:
        raise errors.InvalidParameter(
            f"Invalid value {resources.memory_swap} for MemorySwap: -1 is for no limit"
        )
    if resources.memory > 0 and 0 < resources.memory_swap < resources.memory:
        raise errors.InvalidParameter(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    swappiness = resources.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:  # -1 is how clients say "not asked for"
        raise errors.InvalidParameter(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if 0 < resources.kernel_memory < MIN_MEMORY_BYTES:
        raise errors.InvalidParameter("Minimum kernel memory limit allowed is 6MB")


def _check_cpu(resources: Resources) -> None:
    if resources.nano_cpus > 0 and resources.cpu_period > 0:
        raise errors.InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if resources.nano_cpus > 0 and resources.cpu_quota > 0:
        raise errors.InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if resources.cpu_shares < 0:
        raise errors.InvalidParameter(
            f"invalid CPU shares ({resources.cpu_shares}): value must be a positive integer"
        )
    if resources.cpu_period and not 1000 <= resources.cpu_period <= 1_000_000:
        raise errors.InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < resources.cpu_quota < 1000:
        raise errors.InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")


def _check_block_io(resources: Resources) -> None:
    if resources.io_maximum_bandwidth:
        raise errors.InvalidParameter(
            "invalid option: QoS maximum bandwidth configuration is not supported on linux"
        )
    if resources.io_maximum_iops:
        raise errors.InvalidParameter(
            "invalid option: QoS maximum IOPs configuration is not supported on linux"
        )
    if resources.blkio_weight and not 10 <= resources.blkio_weight <= 1000:
        raise errors.InvalidParameter("Range of blkio weight is from 10 to 1000")
    for device in resources.blkio_weight_device:
        if not 10 <= device.weight <= 1000:
            raise errors.InvalidParameter(
                f"Range of blkio weight is from 10 to 1000: BlkioWeightDevice {device.path}"
            )


def check_ulimits(ulimits: Iterable[Ulimit]) -> None:
    """Refuse unknown names and soft limits above the hard one."""
    for ulimit in ulimits:
        if ulimit.name not in ULIMITS:
            raise errors.InvalidParameter(f"invalid ulimit type: {ulimit.name}")
        if ulimit.soft < -1 or ulimit.hard < -1:
            raise errors.InvalidParameter(f"invalid ulimit {ulimit.name}: -1 is for no limit")
        if ulimit.hard != -1 and (ulimit.soft == -1 or ulimit.soft > ulimit.hard):
            raise errors.InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {ulimit.soft} > {ulimit.hard}"
            )


def parse_cpu_list(text: str) -> frozenset[int]:
    """The numbers in a list as ``0-3,8``.

    Raises:
        ValueError: it is not such a list, or names a number beyond what Linux can have.
    """
    numbers: set[int] = set()
    for part in text.split(",") if text else ():
        match = _CPU_RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"invalid format: {text}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last > _LARGEST_CPU:
            raise ValueError(f"invalid range: {part}")
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def check_restart_policy(policy: RestartPolicy) -> None:
    """Refuse an unknown policy, or a count of retries where it does not belong."""
    name, count = policy.name, policy.maximum_retry_count
    if name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise errors.InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if name == "on-failure":
        if count < 0:
            raise errors.InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    elif name and count != 0:
        what = "can only be used with 'on-failure'" + (" and cannot be negative" if count < 0 else "")
        raise errors.InvalidParameter(f"invalid restart policy: maximum retry count {what}")
