"""Sync. A real registry: Debian's ``docker-registry`` on loopback; images get there without any engine."""

import base64
import gzip
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bcrypt

from tests.strictness import skip_for_lack_of
from tests.support.archives import image_config, sha256
from tests.support.whose import own_directory, own_port

READY_TIMEOUT_S = 20.0
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class RemoteImage:
    """An image as a registry has it: the blobs by their digests, and the manifest."""

    manifest: bytes
    media_type: str = MANIFEST
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    @property
    def layers(self) -> list[str]:
        return [layer["digest"] for layer in json.loads(self.manifest)["layers"]]

    @property
    def image_id(self) -> str:
        return str(json.loads(self.manifest)["config"]["digest"])


def make_image(
    layers: Sequence[bytes], *, packed: Sequence[tuple[str, bytes]] | None = None, **config: object
) -> RemoteImage:
    """An OCI image of plain tars, compressed; or of ``packed`` blobs and the ends of their types."""
    packed = packed or [("+gzip", gzip.compress(layer, compresslevel=1, mtime=0)) for layer in layers]
    content = image_config(layers, **config)
    blobs = {sha256(content): content, **{sha256(blob): blob for _, blob in packed}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(content, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(blob, LAYER + ending) for ending, blob in packed],
    }
    return RemoteImage(json.dumps(manifest).encode(), MANIFEST, blobs)


def make_index(images: Sequence[tuple[RemoteImage, Mapping[str, str]]]) -> RemoteImage:
    """An index of images, each with its platform; their own blobs are not in it."""
    listed = [
        {**descriptor(image.manifest, image.media_type), "platform": platform} for image, platform in images
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
    return RemoteImage(json.dumps(index).encode(), INDEX)


def descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}


class RegistryFailed(AssertionError):
    """The registry did not come up, or did not take what it was given."""


class Registry:
    """One ``docker-registry`` process with its own storage. ``settings`` go into its configuration."""

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        tls: tuple[Path, Path] | None = None,
        client: tuple[Path, Path] | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        program = shutil.which("docker-registry")
        if program is None:
            skip_for_lack_of("docker-registry")
        self._program = program
        self.directory = own_directory()
        self.port = own_port()
        self.host = f"127.0.0.1:{self.port}"
        self.scheme = "https" if tls else "http"
        self._login = login
        self._client = client
        self._process: subprocess.Popen[bytes] | None = None
        http: dict[str, Any] = {"addr": self.host, "secret": "shared by no other registry"}
        if tls:
            http["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "storage")},
                "delete": {"enabled": True},
            },
            "http": http,
        }
        for section, values in (settings or {}).items():
            config[section] = {**config.get(section, {}), **values}
        if login:
            passwords = self.directory / "htpasswd"
            passwords.write_text(htpasswd(*login))
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(passwords)}}
        # JSON is YAML.
        (self.directory / "config.yml").write_text(json.dumps(config))

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def start(self) -> "Registry":
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "serve", str(self.directory / "config.yml")], stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RegistryFailed(f"the registry ended at once:\n{self.log}")
            try:
                if self.ask("GET", "/v2/")[0] in (200, 401):
                    return self
            except OSError:
                time.sleep(0.02)
        raise RegistryFailed(f"the registry was not ready:\n{self.log}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    # --- without any engine -----------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, header and body of one request."""
        parts = urlsplit(path)
        target = f"{parts.path}{'?' + parts.query if parts.query else ''}"
        if self.scheme == "https":
            unchecked = ssl._create_unverified_context()
            if self._client:
                unchecked.load_cert_chain(*self._client)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.host, timeout=30, context=unchecked
            )
        else:
            connection = http.client.HTTPConnection(self.host, timeout=30)
        sent = dict(headers or {})
        if self._login:
            sent["Authorization"] = basic(*self._login)
        try:
            connection.request(method, target, body=body, headers=sent)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def put_blob(self, repository: str, content: bytes) -> None:
        status, headers, body = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert status == 202, body
        place = headers["Location"]
        place += f"{'&' if '?' in place else '?'}digest={sha256(content)}"
        status, _, body = self.ask("PUT", place, content, {"Content-Type": "application/octet-stream"})
        assert status == 201, body

    def put(self, repository: str, tag: str, image: RemoteImage) -> str:
        """Put an image there; returns the name to pull it by."""
        for content in image.blobs.values():
            self.put_blob(repository, content)
        path = f"/v2/{repository}/manifests/{tag or image.digest}"
        status, _, body = self.ask("PUT", path, image.manifest, {"Content-Type": image.media_type})
        assert status == 201, body
        return f"{self.host}/{repository}{':' + tag if tag else '@' + image.digest}"

    def manifest(self, repository: str, name: str) -> tuple[bytes, str]:
        """The bytes of a manifest, and its media type."""
        accept = {"Accept": f"{MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json"}
        status, headers, body = self.ask("GET", f"/v2/{repository}/manifests/{name}", headers=accept)
        assert status == 200, body
        return body, headers["Content-Type"]

    def blob(self, repository: str, digest: str) -> bytes:
        status, _, body = self.ask("GET", f"/v2/{repository}/blobs/{digest}")
        assert status == 200, body
        return body


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def htpasswd(name: str, password: str) -> str:
    """A line of a file of passwords, in bcrypt: the registry takes no other form."""
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()
    # It knows the scheme by an older letter; for a short password they are the same.
    return f"{name}:{hashed.replace('$2b$', '$2y$', 1)}\n"
