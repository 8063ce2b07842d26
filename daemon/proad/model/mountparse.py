"""Sync, pure. What a request says of mounts, turned into mount points with Docker's rules and wording.

A container's mounts come from four places, and the later wins where two name one destination:
``VolumesFrom``, then ``Binds`` and ``Mounts`` (which must not name one twice), then the volumes of the image
and of ``Config.Volumes``, which give way to all others. ``HostConfig.Tmpfs`` hides what else is there.
"""

import posixpath
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import msgspec

from proad.model import errors
from proad.model.hostconfig import (
    BindOptions,
    ContainerConfig,
    HostConfig,
    MountRequest,
    TmpfsOptions,
    VolumeDriver,
    VolumeOptions,
)
from proad.model.mounts import DEFAULT_PROPAGATION, PROPAGATIONS, MountPoint, check_tmpfs_options

_READ_WRITE_MODES = frozenset({"ro", "rw"})
_LABEL_MODES = frozenset({"z", "Z"})
_CONSISTENCY_MODES = frozenset({"consistent", "cached", "delegated"})
_COPY_MODES = frozenset({"nocopy", "copy"})
_MODE_KINDS = (_READ_WRITE_MODES, _LABEL_MODES, PROPAGATIONS, _COPY_MODES, _CONSISTENCY_MODES)
_TMPFS_FLAGS = frozenset({"exec", "noexec"})
_ROOT_DESTINATION = "invalid specification: destination can't be '/'"


class VolumeWish(msgspec.Struct, frozen=True, kw_only=True):
    """The volume that a mount point needs; without a name a new one, which the engine names."""

    name: str = ""
    driver: str = ""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class PlannedMount(msgspec.Struct, frozen=True, kw_only=True):
    """A mount point, and the volume to find or make for it; without a wish it is complete.

    ``is_source_required`` is set for the binds of ``Mounts``, whose source must be there when the container
    is created.
    """

    point: MountPoint
    wish: VolumeWish | None = None
    is_source_required: bool = False


def parse_volumes_from(spec: str) -> tuple[str, str]:
    """Split ``CONTAINER[:MODE]``; the mode is ``rw`` unless given.

    Raises:
        errors.InvalidParameter: empty, or a mode that inherited volumes cannot have.
    """
    if not spec:
        raise errors.InvalidParameter("volumes-from specification cannot be an empty string")
    ref, _, mode = spec.partition(":")
    if mode and (not _is_mode(mode) or set(mode.split(",")) & (PROPAGATIONS | _COPY_MODES)):
        raise errors.InvalidParameter(f"invalid mode: {mode}")
    return ref, mode or "rw"


def plan_mounts(
    config: ContainerConfig,
    host_config: HostConfig,
    inherited: Iterable[tuple[str, Sequence[MountPoint]]],
    data_root: str,
) -> list[PlannedMount]:
    """Return what a container mounts, shallow destinations first.

    ``config`` is merged with the image's. ``inherited`` has, for each of ``host_config.volumes_from``, the
    mode and the other container's mount points.

    Raises:
        errors.InvalidParameter: in Docker's words.
    """
    tmpfs = _check_tmpfs(host_config)
    planned: dict[str, PlannedMount] = {}
    for mode, points in inherited:
        for point in points:
            planned[point.destination] = PlannedMount(point=_inherit(point, mode))
    asked: set[str] = set()
    for plan in map(_with_shared_label, _asked_for(host_config)):
        destination = plan.point.destination
        if destination in asked or destination in tmpfs:
            raise errors.InvalidParameter(f"Duplicate mount point: {destination}")
        asked.add(destination)
        planned[destination] = _guard_data_root(plan, data_root)
    for destination in sorted(map(_clean, config.volumes)):
        _check_destination(destination, "volume")
        if destination not in planned and destination not in tmpfs:
            planned[destination] = _volume_plan(
                MountRequest(
                    type="volume",
                    target=destination,
                    volume_options=VolumeOptions(driver_config=VolumeDriver(name=host_config.volume_driver)),
                ),
                "",
            )
    return sorted(planned.values(), key=_depth_and_name)


def convert_tmpfs_options(options: TmpfsOptions | None, *, read_only: bool) -> str:
    """Return the tmpfs data of a mount of type ``tmpfs``: ``ro,mode=1777,size=64m``.

    Raises:
        errors.InvalidParameter: an option other than ``exec`` and ``noexec``.
    """
    parts = ["ro"] if read_only else []
    if options is None:
        return ",".join(parts)
    if options.mode:
        parts.append(f"mode={options.mode:o}")
    if options.size_bytes:
        parts.append(f"size={_show_size(options.size_bytes)}")
    for option in options.options:
        if not 1 <= len(option) <= 2:
            raise errors.InvalidParameter("invalid option array length")
        if option[0] not in _TMPFS_FLAGS:
            raise errors.InvalidParameter(f"invalid option: {option[0]}")
        parts.append("=".join(option))
    return ",".join(parts)


def _asked_for(host_config: HostConfig) -> Iterable[PlannedMount]:
    for text in host_config.binds:
        yield _parse_bind(text, host_config.volume_driver)
    for request in host_config.mounts:
        yield _parse_request(request)


def _with_shared_label(plan: PlannedMount) -> PlannedMount:
    """Show a volume that was asked for with mode ``z`` where nobody said otherwise, as Docker does."""
    if plan.wish is None or plan.point.mode:
        return plan
    return msgspec.structs.replace(plan, point=msgspec.structs.replace(plan.point, mode="z"))


def _parse_bind(text: str, volume_driver: str) -> PlannedMount:
    """Parse one of ``Binds``: ``[SOURCE:]DESTINATION[:MODES]``; a source that is no absolute path names a
    volume.
    """
    source, mode = "", ""
    match text.split(":", 3):
        case [target] if target:
            pass
        case [source, target] if source and not _is_mode(target):
            pass
        case [source, target, mode] if source:
            pass
        case _:
            raise errors.InvalidParameter(f"invalid volume specification: '{text}'")
    if not _is_mode(mode):
        raise errors.InvalidParameter(f"invalid mode: {mode}")
    modes = mode.split(",") if mode else []
    is_bind = source.startswith("/")
    propagation = next((word for word in modes if word in PROPAGATIONS), "")
    copy = next((word for word in modes if word in _COPY_MODES), "")
    driver = None if is_bind or not volume_driver else VolumeDriver(name=volume_driver)
    request = MountRequest(
        type="bind" if is_bind else "volume",
        source=source,
        target=target,
        read_only="ro" in modes,
        bind_options=BindOptions(propagation=propagation) if propagation else None,
        volume_options=(
            VolumeOptions(no_copy=copy == "nocopy", driver_config=driver) if copy or driver else None
        ),
    )
    try:
        plan = _parse_request(request, mode)
    except errors.InvalidParameter as error:
        raise errors.InvalidParameter(f"invalid volume specification: '{text}': {error.message}") from error
    point = msgspec.structs.replace(plan.point, create_source=is_bind)
    return PlannedMount(point=point, wish=plan.wish)


def _parse_request(request: MountRequest, mode: str = "") -> PlannedMount:
    if not request.target:
        raise _invalid(request.type, "field Target must not be empty")
    _check_destination(request.target, request.type)
    if request.type != "image":
        _refuse_extra(request.type, image_options=request.image_options)
    match request.type:
        case "bind":
            return _bind_plan(request, mode)
        case "volume":
            return _volume_plan(request, mode)
        case "tmpfs":
            return _tmpfs_plan(request)
        case "image":
            return _image_plan(request)
        case "cluster" | "npipe":
            raise _invalid(request.type, f"mounts of type {request.type} are not supported by this engine")
        case _:
            raise _invalid(request.type, "mount type unknown")


def _bind_plan(request: MountRequest, mode: str) -> PlannedMount:
    options = request.bind_options or BindOptions()
    if not request.source:
        raise _invalid("bind", "field Source must not be empty")
    if options.propagation and options.propagation not in PROPAGATIONS:
        raise _invalid("bind", f"invalid propagation mode: {options.propagation}")
    _refuse_extra("bind", volume_options=request.volume_options, tmpfs_options=request.tmpfs_options)
    if not request.source.startswith("/"):
        raise _invalid("bind", f"invalid mount path: '{request.source}' mount path must be absolute")
    if options.read_only_non_recursive and options.read_only_force_recursive:
        raise _invalid("bind", "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
    point = MountPoint(
        type="bind",
        destination=_clean(request.target),
        source=_clean(request.source),
        mode=mode,
        read_write=not request.read_only,
        propagation=options.propagation or DEFAULT_PROPAGATION,
        is_propagation_default=not options.propagation,
        create_source=options.create_mountpoint,
        non_recursive=options.non_recursive,
        read_only_non_recursive=options.read_only_non_recursive,
        read_only_force_recursive=options.read_only_force_recursive,
    )
    return PlannedMount(point=point, is_source_required=not options.create_mountpoint)


def _volume_plan(request: MountRequest, mode: str) -> PlannedMount:
    _refuse_extra("volume", bind_options=request.bind_options, tmpfs_options=request.tmpfs_options)
    options = request.volume_options or VolumeOptions()
    is_anonymous = not request.source
    if options.subpath:
        if is_anonymous:
            raise _invalid("volume", "must not set Subpath when using anonymous volumes")
        if not _is_local(options.subpath):
            raise _invalid("volume", "subpath must be a relative path within the volume")
    if request.read_only and is_anonymous:
        raise _invalid("volume", "must not set ReadOnly mode when using anonymous volumes")
    driver = options.driver_config or VolumeDriver()
    point = MountPoint(
        type="volume",
        destination=_clean(request.target),
        name=request.source,
        driver=driver.name,
        mode=mode,
        read_write=not request.read_only,
        no_copy=options.no_copy,
        subpath=options.subpath,
        anonymous=is_anonymous,
    )
    wish = VolumeWish(name=request.source, driver=driver.name, options=driver.options, labels=options.labels)
    return PlannedMount(point=point, wish=wish)


def _image_plan(request: MountRequest) -> PlannedMount:
    """An image is only ever mounted for reading, whether that is asked for or not."""
    _refuse_extra(
        "image",
        bind_options=request.bind_options,
        volume_options=request.volume_options,
        tmpfs_options=request.tmpfs_options,
    )
    if not request.source:
        raise _invalid("image", "field Source must not be empty")
    subpath = request.image_options.subpath if request.image_options else ""
    if subpath and not _is_local(subpath):
        raise _invalid("image", "subpath must be a relative path within the volume")
    point = MountPoint(
        type="image",
        destination=_clean(request.target),
        name=request.source,
        read_write=False,
        subpath=subpath,
    )
    return PlannedMount(point=point)


def _tmpfs_plan(request: MountRequest) -> PlannedMount:
    _refuse_extra("tmpfs", bind_options=request.bind_options, volume_options=request.volume_options)
    if request.source:
        raise _invalid("tmpfs", "field Source must not be specified")
    try:
        data = convert_tmpfs_options(request.tmpfs_options, read_only=request.read_only)
        check_tmpfs_options(data)
    except errors.InvalidParameter as error:
        raise _invalid("tmpfs", error.message) from error
    point = MountPoint(
        type="tmpfs",
        destination=_clean(request.target),
        read_write=not request.read_only,
        tmpfs_options=data,
    )
    return PlannedMount(point=point)


def _inherit(point: MountPoint, mode: str) -> MountPoint:
    """A mount point of another container, as ``VolumesFrom`` hands it on; its content is not copied again."""
    return msgspec.structs.replace(
        point, read_write=point.read_write and "ro" not in mode.split(","), mode="", no_copy=True
    )


def _guard_data_root(plan: PlannedMount, data_root: str) -> PlannedMount:
    """Keep a container that mounts the daemon's own files from pinning the mounts below them.

    With private propagation a copy of every container's root filesystem would stay mounted inside, and the
    disk could not be freed.
    """
    point = plan.point
    if point.type != "bind":
        return plan
    source, root = PurePosixPath(point.source), PurePosixPath(data_root)
    if not source.is_relative_to(root) and not root.is_relative_to(source):
        return plan
    if point.is_propagation_default:
        return msgspec.structs.replace(plan, point=msgspec.structs.replace(point, propagation="rslave"))
    if point.propagation not in ("rslave", "rshared"):
        raise errors.InvalidParameter(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source '
            f'is within the daemon root, daemon root: "{data_root}", bind mount source: "{point.source}", '
            f'propagation: "{point.propagation}"'
        )
    return plan


def _check_tmpfs(host_config: HostConfig) -> set[str]:
    destinations = set()
    for destination, options in host_config.tmpfs.items():
        if _clean(destination) == "/":
            raise errors.InvalidParameter(_ROOT_DESTINATION)
        if not destination.startswith("/"):
            raise errors.InvalidParameter(f"invalid mount path: '{destination}' mount path must be absolute")
        check_tmpfs_options(options)
        destinations.add(_clean(destination))
    return destinations


def _check_destination(target: str, kind: str) -> None:
    if _clean(target) == "/":
        raise _invalid(kind, _ROOT_DESTINATION)
    if not target.startswith("/"):
        raise _invalid(kind, f"invalid mount path: '{target}' mount path must be absolute")
    if "\0" in target:
        raise _invalid(kind, f"invalid mount path: {target!r}")


def _refuse_extra(kind: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            field = "".join(word.capitalize() for word in name.split("_"))
            raise _invalid(kind, f"field {field} must not be specified")


def _invalid(kind: str, reason: str) -> errors.InvalidParameter:
    return errors.InvalidParameter(f'invalid mount config for type "{kind}": {reason}')


def _is_mode(mode: str) -> bool:
    if not mode:
        return True
    words = mode.split(",")
    if any(not any(word in kind for kind in _MODE_KINDS) for word in words):
        return False
    return all(sum(word in kind for word in words) <= 1 for kind in _MODE_KINDS)


def _is_local(subpath: str) -> bool:
    """Whether a relative path stays below where it starts, by its words alone."""
    if subpath.startswith("/"):
        return False
    return posixpath.normpath(subpath).split("/")[0] != ".."


def _clean(path: str) -> str:
    """Normalise like Go's ``path.Clean``; Python alone keeps two leading slashes."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _show_size(size: int) -> str:
    for suffix, unit in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def _depth_and_name(plan: PlannedMount) -> tuple[int, str]:
    destination = plan.point.destination
    return destination.count("/"), destination
