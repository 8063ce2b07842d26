"""Sync, pure. The ``tag`` option of log drivers: a template of what a container is called in a shared log.

https://docs.docker.com/engine/logging/log_tags/
"""

import re
from collections.abc import Callable

from proad.model import errors
from proad.model.container import Container

_DEFAULT = "{{.ID}}"
_SHORT_ID = 12
_ACTION = re.compile(r"{{-?\s*(?P<field>[^{}]*?)\s*-?}}")
_FIELDS: dict[str, Callable[[Container], str]] = {
    ".ID": lambda container: container.id[:_SHORT_ID],
    ".FullID": lambda container: container.id,
    ".Name": lambda container: container.name,
    ".ImageID": lambda container: container.image_id.removeprefix("sha256:")[:_SHORT_ID],
    ".ImageFullID": lambda container: container.image_id,
    ".ImageName": lambda container: container.image_ref,
    ".DaemonName": lambda container: "docker",
}


def log_tag(container: Container) -> str:
    """The tag of a container by its log options, its short id if they say none.

    Raises:
        errors.InvalidParameter: the template has what is no field of a container.
    """
    template = container.host_config.log_config.config.get("tag", "") or _DEFAULT
    check_log_tag(template)
    return _ACTION.sub(lambda match: _FIELDS[match["field"]](container), template)


def check_log_tag(template: str) -> None:
    """
    Raises:
        errors.InvalidParameter: see :func:`log_tag`.
    """
    for match in _ACTION.finditer(template):
        if match["field"] not in _FIELDS:
            raise errors.InvalidParameter(
                f"failed to initialize logging driver: template: log-tag: unknown field {match['field']!r}"
            )
    if "{{" in _ACTION.sub("", template):
        raise errors.InvalidParameter(
            "failed to initialize logging driver: template: log-tag: unclosed action"
        )
