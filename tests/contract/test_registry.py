"""The way to registries, against a real one and against one that misbehaves in front of it."""

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio_asyncio

from proad.host.registry import Registries, RegistryHosts, Repository, Retries, Timeouts
from proad.model import errors
from proad.model.credentials import NOBODY, Credentials
from proad.model.reference import parse_reference
from proad.model.registrywire import (
    NoCredentials,
    NotVerified,
    Refused,
    RegistryError,
    Unreachable,
    Untrusted,
)
from tests.support.archives import sha256
from tests.support.registry import Registry, make_image
from tests.support.rogue import Cut, HangUp, Lie, NoRanges, Redirect, Rogue, Stall, Status, Tokens
from tests.support.tlslab import TlsLab

T = TypeVar("T")

BLOB = os.urandom(300_000)
IMAGE = make_image([b"\0" * 10240])


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    started = Registry()
    try:
        started.start()
        started.put("some/image", "1", IMAGE)
        started.put_blob("some/image", BLOB)
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def shared_rogue(registry: Registry) -> Iterator[Rogue]:
    started = Rogue(registry.port).start()
    yield started
    started.close()


@pytest.fixture
def rogue(shared_rogue: Rogue) -> Rogue:
    shared_rogue.behave()
    return shared_rogue


class Lab:
    """Registries with pauses that take no time, and a list of how long they would have been."""

    def __init__(self, *, attempts: int = 5, stall_s: float = 5.0, **hosts: object) -> None:
        self.paused: list[float] = []
        self.attempts = attempts
        self.stall_s = stall_s
        self.hosts = RegistryHosts(environment={}, **hosts)  # type: ignore[arg-type]

    async def _pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    def run(self, work: Callable[[Registries], Awaitable[T]]) -> T:
        async def main() -> T:
            async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
                registries = Registries(
                    self.hosts,
                    retries=Retries(self.attempts, sleep=self._pause),
                    timeouts=Timeouts(connect_s=5.0, stall_s=self.stall_s),
                )
                nursery.start_soon(registries.run)
                try:
                    return await work(registries)
                finally:
                    nursery.cancel_scope.cancel()

        try:
            result: T = trio.run(main)
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            raise error from None
        return result

    def with_repository(
        self,
        host: str,
        work: Callable[[Repository], Awaitable[T]],
        *,
        credentials: Credentials = NOBODY,
        path: str = "some/image",
        to_push: bool = False,
    ) -> T:
        async def use(registries: Registries) -> T:
            name = parse_reference(f"{host}/{path}")
            return await work(registries.repository(name, credentials, to_push=to_push))

        return self.run(use)

    def fetch(self, host: str, size: int = len(BLOB), **how: object) -> bytes:
        """What comes out of the pipe."""

        async def work(repository: Repository) -> bytes:
            reading, writing = os.pipe()
            content: list[bytes] = []

            def drain() -> None:
                with open(reading, "rb") as file:
                    content.append(file.read())

            thread = threading.Thread(target=drain)
            thread.start()
            try:
                await repository.fetch(sha256(BLOB), size, writing, progress=None, **how)  # type: ignore[arg-type]
            finally:
                os.close(writing)
                await trio.to_thread.run_sync(thread.join)
            return content[0]

        return self.with_repository(host, work)


# --- manifests ----------------------------------------------------------------------------------------------


def test_manifests_by_tag_and_by_digest(registry: Registry) -> None:
    for name in ("1", IMAGE.digest):
        found = Lab().with_repository(registry.host, lambda r, name=name: r.manifest(name))  # type: ignore[misc]
        assert (found.content, found.media_type, found.digest) == (
            IMAGE.manifest, IMAGE.media_type, IMAGE.digest,
        )  # fmt: skip
    described = Lab().with_repository(registry.host, lambda r: r.resolve("1"))
    assert (described.digest, described.size) == (IMAGE.digest, len(IMAGE.manifest))
    assert Lab().with_repository(registry.host, lambda r: r.tags()) == ["1"]


def test_all_tags_come_in_pages(rogue: Rogue, registry: Registry) -> None:
    body = b'{"name": "some/image", "tags": ["%s"]}'
    rogue.on("GET", "tags/list?last=a", Status(200, body % b"b"))
    rogue.on(
        "GET",
        "tags/list",
        Status(200, body % b"a", {"Link": '</v2/some/image/tags/list?last=a>; rel="next"'}),
    )
    assert Lab().with_repository(rogue.host, lambda r: r.tags()) == ["a", "b"]


def test_what_is_not_there_is_told_in_the_registrys_words(registry: Registry) -> None:
    with pytest.raises(Refused, match=r"^manifest unknown: manifest unknown$") as caught:
        Lab().with_repository(registry.host, lambda r: r.manifest("2"))
    assert (caught.value.code, caught.value.status) == ("MANIFEST_UNKNOWN", 404)
    with pytest.raises(Refused, match=r"^name unknown: repository name not known to registry$"):
        Lab().with_repository(registry.host, lambda r: r.tags(), path="no/such")


def test_a_manifest_that_is_not_its_digest_is_refused(rogue: Rogue) -> None:
    rogue.on("GET", "/manifests/", Lie())
    with pytest.raises(NotVerified, match="manifest verification failed for digest sha256:"):
        Lab().with_repository(rogue.host, lambda r: r.manifest(IMAGE.digest))


def test_a_configuration_that_is_not_its_digest_is_refused(rogue: Rogue) -> None:
    rogue.on("GET", "/blobs/", Lie())
    with pytest.raises(NotVerified, match="image config verification failed for digest sha256:"):
        Lab().with_repository(rogue.host, lambda r: r.blob(IMAGE.image_id))


def test_what_is_read_whole_is_bounded(rogue: Rogue) -> None:
    rogue.on("GET", "/manifests/", Status(200, b"x" * (5 << 20)))
    with pytest.raises(RegistryError, match="more than 4194304 bytes is too large"):
        Lab().with_repository(rogue.host, lambda r: r.manifest("1"))


# --- trying again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again_with_growing_pauses(rogue: Rogue, status: int) -> None:
    rogue.on("GET", "/manifests/", Status(status), times=3)
    lab = Lab()
    assert lab.with_repository(rogue.host, lambda r: r.manifest("1")).digest == IMAGE.digest
    assert lab.paused == [1.0, 2.0, 4.0]


def test_the_registry_says_how_long_to_wait(rogue: Rogue) -> None:
    rogue.on("GET", "/manifests/", Status(429, headers={"Retry-After": "7"}), times=1)
    rogue.on("GET", "/manifests/", Status(503, headers={"Retry-After": "86400"}), times=1)
    lab = Lab()
    lab.with_repository(rogue.host, lambda r: r.manifest("1"))
    assert lab.paused == [7.0, 60.0]


def test_attempts_are_bounded(rogue: Rogue) -> None:
    rogue.on("GET", "/manifests/", Status(500))
    lab = Lab(attempts=3)
    with pytest.raises(Refused, match="received unexpected HTTP status: 500 Internal Server Error"):
        lab.with_repository(rogue.host, lambda r: r.manifest("1"))
    assert (len(rogue.asked("GET", "/manifests/")), lab.paused) == (3, [1.0, 2.0])


def test_too_many_requests_are_told_as_such(rogue: Rogue) -> None:
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
    rogue.on("GET", "/manifests/", Status(429, body))
    with pytest.raises(Refused, match=r"^toomanyrequests: You have reached your pull rate limit\.$"):
        Lab(attempts=1).with_repository(rogue.host, lambda r: r.manifest("1"))


def test_what_will_not_pass_is_asked_once(rogue: Rogue) -> None:
    rogue.on("GET", "/manifests/", Status(400, b"no JSON"))
    with pytest.raises(Refused, match=r'error parsing HTTP 400 response body: .*"no JSON"'):
        Lab().with_repository(rogue.host, lambda r: r.manifest("1"))
    assert len(rogue.asked("GET", "/manifests/")) == 1


def test_nobody_there(registry: Registry) -> None:
    lab = Lab()
    with pytest.raises(
        Unreachable, match=r'^Get "http://127\.0\.0\.1:1/v2/": dial tcp 127\.0\.0\.1:1: connect: '
    ):
        lab.with_repository("127.0.0.1:1", lambda r: r.manifest("1"))
    assert lab.paused == []


# --- blobs --------------------------------------------------------------------------------------------------


def test_a_whole_blob(registry: Registry) -> None:
    assert Lab().fetch(registry.host) == BLOB


def test_a_cut_blob_is_resumed(rogue: Rogue) -> None:
    rogue.on("GET", "/blobs/", Cut(100_000), times=2)
    lab = Lab()
    assert lab.fetch(rogue.host) == BLOB
    asked = [ask.header("Range") for ask in rogue.asked("GET", "/blobs/")]
    assert asked == ["", "bytes=100000-", "bytes=200000-"]
    assert lab.paused == [1.0, 1.0]


def test_a_registry_without_ranges_sends_all_again(rogue: Rogue) -> None:
    rogue.on("GET", "/blobs/", Cut(100_000), times=1)
    rogue.on("GET", "/blobs/", NoRanges())
    assert Lab().fetch(rogue.host) == BLOB


def test_a_cut_before_enough_has_come_counts(rogue: Rogue) -> None:
    rogue.on("GET", "/blobs/", Cut(10))
    lab = Lab(attempts=4)
    with pytest.raises(Unreachable, match="unexpected EOF"):
        lab.fetch(rogue.host)
    assert lab.paused == [1.0, 2.0, 4.0]


def test_a_stalled_blob_is_resumed(rogue: Rogue) -> None:
    stall = Stall(100_000)
    rogue.on("GET", "/blobs/", stall, times=1)
    lab = Lab(stall_s=0.3)
    assert lab.fetch(rogue.host) == BLOB
    assert lab.paused == [1.0]


def test_a_blob_that_is_too_long_or_too_short(registry: Registry) -> None:
    with pytest.raises(NotVerified, match="filesystem layer verification failed for digest"):
        Lab().fetch(registry.host, size=len(BLOB) - 1)
    with pytest.raises(RegistryError):
        Lab(attempts=2).fetch(registry.host, size=len(BLOB) + 1)


def test_nobody_reads_any_more(registry: Registry) -> None:
    async def work(repository: Repository) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            await repository.fetch(sha256(BLOB), len(BLOB), writing, progress=None)
        finally:
            os.close(writing)

    Lab().with_repository(registry.host, work)


def test_a_foreign_layer_comes_from_its_url(rogue: Rogue, registry: Registry) -> None:
    rogue.on("GET", "/v2/some/image/blobs/", Status(404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}'))
    elsewhere = f"{registry.url}/v2/some/image/blobs/{sha256(BLOB)}"
    assert Lab().fetch(rogue.host, urls=["http://127.0.0.1:1/gone", elsewhere]) == BLOB


# --- who is there -------------------------------------------------------------------------------------------


def test_a_redirect_elsewhere_goes_without_the_password(registry: Registry) -> None:
    guarded = Registry(login=("me", "secret"))
    elsewhere = Rogue(registry.port).start()
    front = Rogue(guarded.port).start()
    try:
        guarded.start()
        front.on("GET", "/blobs/", Redirect(f"http://{elsewhere.host}"))
        me = Credentials(username="me", password="secret")
        found = Lab().with_repository(front.host, lambda r: r.blob(IMAGE.image_id), credentials=me)
        assert sha256(found) == IMAGE.image_id
        assert front.asked("GET", "/blobs/")[0].header("Authorization").startswith("Basic ")
        assert [ask.header("Authorization") for ask in elsewhere.asks] == [""]
    finally:
        for each in (front, elsewhere, guarded):
            each.close()


def test_passwords() -> None:
    guarded = Registry(login=("me", "secret"))
    try:
        guarded.start()
        guarded.put("some/image", "1", IMAGE)
        me = Credentials(username="me", password="secret")
        found = Lab().with_repository(guarded.host, lambda r: r.manifest("1"), credentials=me)
        assert found.digest == IMAGE.digest
        with pytest.raises(NoCredentials, match=r'^Get "http://.*/v2/some/image/manifests/1": no basic auth'):
            Lab().with_repository(guarded.host, lambda r: r.manifest("1"))
        wrong = Credentials(username="me", password="wrong")
        with pytest.raises(Refused, match=r"^unauthorized: authentication required$"):
            Lab().with_repository(guarded.host, lambda r: r.manifest("1"), credentials=wrong)
        asked = Credentials(username="me", password="wrong", server_address=guarded.host)
        with pytest.raises(
            errors.Unauthorized, match=r"^login attempt to http://.* failed with status: 401 "
        ):
            Lab().run(lambda registries: registries.login(asked))
    finally:
        guarded.close()


@pytest.fixture
def gate(registry: Registry) -> Iterator[Rogue]:
    started = Rogue(registry.port, Tokens("me", "secret", public=("some/image",))).start()
    yield started
    started.close()


def test_a_token_for_everybody(gate: Rogue) -> None:
    async def twice(repository: Repository) -> None:
        await repository.manifest("1")
        await repository.blob(IMAGE.image_id)

    Lab().with_repository(gate.host, twice)
    assert len(gate.asked("GET", "/token")) == 1
    assert gate.forms[0]["scope"] == ["repository:some/image:pull"]
    assert gate.forms[0]["service"] == ["the service"]


def test_a_token_for_somebody(gate: Rogue, registry: Registry) -> None:
    registry.put("private/image", "1", IMAGE)
    with pytest.raises(Refused, match=r"^denied: requested access to the resource is denied$"):
        Lab().with_repository(gate.host, lambda r: r.manifest("1"), path="private/image")
    for me in (
        Credentials(username="me", password="secret"),
        Credentials(username="me", identity_token="an identity token"),
        Credentials(registry_token=next(iter(_token_for(gate, "private/image")))),
    ):
        found = Lab().with_repository(
            gate.host, lambda r: r.manifest("1"), path="private/image", credentials=me
        )
        assert found.digest == IMAGE.digest
    assert [ask.header("Authorization") for ask in gate.asked("POST", "/token")] == [""]
    wrong = Credentials(username="me", password="wrong")
    with pytest.raises(Refused, match=r'^Get ".*": unauthorized: incorrect username or password$'):
        Lab().with_repository(gate.host, lambda r: r.manifest("1"), credentials=wrong)


def _token_for(gate: Rogue, path: str) -> list[str]:
    gate.issued["given"] = {f"{path}:pull"}
    return ["given"]


def test_a_token_that_is_no_longer_good_is_replaced(gate: Rogue) -> None:
    async def twice(repository: Repository) -> None:
        await repository.manifest("1")
        gate.issued.clear()
        await repository.manifest("1")

    Lab().with_repository(gate.host, twice)
    assert len(gate.asked("GET", "/token")) == 2


def test_login_gives_an_identity_token(gate: Rogue) -> None:
    me = Credentials(username="me", password="secret", server_address=f"http://{gate.host}/")
    assert Lab().run(lambda registries: registries.login(me)) == "an identity token"
    wrong = Credentials(username="me", password="wrong", server_address=gate.host)
    with pytest.raises(errors.Unauthorized, match="unauthorized: incorrect username or password"):
        Lab().run(lambda registries: registries.login(wrong))


# --- where, and whom to trust -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsLab:
    return TlsLab(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(tls: TlsLab) -> Iterator[Registry]:
    started = Registry(tls=tls.server)
    try:
        started.start()
        started.put("some/image", "1", IMAGE)
        yield started
    finally:
        started.close()


class Strict(RegistryHosts):
    """As for a host that is not this machine: nothing is excused."""

    def is_insecure(self, host: str) -> bool:
        return False


def strict(directory: Path) -> Lab:
    lab = Lab()
    lab.hosts = Strict(environment={}, certificate_directories=(directory,))
    return lab


def test_on_this_machine_any_certificate_will_do(secure: Registry) -> None:
    assert Lab().with_repository(secure.host, lambda r: r.manifest("1")).digest == IMAGE.digest


def test_elsewhere_it_must_be_a_known_authoritys(secure: Registry, tls: TlsLab, tmp_path: Path) -> None:
    with pytest.raises(
        Untrusted, match=r"^Get .*: tls: failed to verify certificate: x509: certificate signed by unknown "
    ):
        strict(tmp_path).with_repository(secure.host, lambda r: r.manifest("1"))
    place = tmp_path / secure.host
    place.mkdir()
    (place / "ca.crt").write_bytes(tls.authority.read_bytes())
    found = strict(tmp_path).with_repository(secure.host, lambda r: r.manifest("1"))
    assert found.digest == IMAGE.digest


def test_plain_http_is_not_taken_for_tls(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(
        Untrusted, match=r'^Get "https://.*": http: server gave HTTP response to HTTPS client$'
    ):
        strict(tmp_path).with_repository(registry.host, lambda r: r.manifest("1"))


def test_a_certificate_that_says_who_we_are(tls: TlsLab, tmp_path: Path) -> None:
    certificate, key = tls.server
    settings = {
        "http": {
            "tls": {"certificate": str(certificate), "key": str(key), "clientcas": [str(tls.authority)]},
        }
    }
    wary = Registry(settings, tls=tls.server, client=tls.client)
    try:
        wary.start()
        wary.put("some/image", "1", IMAGE)
        place = tmp_path / wary.host
        place.mkdir()
        (place / "ca.crt").write_bytes(tls.authority.read_bytes())
        with pytest.raises(RegistryError):
            strict(tmp_path).with_repository(wary.host, lambda r: r.manifest("1"))
        (place / "client.cert").write_bytes(tls.client[0].read_bytes())
        with pytest.raises(
            errors.System, match=r"^missing key client.key for client certificate client.cert"
        ):
            strict(tmp_path).with_repository(wary.host, lambda r: r.manifest("1"))
        (place / "client.key").write_bytes(tls.client[1].read_bytes())
        found = strict(tmp_path).with_repository(wary.host, lambda r: r.manifest("1"))
        assert found.digest == IMAGE.digest
    finally:
        wary.close()


def test_mirrors_are_asked_first_and_then_the_registry(registry: Registry, rogue: Rogue) -> None:
    class Hub(RegistryHosts):
        def endpoints(self, domain: str, *, mirrors: bool = True) -> list[object]:  # type: ignore[override]
            found = super().endpoints(domain, mirrors=mirrors)
            assert found[-1].url == "https://registry-1.docker.io"
            return [*found[:-1], type(found[-1])(registry.url)]

    lab = Lab(attempts=1)
    lab.hosts = Hub(environment={}, mirrors=["http://127.0.0.1:1/", f"http://{rogue.host}/"])
    me = Credentials(username="me", password="secret")
    found = lab.with_repository("docker.io", lambda r: r.manifest("1"), credentials=me)
    assert found.digest == IMAGE.digest
    assert [ask.header("Authorization") for ask in rogue.asked("GET", "/manifests/")] == [""]
    rogue.on("GET", "/manifests/", HangUp())
    assert lab.with_repository("docker.io", lambda r: r.manifest("1")).digest == IMAGE.digest


def test_proxies_come_from_the_environment(registry: Registry) -> None:
    proxies = {"HTTP_PROXY": "http://proxy:1", "https_proxy": "secure:2", "NO_PROXY": "inside,.lan"}
    hosts = RegistryHosts(environment=proxies)
    assert hosts.proxy("http://example.org/v2/") == "http://proxy:1"
    assert hosts.proxy("https://example.org/v2/") == "http://secure:2"
    assert hosts.proxy("https://inside/v2/") is None
    assert hosts.proxy("https://x.lan/v2/") is None
    assert hosts.proxy("http://127.0.0.1:5000/v2/") is None
    assert RegistryHosts(environment={}).proxy("http://example.org/") is None


def test_a_proxy_is_gone_through(registry: Registry) -> None:
    proxy = Rogue(registry.port).start()
    try:
        lab = Lab(insecure=["far.example:8080"])
        lab.hosts = Plain(environment={"http_proxy": f"http://{proxy.host}"})
        assert lab.with_repository("far.example:8080", lambda r: r.manifest("1")).digest == IMAGE.digest
        assert proxy.asked("GET", "http://far.example:8080/v2/some/image/manifests/1")
    finally:
        proxy.close()


class Plain(RegistryHosts):
    """Every registry without TLS."""

    def endpoints(self, domain: str, *, mirrors: bool = True) -> list[object]:  # type: ignore[override]
        return [type(super().endpoints(domain)[-1])(f"http://{domain}")]


# --- sending ------------------------------------------------------------------------------------------------


def test_upload_mount_and_manifest(registry: Registry, tmp_path: Path) -> None:
    content = os.urandom(700_000)
    (tmp_path / "blob").write_bytes(content)
    told: list[int] = []

    async def work(repository: Repository) -> None:
        assert not await repository.has_blob(sha256(content))
        await repository.upload(sha256(content), tmp_path / "blob", progress=told.append)
        assert await repository.has_blob(sha256(content))
        for blob in IMAGE.blobs:
            assert await repository.mount(blob, "some/image")
        assert not await repository.mount("sha256:" + "0" * 64, "some/image")
        await repository.put_manifest("new", IMAGE.manifest, IMAGE.media_type)

    Lab().with_repository(registry.host, work, path="sent/here", to_push=True)
    assert registry.blob("sent/here", sha256(content)) == content
    assert registry.manifest("sent/here", "new")[0] == IMAGE.manifest
    assert told
    assert told == sorted(told)


def test_an_upload_that_breaks_off_is_sent_again(rogue: Rogue, registry: Registry, tmp_path: Path) -> None:
    content = os.urandom(200_000)
    (tmp_path / "blob").write_bytes(content)
    rogue.on("PATCH", "/uploads/", HangUp(), times=1)
    rogue.on("PUT", "/uploads/", Status(503), times=1)
    lab = Lab()
    lab.with_repository(
        rogue.host, lambda r: r.upload(sha256(content), tmp_path / "blob"), path="again", to_push=True
    )
    assert registry.blob("again", sha256(content)) == content
    assert lab.paused == [1.0, 2.0]


# --- files from anywhere ------------------------------------------------------------------------------------


def test_download(registry: Registry, rogue: Rogue, tmp_path: Path) -> None:
    url = f"http://{rogue.host}/v2/some/image/blobs/{sha256(BLOB)}"
    rogue.on("GET", "/blobs/", Redirect(registry.url))
    told: list[tuple[int, int]] = []
    with (tmp_path / "file").open("wb") as file:
        done = Lab().run(
            lambda r: r.download(url, file.fileno(), max_bytes=1 << 20, progress=lambda *at: told.append(at))
        )
    assert (tmp_path / "file").read_bytes() == BLOB
    assert done.url == url.replace(rogue.host, registry.host)
    assert (done.size_bytes, done.content_type) == (len(BLOB), "application/octet-stream")
    assert told[0] == (0, len(BLOB))


@pytest.mark.parametrize(
    ("url", "kind", "text"),
    [
        (
            "http://{host}/v2/no/such/blobs/x",
            errors.NotFound,
            "^failed to GET http://.* with status 404 Not F",
        ),
        ("http://127.0.0.1:1/x", errors.System, "connection refused"),
        ("http://name.invalid/x", errors.NotFound, "no such host"),
        ("ftp://{host}/x", errors.InvalidParameter, "unsupported protocol scheme"),
        ("http:///x", errors.InvalidParameter, "no host"),
    ],
)
def test_downloads_that_fail(
    registry: Registry, tmp_path: Path, url: str, kind: type[errors.ProaError], text: str
) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(kind, match=text):
        Lab().run(lambda r: r.download(url.format(host=registry.host), file.fileno(), max_bytes=1 << 20))


def test_downloads_are_bounded(registry: Registry, tmp_path: Path) -> None:
    url = f"{registry.url}/v2/some/image/blobs/{sha256(BLOB)}"
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(errors.InvalidParameter, match="larger than 1000"),
    ):
        Lab().run(lambda r: r.download(url, file.fileno(), max_bytes=1000))
