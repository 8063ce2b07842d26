"""Sync, pure. ``StorageOpt``: how much a container may write into its own file system."""

import re
from collections.abc import Mapping

from proad.model import errors

NOT_SUPPORTED = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
"""Docker's words, which clients match on; ext4 with ``prjquota`` does as well here."""

_LARGEST_BYTES = 2**63 - 1
_NUMBER = re.compile(r"[0-9]*\.?[0-9]*")
_POWERS = "bkmgtp"


def parse_storage_opt(options: Mapping[str, str]) -> int:
    """The bytes that ``size`` allows, 0 for no limit.

    Raises:
        errors.InvalidParameter: another option than ``size``, or a value that is not a size.
    """
    size_bytes = 0
    for name, value in options.items():
        if name.lower() != "size":
            raise errors.InvalidParameter(f"Unknown option {name.lower()}")
        size_bytes = parse_size(value)
    return size_bytes


def parse_size(text: str) -> int:
    """``10G``, ``1.5 GiB``, ``512mb``, ``1024`` in powers of 1024, as bytes; Docker's grammar (go-units,
    ``RAMInBytes``).

    Raises:
        errors.InvalidParameter: it is no size, or more than 63 bits hold.
    """
    end = max((text.rfind(character) for character in "0123456789. "), default=-1)
    if end < 0:
        raise errors.InvalidParameter(f"invalid size: '{text}'")
    number, suffix = text[: end + 1], text[end + 1 :].lower()
    number = number.removesuffix(" ")
    if not _NUMBER.fullmatch(number) or number in ("", "."):
        raise errors.InvalidParameter(f"invalid size: '{text}'")
    power = _POWERS.find(suffix[0]) if suffix else 0
    if power < 0 or suffix[1:] not in (("", "b", "ib") if power else ("",)):
        raise errors.InvalidParameter(f"invalid suffix: '{suffix}'")
    size_bytes = int(float(number) * 1024**power)
    if size_bytes > _LARGEST_BYTES:
        raise errors.InvalidParameter(f"invalid size: '{text}'")
    return size_bytes
