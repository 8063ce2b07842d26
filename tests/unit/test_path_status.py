"""What the API tells of a path, and how it understands one."""

import base64
import json
import stat

import pytest

from proad.model.pathstatus import describe, go_mode, parse_path


@pytest.mark.parametrize(
    ("path", "clean", "name", "means_directory"),
    [
        ("/a/b", "/a/b", "b", False),
        ("a/b", "/a/b", "b", False),
        ("/a/b/", "/a/b", "b", True),
        ("/a/b/.", "/a/b", ".", True),
        (".", "/", ".", True),
        ("/", "/", "/", True),
        ("//a//b", "/a/b", "b", False),
        ("/a/../../b", "/b", "b", False),
        ("..", "/", "/", False),
    ],
)
def test_paths(path: str, clean: str, name: str, means_directory: bool) -> None:
    asked = parse_path(path)
    assert (asked.clean, asked.name, asked.means_directory) == (clean, name, means_directory)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (stat.S_IFREG | 0o644, 0o644),
        (stat.S_IFREG | 0o6755, 1 << 23 | 1 << 22 | 0o755),
        (stat.S_IFDIR | 0o1777, 1 << 31 | 1 << 20 | 0o777),
        (stat.S_IFLNK | 0o777, 1 << 27 | 0o777),
        (stat.S_IFCHR | 0o600, 1 << 26 | 1 << 21 | 0o600),
        (stat.S_IFBLK | 0o600, 1 << 26 | 0o600),
        (stat.S_IFIFO | 0o600, 1 << 25 | 0o600),
        (stat.S_IFSOCK | 0o600, 1 << 24 | 0o600),
    ],
)
def test_modes_of_go(mode: int, expected: int) -> None:
    assert go_mode(mode) == expected


def test_the_header() -> None:
    told = json.loads(base64.b64decode(describe("n\udcff", stat.S_IFREG | 0o600, 7, 0).header))
    assert told == {
        "name": "n\ufffd",
        "size": 7,
        "mode": 0o600,
        "mtime": "1970-01-01T00:00:00Z",
        "linkTarget": "",
    }
    assert describe("n", 0, 0, 1_500_000_000_100_000_000).mtime == "2017-07-14T02:40:00.1Z"
