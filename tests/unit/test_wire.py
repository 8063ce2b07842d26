"""Sync, pure. Containers as Docker's JSON: states, times, ports, mounts, fields by API version."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from proad.api import statewire, wire
from proad.api.summaries import Summaries
from proad.model.container import Container, Run, Status, StepTime
from proad.model.hostconfig import ContainerConfig, Empty, HostConfig
from proad.model.mounts import MountPoint
from proad.model.network import Endpoint, EndpointSettings, IpamWish
from proad.model.ports import PublishedPort

SECOND = 1_000_000_000
CREATED_NS = 1_700_000_000 * SECOND
PLACE = wire.Place(Path("/var/lib/proa"), {"bridge": "b" * 64, "none": "0" * 64})

ENDPOINT = Endpoint(
    network="bridge",
    network_id="b" * 64,
    endpoint_id="e" * 64,
    driver="bridge",
    master="proa0",
    netns="/run/proa/netns/x",
    interface="eth0",
    host_interface="veth1",
    address="172.17.0.2",
    prefix_length=16,
    gateway="172.17.0.1",
    mac_address="02:42:ac:11:00:02",
    ports=(PublishedPort(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=8080),),
)

BIND = MountPoint(
    type="bind", source="/srv", destination="/data", mode="ro", read_write=False, propagation="rprivate"
)


def container(**changes: Any) -> Container:
    made = Container(
        id="a" * 64,
        name="web",
        created_ns=CREATED_NS,
        image_id="sha256:" + "f" * 64,
        image_ref="busybox",
        layers=("sha256:" + "1" * 64, "sha256:" + "2" * 64),
        config=ContainerConfig(
            image="busybox", cmd=("echo", "two words"), exposed_ports={"80/tcp": Empty(), "53/udp": Empty()}
        ),
        host_config=HostConfig(),
        networks={"bridge": EndpointSettings()},
    )
    return replace(made, **changes)


def running(**changes: Any) -> Container:
    run = Run(
        id="r" * 32,
        begun_ns=CREATED_NS,
        pid=4711,
        netns="/run/proa/netns/x",
        endpoints=(ENDPOINT,),
        steps=(StepTime("netns", 0.5, 1.5),),
    )
    return container(
        **{
            "status": Status.RUNNING,
            "run": run,
            "started_ns": CREATED_NS + 5,
            "has_been_started": True,
            **changes,
        }
    )


def test_a_container_that_never_ran_has_no_times_of_the_epoch() -> None:
    state = statewire.state(container())
    assert (state["StartedAt"], state["FinishedAt"]) == ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z")
    assert (state["Status"], state["Running"], state["Pid"]) == ("created", False, 0)


def test_times_are_exact_to_the_nanosecond_and_without_trailing_zeros() -> None:
    shown = statewire.state(
        container(status=Status.EXITED, started_ns=CREATED_NS + 120, finished_ns=CREATED_NS)
    )
    assert (shown["StartedAt"], shown["FinishedAt"]) == (
        "2023-11-14T22:13:20.00000012Z",
        "2023-11-14T22:13:20Z",
    )


@pytest.mark.parametrize(
    ("status", "started", "shown", "flags"),
    [
        (Status.CREATED, False, "created", set()),
        (Status.STARTING, False, "created", set()),
        (Status.STARTING, True, "exited", set()),
        (Status.RUNNING, True, "running", {"Running"}),
        (Status.PAUSED, True, "paused", {"Running", "Paused"}),
        (Status.RESTARTING, True, "restarting", {"Running", "Restarting"}),
        (Status.EXITED, True, "exited", set()),
        (Status.REMOVING, True, "removing", set()),
        (Status.DEAD, True, "dead", {"Dead"}),
    ],
)
def test_states(status: Status, started: bool, shown: str, flags: set[str]) -> None:
    state = statewire.state(container(status=status, has_been_started=started))
    assert state["Status"] == shown
    assert {name for name in ("Running", "Paused", "Restarting", "Dead") if state[name]} == flags


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "Less than a second"), (0.4, "Less than a second"), (1, "1 second"), (59, "59 seconds"),
        (60, "About a minute"), (119, "About a minute"), (120, "2 minutes"), (3599, "59 minutes"),
        (3600, "About an hour"), (2 * 3600, "2 hours"), (47 * 3600, "47 hours"), (48 * 3600, "2 days"),
        (13 * 86400, "13 days"), (14 * 86400, "2 weeks"), (59 * 86400, "8 weeks"), (60 * 86400, "2 months"),
        (729 * 86400, "24 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_human_duration(seconds: float, words: str) -> None:
    assert statewire.human_duration(int(seconds * SECOND)) == words


def test_status_texts() -> None:
    now_ns = CREATED_NS + 65 * SECOND
    assert statewire.status_text(container(), now_ns) == "Created"
    assert statewire.status_text(running(), now_ns) == "Up About a minute"
    assert statewire.status_text(running(status=Status.PAUSED), now_ns) == "Up About a minute (Paused)"
    exited = container(status=Status.EXITED, exit_code=3, started_ns=1, finished_ns=CREATED_NS + 60 * SECOND)
    assert statewire.status_text(exited, now_ns) == "Exited (3) 5 seconds ago"


def test_ports_of_a_running_container() -> None:
    made = running()
    assert wire.port_map(made) == {"53/udp": None, "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
    assert made.run is not None
    for change in ({"gateway": "", "ports": ()}, {"driver": "macvlan", "ports": ()}):
        run = replace(made.run, endpoints=(replace(ENDPOINT, **change),))
        assert wire.port_map(replace(made, run=run)) == {}
    assert wire.port_list(running()) == [
        {"PrivatePort": 53, "Type": "udp"},
        {"IP": "0.0.0.0", "PrivatePort": 80, "Type": "tcp", "PublicPort": 8080},
    ]


def test_a_stopped_container_has_no_ports_and_no_address() -> None:
    stopped = running(status=Status.EXITED)
    settings = wire.network_settings(stopped, PLACE.network_ids, (1, 51))
    assert settings["Ports"] == {}
    assert settings["IPAddress"] == ""
    assert settings["Networks"]["bridge"]["NetworkID"] == "b" * 64


def test_network_settings_of_a_running_container() -> None:
    settings = wire.network_settings(running(), PLACE.network_ids, (1, 51))
    assert settings["IPAddress"] == settings["Networks"]["bridge"]["IPAddress"] == "172.17.0.2"
    assert settings["Networks"]["bridge"]["EndpointID"] == "e" * 64
    assert settings["SandboxKey"] == "/run/proa/netns/x"


def test_a_container_in_anothers_network_has_none_of_its_own() -> None:
    joined = container(host_config=HostConfig(network_mode="container:" + "c" * 64))
    assert wire.network_settings(joined, PLACE.network_ids, (1, 51))["Networks"] == {}


WEB = Endpoint(
    network="web",
    network_id="d" * 64,
    endpoint_id="f" * 64,
    driver="bridge",
    master="br-d",
    netns="/run/proa/netns/x",
    interface="eth1",
    address="10.5.0.9",
    prefix_length=24,
    ipv6_address="fd00::9",
    ipv6_prefix_length=64,
    ipv6_gateway="fd00::1",
    mac_address="02:42:0a:05:00:09",
    gw_priority=3,
    ports=(PublishedPort(container_port=80, protocol="tcp", host_ip="::", host_port=8080),),
)


def on_two_networks(**changes: Any) -> Container:
    """On the default bridge, and on one of one's own with addresses and names."""
    made = running()
    assert made.run is not None
    asked = EndpointSettings(
        aliases=["db"],
        links=["cache:redis"],
        driver_opts={"a": "b"},
        gw_priority=3,
        ipam_config=IpamWish(ipv4_address="10.5.0.9"),
    )
    return replace(
        made,
        run=replace(made.run, endpoints=(ENDPOINT, WEB)),
        networks={"web": asked, "bridge": EndpointSettings()},
        config=replace(made.config, hostname="inner"),
        **changes,
    )


def test_a_container_on_several_networks_shows_each() -> None:
    settings = wire.network_settings(on_two_networks(), PLACE.network_ids, (1, 51))
    assert list(settings["Networks"]) == ["bridge", "web"]
    assert settings["IPAddress"] == "172.17.0.2"
    assert settings["Networks"]["web"] == {
        "IPAMConfig": {"IPv4Address": "10.5.0.9"},
        "Links": ["cache:redis"],
        "Aliases": ["db"],
        "MacAddress": "02:42:0a:05:00:09",
        "DriverOpts": {"a": "b"},
        "GwPriority": 3,
        "NetworkID": "d" * 64,
        "EndpointID": "f" * 64,
        "Gateway": "",
        "IPAddress": "10.5.0.9",
        "IPPrefixLen": 24,
        "IPv6Gateway": "fd00::1",
        "GlobalIPv6Address": "fd00::9",
        "GlobalIPv6PrefixLen": 64,
        "DNSNames": ["web", "db", "a" * 12, "inner"],
    }
    assert settings["Networks"]["bridge"]["DNSNames"] == settings["Networks"]["bridge"]["Aliases"] == []
    assert settings["Ports"]["80/tcp"] == [
        {"HostIp": "0.0.0.0", "HostPort": "8080"},
        {"HostIp": "::", "HostPort": "8080"},
    ]


def test_an_interface_that_leads_out_itself_has_no_gateway_to_show() -> None:
    made = running()
    assert made.run is not None
    routed = replace(WEB, gateway="0.0.0.0", ipv6_gateway="::")
    shown = wire.networks(replace(made, run=replace(made.run, endpoints=(routed,))), {}, (1, 51))
    assert (shown["web"]["Gateway"], shown["web"]["IPv6Gateway"]) == ("", "")


def test_old_clients_find_the_short_id_among_the_aliases() -> None:
    shown = wire.networks(on_two_networks(), {}, (1, 44))
    assert shown["web"]["Aliases"] == ["db", "a" * 12, "inner"]
    assert shown["bridge"]["Aliases"] == []


def test_what_was_asked_of_networks_stays_while_a_container_is_stopped() -> None:
    stopped = on_two_networks(status=Status.EXITED)
    shown = wire.networks(stopped, {"bridge": "b" * 64, "web": "9" * 64}, (1, 51))
    assert (shown["web"]["NetworkID"], shown["web"]["EndpointID"]) == ("9" * 64, "")
    assert (shown["web"]["IPAddress"], shown["web"]["MacAddress"]) == ("", "")
    assert shown["web"]["Aliases"] == ["db"]


def test_mounts_leave_out_what_came_as_tmpfs_option() -> None:
    shown = wire.mounts(
        container(
            host_config=HostConfig(tmpfs={"/scratch": ""}),
            mounts=(
                MountPoint(type="tmpfs", destination="/scratch"),
                MountPoint(type="tmpfs", destination="/other"),
                MountPoint(
                    type="bind",
                    source="/srv",
                    destination="/data",
                    mode="ro",
                    read_write=False,
                    propagation="rprivate",
                ),
                MountPoint(type="volume", name="v", driver="local", source="/v/_data", destination="/v"),
            ),
        )
    )
    assert [mount["Destination"] for mount in shown] == ["/other", "/data", "/v"]
    assert shown[1] == {
        "Type": "bind", "Source": "/srv", "Destination": "/data", "Mode": "ro", "RW": False,
        "Propagation": "rprivate",
    }  # fmt: skip
    assert (shown[2]["Name"], shown[2]["Driver"]) == ("v", "local")


def test_inspect_has_command_paths_and_timeline() -> None:
    shown = wire.inspect(running(), PLACE, (1, 51), sizes=(10, 20))
    assert (shown["Name"], shown["Path"], shown["Args"]) == ("/web", "echo", ["two words"])
    assert shown["LogPath"] == f"/var/lib/proa/containers/{'a' * 64}/container.log"
    assert shown["GraphDriver"]["Data"]["LowerDir"] == (
        f"/var/lib/proa/layers/{'2' * 64}/diff:/var/lib/proa/layers/{'1' * 64}/diff"
    )
    assert (shown["SizeRw"], shown["SizeRootFs"]) == (10, 20)
    assert shown["ProaTimeline"] == {
        "RunID": "r" * 32, "Steps": [{"Name": "netns", "BeginMs": 0.5, "EndMs": 1.5}],
    }  # fmt: skip
    assert "SizeRw" not in wire.inspect(running(), PLACE, (1, 51))


def test_config_leaves_out_what_nobody_asked_for() -> None:
    shown = wire.config(container())
    assert shown["Image"] == "busybox"
    assert shown["Entrypoint"] == []
    assert {"Healthcheck", "MacAddress", "StopSignal", "StopTimeout", "Shell"}.isdisjoint(shown)
    assert wire.config(container(config=ContainerConfig(stop_timeout=0)))["StopTimeout"] == 0


def test_host_config_shows_what_the_engine_chose() -> None:
    shown = wire.host_config(container(), (1, 51))
    assert (shown["NetworkMode"], shown["LogConfig"]["Type"], shown["RestartPolicy"]["Name"]) == (
        "bridge", "json-file", "no",
    )  # fmt: skip
    assert "KernelMemory" not in shown
    assert wire.host_config(container(), (1, 41))["KernelMemory"] == 0


def encode(summaries: Summaries, *listed: Container, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "now_ns": CREATED_NS + 10 * SECOND, "version": (1, 51), "network_ids": {}, "link_names": {},
        "image_name": lambda c: c.image_ref, **changes,
    }  # fmt: skip
    return json.loads(summaries.encode(listed, **arguments))


def test_list_entries() -> None:
    [entry] = encode(Summaries(), running(), link_names={"a" * 64: ("/app/db",)})
    assert entry["Names"] == ["/web", "/app/db"]
    assert entry["Command"] == "echo 'two words'"
    assert (entry["State"], entry["Status"]) == ("running", "Up 9 seconds")
    assert entry["HostConfig"] == {"NetworkMode": "bridge"}
    assert "SizeRw" not in entry


def test_list_shows_sizes_when_they_are_given() -> None:
    [entry] = encode(Summaries(), container(), sizes={"a" * 64: (1, 2)})
    assert (entry["SizeRw"], entry["SizeRootFs"]) == (1, 2)


def test_list_is_never_stale() -> None:
    summaries, before = Summaries(), container()
    assert encode(summaries, before)[0]["State"] == "created"
    assert encode(summaries, running())[0]["State"] == "running"
    assert encode(summaries, running(), now_ns=CREATED_NS + 3700 * SECOND)[0]["Status"] == "Up About an hour"
    assert encode(summaries, before, image_name=lambda c: c.image_id)[0]["Image"] == before.image_id
    assert encode(summaries) == []


def test_list_follows_networks_that_are_made_again() -> None:
    summaries = Summaries()
    stopped = container(status=Status.EXITED, networks={"web": EndpointSettings()})

    def network_id(**ids: str) -> Any:
        listed = encode(summaries, stopped, network_ids=ids)
        return listed[0]["NetworkSettings"]["Networks"]["web"]["NetworkID"]

    assert (network_id(web="1"), network_id(), network_id(web="2")) == ("1", "", "2")


def test_list_forgets_containers_that_are_gone() -> None:
    summaries = Summaries()
    encode(summaries, container(), container(id="c" * 64))
    summaries.forget_all_but(["c" * 64])
    assert len(summaries) == 1
