"""Configuration: file under flags, derived values, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from proad.config import DEFAULT_POOLS, AddressPool, Config, ConfigError, changed_fields, load, make_parser


def parse(*argv: str) -> Config:
    return load(vars(make_parser().parse_args(argv)))


def from_file(tmp_path: Path, text: str, *argv: str) -> Config:
    path = tmp_path / "proad.toml"
    path.write_text(text)
    return parse("--config-file", str(path), *argv)


def test_defaults_are_the_standard_places() -> None:
    config = parse()
    assert config.hosts == ("unix:///run/proa/proa.sock",)
    assert (config.bridge, config.table, config.cgroup_parent) == ("proa0", "proa", "/proa")


def test_a_second_daemon_needs_three_flags_and_shares_nothing() -> None:
    first = parse("--exec-root", "/a/e", "--data-root", "/a/d", "--host", "unix:///a/s")
    second = parse("--exec-root", "/b/e", "--data-root", "/b/d", "--host", "unix:///b/s")
    for name in ("bridge", "table", "cgroup_parent"):
        assert getattr(first, name) != getattr(second, name)
        assert getattr(first, name) != getattr(parse(), name)
    assert len(first.bridge) <= 15


def test_without_a_default_bridge_its_usual_name_is_still_known() -> None:
    assert parse().has_bridge
    config = parse("--bridge", "none")
    assert not config.has_bridge
    assert config.own_bridge == parse().bridge


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    text = 'log-level = "debug"\nmtu = 1400\nhost = ["unix:///x"]\n[add-runtime]\nmine = "/usr/bin/mine"\n'
    config = from_file(tmp_path, text, "--mtu", "9000")
    assert (config.log_level, config.mtu, config.hosts) == ("debug", 9000, ("unix:///x",))
    assert config.runtimes == {"mine": "/usr/bin/mine"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no-such = 1", "unknown key 'no-such'"),
        ('mtu = "1400"', "must be of type int"),
        ("host = 3", "must be an array of strings"),
        ('log-level = "loud"', "must be one of"),
        ("mtu = ", "configuration file"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        from_file(tmp_path, text)


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        parse("--config-file", str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--host", "tcp://127.0.0.1:2375"], "insecure-tcp"),
        (["--host", "unix://" + "/x" * 60], "107 bytes"),
        (["--host", "http://x"], "expected unix"),
        (["--host", "tcp://127.0.0.1:x", "--insecure-tcp"], "expected tcp"),
        (["--bip", "300.1.1.1/24"], "300"),
        (["--bridge", "a" * 16], "not an interface name"),
        (["--bridge", "none", "--bip", "10.0.0.1/24"], "--bip 10.0.0.1/24: with --bridge none"),
        (["--mtu", "1"], "out of range"),
        (["--cgroup-parent", "/a/../b"], "not a cgroup path"),
        (["--default-address-pool", "base=10.0.0.0/8,size=4"], "between 8 and 29"),
        (["--default-address-pool", "nonsense"], "NAME=VALUE"),
        (["--port-range", "9-1"], "not a range"),
        (["--shutdown-timeout", "-1"], "negative"),
        (["--dns", "example"], "example"),
    ],
)
def test_bad_values_are_refused(argv: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(*argv)


def test_values_are_parsed() -> None:
    config = parse(
        "--default-address-pool", "base=10.10.0.0/16,size=24", "--default-ulimit", "nofile=10:20",
        "--port-range", "5-9"
    )  # fmt: skip
    assert config.default_address_pools == (AddressPool("10.10.0.0/16", 24),)
    assert config.default_ulimits == {"nofile": (10, 20)}
    assert config.port_range == (5, 9)


def test_pools_of_ipv6_leave_those_of_ipv4() -> None:
    config = parse("--default-address-pool", "base=fd00:1::/48,size=64")
    assert config.default_address_pools == (*DEFAULT_POOLS, AddressPool("fd00:1::/48", 64))
    with pytest.raises(ConfigError, match="between 48 and 125"):
        parse("--default-address-pool", "base=fd00:1::/48,size=127")


def test_a_reload_knows_what_it_can_change() -> None:
    changes: dict[str, Any] = {"--log-level": "debug", "--mtu": "1400"}
    new = parse(*[word for pair in changes.items() for word in pair])
    assert changed_fields(parse(), new) == (["log_level"], ["mtu"])


def test_registries() -> None:
    config = load(
        {
            "registry_mirror": ["https://mirror:5000", "http://other/"],
            "insecure_registry": ["10.0.0.0/8", "my:5000"],
            "allow_nondistributable_artifacts": ["my:5000"],
            "max_concurrent_downloads": 7,
        }
    )
    assert config.registry_mirrors == ("https://mirror:5000/", "http://other/")
    assert config.insecure_registries == ("10.0.0.0/8", "my:5000")
    assert config.nondistributable_registries == ("my:5000",)
    assert (config.max_concurrent_downloads, config.max_concurrent_uploads, config.max_download_attempts) == (
        7, 5, 5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"registry_mirror": ["mirror:5000"]}, "expected http://HOST"),
        ({"registry_mirror": ["https://mirror/path"]}, "no path"),
        ({"registry_mirror": ["https://me@mirror"]}, "user"),
        ({"max_concurrent_downloads": 0}, "--max-concurrent-downloads must be at least 1"),
        ({"max_download_attempts": 0}, "--max-download-attempts must be at least 1"),
    ],
)
def test_registries_that_cannot_be(given: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load(given)
