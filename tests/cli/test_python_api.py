"""`proa.connect()`: the Python API against a real daemon."""

import time
from pathlib import Path

import pytest

import proa
from proa.streams import Demultiplexer


def test_running_something(client: proa.Client, image: str) -> None:
    ended = client.run(
        image, ["sh", "-c", "echo $A; echo err >&2; exit 4"],
        config={"Env": ["A=1"]}, host_config={"NetworkMode": "none"},
    )  # fmt: skip
    assert ended == (4, b"1\n", b"err\n")
    assert client.containers.list(all=True) == []


def test_a_run_that_cannot_start_leaves_nothing(client: proa.Client, image: str) -> None:
    with pytest.raises(proa.APIError, match="executable file not found"):
        client.run(image, ["no-such-program"], host_config={"NetworkMode": "none"})
    assert client.containers.list(all=True) == []


def test_the_life_of_a_container(client: proa.Client, image: str) -> None:
    containers = client.containers
    config = {"Image": image, "Cmd": ["sh", "-c", "echo hi; exec cat"], "OpenStdin": True}
    created = containers.create(config, {"NetworkMode": "none"}, name="living")
    assert created.warnings == []
    attached = containers.attach("living", stdin=True)
    waiter = containers.wait("living", "next-exit")
    containers.start("living")
    containers.start("living")
    assert containers.inspect("living")["State"]["Running"]
    containers.pause("living")
    containers.unpause("living")
    assert containers.update("living", {"Memory": 64 << 20, "MemorySwap": 64 << 20}) == []
    assert containers.top("living")[1]
    containers.rename("living", "other")
    assert [summary["Names"] for summary in containers.list(filters={"name": ["other"]})] == [["/other"]]
    with attached.sock as sock:
        sock.sendall(b"to you\n")
        output = b""
        cutter = Demultiplexer()
        output += b"".join(piece for _, piece in cutter.feed(attached.early))
        while b"to you\n" not in output:
            output += b"".join(piece for _, piece in cutter.feed(sock.recv(1000)))
    assert output == b"hi\nto you\n"
    containers.kill("other", "TERM")
    containers.kill("other")
    assert waiter.result() == 137
    with containers.logs("other", stdout=True, stderr=False) as pieces:
        assert b"".join(piece for _, piece in pieces) == b"hi\nto you\n"
    containers.restart("other", timeout_s=0)
    containers.stop("other", timeout_s=0)
    containers.remove(created.id, volumes=True)
    with pytest.raises(proa.NotFound, match="No such container: other"):
        containers.inspect("other")


def test_errors_have_their_types(client: proa.Client, image: str) -> None:
    client.containers.create({"Image": image}, name="taken")
    with pytest.raises(proa.Conflict, match="already in use"):
        client.containers.create({"Image": image}, name="taken")
    with pytest.raises(proa.NotFound, match="No such image"):
        client.containers.create({"Image": "no-such-image"})
    with pytest.raises(proa.APIError) as caught:
        client.containers.kill("taken")
    assert caught.value.status == 409


def test_images_and_volumes(client: proa.Client, archive: Path, image: str) -> None:
    seen: list[object] = []
    with archive.open("rb") as file:
        image_id = client.images.import_(
            file, repository="made", tag="1", changes=["ENV A=1"], progress=seen.append
        )
    assert seen
    assert client.images.inspect("made:1")["Config"]["Env"] == ["A=1"]
    assert client.images.inspect(image_id)["RepoTags"] == ["made:1"]
    client.images.tag("made:1", "made", "2")
    assert client.images.remove("made:2") == [{"Untagged": "made:2"}]
    assert {"Deleted": image_id} in client.images.remove("made:1")
    volume = client.volumes.create("kept", labels={"a": "b"})
    assert client.volumes.inspect("kept") == client.volumes.list({"name": ["kept"]})[0] == volume
    client.volumes.remove("kept")


def test_events_can_be_read_again(client: proa.Client, image: str) -> None:
    begin = str(time.time())
    client.run(image, ["true"], host_config={"NetworkMode": "none"}, name="noted")
    window = {"since": begin, "until": str(time.time() + 0.01)}
    with client.system.events(**window, filters={"type": ["container"]}) as events:
        actions = [event["Action"] for event in events]
    for action in ("create", "start", "die", "destroy"):
        assert action in actions


def test_the_client_says_where_it_talks(client: proa.Client) -> None:
    assert client.host.startswith("unix:///")
    assert client.api_version == "1.51"
    assert client.system.ping() == "1.51"
    client.close()
    assert client.system.info()["OSType"] == "linux"
