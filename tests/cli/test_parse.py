"""What people type, in the API's terms."""

from collections.abc import Callable
from typing import Any

import pytest

from proa.cli.parse import environment, limits, mounts, ports, quantities, times
from proa.cli.parse.booleans import parse_bool

Parse = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1k", 1024),
        ("64m", 64 << 20),
        ("1.5G", 3 << 29),
        ("10KiB", 10240),
        ("2 TB", 2 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert quantities.parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("90s", 90 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("500ms", 5 * 10**8),
        ("-2us", -2000),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert quantities.parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (quantities.parse_bytes, "x"),
        (quantities.parse_bytes, "-1"),
        (quantities.parse_bytes, "1x"),
        (quantities.parse_bytes, ""),
        (quantities.parse_duration_ns, "5"),
        (quantities.parse_duration_ns, "5 s"),
        (quantities.parse_duration_ns, ""),
        (quantities.parse_nano_cpus, "two"),
        (quantities.parse_nano_cpus, "NaN"),
        (quantities.parse_nano_cpus, "0.0000000001"),
        (parse_bool, "yes"),
        (limits.parse_ulimit, "nofile"),
        (limits.parse_ulimit, "nope=1"),
        (limits.parse_ulimit, "nofile=2:1"),
        (limits.parse_device, "/dev/a:/dev/b:/dev/c:rwm"),
        (limits.parse_device, "/dev/a:/dev/b:rwx"),
        (limits.parse_restart_policy, "sometimes"),
        (limits.parse_restart_policy, "on-failure:x"),
        (limits.parse_throttle_bytes, "/tmp/x:1m"),
        (limits.parse_weight_device, "/dev/sda:5"),
    ],
)
def test_nonsense_is_refused(parse: Parse, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_cpus_swap_and_booleans() -> None:
    assert quantities.parse_nano_cpus("1.5") == 1_500_000_000
    assert quantities.parse_swap_bytes("-1") == -1
    assert parse_bool("T")
    assert not parse_bool("0")


NOW_NS = 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", "1700000000"),
        ("1700000000.5", "1700000000.5"),
        ("10m", "1699999400.123456789"),
        ("2023-11-14T22:13:20Z", "1700000000.000000000"),
        ("2023-11-14T22:13:20.000000007Z", "1700000000.000000007"),
        ("2023-11-14T23:13:20+01:00", "1700000000.000000000"),
    ],
)
def test_instants(text: str, seconds: str) -> None:
    assert times.parse_instant(text, NOW_NS) == seconds


def test_an_instant_that_is_none() -> None:
    with pytest.raises(ValueError, match="is not a time"):
        times.parse_instant("yesterday", NOW_NS)


@pytest.mark.parametrize(
    ("flag", "bindings"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80", {"80/tcp": [("", "8080")]}),
        ("127.0.0.1:8080:80/udp", {"80/udp": [("127.0.0.1", "8080")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("8000-8001:80-81", {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
        ("8000-8010:80", {"80/tcp": [("", "8000-8010")]}),
        ("80-81", {"80/tcp": [("", "")], "81/tcp": [("", "")]}),
        ("target=80,published=8080,protocol=udp", {"80/udp": [("", "8080")]}),
    ],
)
def test_published_ports(flag: str, bindings: dict[str, list[tuple[str, str]]]) -> None:
    expected = {
        port: [{"HostIp": host_ip, "HostPort": host_port} for host_ip, host_port in entries]
        for port, entries in bindings.items()
    }
    assert ports.parse_published([flag]) == expected


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("", "no port specified"),
        ("8080:", "no port specified"),
        ("x:80", "invalid hostPort: x"),
        ("80:x", "invalid containerPort: x"),
        ("99999:80", "invalid hostPort: 99999"),
        ("80-81:80-82", "invalid ranges"),
        ("81-80:80", "invalid hostPort"),
        ("80/icmp", "invalid proto: icmp"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("target=80,mode=x", "publish mode"),
        ("published=80", "target"),
        ("nope=80", "invalid field key: nope"),
    ],
)
def test_ports_that_are_none(flag: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ports.parse_published([flag])


def test_exposed_ports() -> None:
    assert ports.parse_exposed(["80", "90-91/udp"]) == ["80/tcp", "90/udp", "91/udp"]
    with pytest.raises(ValueError, match="--expose"):
        ports.parse_exposed(["80:80"])


def test_mounts() -> None:
    bind = mounts.parse_mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave,bind-recursive=disabled")
    assert bind == {
        "Type": "bind",
        "Source": "/a",
        "Target": "/b",
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rslave", "NonRecursive": True},
    }
    volume = mounts.parse_mount('"target=/c,d",source=v,volume-nocopy,volume-opt=type=nfs,volume-label=a=b')
    assert volume["Target"] == "/c,d"
    assert volume["VolumeOptions"] == {
        "NoCopy": True,
        "DriverConfig": {"Options": {"type": "nfs"}},
        "Labels": {"a": "b"},
    }
    image = mounts.parse_mount("type=image,src=tools:1,dst=/t,image-subpath=etc")
    assert image == {
        "Type": "image", "Source": "tools:1", "Target": "/t", "ImageOptions": {"Subpath": "etc"}
    }  # fmt: skip
    tmpfs = mounts.parse_mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770,readonly=false")
    assert tmpfs["TmpfsOptions"] == {"SizeBytes": 1 << 20, "Mode": 0o1770}
    assert tmpfs["ReadOnly"] is False


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("type=bind,foo", "invalid field 'foo' must be a key=value pair"),
        ("type=bind,foo=1,dst=/x", "unexpected key 'foo' in 'foo=1'"),
        ("type=bind,src=/x", "target is required"),
        ("dst=/x,ro=maybe", "invalid value for ro: maybe"),
        ("type=bind,dst=/x,image-subpath=y", "cannot mix 'image-\\*' options with mount type 'bind'"),
        ("type=tmpfs,dst=/x,volume-nocopy", "cannot mix 'volume-\\*' options with mount type 'tmpfs'"),
        ("type=bind,dst=/x,tmpfs-size=1", "cannot mix 'tmpfs-\\*' options"),
        ("type=tmpfs,dst=/x,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
    ],
)
def test_mounts_that_are_none(flag: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mounts.parse_mount(flag)


def test_volumes_and_tmpfs(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    binds, anonymous = mounts.parse_volumes(["/a:/b:ro", "data:/c", "/d", "./e:/f"])
    assert binds == ["/a:/b:ro", "data:/c", f"{tmp_path}/e:/f"]
    assert anonymous == ["/d"]
    assert mounts.parse_tmpfs(["/t", "/u:size=1m,mode=700"]) == {"/t": "", "/u": "size=1m,mode=700"}
    with pytest.raises(ValueError, match="empty section"):
        mounts.parse_volumes([":/x"])


def test_environment() -> None:
    text = "\ufeff# comment\n\nA=1\n  B=two words\nHOME\nUNSET\n"
    env = environment.parse_env(["C=3", "HOME", "GONE"], [("f", text)], {"HOME": "/root"})
    assert env == ["A=1", "B=two words", "HOME=/root", "C=3", "HOME=/root", "GONE"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("=x", "no variable name on line 1"), ("a b=c", "variable 'a b' contains whitespaces")],
)
def test_environment_files_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        environment.parse_env([], [("f", text)], {})


def test_labels_and_pairs() -> None:
    assert environment.parse_labels(["a=1", "b"], [("f", "c=2\n")]) == {"a": "1", "b": "", "c": "2"}
    assert environment.parse_pairs(["a=1=2"], "sysctl") == {"a": "1=2"}
    with pytest.raises(ValueError, match="invalid sysctl 'a'"):
        environment.parse_pairs(["a"], "sysctl")


def test_devices_limits_and_policies() -> None:
    assert limits.parse_device("/dev/a") == {
        "PathOnHost": "/dev/a",
        "PathInContainer": "/dev/a",
        "CgroupPermissions": "rwm",
    }
    assert limits.parse_device("/dev/a:r")["CgroupPermissions"] == "r"
    assert limits.parse_device("/dev/a:/dev/b:rw") == {
        "PathOnHost": "/dev/a",
        "PathInContainer": "/dev/b",
        "CgroupPermissions": "rw",
    }
    assert limits.parse_ulimit("nofile=10:20") == {"Name": "nofile", "Soft": 10, "Hard": 20}
    assert limits.parse_ulimit("core=-1") == {"Name": "core", "Soft": -1, "Hard": -1}
    assert limits.parse_restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert limits.parse_throttle_bytes("/dev/sda:1m") == {"Path": "/dev/sda", "Rate": 1 << 20}


def test_security_options() -> None:
    def read(path: str) -> str:
        return '{ "defaultAction": "SCMP_ACT_ALLOW" }'

    options, masked, readonly = limits.parse_security(
        ["seccomp=/p.json", "no-new-privileges", "systempaths=unconfined", "label:disable"], read
    )
    assert options == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', "no-new-privileges", "label:disable"]
    assert (masked, readonly) == ([], [])
    assert limits.parse_security(["seccomp=unconfined"], read) == (["seccomp=unconfined"], None, None)
    with pytest.raises(ValueError, match="compacting json"):
        limits.parse_security(["seccomp=/p.json"], lambda path: "{")
    with pytest.raises(ValueError, match="invalid --security-opt"):
        limits.parse_security(["nope"], read)
