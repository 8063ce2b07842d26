"""Sync, blocking. Files into containers and out of them: small ones by time, large ones by speed."""

import tarfile

from tests.bench.engines import Engine
from tests.bench.experiments import MEGABYTE, Samples, create, milliseconds, remove
from tests.bench.http import Client, connected


def copy_rows(engine: Engine, rounds: int, megabytes: int) -> Samples:
    """What lies at a path of a running container, a small file out of it and into it, a large one each way.

    An engine may close the connection after an archive, so each is asked for on a new one.
    """
    samples: Samples = {key: [] for key in ("path", "copy_out", "copy_in", "copy_out_large", "copy_in_large")}
    small, large = tar_of("small", b"x" * 1000), tar_of("large", bytes(megabytes * MEGABYTE))
    with connected(engine.socket) as client:
        container_id = create(client, ["sleep", "600"], NetworkMode="none")
        client.call("POST", f"/containers/{container_id}/start")
    archive = f"/containers/{container_id}/archive?path=/"
    with Client(engine.socket) as client:
        client.call("PUT", archive, raw=small)
    for _ in range(rounds):
        for key, method, path, body in (
            ("path", "HEAD", "small", None),
            ("copy_out", "GET", "small", None),
            ("copy_in", "PUT", "", small),
        ):
            with connected(engine.socket) as client:
                took = milliseconds(lambda: client.call(method, f"{archive}{path}", raw=body))  # noqa: B023
                samples[key].append(took)
    for _ in range(max(1, rounds // 10)):
        with connected(engine.socket) as client:
            took = milliseconds(lambda: client.call("PUT", archive, raw=large))
            samples["copy_in_large"].append(megabytes / took * 1000)
        with connected(engine.socket) as client:
            took = milliseconds(lambda: client.drain(f"{archive}large"))
            samples["copy_out_large"].append(megabytes / took * 1000)
    with connected(engine.socket) as client:
        remove(client, container_id)
    return samples


def tar_of(name: str, content: bytes) -> bytes:
    """An archive of one file."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry.tobuf() + content + bytes(-len(content) % 512 + 1024)
