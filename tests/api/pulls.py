"""Sync. Pulls as tests make them: asked, their lines read, what is on the disk afterwards."""

import base64
import json
import time
from typing import Any

from tests.support import schema
from tests.support.archives import Item, directory, image_config, make_tar, sha256
from tests.support.daemon import Daemon
from tests.support.rawhttp import Answer, Api
from tests.support.registry import MANIFEST, RemoteImage, make_image

LOW = make_tar([directory("etc"), Item("etc/low", b"low" * 1000)])
HIGH = make_tar([Item("etc/high", b"high" * 1000)])
NOISE = make_tar([Item("noise", bytes(range(256)) * 4000)])
PLAIN = [("", NOISE)]
TWO = make_image([LOW, HIGH], Cmd=["x"], Labels={"k": "v"})


def files(daemon: Daemon) -> set[str]:
    """Layers, blobs and unfinished work on the disk."""
    root = daemon.data_root
    return {
        str(path.relative_to(root))
        for folder in ("layers", "blobs/sha256", "tmp")
        for path in (root / folder).iterdir()
    }


def ask(api: Api, name: str, *, credentials: dict[str, str] | None = None, **query: object) -> Answer:
    headers = {}
    if credentials:
        headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps(credentials).encode()).decode()
    return api("POST", "/images/create", headers=headers, fromImage=name, **query)


def pull(api: Api, name: str, **query: Any) -> list[dict[str, Any]]:
    """Pull; returns the lines of progress, of which none may tell an error."""
    lines = lines_of(ask(api, name, **query).expect(200))
    assert not any("error" in line for line in lines), lines
    return lines


def lines_of(answer: Answer) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in answer.body.splitlines()]
    for line in lines:
        schema.check(line, "CreateImageInfo")
    return lines


def pull_error(api: Api, name: str, **query: Any) -> str:
    """What a pull says that fails after its first line."""
    *_, last = lines_of(ask(api, name, **query).expect(200))
    assert last["errorDetail"] == {"message": last["error"]}
    return str(last["error"])


def statuses(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Each status with its id, repetitions left out, how far it is, too."""
    told = [(line.get("id", ""), line["status"]) for line in lines]
    return [each for number, each in enumerate(told) if number == 0 or told[number - 1] != each]


def shown(digest: str) -> str:
    return digest[7:19]


def inspect(api: Api, name: str) -> Any:
    return api("GET", f"/images/{name}/json").expect(200).json


def pull_events(api: Api, begin: float) -> list[tuple[str, str, dict[str, str]]]:
    answer = api(
        "GET", "/events", since=f"{begin:.9f}", until=f"{time.time():.9f}", filters={"type": ["image"]}
    )
    told = [json.loads(line) for line in answer.body.splitlines()]
    return [(event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]) for event in told]


def platform_image(architecture: str, **more: str) -> tuple[RemoteImage, dict[str, str]]:
    fields = json.loads(image_config([LOW], Cmd=[architecture, *more.values()]))
    fields |= {"architecture": architecture, **more}
    content = json.dumps(fields).encode()
    base = make_image([LOW])
    manifest = json.loads(base.manifest)
    manifest["config"] |= {"digest": sha256(content), "size": len(content)}
    blobs = {digest: blob for digest, blob in base.blobs.items() if digest != base.image_id}
    image = RemoteImage(json.dumps(manifest).encode(), MANIFEST, {**blobs, sha256(content): content})
    return image, {"os": "linux", "architecture": architecture, **more}
