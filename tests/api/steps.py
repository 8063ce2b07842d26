"""Sync. Short forms of what dialogues with the API do all the time."""

import time
from collections.abc import Callable
from typing import Any

from tests.support.rawhttp import Api

SLEEPER = ["sleep", "1000"]


def create(api: Api, image: str, *command: str, name: str = "", **fields: object) -> str:
    """Create a container and return its id; ``fields`` go into the body (``HostConfig={...}``)."""
    query = {"name": name} if name else {}
    body = {"Image": image, "Cmd": list(command or SLEEPER), **fields}
    made = api("POST", "/containers/create", json_body=body, **query).expect(201)
    return str(made.json["Id"])


def start(api: Api, image: str, *command: str, name: str = "", **fields: object) -> str:
    """Create and start a container and return its id."""
    made = create(api, image, *command, name=name, **fields)
    api("POST", f"/containers/{made}/start").expect(204)
    return made


def start_trapping(api: Api, image: str, trap: str, **fields: object) -> str:
    """Start a container whose shell traps signals (``'exit 5' TERM``); return its id when the trap is set."""
    script = f"trap {trap}; echo trapped; while :; do sleep 0.05; done"
    made = start(api, image, "sh", "-c", script, **fields)
    until(lambda: b"trapped" in api("GET", f"/containers/{made}/logs", stdout=True).expect(200).body)
    return made


def inspect(api: Api, ref: str) -> Any:
    return api("GET", f"/containers/{ref}/json").expect(200).json


def status(api: Api, ref: str) -> str:
    return str(inspect(api, ref)["State"]["Status"])


def wait_exit(api: Api, ref: str) -> int:
    """Wait until it does not run and return its exit code."""
    return int(api("POST", f"/containers/{ref}/wait").expect(200).json["StatusCode"])


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Poll until ``condition`` holds; fail if it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
