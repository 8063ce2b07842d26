"""Trio-flavoured. Device nodes of this host, as a container's configuration asks for them."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from proad.model import errors
from proad.model.devices import Device
from proad.model.hostconfig import DeviceMapping, HostConfig

_DEV = Path("/dev")
_NOT_FOR_CONTAINERS = ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev")
_NOT_FOR_CONTAINERS_FILES = ("console",)
"""What a privileged container gets of its own, or not at all, instead of the host's (as moby's devices
package).
"""


def devices_of(host_config: HostConfig) -> list[Device]:
    """The devices that a container gets beyond the default ones: all of them if it is privileged.

    Raises:
        errors.InvalidParameter: one that is asked for is not a device of this host, or a directory with some.
    """
    if host_config.privileged:
        return list(_all_devices())
    return [device for mapping in host_config.devices for device in _mapped(mapping)]


def block_numbers(host_config: HostConfig) -> dict[str, tuple[int, int]]:
    """Major and minor of each block device that an I/O limit names.

    Raises:
        errors.InvalidParameter: there is no such device.
    """
    numbers = {}
    for path in limited_paths(host_config):
        status = _stat(path)
        if not stat.S_ISBLK(status.st_mode):
            raise errors.InvalidParameter(f"{path} is not a block device")
        numbers[path] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return numbers


def limited_paths(host_config: HostConfig) -> list[str]:
    """The block devices that I/O limits name."""
    throttled = (
        *host_config.blkio_device_read_bps,
        *host_config.blkio_device_write_bps,
        *host_config.blkio_device_read_iops,
        *host_config.blkio_device_write_iops,
    )
    return [*(d.path for d in host_config.blkio_weight_device), *(d.path for d in throttled)]


def _mapped(mapping: DeviceMapping) -> Iterator[Device]:
    host_path = os.path.realpath(mapping.path_on_host)
    target = mapping.path_in_container or mapping.path_on_host
    permissions = mapping.cgroup_permissions or "rwm"
    status = _stat(host_path, shown=mapping.path_on_host)
    if (device := _device(target, status, permissions)) is not None:
        yield device
        return
    if not stat.S_ISDIR(status.st_mode):
        raise _no_device(mapping.path_on_host, "not a device node")
    found = False
    for path in _walk(Path(host_path)):
        inner = _device(os.path.join(target, path.relative_to(host_path)), path.lstat(), permissions)
        if inner is not None:
            found = True
            yield inner
    if not found:
        raise _no_device(mapping.path_on_host, "no devices in that directory")


def _all_devices() -> Iterator[Device]:
    for path in _walk(_DEV, leave_out=_NOT_FOR_CONTAINERS):
        if path.parent == _DEV and path.name in _NOT_FOR_CONTAINERS_FILES:
            continue
        try:
            device = _device(str(path), path.lstat(), "rwm")
        except FileNotFoundError:  # unplugged while we look
            continue
        if device is not None:
            yield device


def _walk(top: Path, leave_out: Iterable[str] = ()) -> Iterator[Path]:
    for directory, names, files in os.walk(top):
        if Path(directory) == top:
            names[:] = [name for name in names if name not in leave_out]
        yield from (Path(directory, name) for name in files)


def _device(path: str, status: os.stat_result, permissions: str) -> Device | None:
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    return Device(
        path=path,
        type=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        permissions=permissions,
    )


def _stat(path: str, shown: str = "") -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise _no_device(shown or path, error.strerror or str(error)) from error


def _no_device(path: str, reason: str) -> errors.InvalidParameter:
    return errors.InvalidParameter(
        f'error gathering device information while adding custom device "{path}": {reason.lower()}'
    )
