"""The same words typed at `docker` and at `proa` print the same and end with the same exit code."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Proa
from tests.conftest import DockerCli
from tests.strictness import skip_for_older_docker
from tests.support.daemon import Daemon

SAME = [
    "ps -a --no-trunc -q",
    "ps -a --format {{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Labels}}|{{.Ports}}",
    "ps -a --format {{.Networks}}|{{.LocalVolumes}}",
    "ps -a --filter label=a --format {{.ID}}",
    "ps --filter status=created -a --format {{json_.Names}}",
    "ps --filter status=nonsense",
    "container ls -a -q",
    "images -q",
    "images --no-trunc --format {{.Repository}}:{{.Tag}}={{.ID}},{{.Size}}",
    "image ls -q no-such-image",
    "history -q busybox",
    "inspect one",
    "inspect -s one",
    "inspect one no-such-object",
    "inspect --type volume data",
    "inspect -f {{.State.Status}}_{{json_.Config.Cmd}}_{{.Config.Env}} one",
    "inspect -f {{range_.Mounts}}{{.Type}}={{.Destination}};{{end}} one",
    "inspect -f {{if_.State.Running}}up{{else}}down{{end}} two",
    'inspect -f {{len_.Config.Cmd}}_{{index_.Config.Labels_"a"}} two',
    "inspect -f {{.ID}}={{.HostConfig.CPUShares}}={{.HostConfig.NanoCPUs}} one",
    "inspect -f {{.Id}}={{.HostConfig.CpuShares}}={{.HostConfig.NanoCpus}} one",
    "inspect -f json data",
    "container inspect no-such-container",
    "volume ls",
    "volume ls -q",
    "volume inspect data",
    "volume rm data",
    "volume rm no-such-volume",
    "volume rm -f no-such-volume",
    "network ls --format {{.Name}}|{{.Driver}}|{{.Scope}}|{{.IPv4}}|{{.IPv6}}|{{.Internal}}|{{.Labels}}",
    "network ls",
    "network ls -q --no-trunc --filter type=custom",
    'network ls --filter label=team --format {{.ID}}_{{.CreatedAt}}_{{.Label_"team"}}',
    "network ls --filter colour=red",
    "network inspect shared",
    "network inspect -v -f {{.Name}}={{.Driver}} shared bridge",
    "network inspect shared no-such-network",
    "network inspect",
    "inspect --type network shared",
    "network create shared",
    "network create --subnet 10.199.0.0/25 other",
    "network create --gateway 10.199.0.1 other",
    "network create -d nonsense other",
    "network create --ingress other",
    "network create",
    "network rm bridge",
    "network rm no-such-network",
    "network rm -f no-such-network",
    "network connect shared no-such-container",
    "network connect shared one",
    "network connect --driver-opt a shared two",
    "network connect --link a:b:c shared two",
    "network connect shared",
    "network disconnect shared two",
    "network disconnect no-such-network two",
    "network nonsense",
    "run --rm --network shared --ip 10.198.0.9 busybox true",
    "run --rm --network shared --network shared busybox true",
    "run --rm --network shared --network bridge busybox true",
    "run --rm --network name=shared,colour=red busybox true",
    "run --rm --network-alias a busybox true",
    "run --rm --network name=shared,ip=10.199.0.77 busybox ip -4 -o address show eth0",
    "logs two",
    "logs -n 1 two",
    "logs no-such-container",
    "logs --since 10m --until 0s two",
    "top one",
    "top one -o pid,args",
    "top two",
    "port one",
    "port two",
    "rmi no-such-image",
    "rmi -f no-such-image",
    "rm one",
    "rm -f no-such-container",
    "rename one two",
    "rename one",
    "update one",
    "update -m 1k one",
    "kill two",
    "attach two",
    "start no-such-container",
    "start -a one two",
    "wait two",
    "stop -t x one",
    "run",
    "run --rm --network none busybox sh -c exit_5",
    "run --rm --network none busybox no-such-program",
    "run --rm --network none busybox /etc/passwd",
    "run --rm -e A=1 --network none -h box -w /tmp busybox env",
    "run --rm --network none -v relative/path:/x busybox true",
    "run --rm --network none -v data:relative busybox true",
    "run --rm --network none --mount type=bind,src=/no/such/source,dst=/x busybox true",
    "run --rm --network no-such-network busybox true",
    "run --rm --network none --cpus 1000 busybox true",
    "run --name two busybox",
    "run --name ../x busybox",
    "create --name two busybox",
    "system df --format {{.Type}}={{.TotalCount}}",
    "info --format {{.NCPU}}/{{.OSType}}/{{.ContainersRunning}}",
    "version --format {{.Server.APIVersion}}",
    "events --since 1 --until 0s --filter container=two --format {{.Action}}/{{.Actor.Attributes.name}}",
    "tag no-such-image x",
    "load -i /no/such/file",
    "no-such-command",
    "container no-such-command",
    "ps --no-such-flag",
    "ps extra",
]


@pytest.fixture(scope="module")
def prepared(daemon: Daemon, image: str) -> Iterator[None]:
    """A running container "one" and an ended container "two"; a volume "data", a network "shared"."""
    api = daemon.api
    api("POST", "/volumes/create", json_body={"Name": "data"}).expect(201)
    shared = {"Name": "shared", "IPAM": {"Config": [{"Subnet": "10.199.0.0/24"}]}, "Labels": {"team": "blue"}}
    api("POST", "/networks/create", json_body=shared).expect(201)
    for name, script in (("one", "sleep 1000"), ("two", "echo out; echo err >&2")):
        body = {
            "Image": image,
            "Cmd": ["sh", "-c", script],
            "Labels": {"a": "b"},
            "Env": ["A=1"],
            "HostConfig": {"NetworkMode": "none", "Binds": ["data:/data", "/tmp:/t:ro"]},
        }
        api("POST", "/containers/create", json_body=body, name=name).expect(201)
        api("POST", f"/containers/{name}/start").expect(204)
    api("POST", "/containers/two/wait").expect(200)
    yield
    daemon.remove_containers()
    api("DELETE", "/volumes/data").expect(204)
    daemon.remove_networks()


@pytest.fixture
def clean(daemon: Daemon) -> None:
    """The containers are the whole module's; `prepared` removes them at its end."""


@pytest.mark.parametrize("words", SAME)
def test_both_say_the_same(prepared: None, docker: DockerCli, proa: Proa, words: str) -> None:
    if "{{.IPv4}}" in words:
        skip_for_older_docker(28)
    arguments = [
        word.replace("_", " ") if word.startswith(("{{", "exit_")) else word for word in words.split()
    ]
    theirs = docker(*arguments)
    ours = proa(*arguments)
    assert (ours.code, ours.out) == (theirs.returncode, theirs.stdout.decode())


def test_json_of_a_list_has_dockers_keys(
    prepared: None, docker: DockerCli, proa: Proa, tmp_path: Path
) -> None:
    import json

    lists = (("ps", "-a"), ("images",), ("history", "busybox"), ("network", "ls"), ("system", "df"))
    for command in lists:
        arguments = (*command, "--format", "json")
        theirs = [json.loads(line) for line in docker(*arguments).stdout.splitlines()]
        ours = [json.loads(line) for line in proa(*arguments).out.splitlines()]
        assert len(ours) == len(theirs)
        # One that docker has for a deprecated field is not ours.
        assert all(
            their.keys() - {"VirtualSize"} <= our.keys() for our, their in zip(ours, theirs, strict=True)
        )
