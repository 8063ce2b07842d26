"""Sync, blocking. Builds: what a step costs, and beside it what its parts cost when they are asked for one by
one.
"""

import time

from tests.bench.copies import tar_of
from tests.bench.engines import IMAGE, Engine
from tests.bench.experiments import Samples, create, milliseconds, remove
from tests.bench.http import Client, connected

STEPS = 10
BUILT = f"{IMAGE}-built"


def build_rows(engine: Engine, rounds: int) -> Samples:
    """RUN, COPY and ENV, and steps that are in the cache; and a container that is created, started, waited
    for and committed.
    """
    instructions = {
        "build_run": "RUN echo {} >/made",
        "build_copy": "COPY file /copied{}",
        "build_env": "ENV NUMBER={}",
    }
    samples: Samples = {key: [] for key in (*instructions, "build_cached", "build_parts")}
    with connected(engine.socket) as client:
        for _ in range(rounds):
            nothing = min(build(client, "") for _ in range(3))
            for key, instruction in instructions.items():
                steps = "".join(f"{instruction.format(number)}\n" for number in range(STEPS))
                samples[key].append((build(client, steps, is_kept=True) - nothing) / STEPS)
                if key == "build_run":
                    cached = min(build(client, steps, "") for _ in range(3))
                    samples["build_cached"].append((cached - nothing) / STEPS)
                client.call("DELETE", f"/images/{BUILT}?force=1")
            samples["build_parts"].append(parts(client))
    return samples


def build(client: Client, steps: str, query: str = "&nocache=1", *, is_kept: bool = False) -> float:
    """Build steps on the image of the bench; returns how long that took."""
    dockerfile = f"FROM {IMAGE}\n{steps}".encode()
    context = tar_of("Dockerfile", dockerfile)[:-1024] + tar_of("file", b"x" * 1000)
    name = f"&t={BUILT}" if is_kept else ""
    answer = b""

    def work() -> None:
        nonlocal answer
        answer = client.call("POST", f"/build?rm=1&version=1{query}{name}", raw=context)

    took = milliseconds(work)
    assert b"Successfully built" in answer, answer
    return took


def parts(client: Client) -> float:
    """What a client would do instead of a RUN, up to the image."""
    began = time.perf_counter()
    container_id = create(client, ["sh", "-c", "echo x >/made"])
    client.call("POST", f"/containers/{container_id}/start")
    client.call("POST", f"/containers/{container_id}/wait")
    client.call("POST", f"/commit?container={container_id}&repo={BUILT}")
    took = (time.perf_counter() - began) * 1000
    remove(client, container_id)
    client.call("DELETE", f"/images/{BUILT}?force=1")
    return took
