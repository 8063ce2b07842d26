"""Docker's configuration file and credential helpers, as the client uses them."""

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from proa.credentials import Credentials, auth_header, config_header
from proa.credentialstore import CredentialStore, hostname, open_store
from proa.errors import CredentialsFailed
from proa.reference import HUB_KEY

ADA = Credentials("ada", "love:lace", server_address="reg:5000")
HELPER = """#!/usr/bin/env python3
import json, os, sys
path = os.environ["SECRETS"]
kept = json.load(open(path))
action, given = sys.argv[1], sys.stdin.read().strip()
if given == "broken":
    print("the keychain is locked")
    sys.exit(3)
if action == "get" and given not in kept:
    print("credentials not found in native keychain")
    sys.exit(1)
if action == "get":
    print(json.dumps({"ServerURL": given, **kept[given]}))
elif action == "list":
    print(json.dumps({key: value["Username"] for key, value in kept.items()}))
elif action == "store":
    told = json.loads(given)
    kept[told.pop("ServerURL")] = told
elif action == "erase":
    del kept[given]
json.dump(kept, open(path, "w"))
"""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory for the file, and for helpers."""
    (tmp_path / "secrets").write_text("{}")
    return tmp_path


@pytest.fixture
def store(home: Path) -> Callable[..., CredentialStore]:
    """Open the store with a file of this content (None for none), and more of an environment."""

    def open_it(content: object = None, **environ: str) -> CredentialStore:
        if content is not None:
            (home / "config.json").write_text(json.dumps(content))
        return open_store(
            {
                "DOCKER_CONFIG": str(home),
                "PATH": f"{home}:{os.environ['PATH']}",
                "SECRETS": str(home / "secrets"),
                **environ,
            }
        )

    return open_it


@pytest.fixture
def helper(home: Path) -> Callable[[str], dict[str, object]]:
    """Put a credential helper of that name into the path; returns a look at what it keeps."""

    def install(name: str) -> dict[str, object]:
        program = home / f"docker-credential-{name}"
        program.write_text(HELPER)
        program.chmod(0o755)
        kept: dict[str, object] = json.loads((home / "secrets").read_text())
        return kept

    return install


def secrets(home: Path) -> dict[str, dict[str, str]]:
    kept: dict[str, dict[str, str]] = json.loads((home / "secrets").read_text())
    return kept


def test_the_file_is_written_as_docker_writes_it(home: Path, store: Callable[..., CredentialStore]) -> None:
    deep = home / "not" / "there"
    made = store(DOCKER_CONFIG=str(deep))
    assert made.store(ADA)
    assert not made.store(ADA), "nothing new"
    path = deep / "config.json"
    assert path.read_text().split("\n") == [
        "{",
        '\t"auths": {',
        '\t\t"reg:5000": {',
        f'\t\t\t"auth": "{encoded("ada:love:lace")}"',
        "\t\t}",
        "\t}",
        "}",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(deep.stat().st_mode) == 0o700
    assert os.listdir(deep) == ["config.json"]
    again = store(DOCKER_CONFIG=str(deep))
    assert again.get("reg:5000") == ADA
    again.erase("reg:5000")
    assert json.loads(path.read_text()) == {"auths": {}}


def test_what_else_stands_in_the_file_stays(home: Path, store: Callable[..., CredentialStore]) -> None:
    content = {
        "HttpHeaders": {"X": "y"},
        "unheard-of": [1, {"a": None}],
        "auths": {"other": {"auth": encoded("b:c"), "email": "b@c"}},
    }
    made = store(content)
    (home / "config.json").chmod(0o640)
    made.store(ADA._replace(password="", identity_token="t1"))
    after = json.loads((home / "config.json").read_text())
    added = after["auths"].pop("reg:5000")
    assert after == content
    assert added == {"auth": encoded("ada:"), "identitytoken": "t1"}
    assert stat.S_IMODE((home / "config.json").stat().st_mode) == 0o640
    assert store().get("reg:5000").identity_token == "t1"


def test_a_symlink_leads_to_the_file(home: Path, store: Callable[..., CredentialStore]) -> None:
    (home / "elsewhere").mkdir()
    for target in ("elsewhere/real", "elsewhere/missing"):
        if target.endswith("real"):
            (home / target).write_text("{}")
        (home / "config.json").unlink(missing_ok=True)
        (home / "config.json").symlink_to(target)
        store().store(ADA)
        assert (home / "config.json").is_symlink()
        assert "reg:5000" in json.loads((home / target).read_text())["auths"]


def test_a_failed_write_leaves_the_old_file(
    home: Path, store: Callable[..., CredentialStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store({"auths": {}})

    def fails(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(CredentialsFailed, match="no space left on device"):
        made.store(ADA)
    assert sorted(os.listdir(home)) == ["config.json", "secrets"]
    assert json.loads((home / "config.json").read_text()) == {"auths": {}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "not a JSON object"),
        ('{"auths": []}', "auths is not an object"),
        ('{"auths": {"a": 1}}', "no object for a"),
        ('{"auths": {"a": {"auth": "x"}}}', "garbled"),
        ('{"auths": {"a": {"auth": "bm9jb2xvbg=="}}}', "Invalid auth configuration file"),
    ],
)
def test_a_file_that_is_none(
    home: Path, store: Callable[..., CredentialStore], content: str, words: str
) -> None:
    (home / "config.json").write_text(content)
    with pytest.raises(CredentialsFailed, match=words) as caught:
        store()
    assert str(home / "config.json") in str(caught.value)


def test_old_keys_are_found(store: Callable[..., CredentialStore]) -> None:
    made = store(
        {
            "auths": {
                "https://reg:5000/v1/": {"auth": encoded("a:b")},
                "plain": {"username": "c", "password": "d"},
            }
        }
    )
    assert made.get("reg:5000").username == "a"
    assert made.get("plain").password == "d"
    assert made.get("nobody") == Credentials()
    assert hostname("https://reg:5000/v1/") == hostname("reg:5000/v2") == "reg:5000"


def test_a_helper_keeps_the_secret(
    home: Path, store: Callable[..., CredentialStore], helper: Callable[[str], object]
) -> None:
    helper("vault")
    made = store({"credsStore": "vault"})
    assert not made.store(ADA)
    assert secrets(home) == {"reg:5000": {"Username": "ada", "Secret": "love:lace"}}
    assert json.loads((home / "config.json").read_text())["auths"] == {"reg:5000": {}}
    assert store().get("reg:5000") == ADA
    assert store().get("nobody") == Credentials()
    assert store().all() == {"reg:5000": ADA}
    store().erase("reg:5000")
    assert secrets(home) == {}
    assert json.loads((home / "config.json").read_text())["auths"] == {}


def test_a_helper_keeps_tokens(
    home: Path, store: Callable[..., CredentialStore], helper: Callable[[str], object]
) -> None:
    helper("vault")
    store({"credsStore": "vault"}).store(ADA._replace(password="", identity_token="t1"))
    assert secrets(home)["reg:5000"] == {"Username": "<token>", "Secret": "t1"}
    assert store().get("reg:5000") == Credentials(identity_token="t1", server_address="reg:5000")


def test_single_registries_have_their_own_helpers(
    home: Path, store: Callable[..., CredentialStore], helper: Callable[[str], object]
) -> None:
    helper("own")
    (home / "secrets").write_text('{"special": {"Username": "s", "Secret": "p"}}')
    made = store({"credHelpers": {"special": "own"}, "auths": {"plain": {"auth": encoded("a:b")}}})
    assert made.get("special").password == "p"
    assert made.get("plain").password == "b"
    assert {key: found.username for key, found in made.all().items()} == {"special": "s", "plain": "a"}


def test_the_usual_helper_is_used_where_nobody_decided(
    home: Path, store: Callable[..., CredentialStore], helper: Callable[[str], object]
) -> None:
    helper("secretservice")
    assert not store().store(ADA)
    assert "reg:5000" in secrets(home)
    decided = store({"auths": {"other": {"auth": encoded("a:b")}}})
    assert decided.store(ADA), "who has credentials in the file goes on like that"


def test_helpers_that_fail(
    home: Path, store: Callable[..., CredentialStore], helper: Callable[[str], object]
) -> None:
    helper("vault")
    made = store({"credsStore": "vault"})
    with pytest.raises(CredentialsFailed, match=r"exit status 3, out: `the keychain is locked`"):
        made.get("broken")
    absent = store({"credsStore": "absent"})
    with pytest.raises(
        CredentialsFailed, match=r'exec: "docker-credential-absent": executable file not found'
    ):
        absent.get("reg:5000")
    with pytest.raises(CredentialsFailed, match="error storing credentials"):
        absent.store(ADA)


def test_the_environment_comes_first(store: Callable[..., CredentialStore]) -> None:
    given = json.dumps({"auths": {"reg:5000": {"auth": encoded("env:x")}}})
    made = store({"auths": {"reg:5000": {"auth": encoded("file:y")}}}, DOCKER_AUTH_CONFIG=given)
    assert made.get("reg:5000").username == "env"
    assert made.all()["reg:5000"].username == "env"
    with pytest.raises(CredentialsFailed, match="DOCKER_AUTH_CONFIG"):
        store(DOCKER_AUTH_CONFIG="nonsense")


def test_proxies(store: Callable[..., CredentialStore]) -> None:
    made = store({"proxies": {"default": {"httpProxy": "http://p", "noProxy": "x"}, "unix:///s": {}}})
    assert made.config.proxy_variables("unix:///other") == {
        "HTTP_PROXY": "http://p",
        "http_proxy": "http://p",
        "NO_PROXY": "x",
        "no_proxy": "x",
    }


def test_headers() -> None:
    def content(header: str) -> object:
        return json.loads(base64.urlsafe_b64decode(header))

    assert content(auth_header(Credentials())["X-Registry-Auth"]) == {}
    tricky = Credentials("ü?~>", "p>>>???", server_address=HUB_KEY)
    header = auth_header(tricky)["X-Registry-Auth"]
    assert "+" not in header
    assert "/" not in header
    assert content(header) == {"username": "ü?~>", "password": "p>>>???", "serveraddress": HUB_KEY}
    token = Credentials(identity_token="t", registry_token="r")
    assert content(config_header({"a": token})["X-Registry-Config"]) == {
        "a": {"identitytoken": "t", "registrytoken": "r"}
    }
