"""Sync, pure. Paths, versions, and the handlers that they lead to."""

import pytest
from aiohttp import web

from proad.api.router import MAX_VERSION, Router, split_version
from proad.model import errors


async def _handler(request: web.Request) -> web.StreamResponse:
    raise AssertionError("never called here")


ROUTER = Router(
    [
        web.get("/containers/json", _handler),
        web.get("/containers/{name}/json", _handler),
        web.delete("/containers/{name}", _handler),
        web.get("/images/{name:.+}/json", _handler),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("GET", "/containers/json", "/containers/json", {}),
        ("GET", "/containers/web/json", "/containers/{name}/json", {"name": "web"}),
        ("GET", "/containers//web/json", "/containers/{name}/json", {"name": "web"}),
        ("DELETE", "/containers/json", "/containers/{name}", {"name": "json"}),
        (
            "GET",
            "/images/example.org:5000/a/b:1/json",
            "/images/{name:.+}/json",
            {"name": "example.org:5000/a/b:1"},
        ),
    ],
)
def test_resolves(method: str, path: str, route: str, parameters: dict[str, str]) -> None:
    found, given = ROUTER.resolve(method, path)
    assert (found.path, given) == (route, parameters)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", ""),
        ("GET", "/nothing"),
        ("POST", "/containers/json"),
        ("GET", "/containers/a/b/json"),
    ],
)
def test_unknown_paths_and_other_methods_are_not_found(method: str, path: str) -> None:
    with pytest.raises(errors.NotFound, match=r"^page not found$"):
        ROUTER.resolve(method, path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/info", (MAX_VERSION, "/info")),
        ("/v1.22/info", ((1, 22), "/info")),
        ("/v1.51/containers/v1.2/json", ((1, 51), "/containers/v1.2/json")),
        ("/version", (MAX_VERSION, "/version")),
        ("/v1.9x/info", (MAX_VERSION, "/v1.9x/info")),
    ],
)
def test_version_prefix(path: str, expected: tuple[tuple[int, int], str]) -> None:
    assert split_version(path) == expected


@pytest.mark.parametrize("version", ["1.21", "1.9", "0.1", "1", ".", "1..2"])
def test_too_old(version: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        split_version(f"/v{version}/info")
    assert caught.value.message == (
        f"client version {version} is too old. Minimum supported API version is 1.22, "
        "please upgrade your client to a newer version"
    )


@pytest.mark.parametrize("version", ["1.52", "2.0", "1.51.1", "9" * 40])
def test_too_new(version: str) -> None:
    with pytest.raises(
        errors.InvalidParameter, match=r"is too new\. Maximum supported API version is 1\.51$"
    ):
        split_version(f"/v{version}/info")
