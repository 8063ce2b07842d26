"""What registries and their clients say, read and shown: credentials, challenges, platforms, progress."""

import base64
import json

import pytest

from proad.model import errors, progress
from proad.model.credentials import (
    NOBODY,
    Credentials,
    parse_auth_config,
    parse_registry_auth,
    parse_registry_config,
)
from proad.model.imagearchive import Descriptor, Platform
from proad.model.platforms import best_first, describe, runnable
from proad.model.registrywire import Challenge, parse_challenges, refusal


def header(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


# --- credentials --------------------------------------------------------------------------------------------


def test_credentials_of_a_header() -> None:
    fields = {"username": "me", "password": "pä?>", "serveraddress": "x", "identitytoken": "i", "email": "?"}
    wanted = Credentials(username="me", password="pä?>", server_address="x", identity_token="i")
    assert parse_registry_auth(header(fields)) == wanted
    assert parse_registry_auth(header(fields).rstrip("=")) == wanted
    standard = base64.b64encode(json.dumps(fields).encode()).decode()
    assert parse_registry_auth(standard) == wanted
    assert parse_registry_auth(header({"registrytoken": "t"})) == Credentials(registry_token="t")
    for empty in ("", header({}), header(None)):
        assert parse_registry_auth(empty) == NOBODY


@pytest.mark.parametrize("text", ["!", "AAAA", header([]), header({"username": 1}), header("x")])
def test_headers_that_hold_none(text: str) -> None:
    with pytest.raises(errors.InvalidParameter):
        parse_registry_auth(text)


def test_credentials_of_several_registries() -> None:
    told = {"a:1": {"username": "me", "password": "p"}, "https://index.docker.io/v1/": {}}
    assert parse_registry_config(header(told)) == {
        "a:1": Credentials(username="me", password="p"),
        "https://index.docker.io/v1/": NOBODY,
    }
    assert parse_registry_config("") == {}
    with pytest.raises(errors.InvalidParameter, match="a is not an object"):
        parse_registry_config(header({"a": 1}))


def test_credentials_of_a_body() -> None:
    assert parse_auth_config(b'{"username": "me"}') == Credentials(username="me")
    with pytest.raises(errors.InvalidParameter):
        parse_auth_config(b"")


# --- what registries say ------------------------------------------------------------------------------------


def test_challenges() -> None:
    text = (
        'Bearer realm="https://a/t?x=1,2",service="a \\"b\\"",scope="repository:x:pull,push", Basic realm=r'
    )
    assert parse_challenges([text]) == [
        Challenge(
            "bearer",
            {"realm": "https://a/t?x=1,2", "service": 'a "b"', "scope": "repository:x:pull,push"},
        ),
        Challenge("basic", {"realm": "r"}),
    ]
    assert parse_challenges(["Negotiate", 'BASIC Realm="x"']) == [
        Challenge("negotiate", {}),
        Challenge("basic", {"realm": "x"}),
    ]
    assert parse_challenges(["", " , ", "=x"]) == []


@pytest.mark.parametrize(
    ("status", "body", "text", "code"),
    [
        (404, '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such"}]}', "manifest unknown: no such",
         "MANIFEST_UNKNOWN"),
        (401, "", "unauthorized: authentication required", "UNAUTHORIZED"),
        (401, '{"details":"incorrect"}', "unauthorized: incorrect", "UNAUTHORIZED"),
        (403, "<html>", "denied: requested access to the resource is denied", "DENIED"),
        (403, '{"errors":[{"code":"DENIED"}]}', "denied: requested access to the resource is", "DENIED"),
        (429, "", "toomanyrequests: too many requests", "TOOMANYREQUESTS"),
        (404, '{"errors":[]}', "error parsing HTTP 404 response body: no error details found in HTTP "
         'response body: "{\\"errors\\":[]}"', ""),
        (400, '{"errors":[{"code":5}]}', "error parsing HTTP 400", ""),
        (500, '{"errors":[{"code":"X"}]}', "received unexpected HTTP status: 500 Internal Server Error", ""),
        (599, "", "received unexpected HTTP status: 599", ""),
    ],
)  # fmt: skip
def test_refusals(status: int, body: str, text: str, code: str) -> None:
    error = refusal(status, body.encode())
    assert error.message.startswith(text)
    assert (error.code, error.status) == (code, status)


def test_a_challenge_says_why() -> None:
    challenge = Challenge("bearer", {"error": "insufficient_scope"})
    error = refusal(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', [challenge])
    assert error.message == "denied: requested access to the resource is denied"
    told = Challenge("bearer", {"error": "invalid_token", "error_description": "too old"})
    assert refusal(401, b"", [told]).message == "unauthorized: too old"


def test_what_may_pass() -> None:
    passing = {status for status in range(400, 600) if refusal(status, b"").is_transient}
    assert passing == {408, 429, 500, 502, 503, 504}


# --- platforms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "names"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64", ["linux/arm64/v8", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/s390x", ["linux/s390x"]),
    ],
)
def test_what_a_machine_runs(platform: str, names: list[str]) -> None:
    assert [describe(each) for each in runnable(Platform(*platform.split("/")))] == names


def test_the_best_comes_first() -> None:
    listed = [
        Descriptor(digest=digest, platform={"os": "linux", "architecture": architecture, "variant": variant})
        for digest, architecture, variant in (
            ("a", "386", ""), ("b", "amd64", "v2"), ("c", "amd64", "v1"), ("d", "arm64", "v8"),
            ("e", "amd64", ""),
        )
    ]  # fmt: skip
    found = [each.digest for each in best_first(listed, Platform("linux", "amd64"))]
    assert found == ["c", "e", "a"]
    assert best_first(listed, Platform("windows", "amd64")) == []


# --- progress -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1234, "1.234kB"), (65536, "65.54kB"), (123_456_789, "123.5MB"),
     (10**18, "1000PB")],
)  # fmt: skip
def test_sizes_for_people(size: int, text: str) -> None:
    assert progress.human_size(size) == text


def test_bars() -> None:
    assert progress.bar(0, 1000) == f"[>{' ' * 50}]       0B/1kB"
    assert progress.bar(500, 1000) == f"[{'=' * 25}>{' ' * 25}]     500B/1kB"
    assert progress.bar(1000, 1000) == f"[{'=' * 50}>]      1kB/1kB"
    assert progress.bar(2000, 1000) == f"[{'=' * 50}>]      2kB"
    assert progress.bar(1500, 0) == "   1.5kB"
    assert progress.bar(0, 0) == ""
