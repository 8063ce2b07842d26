"""Sync, blocking. Pulls from a registry on loopback: time, what the engine's memory grows by, who else waits.

The image has three layers: a Debian made with mmdebstrap (or, where no mirror is reached, files that compress
as a system's do), 20,000 small files, and one large file. The registry is the same for all engines.
"""

import gzip
import io
import os
import random
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from _pytest.outcomes import Skipped

from tests.bench.engines import IMAGE, Engine
from tests.bench.experiments import MEGABYTE, Samples, milliseconds
from tests.bench.http import Client, connected
from tests.bench.processes import pss_bytes
from tests.support.debian import debian_tar
from tests.support.rawhttp import Api
from tests.support.registry import Registry, RemoteImage, make_image

SMALL_FILES = 20_000
SYSTEM_FILES = 3000
SYSTEM_FILE_BYTES = 40_000
APPLICATION_BYTES = 40 << 20
VERSION = "v1.41"
TIMEOUT_S = 1200.0
PROBE_PAUSE_S = 0.002
MEMORY_PAUSE_S = 0.1


def pull_rows(engine: Engine) -> Samples:
    """The three-layer image: seconds of a pull, and the longest answer to a ping meanwhile in ms."""
    with loopback_registry() as registry:
        name = registry.put(f"{IMAGE}-pull", "debian", debian_image())
        with repeatedly(PROBE_PAUSE_S, lambda client: client.call("GET", "/_ping"), engine) as waits_ms:
            took_ms = milliseconds(lambda: pull(engine, name))
        remove(engine, name)
    return {"pull": [took_ms / 1000], "pull_beside": [max(waits_ms)]}


def large_pull_rows(engine: Engine, megabytes: int) -> Samples:
    """One large plain layer: megabytes a second, and by how many the engine's own process grows at most."""
    with loopback_registry() as registry:
        layer = random_layer("large", megabytes * MEGABYTE)
        name = registry.put(f"{IMAGE}-pull", "large", make_image([layer], packed=[("", layer)]))
        del layer
        grown = [0.0]
        before = pss_bytes([engine.pid])

        def look(_client: Client) -> None:
            grown.append((pss_bytes([engine.pid]) - before) / MEGABYTE)

        with repeatedly(MEMORY_PAUSE_S, look, engine):
            took_ms = milliseconds(lambda: pull(engine, name))
        remove(engine, name)
    return {"pull_large": [megabytes / took_ms * 1000], "pull_memory": [max(grown)]}


@contextmanager
def loopback_registry() -> Iterator[Registry]:
    """A running registry, gone at the end with all that it stores.

    Raises:
        RuntimeError: there is none on this machine.
    """
    if shutil.which("docker-registry") is None:
        raise RuntimeError("needs docker-registry")
    registry = Registry()
    try:
        yield registry.start()
    finally:
        registry.close()


def pull(engine: Engine, name: str) -> None:
    answer = Api(Path(engine.socket))(
        "POST", "/images/create", fromImage=name, version=VERSION, timeout_s=TIMEOUT_S
    )
    if answer.status != 200 or b'"errorDetail"' in answer.body:
        raise RuntimeError(f"{engine.name} cannot pull {name}: {answer.body[-500:].decode(errors='replace')}")


def remove(engine: Engine, name: str) -> None:
    with Client(engine.socket) as client:
        client.call("DELETE", f"/images/{name}?force=1")


@contextmanager
def repeatedly(pause_s: float, action: Callable[[Client], object], engine: Engine) -> Iterator[list[float]]:
    """Do something again and again for as long as the block runs; the list gets the milliseconds of each."""
    took_ms = [0.0]
    done = threading.Event()

    def probe() -> None:
        with connected(engine.socket) as client:
            while not done.wait(pause_s):
                took_ms.append(milliseconds(lambda: action(client)))

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield took_ms
    finally:
        done.set()
        thread.join()


# --- images -------------------------------------------------------------------------------------------------


@cache
def debian_image() -> RemoteImage:
    layers = [system_layer(), small_files_layer(), random_layer("application", APPLICATION_BYTES)]
    packed = [("+gzip", gzip.compress(layer, compresslevel=6, mtime=0)) for layer in layers]
    return make_image(layers, packed=packed)


def system_layer() -> bytes:
    """A minimal Debian, or files of words where there is no mirror to make it from."""
    try:
        return debian_tar().read_bytes()
    except Skipped:
        return _tar({f"usr/lib/file{number}": _words(number) for number in range(SYSTEM_FILES)})


def small_files_layer() -> bytes:
    return _tar({f"srv/{number // 200}/{number}": b"%d\n" % number * 20 for number in range(SMALL_FILES)})


def random_layer(name: str, size_bytes: int) -> bytes:
    return _tar({name: os.urandom(size_bytes)})


def _words(seed: int) -> bytes:
    words = random.Random(seed)
    return b" ".join(
        b"%x" % words.getrandbits(words.choice((4, 8, 16, 32))) for _ in range(SYSTEM_FILE_BYTES // 6)
    )


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
