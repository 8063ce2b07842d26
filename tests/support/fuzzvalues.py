"""Sync, pure. Values for a fuzzer: what the API's reference would take, and that with something wrong in it.

A value is drawn from its schema, with words that this engine's containers, images and volumes really have,
so that most requests get past the first check; then, in every other request, one place of it is replaced by
something of another kind, size or alphabet. What could reach out of the daemon's own directory (paths of the
host, cgroups of others) is never drawn: random text has no slash, and such fields have their own words.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
Values = st.SearchStrategy[Any]

IMAGE = "busybox:latest"
CONTAINERS = ("fuzz-running", "fuzz-paused", "fuzz-terminal", "fuzz-stopped", "fuzz-created", "fuzz-new")
VOLUMES = ("fuzz-volume", "fuzz-other")
NETWORK = "fuzz-network"
UNKNOWN_ID = "0123456789abcdef" * 4

LIVE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]
"""A command that runs until it is told to stop, and then stops."""
COMMANDS = (["true"], ["sh", "-c", "exit 3"], ["echo", "x"], ["/no/such"], ["/etc/passwd"], [""], LIVE)
TEXTS = ("", "-", ".", "..", ":", "a:b:c:d", "=", "a=", "=b", "%s%n", "a b", "é", "🐳", "\0", "\ud800",
    "x" * 5000,
         "-1", "1e9", "0x10", "١", "null", "a\nb", "\x7f", "{{.ID}}", "A" * 64, "a,b", "@",
             "a@sha256:x")  # fmt: skip
NUMBERS = (
    -1,
    0,
    1,
    3,
    65535,
    65536,
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**40,
)
ODD: Sequence[Any] = (
    None,
    True,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": [1]}},
    1.5,
    -0.0,
    1e308,
    ["\0"],
)

text = st.one_of(
    st.sampled_from(TEXTS),
    st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), max_size=12),
)
number = st.one_of(st.sampled_from(NUMBERS), st.integers(-(2**65), 2**65))
odd: Values = st.one_of(st.sampled_from(ODD), text, number)


def words(*known: Any) -> Values:
    return st.sampled_from(known)


_PORTS = st.dictionaries(
    words("80/tcp", "53/udp", "70-72/tcp", "x/tcp", "80/x", "99999/tcp", ""), words({}), max_size=2
)
_TARGETS = words("/data", "/tmp/x", "/", "data", "", "/proc", "/a/../b", "/etc/passwd")
_LABELS = st.dictionaries(text, text, max_size=2)
_FILTERS = st.dictionaries(
    words("id", "name", "label", "status", "ancestor", "before", "since", "exited", "health", "network",
        "volume",
          "publish", "expose", "is-task", "dangling", "reference", "until", "type", "event", "driver",
              "all",
          "scope", "container", "image", "daemon", "label!", "x"),
    st.one_of(
        st.lists(words("true", "0", "exited", "fuzz-running", IMAGE, "a=b", "80", "10m", "2020-01-01",
            "[", "*", "(", ""),
                 max_size=2),
        words({"x": True}, {"running": True}, {"x": 1}, "x", 3, None, {}),
    ),
    max_size=2,
).map(json.dumps)  # fmt: skip
_MODES = words(
    "", "host", "none", "private", "container:fuzz-running", "container:", "container:x", "x", "bridge"
)

WORDS: dict[str, Values] = {
    "Image": words(*[IMAGE] * 20, "busybox", "no-such", "", "UPPER", "sha256:" + UNKNOWN_ID, "a b"),
    "Cmd": words(*COMMANDS),
    "Entrypoint": words(None, [], ["sh"], ["/no/such"], ""),
    "Shell": words(["sh", "-c"], []),
    "Env": st.lists(words("A=1", "A", "=x", "PATH=", "A=\0", "B=é"), max_size=3),
    "User": words("", "0", "user", "1000:extra", "nobody:nogroup", "-1", "4294967296", "a:b:c"),
    "WorkingDir": words("", "/", "/made/here", "relative", "/etc/passwd", "/a\0b"),
    "ExposedPorts": _PORTS,
    "PortBindings": st.dictionaries(
        words("80/tcp", "53/udp", "x/tcp", "0/tcp", ""),
        words([], None, [{"HostPort": ""}], [{"HostIp": "127.0.0.1", "HostPort": ""}],
            [{"HostPort": "99999"}],
              [{"HostIp": "x"}], [{"HostPort": "1-2-3"}], [{"HostIp": "::1", "HostPort": ""}]),
        max_size=2,
    ),
    "Volumes": st.dictionaries(_TARGETS, words({}), max_size=2),
    "Binds": st.lists(words("fuzz-volume:/data", "fuzz-volume:/data:ro", "fuzz-volume:/data:x,y",
        "fuzz-volume",
                            "a:b:c:d", ":", "fuzz-volume:rel", "../x:/y", "fuzz-other:/:z"), max_size=2),
    "Mounts": st.lists(st.fixed_dictionaries({}, optional={
        "Type": words("volume", "tmpfs", "image", "npipe", "cluster", "x", ""),
            "Source": words("fuzz-volume", "", "..", "a b"),
        "Target": _TARGETS, "ReadOnly": words(True, False, None), "Consistency": words("default", "x"),
        "TmpfsOptions": words({}, {"SizeBytes": 65536, "Mode": 0o1777}, {"SizeBytes": -1},
            {"Options": [["a"]]}),
        "VolumeOptions": words({}, {"NoCopy": True, "Subpath": "../.."}, {"DriverConfig": {"Name": "x"}}),
    }), max_size=2),
    "VolumesFrom": st.lists(words("fuzz-running", "fuzz-stopped:ro", "no-such", ":", "fuzz-running:x"),
        max_size=2),
    "Tmpfs": st.dictionaries(_TARGETS, words("", "size=1m", "size=x", "x,y", "mode=1777,rw"), max_size=2),
    "Devices": words([], None, [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x",
        "CgroupPermissions": "rwm"}],
                     [{"PathOnHost": "/dev/no-such"}], [{"PathOnHost": "", "CgroupPermissions": "q"}],
                         [{}]),
    "CgroupParent": words("", "..", "a\0b"),
    "NetworkMode": words("", "bridge", "none", "default", "no-such", NETWORK, "container:fuzz-running",
        "container:x", "container:", "a b"),
    "PidMode": _MODES, "IpcMode": words("", "none", "private", "shareable", "container:fuzz-created", "x"),
    "UTSMode": words("", "x"), "UsernsMode": words("", "host", "x"), "CgroupnsMode": words("", "private",
        "x"),
    "Runtime": words("", "crun", "no-such", ".."), "StorageOpt": words(None, {}, {"size": "10G"},
        {"size": "x"}, {"x": "y"}),
    "StopTimeout": words(0, 1), "StopSignal": words("", "SIGTERM", "15", "SIGX", "0", "-1", "RTMIN+3"),
    "RestartPolicy": words({}, {"Name": "no"}, {"Name": "on-failure", "MaximumRetryCount": 1},
        {"Name": "x"},
                           {"Name": "always", "MaximumRetryCount": 3}, {"MaximumRetryCount": -1}),
    "LogConfig": words({}, {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        {"Type": "none"},
                       {"Type": "local"}, {"Type": "x"}, {"Type": "json-file", "Config": {"x": "y"}},
                       {"Type": "json-file", "Config": {"max-size": "-1"}}, {"Config": {"max-file": "0"}}),
    "Links": st.lists(words("fuzz-running:alias", "fuzz-stopped", "no-such:x", ":", "a:b:c"), max_size=2),
    "Ulimits": words([], [{"Name": "nofile", "Soft": 64, "Hard": 64}], [{"Name": "x"}], [{"Name": "core",
        "Soft": 5, "Hard": 1}], [{}]),
    "Sysctls": words({}, {"net.ipv4.ip_forward": "1"}, {"kernel.x": "1"}, {"net.ipv4.no_such": "x"},
        {"": ""}),
    "SecurityOpt": st.lists(words("no-new-privileges", "seccomp=unconfined", "seccomp={", "apparmor=x",
        "label=disable", "x", "=",
                                  "seccomp={}", "systempaths=unconfined"), max_size=2),
    "CapAdd": st.lists(words("NET_ADMIN", "ALL", "CAP_CHOWN", "x", ""), max_size=2),
    "CapDrop": st.lists(words("ALL", "cap_chown", "x"), max_size=2),
    "ExtraHosts": st.lists(words("a:1.2.3.4", "b:host-gateway", "c", "d:x", ":", "e:::1"), max_size=2),
    "Dns": st.lists(words("1.1.1.1", "x", "::1", ""), max_size=2),
    "CpusetCpus": words("", "0", "0-1", "9999", "x", "1-0", "0-"), "CpusetMems": words("", "0", "7", "x"),
    "NanoCpus": words(0, 500_000_000, 10**12, -1), "CpuShares": words(0, 2, 1024, 2**40),
        "CpuPeriod": words(0, 100_000, 1),
    "Memory": words(0, 64 << 20, 1, 2**62), "MemorySwap": words(0, -1, 128 << 20, 5, -2),
        "PidsLimit": words(None, 0, -1, 100, 2**40),
    "BlkioWeight": words(0, 10, 500, 5), "OomScoreAdj": words(0, 100, 1001), "ShmSize": words(0, 1 << 20,
        -1, 1),
    "DeviceRequests": words(None, [], [{"Driver": "nvidia", "Count": -1}], [{"Capabilities": [["gpu"]]}],
        [{}]),
    "Healthcheck": words(None, {}, {"Test": ["CMD", "true"], "Interval": 10**9}, {"Test": ["NONE"]},
        {"Test": ["x"]}, {"Test": []},
                         {"Test": ["CMD-SHELL", "exit 1"], "Interval": 1}, {"Interval": -1},
                             {"Test": ["CMD"], "Retries": -1}),
    "DetachKeys": words("", "ctrl-p,ctrl-q", "ctrl-", "a", "x,,y"),
    "ConsoleSize": words(None, [24, 80], [0, 0], [1], [-1, 1], [70000, 1], []),
    "Labels": _LABELS, "NetworkingConfig": words(
        None, {}, {"EndpointsConfig": None}, {"EndpointsConfig": {"bridge": {}}},
            {"EndpointsConfig": {"bridge": None}},
        {"EndpointsConfig": {"x": {"IPAMConfig": {"IPv4Address": "x"}}}},
            {"EndpointsConfig": {"bridge": {"Aliases": ["a"]}}},
        {"EndpointsConfig": {"bridge": {"MacAddress": "x"}}},
            {"EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "9.9.9.9"}}}},
        {"EndpointsConfig": {NETWORK: {"Aliases": ["a", ""], "GwPriority": 3}, "bridge": {}}},
        {"EndpointsConfig": {NETWORK: {"IPAMConfig": {"IPv4Address": "x"}}, "host": None}},
    ),
    "EndpointConfig": words(
        None, {}, {"Aliases": ["a", "", "é"]}, {"IPAMConfig": {}},
        {"IPAMConfig": {"IPv4Address": "10.9.9.9"}},
        {"IPAMConfig": {"IPv6Address": "::", "LinkLocalIPs": ["x", "fe80::9"]}}, {"MacAddress": "x"},
        {"Links": ["fuzz-running:x", ":", "a:b:c"]}, {"GwPriority": -(2**63)}, {"GwPriority": 10**30},
        {"DriverOpts": {"com.docker.network.endpoint.ifname": "lo"}}, {"DriverOpts": {"x": "y"}},
    ),
    "Container": words(*CONTAINERS, "", "x"),
    "IPAM": words(
        None, {}, {"Driver": "x"}, {"Config": None}, {"Config": [None]}, {"Config": [{}]},
        {"Config": [{"Subnet": "10.251.0.0/24", "IPRange": "10.251.0.0/25", "Gateway": "10.251.0.9"}]},
        {"Config": [{"Subnet": "10.252.0.0/30",
                     "AuxiliaryAddresses": {"a": "10.252.0.1", "b": "10.252.0.2"}}]},
        {"Config": [{"Subnet": "10.253.0.0/32"}]}, {"Config": [{"Subnet": "fd52::/127"}]},
        {"Config": [{"Subnet": "10.250.0.1/33", "Gateway": "x", "AuxiliaryAddresses": {"": ""}}]},
        {"Config": [{"Subnet": "::/0"}, {"Subnet": "0.0.0.0/0"}, {"Subnet": "::ffff:10.0.0.0/104"}]},
    ),
    "Options": words(
        None, {}, {"x": "y"}, {"": "\0"}, {"com.docker.network.driver.mtu": "68"}, {"parent": "lo"},
        {"com.docker.network.bridge.name": "a/b"}, {"com.docker.network.bridge.name": "lo"},
        {"com.docker.network.bridge.enable_icc": "false"}, {"com.docker.network.x": ""},
        {"com.docker.network.container_iface_prefix": "%d"}, {"parent": "no-such.5000"},
    ),
    "Driver": words("local", "", "x", "bridge", "bridge", "macvlan", "host", "overlay"),
    "DriverOpts": words({}, None, {"type": "tmpfs", "device": "tmpfs"},
        {"x": "y"}, {"type": "x"}),
    "Name": words(*VOLUMES, "fuzz-second", "", "..", "a", "-x", "é"),
    # --- parameters ---
    "id": words(*CONTAINERS), "container": words(*CONTAINERS, "", "x"), "name": words(*CONTAINERS,
        *map(str, range(10, 30)), "", "-", "..", "x" * 300),
    "filters": _FILTERS, "signal": words("TERM", "SIGKILL", "9", "0", "WINCH", "x", "-1", "99",
        "RTMIN+99", ""),
    "t": words("0", "1", ""), "tail": words("all", "0", "10", "-1", "x", ""), "limit": words("0", "1",
        "-1", "5"),
    "since": words("0", "1", "10m", "2020-01-01", "1.5", "x", "-5", "1.1234567890123", "9" * 30,
        "2020-13-45T99:00:00Z"),
    "until": words("0", "1", "2030-01-01", "x", "0.5"),
    "path": words("/", "/etc/passwd", "/tmp", "/no/such", "etc", "..", "/../../..", "/proc/self/root",
        "/dev/null", "/proc", "/tmp/\0"),
    "ps_args": words("", "aux", "-ef", "-o pid", "--bad", "-o", "-eo comm", "-p 1 -x", "'"),
    "condition": words("", "not-running", "next-exit", "removed", "x"), "platform": words("",
        "linux/amd64", "x", "{", '{"os":"linux"}', "a/b/c/d/e"),
    "h": words("24", "0", "-1", "65536", ""), "w": words("80", "0", "x"), "detachKeys": words("",
        "ctrl-p,ctrl-q", "ctrl-", "x,,"),
    "repo": words("fuzz-made", "", "UPPER", "a:b", "sha256:" + UNKNOWN_ID, "a/b", "-"), "tag": words("",
        "one", "a b", "x" * 200, "-"),
    "fromSrc": words("-", "-", "http://127.0.0.1:1/x", "x"), "fromImage": words("", "127.0.0.1:1/x", "a b"),
    "changes": words("", "CMD x", 'CMD ["a"', "X", "ENV", "ENV a=b", "EXPOSE x", "USER", "HEALTHCHECK",
        "CMD a\nLABEL b=c", "ONBUILD ONBUILD x"),
    "type": words("container", "image", "volume", "build-cache", "x", ""), "author": text,
        "comment": text, "message": text,
    "noOverwriteDirNonDir": words("1", "0", "x"), "copyUIDGID": words("1", "0", "x"),
        "version": words("1", "-1", "x"),
}  # fmt: skip
"""By name of a field or parameter: words that mean something to the daemon, good and bad."""


def of_schema(schema: Schema, definitions: Schema, name: str = "", depth: int = 0) -> Values:
    """Return values that the schema would take, few fields of an object at a time."""
    if name in WORDS:
        return WORDS[name]
    schema = _resolved(schema, definitions)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type", "object" if "properties" in schema else None)
    simple: dict[str, Values] = {
        "string": text, "boolean": st.booleans(), "integer": number, "number": st.floats(allow_nan=False,
            allow_infinity=False),
    }  # fmt: skip
    if kind in simple:
        return simple[kind]
    if depth > 5:
        return st.just({})
    if kind == "array":
        return st.lists(of_schema(schema.get("items", {}), definitions, "", depth + 1), max_size=2)
    if kind != "object":
        return odd
    if "properties" in schema:
        fields = {
            key: of_schema(value, definitions, key, depth + 1) for key, value in schema["properties"].items()
        }
        return _some_of(fields, tuple(key for key in schema.get("required", ()) if key in fields))
    inner = schema.get("additionalProperties")
    values = of_schema(inner, definitions, "", depth + 1) if isinstance(inner, dict) else text
    return st.dictionaries(text, values, max_size=2)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """The schema without references, its parts put together."""
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return _resolved(schema["anyOf"][0], definitions)
    if "allOf" in schema:
        parts = [_resolved(part, definitions) for part in schema["allOf"]]
        properties = {key: value for part in parts for key, value in part.get("properties", {}).items()}
        return {"type": "object", "properties": properties, "required": tuple({"Image"} & set(properties))}
    return schema


def _some_of(fields: Mapping[str, Values], required: Sequence[str]) -> Values:
    @st.composite
    def some(draw: Callable[[Values], Any]) -> dict[str, Any]:
        chosen = draw(st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=4))
        return {key: draw(fields[key]) for key in dict.fromkeys((*required, *chosen))}

    return some() if fields else st.just({})


@st.composite
def spoilt(draw: Callable[[Values], Any], value: Any) -> Any:
    """Return ``value`` with one place in it replaced by something odd."""
    places = list(_places(value))
    place = draw(st.sampled_from(places))
    return _replaced(value, place, draw(odd))


def _places(value: Any) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [()]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += [(key, *place) for place in _places(item)]
    return found


def _replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _replaced(copy[place[0]], place[1:], new)
    return copy
