"""`proa network`, and the networks of the Python API."""

from collections.abc import Iterator

import pytest

import proa as proa_api
from tests.cli.conftest import Proa
from tests.support.daemon import Daemon


@pytest.fixture
def clean(daemon: Daemon) -> Iterator[None]:
    """Remove the test's containers and networks after it."""
    yield
    daemon.remove_containers()
    daemon.remove_networks()


def test_the_life_of_a_network(proa: Proa, image: str) -> None:
    made = proa("network", "create", "--subnet", "10.197.0.0/24", "--label", "a=b", "--internal", "n1")
    assert (len(made.out.strip()), made.code) == (64, 0), made.err
    assert proa("network", "ls", "-q", "-f", "label=a").out.strip() == made.out[:12]
    assert proa("network", "inspect", "-f", "{{.Internal}} {{.Name}}", made.out[:12]).out == "true n1\n"
    attachment = "name=n1,ip=10.197.0.9,alias=x"
    asked = proa("create", "--name", "member", "--network", attachment, image, "sleep", "1000")
    assert asked.code == 0, asked.err
    assert proa("start", "member").code == 0
    shown = "{{.NetworkSettings.Networks.n1.IPAddress}}{{.NetworkSettings.Networks.n1.Aliases}}"
    assert proa("inspect", "-f", shown, "member").out == "10.197.0.9[x]\n"
    busy = proa("network", "rm", "n1")
    assert busy.code == 1
    assert "has active endpoints" in busy.err
    assert proa("network", "create", "n2").code == 0
    assert proa("network", "connect", "--alias", "y", "--gw-priority", "1", "n2", "member").code == 0
    assert proa("exec", "member", "ls", "/sys/class/net").out.split() == ["eth0", "eth1", "lo"]
    assert proa("network", "disconnect", "n1", "member").code == 0
    assert proa("network", "rm", "n1").out == "n1\n"
    assert proa("network", "prune", "-f").out == ""
    proa("rm", "-f", "member")
    assert proa("network", "prune", input=b"n\n").code == 0
    assert proa("network", "prune", "-f").out == "Deleted Networks:\nn2\n\n"


def test_unknown_networks_come_with_a_hint(proa: Proa, image: str) -> None:
    assert proa("create", "--name", "lonely", image, "true").code == 0
    for command in (["rm", "nowhere"], ["inspect", "nowhere"], ["connect", "nowhere", "lonely"]):
        said = proa("network", *command)
        assert said.code == 1
        assert "network nowhere not found (`proa network ls` lists the networks there are)" in said.err


def test_a_whole_prune_takes_networks_along(proa: Proa) -> None:
    proa("network", "create", "unused")
    asked = proa("system", "prune", input=b"y\n")
    assert "all networks not used by at least one container" in asked.out
    assert "Deleted Networks:\nunused\n" in asked.out


def test_names_of_networks_are_completed(proa: Proa) -> None:
    for name in ("alpha", "alps", "beta"):
        proa("network", "create", name)

    def suggestions(*words: str) -> set[str]:
        line = " ".join(("proa", *words))
        env = {"_PROA_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        return {entry.rpartition(",")[2] for entry in proa(**env).out.split()}

    assert suggestions("network", "rm", "al") == {"alpha", "alps"}
    assert suggestions("network", "connect", "b") == {"beta", "bridge"}
    assert suggestions("run", "--network", "alp") == {"alpha", "alps"}


def test_the_python_api(client: proa_api.Client, image: str) -> None:
    networks = client.networks
    made = networks.create("n", subnets=[{"Subnet": "10.196.0.0/24"}], labels={"a": "b"}, attachable=True)
    assert networks.inspect(made.id)["Name"] == "n"
    assert [entry["Id"] for entry in networks.list({"label": ["a"]})] == [made.id]
    created = client.containers.create({"Image": image, "Cmd": ["sleep", "1000"]}, {"NetworkMode": "none"})
    networks.disconnect("none", created.id)
    networks.connect("n", created.id, {"IPAMConfig": {"IPv4Address": "10.196.0.7"}})
    client.containers.start(created.id)
    [entry] = networks.inspect("n", verbose=True)["Containers"].values()
    assert entry["IPv4Address"] == "10.196.0.7/24"
    with pytest.raises(proa_api.Conflict):
        networks.create("n")
    with pytest.raises(proa_api.APIError, match="has active endpoints"):
        networks.remove("n")
    networks.disconnect("n", created.id)
    assert networks.prune() == ["n"]
    with pytest.raises(proa_api.NotFound):
        networks.remove("n")
