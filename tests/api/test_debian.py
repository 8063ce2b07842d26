"""A whole Debian, there and back: exported and imported; changed, committed and run; the same to the bit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.support.daemon import Daemon
from tests.support.debian import debian_tar
from tests.support.rawhttp import Api, UnixConnection
from tests.support.treefacts import Facts, differences, tree_facts, without

WORK = """
set -e
rm -r /usr/share/doc /var/cache/apt
mkdir -p /srv/data/deep /usr/share/doc/anew
cp -a /usr/bin /srv/bin
ln /srv/bin/perl /srv/again
chown -R 1234:5678 /srv/data
chmod 3770 /srv/data
mv /etc/apt /etc/moved
ln -sf /nowhere /etc/mtab
dd if=/dev/zero of=/srv/sparse bs=1 count=1 seek=1G 2>/dev/null
find /usr/lib -name '*.so.*' -exec touch -d '2001-02-03 04:05:06.789' {} +
echo changed >>/etc/passwd
rm -r /opt && touch /opt
perl -e 'open F, ">", "/srv/\\xff\\xfe" or die'
"""


@pytest.fixture(scope="module")
def debian(daemon: Daemon) -> Iterator[str]:
    """The name of an image with a Debian in it."""
    with debian_tar().open("rb") as archive:
        yield import_file(daemon, archive, "debian")


def import_file(daemon: Daemon, archive: Any, name: str) -> str:
    connection = UnixConnection(daemon.socket, 300)
    headers = {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
    connection.request(
        "POST", f"/v1.51/images/create?fromSrc=-&repo={name}", archive, headers, encode_chunked=True
    )
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    connection.close()
    assert json.loads(body)["status"].startswith("sha256:")
    return name


def layers(api: Api, ref: str) -> list[Path]:
    data = api("GET", f"/images/{ref}/json").expect(200).json["GraphDriver"]["Data"]
    lower = data["LowerDir"].split(":") if data.get("LowerDir") else []
    return [Path(path) for path in (data["UpperDir"], *lower)]


def test_exported_and_imported(daemon: Daemon, api: Api, debian: str, tmp_path: Path) -> None:
    made = steps.create(api, debian)
    connection = UnixConnection(daemon.socket, 300)
    connection.request("GET", f"/v1.51/containers/{made}/export")
    with (tmp_path / "debian.tar").open("wb") as file:
        answer = connection.getresponse()
        while chunk := answer.read(1 << 20):
            file.write(chunk)
    connection.close()
    with (tmp_path / "debian.tar").open("rb") as archive:
        import_file(daemon, archive, "again")
    (before,), (after,) = layers(api, debian), layers(api, "again")
    told = tree_facts(before)
    assert len(told) > 5000
    assert differences(told, tree_facts(after)) == []
    assert directory_times(before) == directory_times(after)


def directory_times(top: Path) -> dict[str, int]:
    return {
        str(path.relative_to(top)): path.stat().st_mtime_ns
        for path in top.rglob("*")
        if path.is_dir() and not path.is_symlink()
    }


def test_changed_committed_and_run(daemon: Daemon, api: Api, debian: str) -> None:
    made = steps.start(api, debian, "sh", "-c", f"{WORK}\necho done; exec sleep 1000")
    steps.until(lambda: b"done" in api("GET", f"/containers/{made}/logs", stdout=True, stderr=True).body, 120)
    api("POST", "/commit", container=made, repo="worked", timeout_s=300).expect(201)
    copy = steps.start(api, "worked", "sleep", "1000")
    before, after = seen(daemon, made), seen(daemon, copy)
    assert {"srv/again", "usr/share/doc/anew", "etc/moved/sources.list"} <= before.keys()
    assert differences(before, after) == []
    assert "usr/share/doc/apt" not in after
    assert not api("GET", f"/containers/{copy}/changes").json


def seen(daemon: Daemon, container_id: str) -> Facts:
    """What a running container sees, without what is mounted there."""
    root = daemon.data_root / "containers" / container_id / "rootfs"
    return without(tree_facts(root), lambda path: path in (".dockerenv", "etc/hosts"))
