"""Requests as clients send them: Go's JSON, API versions, refusals in Docker's words, persistence."""

import json
from typing import Any

import msgspec
import pytest

from proad.model import errors
from proad.model.createrequest import CreateRequest, parse_create, parse_host_config, parse_update
from proad.model.hostconfig import (
    ContainerConfig,
    Empty,
    Healthcheck,
    HostConfig,
    PortBinding,
    api_name,
)

NEWEST = (1, 51)


def create(
    version: tuple[int, int] = NEWEST, host: dict[str, Any] | None = None, **config: Any
) -> CreateRequest:
    body = {"Image": "busybox", **config}
    if host is not None:
        body["HostConfig"] = host
    return parse_create(json.dumps(body).encode(), version)


def refusal(version: tuple[int, int] = NEWEST, host: dict[str, Any] | None = None, **config: Any) -> str:
    with pytest.raises(errors.InvalidParameter) as caught:
        create(version, host, **config)
    return caught.value.message


# --- JSON ---------------------------------------------------------------------------------------------------


def test_null_is_the_zero_value_everywhere() -> None:
    fields = {api_name(name): None for name in HostConfig.__struct_fields__}
    nothing = create(host={})
    assert create(host=fields).host_config == nothing.host_config
    fields = {api_name(name): None for name in ContainerConfig.__struct_fields__ if name != "image"}
    assert create(host={}, **fields).config == nothing.config


def test_null_inside_maps_and_lists_is_a_zero_value_too() -> None:
    request = create(
        host={"PortBindings": {"80/tcp": None, "81/tcp": [None]}},
        ExposedPorts={"80/tcp": None},
        Labels={"a": None},
        Volumes={"/data": None},
    )
    assert request.host_config.port_bindings == {"80/tcp": (), "81/tcp": (PortBinding(),)}
    assert request.config.exposed_ports == {"80/tcp": Empty()}
    assert request.config.labels == {"a": ""}
    assert request.config.volumes == {"/data": Empty()}


def test_names_match_in_any_case_and_unknown_ones_are_passed_over() -> None:
    request = parse_create(
        b'{"image":"x","CMD":["ls"],"hostconfig":{"memory":9000000},"Frobnicate":1}', NEWEST
    )
    assert request.config.image == "x"
    assert request.config.cmd == ("ls",)
    assert request.host_config.memory == 9_000_000


@pytest.mark.parametrize("field", ["Cmd", "Entrypoint", "Shell"])
def test_a_command_may_be_one_string(field: str) -> None:
    assert getattr(create(**{field: "ls -l"}).config, field.lower()) == ("ls -l",)


def test_silence_and_emptiness_of_a_command_differ() -> None:
    assert create().config.entrypoint is None
    assert create(Entrypoint=[]).config.entrypoint == ()
    assert create(Entrypoint=[""]).config.entrypoint == ("",)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b"{", "invalid JSON"),
        (b"[]", "must be an object"),
        (b'{"Image":1}', "$.Image"),
        (b'{"Image":"x","HostConfig":{"Memory":"1g"}}', "$.Memory"),
        (b'{"Image":"x","HostConfig":{"Memory":9223372036854775808}}', "$.Memory"),
        (b'{"Image":"x","HostConfig":{"Binds":"a:b"}}', "$.Binds"),
        (b'{"Image":"x","HostConfig":{"ShmSize":1.5}}', "$.ShmSize"),
        (b'{"Image":"x","HostConfig":{"BlkioWeight":70000}}', "$.BlkioWeight"),
        (b"null", "config cannot be empty"),
        (b'{"Image":"x"} {}', "invalid JSON"),
        (b'{"Image":"\xff"}', "invalid JSON"),
    ],
)
def test_malformed_bodies_are_refused_and_say_where(body: bytes, text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=None) as caught:
        parse_create(body, NEWEST)
    assert text in caught.value.message


def test_records_survive_json_exactly() -> None:
    request = create(
        host={
            "Binds": ["/a:/b:ro"],
            "Mounts": [
                {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 1, "Options": [["noexec"]]}}
            ],
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "MaskedPaths": [],
            "Init": False,
            "PidsLimit": 5,
            "IOMaximumIOps": 0,
        },
        Cmd=[],
        StopTimeout=0,
    )
    for record in (request, request.host_config, request.config):
        assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("ipc_mode", "IpcMode"), ("uts_mode", "UTSMode"), ("cgroupns_mode", "CgroupnsMode"), ("dns", "Dns"),
        ("oom_kill_disable", "OomKillDisable"), ("nano_cpus", "NanoCpus"),
        ("io_maximum_iops", "IOMaximumIOps"),
        ("blkio_device_read_iops", "BlkioDeviceReadIOps"), ("container_id_file", "ContainerIDFile"),
        ("kernel_memory_tcp", "KernelMemoryTCP"), ("init", "Init"), ("console_size", "ConsoleSize"),
    ],
)  # fmt: skip
def test_fields_bear_the_names_of_the_api(attribute: str, name: str) -> None:
    assert name in msgspec.to_builtins(HostConfig())
    assert api_name(attribute) == name


# --- versions -----------------------------------------------------------------------------------------------


def test_the_default_network_has_one_name() -> None:
    body = {
        "Image": "x",
        "NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": "02:42:ac:11:00:09"}}},
    }
    request = parse_create(json.dumps(body).encode(), NEWEST)
    assert request.host_config.network_mode == "bridge"
    assert request.networks["bridge"].mac_address == "02:42:ac:11:00:09"


def test_old_clients_get_the_defaults_of_their_time() -> None:
    assert create((1, 39), host={}).host_config.ipc_mode == "shareable"
    assert create((1, 40), host={}).host_config.ipc_mode == ""
    assert create((1, 24), host={"AutoRemove": True}).host_config.auto_remove is False
    assert create((1, 41), host={"ConsoleSize": [10, 20]}).host_config.console_size == (0, 0)
    assert create((1, 42), host={"ConsoleSize": [10, 20]}).host_config.console_size == (10, 20)
    assert create((1, 42), host={"Annotations": {"a": "b"}}).host_config.annotations == {}
    assert create(host={"Annotations": {"a": "b"}}).host_config.annotations == {"a": "b"}


def test_mount_options_follow_the_version() -> None:
    bind = {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}
    (mount,) = create((1, 43), host={"Mounts": [bind]}).host_config.mounts
    assert mount.bind_options is not None
    assert mount.bind_options.read_only_non_recursive
    (mount,) = create(host={"Mounts": [bind]}).host_config.mounts
    assert mount.bind_options is None
    subpath = {"Type": "volume", "Source": "v", "Target": "/b", "VolumeOptions": {"Subpath": "s"}}
    assert "Subpath needs API v1.45" in refusal((1, 44), host={"Mounts": [subpath]})
    image = {"Type": "image", "Source": "v", "Target": "/b"}
    assert "needs API v1.48" in refusal((1, 47), host={"Mounts": [image]})


def test_unlimited_pids_are_no_limit() -> None:
    for value in (0, -1, None):
        assert create(host={"PidsLimit": value}).host_config.pids_limit is None
    assert create(host={"PidsLimit": 7}).host_config.pids_limit == 7


def test_limits_beside_the_host_config_are_moved_in_for_the_oldest() -> None:
    outer = {"Memory": 8_000_000, "Cpuset": "0"}
    request = create((1, 22), host={"Memory": 0}, **outer)
    assert (request.host_config.memory, request.host_config.cpuset_cpus) == (8_000_000, "0")
    assert create((1, 24), host={}, **outer).host_config.memory == 0


def test_the_containers_mac_address_moves_to_its_attachment() -> None:
    request = create(host={}, MacAddress="02:42:ac:11:00:09")
    assert request.networks["bridge"].mac_address == "02:42:ac:11:00:09"
    assert request.warnings == (
        "The container-wide MacAddress field is now deprecated. "
        "It should be specified in EndpointsConfig instead.",
    )
    assert create((1, 43), host={}, MacAddress="02:42:ac:11:00:09").warnings == ()


def test_a_host_config_at_start_is_valid_or_refused() -> None:
    assert parse_host_config(b"") is None
    assert parse_host_config(b"{}") is None
    asked = parse_host_config(b'{"Binds":["/a:/b"],"Privileged":true}')
    assert asked is not None
    assert asked.privileged
    assert asked.network_mode == "bridge"
    with pytest.raises(errors.InvalidParameter, match="invalid --security-opt"):
        parse_host_config(b'{"SecurityOpt":["frob=1"]}')


def test_update_reads_limits_and_policy() -> None:
    request = parse_update(b'{"Memory":9000000,"RestartPolicy":{"Name":"always"},"CpusetCpus":null}')
    assert (request.memory, request.restart_policy.name, request.cpuset_cpus) == (9_000_000, "always", "")


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"Memory": 1}, "Minimum memory limit allowed is 6MB"),
        ({"MemoryReservation": 1}, "Minimum memory reservation allowed is 6MB"),
        ({"Memory": 20_000_000, "MemorySwap": 10_000_000}, "Minimum memoryswap limit should be larger"),
        ({"MemorySwappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"NanoCpus": 1, "CpuPeriod": 1000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"NanoCpus": 1, "CpuQuota": 1000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"CpuShares": -1}, "invalid CPU shares (-1)"),
        ({"CpuPeriod": 10}, "CPU cfs period can not be less than 1ms"),
        ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"CpusetCpus": "0-"}, "Invalid value 0- for cpuset cpus"),
        ({"CpusetMems": "x"}, "Invalid value x for cpuset mems"),
        ({"BlkioWeight": 9}, "Range of blkio weight is from 10 to 1000"),
        ({"IOMaximumIOps": 1}, "QoS maximum IOPs configuration is not supported on linux"),
        ({"IOMaximumBandwidth": 1}, "QoS maximum bandwidth configuration is not supported on linux"),
        ({"ShmSize": -1}, "SHM size can not be less than 0"),
        ({"OomScoreAdj": 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        ({"IpcMode": "frob"}, "invalid IPC mode: frob"),
        ({"IpcMode": "container:"}, "invalid IPC mode: container:"),
        ({"PidMode": "private"}, "invalid PID mode: private"),
        ({"UTSMode": "x"}, "invalid UTS mode: x"),
        ({"CgroupnsMode": "x"}, "invalid cgroup namespace mode: x"),
        ({"UsernsMode": "keep-id"}, "UsernsMode"),
        ({"NetworkMode": "container:"}, "invalid container format container:<name|id>"),
        (
            {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
            "can't create 'AutoRemove' container with restart",
        ),
        ({"RestartPolicy": {"Name": "sometimes"}}, "invalid restart policy: unknown policy 'sometimes'"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}, "can only be used with 'on-failure'"),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -2}}, "cannot be negative"),
        ({"CapAdd": ["FLY"]}, 'invalid CapAdd: unknown capability: "CAP_FLY"'),
        ({"CapDrop": ["CAP_FLY"]}, "invalid CapDrop"),
        ({"SecurityOpt": ["frob"]}, 'invalid --security-opt 1: "frob"'),
        ({"SecurityOpt": ["no-new-privileges=perhaps"]}, "invalid --security-opt 2"),
        ({"DeviceCgroupRules": ["c 1 rwm"]}, "invalid device cgroup rule format: 'c 1 rwm'"),
        ({"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "rx"}]}, "invalid device mode: rx"),
        ({"Sysctls": {"kernel.panic": "1"}}, 'sysctl "kernel.panic" is not in a separate kernel namespace'),
        (
            {"Sysctls": {"net.core.somaxconn": "1"}, "NetworkMode": "host"},
            "not allowed in host network namespace",
        ),
        ({"Sysctls": {"kernel.sem": "1"}, "IpcMode": "host"}, "not allowed in the hosts ipc namespace"),
        ({"Ulimits": [{"Name": "frob", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: frob"),
        (
            {"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]},
            "must be less than or equal to hard limit: 2 > 1",
        ),
        ({"PortBindings": {"x/tcp": []}}, "invalid port specification"),
        ({"PortBindings": {"80/frob": []}}, "invalid proto"),
        ({"PortBindings": {"80/tcp": [{"HostPort": "70000"}]}}, "invalid port specification"),
        ({"PortBindings": {"80/tcp": [{"HostIp": "1.2.3"}]}}, "1.2.3"),
        ({"Links": ["a:b:c"]}, "bad format for links: a:b:c"),
        ({"Links": ["a"], "NetworkMode": "host"}, "host type networking can't be used with links"),
        ({"ExtraHosts": ["name"]}, 'bad format for add-host: "name"'),
        ({"ExtraHosts": ["name:1.2.3.999"]}, 'invalid IP address in add-host: "1.2.3.999"'),
        ({"ExtraHosts": ["na\nme:1.2.3.4"]}, "bad format for add-host"),
        ({"Dns": ["resolver"]}, "resolver"),
        ({"CgroupParent": "../../escape"}, "CgroupParent"),
        (
            {"LogConfig": {"Type": "syslog"}},
            "logger: no log driver named 'syslog' is registered",
        ),
        (
            {"LogConfig": {"Type": "json-file", "Config": {"frob": "1"}}},
            "unknown log opt 'frob' for json-file",
        ),
    ],
)
def test_what_cannot_work_is_refused(host: dict[str, Any], text: str) -> None:
    assert text in refusal(host=host)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Cgroup", "x"), ("CpuCount", 1), ("CpuRealtimePeriod", 1), ("CpuRealtimeRuntime", 1),
        ("KernelMemoryTCP", 1),
        ("DeviceRequests", [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(field: str, value: object) -> None:
    assert refusal(host={field: value}).startswith(field)


def test_isolation_is_windows_business() -> None:
    assert "linux only supports 'default'" in refusal(host={"Isolation": "hyperv"})
    create(host={"Isolation": "default"})


@pytest.mark.parametrize(
    "test",
    [["CMD", "true"], ["CMD-SHELL", "true"], ["CMD-SHELL"], ["NONE"], [], ["UNKNOWN", "x"]],
)
def test_health_checks_are_taken_as_they_are(test: list[str]) -> None:
    asked = {"Test": test, "Interval": 10**6, "Timeout": 2 * 10**9, "StartPeriod": 3 * 10**9, "Retries": 4}
    assert create(Healthcheck=asked).config.healthcheck == Healthcheck(
        test=tuple(test), interval=10**6, timeout=2 * 10**9, start_period=3 * 10**9, retries=4
    )


def test_the_start_interval_of_health_checks_came_with_1_44() -> None:
    asked = {"Test": ["CMD", "true"], "StartInterval": 10**9}
    for version, expected in (((1, 43), 0), ((1, 44), 10**9)):
        checked = create(version, Healthcheck=asked).config.healthcheck
        assert checked is not None
        assert checked.start_interval == expected


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"Interval": -1}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Interval": 500_000}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Timeout": 999_999}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"StartPeriod": 1}, "StartPeriod in Healthcheck cannot be less than 1ms"),
        ({"StartInterval": 1}, "StartInterval in Healthcheck cannot be less than 1ms"),
        ({"Retries": -10}, "Retries in Healthcheck cannot be negative"),
        ({"Test": ["CMD"]}, "Test in Healthcheck names no command after CMD"),
        ({"Test": ["CMD", "a\0"]}, "invalid null byte"),
        ({"Test": "true"}, "Healthcheck.Test"),
        ({"Interval": "30s"}, "Healthcheck.Interval"),
        ({"Retries": 2**64}, "Healthcheck.Retries"),
    ],
)
def test_health_checks_that_cannot_be_meant_are_refused(asked: dict[str, object], text: str) -> None:
    assert text in refusal(Healthcheck={"Test": ["CMD", "true"], **asked})


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"WorkingDir": "relative"},
            "the working directory 'relative' is invalid, it needs to be an absolute path",
        ),
        ({"StopSignal": "SIGFROB"}, "invalid signal: SIGFROB"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"Cmd": ["a\0b"]}, "null byte"),
        ({"Hostname": "a b"}, "invalid hostname format: a b"),
        ({"ExposedPorts": {"frob": {}}}, "invalid port specification"),
        ({"MacAddress": "02:42"}, "02:42"),
    ],
)
def test_bad_configs_are_refused(config: dict[str, Any], text: str) -> None:
    assert text in refusal(host={}, **config)


@pytest.mark.parametrize(
    ("host", "config", "text"),
    [
        ({}, {"Hostname": "h"}, "hostname and the network mode"),
        ({"Links": ["a"]}, {}, "container type network can't be used with links"),
        ({"Dns": ["1.1.1.1"]}, {}, "dns and the network mode"),
        ({"ExtraHosts": ["a:1.1.1.1"]}, {}, "custom host-to-IP mapping and the network mode"),
        ({}, {"MacAddress": "02:42:ac:11:00:02"}, "mac-address and the network mode"),
        ({"PublishAllPorts": True}, {}, "port publishing and the container type network mode"),
        ({}, {"ExposedPorts": {"80/tcp": {}}}, "port exposing and the container type network mode"),
    ],
)
def test_who_shares_a_network_cannot_configure_it(
    host: dict[str, Any], config: dict[str, Any], text: str
) -> None:
    said = refusal(host={"NetworkMode": "container:other", **host}, **config)
    assert said.startswith("conflicting options: ")
    assert text in said


def test_attachments_cannot_ask_for_what_the_bridge_does_not_do() -> None:
    for wish, text in (
        (
            {"IPAMConfig": {"IPv4Address": "172.17.0.9"}},
            "user specified IP address is supported on user defined",
        ),
        ({"Aliases": ["x"]}, "network-scoped alias is supported only"),
        ({"DriverOpts": {"a": "b"}}, "driver option a is not supported"),
    ):
        said = refusal(host={}, NetworkingConfig={"EndpointsConfig": {"bridge": wish}})
        assert said.startswith("invalid config for network bridge: invalid endpoint settings:\n")
        assert text in said
    assert create(host={}, NetworkingConfig={"EndpointsConfig": {"bridge": {"GwPriority": 3}}}).networks
    assert create(host={}, NetworkingConfig={"EndpointsConfig": {"bridge": {"IPAMConfig": {}}}}).networks


def test_the_body_of_a_plain_docker_run_is_accepted() -> None:
    host = {
        "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}},
        "NetworkMode": "default", "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "AutoRemove": True, "VolumeDriver": "", "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "VolumesFrom": None, "ConsoleSize": [24, 80], "CapAdd": None, "CapDrop": None,
        "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [],
        "ExtraHosts": ["me:host-gateway"], "GroupAdd": None, "IpcMode": "", "Cgroup": "", "Links": None,
        "OomScoreAdj": 0, "PidMode": "", "Privileged": False, "PublishAllPorts": False,
        "ReadonlyRootfs": False,
        "SecurityOpt": ["label=disable", "apparmor=unconfined", "seccomp=unconfined"], "UTSMode": "",
        "UsernsMode": "", "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
        "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [], "MemorySwappiness": -1,
        "OomKillDisable": False, "PidsLimit": 0, "Ulimits": [], "MaskedPaths": None,
        "ReadonlyPaths": None,
    }  # fmt: skip
    request = create(host=host, AttachStdout=True, Cmd=["true"], OnBuild=None, StopTimeout=None)
    assert request.warnings == ()
    assert request.host_config.memory_swappiness is None
