"""Sync, pure. Who a container's process runs as: ``User`` and ``GroupAdd`` against the image's own passwd
and group.

The rules are those of github.com/moby/sys/user: a number that no entry knows is taken as it is, a name must
be known, and supplementary groups come from the group file only where the request names no group.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from proad.model import errors

_LARGEST_ID = 2**31 - 1


class ProcessUser(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved user; ``name`` and ``home`` are empty where the passwd file does not know the number."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    home: str = ""
    name: str = ""


class _Account(msgspec.Struct, frozen=True):
    name: str
    uid: int
    gid: int
    home: str


class _Group(msgspec.Struct, frozen=True):
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(user: str, passwd_text: str, group_text: str, group_add: Sequence[str]) -> ProcessUser:
    """Resolve ``user[:group]``, each a name or a number, and the groups to add.

    Raises:
        errors.StartFailed: a name is not in its file, or a number is out of range.
    """
    user_part, _, group_part = user.partition(":")
    groups = list(_groups(group_text))
    account = _find_account(user_part, passwd_text)
    gid = account.gid
    gids: list[int] = []
    if group_part:
        gid = _find_gid(group_part, groups, "unable")
    elif account.name:
        gids = [group.gid for group in groups if account.name in group.members]
    gids += [_find_gid(wish, groups, "Unable") for wish in group_add]
    return ProcessUser(
        uid=account.uid,
        gid=gid,
        additional_gids=tuple(dict.fromkeys([gid, *gids])),
        home=account.home,
        name=account.name,
    )


def _find_account(wish: str, passwd_text: str) -> _Account:
    number = 0 if not wish else _number(wish)
    for account in _accounts(passwd_text):
        if account.name == wish if number is None else account.uid == number:
            return account
    if number is None:
        raise errors.StartFailed(f"unable to find user {wish}: no matching entries in passwd file")
    return _Account("", _in_range(number), 0, "")


def _find_gid(wish: str, groups: list[_Group], unable: str) -> int:
    """The group's number; ``unable`` is the word that Docker begins its complaint with."""
    number = _number(wish)
    if number is not None:
        return _in_range(number)
    for group in groups:
        if group.name == wish:
            return group.gid
    raise errors.StartFailed(f"{unable} to find group {wish}: no matching entries in group file")


def _in_range(number: int) -> int:
    if not 0 <= number <= _LARGEST_ID:
        raise errors.StartFailed(f"uids and gids must be in range 0-{_LARGEST_ID}")
    return number


def _number(text: str) -> int | None:
    digits = text.removeprefix("-").removeprefix("+")
    return int(text) if digits.isascii() and digits.isdigit() else None


def _accounts(text: str) -> Iterator[_Account]:
    for fields in _entries(text, at_least=4):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            yield _Account(fields[0], uid, gid, fields[5] if len(fields) > 5 else "")


def _groups(text: str) -> Iterator[_Group]:
    for fields in _entries(text, at_least=3):
        gid = _number(fields[2])
        if gid is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield _Group(fields[0], gid, tuple(member.strip() for member in members))


def _entries(text: str, at_least: int) -> Iterable[list[str]]:
    """The colon-separated lines with enough fields; a hostile file has no other way to be heard."""
    lines = (line.strip() for line in text.splitlines())
    return (fields for line in lines if line and len(fields := line.split(":")) >= at_least)
