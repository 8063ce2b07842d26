"""Names of images as the client reads them."""

import pytest

from proa.errors import BadName
from proa.reference import HUB_KEY, Reference, parse_reference, parse_tagged

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("busybox", "docker.io", "library/busybox", "", ""),
        ("busybox:1.36", "docker.io", "library/busybox", "1.36", ""),
        ("ada/tool", "docker.io", "ada/tool", "", ""),
        ("docker.io/busybox", "docker.io", "library/busybox", "", ""),
        ("index.docker.io/ada/tool:x", "docker.io", "ada/tool", "x", ""),
        ("localhost/tool", "localhost", "tool", "", ""),
        ("localhost:5000/a/b:c", "localhost:5000", "a/b", "c", ""),
        ("registry.example/a__b/c-d--e:T_.-", "registry.example", "a__b/c-d--e", "T_.-", ""),
        ("[::1]:5000/tool", "[::1]:5000", "tool", "", ""),
        ("Registry/tool", "Registry", "tool", "", ""),
        (f"busybox@{DIGEST}", "docker.io", "library/busybox", "", DIGEST),
        (f"host:1/b:t@{DIGEST}", "host:1", "b", "t", DIGEST),
    ],
)
def test_names(text: str, domain: str, path: str, tag: str, digest: str) -> None:
    assert parse_reference(text) == Reference(domain, path, tag, digest)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("host:5000/A/b", "invalid reference format: repository name (A/b) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("busybox:", "invalid reference format"),
        ("busybox:-x", "invalid reference format"),
        ("busybox@sha256:1234", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("busybox\n", "invalid reference format"),
        ("b" * 300, "invalid reference format"),
        ("busybox:" + "t" * 129, "invalid reference format"),
    ],
)
def test_names_that_are_none(text: str, words: str) -> None:
    with pytest.raises(BadName) as caught:
        parse_reference(text)
    assert str(caught.value) == words


def test_how_a_name_is_shown() -> None:
    hub = parse_tagged("busybox")
    assert (hub.familiar, hub.full) == ("busybox:latest", "docker.io/library/busybox:latest")
    assert hub.registry_key == HUB_KEY
    user = parse_tagged("ada/library/tool:1")
    assert user.familiar == "ada/library/tool:1"
    other = parse_tagged(f"localhost:5000/library/b@{DIGEST}")
    assert (other.familiar_name, other.version) == ("localhost:5000/library/b", DIGEST)
    assert other.registry_key == "localhost:5000"
