"""Dialogues about lists of containers: what is in them, in which order, and every filter."""

import json
import time

import pytest

from tests.api import steps
from tests.support import schema
from tests.support.rawhttp import Api


def listed(api: Api, **query: object) -> list[str]:
    """Names in the order of the list."""
    answer = api("GET", "/containers/json", **query).expect(200)
    schema.check_answer("GET", "/containers/json", 200, answer.json)
    return [entry["Names"][0].removeprefix("/") for entry in answer.json]


def test_a_list_shows_running_ones_and_all_on_request(api: Api, image: str) -> None:
    steps.create(api, image, name="made")
    steps.start(api, image, name="runs")
    ended = steps.start(api, image, "true", name="ended")
    steps.wait_exit(api, ended)
    assert listed(api) == ["runs"]
    assert listed(api, all=True) == ["ended", "runs", "made"]
    assert listed(api, limit=2) == ["ended", "runs"]
    assert listed(api, limit=-1) == ["runs"]
    assert listed(api, limit=0) == ["runs"]


def test_an_entry(api: Api, image: str) -> None:
    made = steps.start(api, image, name="entry", Labels={"a": "b"}, ExposedPorts={"80/tcp": {}})
    [entry] = api("GET", "/containers/json").expect(200).json
    assert entry["Id"] == made
    assert entry["Names"] == ["/entry"]
    assert entry["Image"] == image
    assert entry["ImageID"].startswith("sha256:")
    assert entry["Command"] == "sleep 1000"
    assert abs(entry["Created"] - time.time()) < 60
    assert entry["Ports"] == [{"PrivatePort": 80, "Type": "tcp"}]
    assert entry["Labels"] == {"a": "b"}
    assert (entry["State"], entry["Status"].startswith("Up ")) == ("running", True)
    assert entry["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert "SizeRw" not in entry


def test_sizes_on_request(api: Api, image: str) -> None:
    steps.create(api, image)
    [entry] = api("GET", "/containers/json", all=True, size=True).expect(200).json
    assert entry["SizeRootFs"] > entry["SizeRw"] >= 0


def test_links_give_names(api: Api, image: str) -> None:
    steps.start(api, image, name="db")
    steps.start(api, image, name="app", HostConfig={"Links": ["db:store"]})
    [entry] = [e for e in api("GET", "/containers/json").json if "/db" in e["Names"]]
    assert sorted(entry["Names"]) == ["/app/store", "/db"]


def test_an_image_that_lost_its_name_shows_its_id(api: Api, image: str) -> None:
    api("POST", f"/images/{image}/tag", repo="other", tag="1").expect(201)
    steps.create(api, "other:1")
    api("DELETE", "/images/other:1").expect(200)
    [entry] = api("GET", "/containers/json", all=True).json
    assert entry["Image"] == entry["ImageID"]


@pytest.fixture
def three(api: Api, image: str) -> None:
    """alpha: created; beta: running, labelled, publishing; gamma: exited with 3."""
    steps.create(api, image, name="alpha", Labels={"tier": "back"})
    steps.start(
        api, image, name="beta", Labels={"tier": "front", "x": ""}, ExposedPorts={"80/tcp": {}, "53/udp": {}},
        HostConfig={"PortBindings": {"80/tcp": [{"HostPort": ""}]}, "Binds": ["data:/data", "/etc:/host:ro"]},
    )  # fmt: skip
    steps.wait_exit(
        api, steps.start(api, image, "sh", "-c", "exit 3", name="gamma", HostConfig={"NetworkMode": "none"})
    )


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"name": ["alp"]}, ["alpha"]),
        ({"name": ["^/?[ab]"]}, ["beta", "alpha"]),
        ({"name": ["/beta"]}, ["beta"]),
        ({"label": ["tier"]}, ["beta", "alpha"]),
        ({"label": ["tier=front"]}, ["beta"]),
        ({"label": ["tier", "x"]}, ["beta"]),
        ({"label": {"tier=back": True}}, ["alpha"]),
        ({"status": ["running"]}, ["beta"]),
        ({"status": ["created", "exited"]}, ["gamma", "alpha"]),
        ({"exited": ["3"]}, ["gamma"]),
        ({"exited": ["0"]}, []),
        ({"before": ["beta"]}, ["alpha"]),
        ({"since": ["beta"]}, ["gamma"]),
        ({"volume": ["data"]}, ["beta"]),
        ({"volume": ["/host"]}, ["beta"]),
        ({"network": ["none"]}, ["gamma"]),
        ({"network": ["bridge"]}, ["beta", "alpha"]),
        ({"publish": ["80"]}, ["beta"]),
        ({"publish": ["53/udp"]}, []),
        ({"expose": ["53/udp"]}, ["beta"]),
        ({"expose": ["50-90"]}, ["beta"]),
        ({"health": ["none"]}, ["gamma", "beta", "alpha"]),
        ({"health": ["healthy"]}, []),
        ({"is-task": ["false"]}, ["gamma", "beta", "alpha"]),
        ({"is-task": ["true"]}, []),
        ({"ancestor": ["busybox"]}, ["gamma", "beta", "alpha"]),
        ({"ancestor": ["nosuch"]}, []),
        ({"label": ["tier"], "status": ["created"]}, ["alpha"]),
    ],
)
def test_filters(api: Api, three: None, filters: dict[str, object], names: list[str]) -> None:
    assert listed(api, all=True, filters=filters) == names


def test_filter_by_id(api: Api, three: None) -> None:
    beta = steps.inspect(api, "beta")["Id"]
    assert listed(api, all=True, filters={"id": [beta[:10]]}) == ["beta"]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"filters": "{"}, "invalid filter"),
        ({"filters": "[1]"}, "invalid filter"),
        ({"filters": {"colour": ["red"]}}, "invalid filter 'colour'"),
        ({"filters": {"status": ["bored"]}}, "status=bored"),
        ({"filters": {"exited": ["x"]}}, "exited"),
        ({"filters": {"health": ["fine"]}}, "health"),
        ({"filters": {"is-task": ["perhaps"]}}, "is-task"),
        ({"filters": {"publish": ["99999"]}}, "publish"),
        ({"all": "perhaps"}, "all"),
        ({"size": "2"}, "size"),
        ({"limit": "few"}, "limit"),
    ],
)
def test_bad_queries_are_refused(api: Api, query: dict[str, object], text: str) -> None:
    assert text in api("GET", "/containers/json", **query).expect(400).message


def test_filters_that_name_no_container(api: Api) -> None:
    answer = api("GET", "/containers/json", filters={"before": ["nosuch"]}).expect(404)
    assert answer.message == "No such container: nosuch"


def test_a_list_is_one_json_value_with_a_line_end(api: Api) -> None:
    answer = api("GET", "/containers/json").expect(200)
    assert answer.body == b"[]\n"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert json.loads(answer.body) == []
