"""Sync, pure. Which manifest of a list is for a machine: its own platform first, then what it also runs.

Rules: containerd's ``platforms.Only``, which Docker chooses by.
"""

from collections.abc import Sequence

from proad.model.imagearchive import Descriptor, Platform

_DEFAULT_VARIANTS = {"arm": "v7", "arm64": "v8"}
_EQUAL = {("amd64", "v1"): "", ("arm64", "8"): "v8", ("arm64", "v8.0"): "v8"}


def describe(platform: Platform) -> str:
    """``linux/arm/v7``."""
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))


def runnable(platform: Platform) -> list[Platform]:
    """All platforms whose programs a machine of this one runs, the best first."""
    own = _normal(platform)
    found = [own, *(Platform(own.os, own.architecture, variant) for variant in _lower(own))]
    if own.architecture == "amd64":
        found.append(Platform(own.os, "386"))
    if own.architecture == "arm64":
        found += runnable(Platform(own.os, "arm", "v8"))
    return found


def best_first(descriptors: Sequence[Descriptor], wanted: Platform) -> list[Descriptor]:
    """Those of a list that a machine of the platform runs; one without a platform is as good as its own."""
    order = runnable(wanted)
    ranked = []
    for position, descriptor in enumerate(descriptors):
        said = descriptor.platform
        if not said:
            ranked.append((0, position, descriptor))
            continue
        offered = _normal(
            Platform(
                str(said.get("os", "")), str(said.get("architecture", "")), str(said.get("variant") or "")
            )
        )
        if offered in order:
            ranked.append((order.index(offered), position, descriptor))
    return [descriptor for _, _, descriptor in sorted(ranked, key=lambda item: item[:2])]


def _normal(platform: Platform) -> Platform:
    variant = platform.variant or _DEFAULT_VARIANTS.get(platform.architecture, "")
    variant = _EQUAL.get((platform.architecture, variant), variant)
    return Platform(platform.os, platform.architecture, variant)


def _lower(platform: Platform) -> list[str]:
    """Older variants of an architecture that a newer one runs."""
    number = platform.variant.removeprefix("v")
    if not number.isdigit():
        return []
    oldest = {"arm": 5, "arm64": 8, "amd64": 1}.get(platform.architecture, int(number))
    below = [f"v{older}" for older in range(int(number) - 1, oldest - 1, -1)]
    return ["" if (platform.architecture, variant) in _EQUAL else variant for variant in below]
