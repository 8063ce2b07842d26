"""Dialogues about legacy links: they follow containers by id, can be named, and removed by themselves."""

from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.support.rawhttp import Api


def start_linked(api: Api, image: str, *links: str, **fields: object) -> str:
    return steps.start(api, image, name="web", HostConfig={"Links": list(links), **fields})


def links_of(api: Api, ref: str) -> Any:
    return steps.inspect(api, ref)["HostConfig"]["Links"]


def names_of(api: Api, ref: str) -> list[str]:
    [entry] = api("GET", "/containers/json", all=True, filters={"id": [steps.inspect(api, ref)["Id"]]}).json
    return sorted(entry["Names"])


def address_of(api: Api, ref: str) -> str:
    return str(steps.inspect(api, ref)["NetworkSettings"]["IPAddress"])


def hosts_of(api: Api, ref: str) -> dict[str, str]:
    """Addresses by the first name, as the container itself sees them now."""
    pid = steps.inspect(api, ref)["State"]["Pid"]
    lines = Path(f"/proc/{pid}/root/etc/hosts").read_text().splitlines()
    return {names.split()[0]: address for address, names in (line.split(None, 1) for line in lines)}


def environment_of(api: Api, ref: str) -> dict[str, str]:
    pid = steps.inspect(api, ref)["State"]["Pid"]
    variables = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(variable.split("=", 1) for variable in variables)


def test_a_link_follows_a_container_that_is_renamed(api: Api, image: str) -> None:
    steps.start(api, image, name="db", ExposedPorts={"80/tcp": {}})
    start_linked(api, image, "db:store")
    api("POST", "/containers/db/rename", name="db2").expect(204)
    assert links_of(api, "web") == ["/db2:/web/store"]
    steps.start(api, image, name="db")  # somebody else has the name now
    api("POST", "/containers/web/restart", t=0).expect(204)
    assert hosts_of(api, "web")["store"] == address_of(api, "db2") != address_of(api, "db")
    assert environment_of(api, "web")["STORE_PORT"] == f"tcp://{address_of(api, 'db2')}:80"


def test_a_link_has_the_new_name_of_its_holder(api: Api, image: str) -> None:
    steps.start(api, image, name="db")
    start_linked(api, image, "db:store")
    api("POST", "/containers/web/rename", name="shop").expect(204)
    assert links_of(api, "shop") == ["/db:/shop/store"]
    assert names_of(api, "db") == ["/db", "/shop/store"]
    assert steps.inspect(api, "shop/store")["Name"] == "/db"
    api("GET", "/containers/web/store/json").expect(404)


def test_who_runs_learns_the_address_of_a_container_that_starts_again(api: Api, image: str) -> None:
    steps.start(api, image, name="db")
    start_linked(api, image, "db:store", "db:second")
    before = hosts_of(api, "web")
    api("POST", "/containers/db/restart", t=0).expect(204)
    moved = address_of(api, "db")
    assert moved != before["store"]
    assert hosts_of(api, "web") == {**before, "store": moved, "second": moved}


def test_a_container_goes_by_what_its_links_call_it(api: Api, image: str) -> None:
    made = steps.start(api, image, "sh", "-c", "echo hello; exec sleep 1000", name="db")
    start_linked(api, image, "db:store")
    for ref in ("web/store", "/web/store"):
        assert steps.inspect(api, ref)["Id"] == made
    assert b"sleep 1000" in api("GET", "/containers/web/store/top").expect(200).body
    steps.until(lambda: b"hello" in api("GET", "/containers/web/store/logs", stdout=True).expect(200).body)
    assert api("GET", "/containers/web/other/json").expect(404).message == "No such container: web/other"
    linked = steps.create(api, image, HostConfig={"Links": ["web/store:again"]})
    assert links_of(api, linked)[0].startswith("/db:/")
    api("DELETE", "/containers/web/store", force=True).expect(204)
    api("GET", f"/containers/{made}/json").expect(404)


def test_removing_a_link_removes_nothing_else(api: Api, image: str) -> None:
    made = steps.start(api, image, name="db")
    start_linked(api, image, "db:store", "db:second")
    before = hosts_of(api, "web")
    api("DELETE", "/containers/web/store", link=True).expect(204)
    assert links_of(api, "web") == ["/db:/web/second"]
    assert names_of(api, made) == ["/db", "/web/second"]
    assert steps.status(api, made) == "running"
    assert hosts_of(api, "web") == {name: at for name, at in before.items() if name != "store"}
    api("GET", "/containers/web/store/json").expect(404)
    api("POST", "/containers/web/restart", t=0).expect(204)
    assert not [name for name in environment_of(api, "web") if name.startswith("STORE")]
    assert environment_of(api, "web")["SECOND_NAME"] == "/web/second"


def test_a_containers_own_name_is_no_link(api: Api, image: str) -> None:
    made = steps.start(api, image, name="db")
    for ref in ("db", made, made[:12]):
        refused = api("DELETE", f"/containers/{ref}", link=True).expect(409)
        assert refused.message == "Conflict, cannot remove the default link name of the container"
    gone = api("DELETE", "/containers/db/store", link=True).expect(404)
    assert gone.message == "No such container: db/store"
    assert steps.status(api, made) == "running"


def test_the_cli_removes_a_link(api: Api, image: str, docker: DockerCli) -> None:
    steps.start(api, image, name="db")
    start_linked(api, image, "db:store")
    done = docker("rm", "--link", "/web/store")
    assert (done.returncode, done.stdout) == (0, b"/web/store\n"), done.stderr
    assert links_of(api, "web") == []


def test_a_container_whose_link_leads_nowhere_does_not_start_until_the_link_goes(
    api: Api, image: str
) -> None:
    steps.start(api, image, name="db")
    start_linked(api, image, "db:store")
    api("DELETE", "/containers/db", force=True).expect(204)
    api("POST", "/containers/web/kill").expect(204)
    steps.start(api, image, name="db")  # another one, though of the same name
    refused = api("POST", "/containers/web/start").expect(400)
    assert refused.message == "Cannot link to a non running container: /db AS /web/store"
    assert links_of(api, "web") == ["/db:/web/store"]
    api("GET", "/containers/web/store/json").expect(404)
    api("DELETE", "/containers/web/store", link=True).expect(204)
    api("POST", "/containers/web/start").expect(204)


def test_a_link_to_a_container_that_stopped_is_refused_at_the_start(api: Api, image: str) -> None:
    steps.create(api, image, name="db")
    made = steps.create(api, image, name="web", HostConfig={"Links": ["db"]})
    refused = api("POST", f"/containers/{made}/start").expect(400)
    assert refused.message == "Cannot link to a non running container: /db AS /web/db"


@pytest.mark.parametrize("mode", ["none", "host"])
def test_a_container_off_the_bridge_cannot_be_linked_to(api: Api, image: str, mode: str) -> None:
    steps.start(api, image, name="db", HostConfig={"NetworkMode": mode})
    if mode == "host":
        body = {"Image": image, "HostConfig": {"Links": ["db"]}}
        said = api("POST", "/containers/create", json_body=body).expect(400).message
        assert said.startswith("conflicting options: host type networking can't be used with links")
        return
    made = steps.create(api, image, HostConfig={"Links": ["db"]})
    said = api("POST", f"/containers/{made}/start").expect(400).message
    assert said == "Cannot link to /db, as it does not belong to the default network"


def test_links_mean_nothing_to_a_container_without_network(api: Api, image: str) -> None:
    steps.create(api, image, name="db")
    start_linked(api, image, "db", NetworkMode="none")
    assert links_of(api, "web") == ["/db:/web/db"]
    assert "db" not in hosts_of(api, "web")


def test_a_link_to_one_that_shares_a_network_leads_to_whose_it_is(api: Api, image: str) -> None:
    steps.start(api, image, name="owner")
    steps.start(api, image, name="guest", HostConfig={"NetworkMode": "container:owner"})
    start_linked(api, image, "guest:store")
    assert links_of(api, "web") == ["/owner:/web/store"]


def test_the_first_link_keeps_an_alias(api: Api, image: str) -> None:
    for name in ("one", "two"):
        steps.start(api, image, name=name)
    start_linked(api, image, "one:same", "two:same")
    assert links_of(api, "web") == ["/one:/web/same"]


def test_nobody_can_link_to_what_is_not_there(api: Api, image: str) -> None:
    body = {"Image": image, "HostConfig": {"Links": ["nobody:n"]}}
    refused = api("POST", "/containers/create", json_body=body).expect(400)
    assert refused.message == "could not get container for nobody: No such container: nobody"


def test_an_old_client_links_at_the_start(api: Api, image: str) -> None:
    steps.start(api, image, name="db")
    made = steps.create(api, image, name="web")
    api("POST", f"/containers/{made}/start", json_body={"Links": ["db:store"]}, version="v1.23").expect(204)
    assert links_of(api, "web") == ["/db:/web/store"]
    assert hosts_of(api, "web")["store"] == address_of(api, "db")


def test_a_hosts_file_as_big_as_a_disk_is_left_alone(api: Api, image: str) -> None:
    steps.start(api, image, name="db")
    start_linked(api, image, "db:store")
    pid = steps.inspect(api, "web")["State"]["Pid"]
    with Path(f"/proc/{pid}/root/etc/hosts").open("ab") as hosts:
        hosts.truncate(1 << 34)
    before = address_of(api, "db")
    api("POST", "/containers/db/restart", t=0).expect(204)
    with Path(f"/proc/{pid}/root/etc/hosts").open("rb") as hosts:
        assert f"{before}\tstore ".encode() in hosts.read(4096)
