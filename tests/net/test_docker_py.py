"""docker-py's networks."""

import pytest
from docker import DockerClient as Client
from docker import errors as docker_errors
from docker.types import EndpointConfig, IPAMConfig, IPAMPool, NetworkingConfig

from tests.net.conftest import SLEEPER
from tests.support.daemon import Daemon


def test_networks_come_and_go(docker_client: Client) -> None:
    pool = IPAMPool(
        subnet="10.216.0.0/24",
        iprange="10.216.0.128/25",
        gateway="10.216.0.254",
        aux_addresses={"a": "10.216.0.200"},
    )
    made = docker_client.networks.create(
        "py", driver="bridge", ipam=IPAMConfig(pool_configs=[pool]), labels={"a": "b"}, check_duplicate=True,
        options={"com.docker.network.bridge.enable_icc": "true"}, internal=True, attachable=True,
    )  # fmt: skip
    assert docker_client.networks.get("py") == made
    assert docker_client.networks.get(made.id).name == "py"
    assert docker_client.networks.list(names=["py"], ids=[made.short_id]) == [made]
    assert docker_client.networks.list(filters={"label": "a=b", "type": "custom"}, greedy=True) == [made]
    attributes = made.attrs
    assert attributes["Internal"]
    assert attributes["Attachable"]
    assert attributes["IPAM"]["Config"][0]["Gateway"] == "10.216.0.254"
    made.remove()
    with pytest.raises(docker_errors.NotFound):
        made.reload()


def test_containers_connect_and_disconnect(docker_client: Client, image: str) -> None:
    network = docker_client.networks.create(
        "py", ipam=IPAMConfig(pool_configs=[IPAMPool(subnet="10.217.0.0/24")])
    )
    container = docker_client.containers.run(image, list(SLEEPER), name="member", detach=True)
    network.connect(container, aliases=["alias"], ipv4_address="10.217.0.77")
    container.reload()
    shown = container.attrs["NetworkSettings"]["Networks"]["py"]
    assert shown["IPAddress"] == "10.217.0.77"
    assert "alias" in shown["Aliases"]
    network.reload()
    assert network.containers == [container]
    with pytest.raises(docker_errors.APIError) as caught:
        network.connect(container)
    assert caught.value.status_code == 403
    with pytest.raises(docker_errors.APIError):
        network.remove()
    network.disconnect(container, force=True)
    container.reload()
    assert list(container.attrs["NetworkSettings"]["Networks"]) == ["bridge"]
    assert docker_client.networks.prune(filters={"label!": ["x"]})["NetworksDeleted"] == ["py"]


def test_containers_are_created_on_a_network(docker_client: Client, image: str) -> None:
    docker_client.networks.create("py", ipam=IPAMConfig(pool_configs=[IPAMPool(subnet="10.218.0.0/24")]))
    fixed = docker_client.api.create_endpoint_config(aliases=["db"], ipv4_address="10.218.0.9")
    server = docker_client.containers.run(
        image, list(SLEEPER), detach=True, network="py", name="server",
        networking_config={"py": fixed},
    )  # fmt: skip
    told = docker_client.containers.run(image, ["getent", "hosts", "db"], network="py", remove=True)
    assert told.split()[:2] == [b"10.218.0.9", b"db"]
    low = docker_client.api
    config: NetworkingConfig = low.create_networking_config({"py": low.create_endpoint_config()})
    made = low.create_container(
        image, list(SLEEPER), networking_config=config, host_config=low.create_host_config(network_mode="py")
    )
    low.start(made["Id"])
    assert low.inspect_container(made["Id"])["NetworkSettings"]["Networks"]["py"]["IPAddress"].startswith(
        "10.218.0."
    )
    assert {entry["Name"] for entry in low.inspect_network("py", verbose=True)["Containers"].values()} >= {
        "server"
    }
    server.remove(force=True)
    assert isinstance(low.create_endpoint_config(), EndpointConfig)


def test_errors_have_their_statuses(docker_client: Client, ours: Daemon) -> None:
    docker_client.networks.create("py", ipam=IPAMConfig(pool_configs=[IPAMPool(subnet="10.219.0.0/24")]))
    for arguments, status in (
        ({"name": "py", "check_duplicate": True}, 409),
        ({"name": "other", "ipam": IPAMConfig(pool_configs=[IPAMPool(subnet="10.219.0.0/25")])}, 403),
        ({"name": "other", "ipam": IPAMConfig(pool_configs=[IPAMPool(subnet="nonsense")])}, 400),
        ({"name": "other", "driver": "nonsense"}, 404),
        ({"name": "bridge", "driver": "bridge"}, 403),
    ):
        with pytest.raises(docker_errors.APIError) as caught:
            docker_client.networks.create(**arguments)
        assert caught.value.status_code == status, arguments
