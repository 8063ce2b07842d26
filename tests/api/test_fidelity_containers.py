"""What clients of Docker rely on beyond the reference: wording, exit codes, what a container sees."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

CGROUPS = Path("/sys/fs/cgroup")


def text_of(api: Api, ref: str) -> str:
    """What the container wrote to its terminal."""
    return api("GET", f"/containers/{ref}/logs", stdout=True, stderr=True).expect(200).body.decode()


def output(api: Api, image: str, *command: str, **fields: Any) -> str:
    """Run a command to its end and return what it wrote."""
    made = steps.start(api, image, *command, Tty=True, **fields)
    assert steps.wait_exit(api, made) == 0, text_of(api, made)
    return text_of(api, made).replace("\r\n", "\n")


# --- starts that fail -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "exit_code", "said"),
    [
        ("nosuch", 127, b'exec: "nosuch": executable file not found in $PATH'),
        ("/nosuch", 127, b'exec: "/nosuch": stat /nosuch: no such file or directory'),
        ("/etc", 126, b'exec: "/etc": permission denied'),
        ("/etc/passwd", 126, b'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_failed_run_is_told_once(
    docker: DockerCli, image: str, command: str, exit_code: int, said: bytes
) -> None:
    done = docker("run", "--rm", image, command)
    assert done.returncode == exit_code
    assert said in done.stderr
    assert b"Error waiting for container" not in done.stderr
    assert not docker("ps", "-aq").stdout


def test_an_unknown_network_is_found_at_the_start(docker: DockerCli, api: Api, image: str) -> None:
    done = docker("run", "--name", "lost", "--network", "nosuch", image, "true")
    assert done.returncode == 125
    assert b"network nosuch not found" in done.stderr
    assert b"Unable to find image" not in done.stderr
    assert steps.status(api, "lost") == "created"


def test_an_empty_entrypoint_resets_the_images(docker: DockerCli, image: str) -> None:
    assert docker("run", "--rm", "--entrypoint", "", image, "echo", "hi").stdout == b"hi\n"
    refused = docker("run", "--rm", "--entrypoint", "", image)
    assert refused.returncode == 125
    assert b"no command specified" in refused.stderr


# --- in the container -------------------------------------------------------------------------------------


def test_programs_can_tell_that_they_are_in_a_container(api: Api, image: str) -> None:
    assert output(api, image, "stat", "-c", "%a %u %s", "/.dockerenv") == "755 0 0\n"


def test_who_joins_a_network_has_its_owners_name(api: Api, image: str) -> None:
    steps.start(api, image, name="owner", Hostname="owners-name")
    joined = {"NetworkMode": "container:owner"}
    assert output(api, image, "hostname", HostConfig=joined) == "owners-name\n"


def test_a_hostname_that_no_dns_would_take(api: Api, image: str) -> None:
    assert output(api, image, "hostname", Hostname="my_host!") == "my_host!\n"


@pytest.fixture
def bind_with_mount_below(tmp_path: Path) -> Iterator[Path]:
    """A directory in which something else is mounted, at ``below``."""
    below = tmp_path / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(below)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(below)], check=True)


@pytest.mark.parametrize(("version", "exit_code"), [("v1.43", 0), ("v1.51", 1)])
def test_read_only_was_not_recursive_before_api_1_44(
    api: Api, image: str, bind_with_mount_below: Path, version: str, exit_code: int
) -> None:
    body = {
        "Image": image,
        "Cmd": ["touch", "/bound/below/file"],
        "HostConfig": {"Binds": [f"{bind_with_mount_below}:/bound:ro"]},
    }
    made = api("POST", "/containers/create", json_body=body, version=version).expect(201).json["Id"]
    api("POST", f"/containers/{made}/start").expect(204)
    assert steps.wait_exit(api, made) == exit_code


# --- control groups ---------------------------------------------------------------------------------------


@pytest.fixture
def cgroup_parent(daemon: Daemon) -> Iterator[str]:
    """A parent of the user's own, which stays when containers go: it is not the daemon's."""
    parent = f"/fidelity-{os.getpid()}"
    yield f"{parent}/inner"
    daemon.remove_containers()
    steps.until(lambda: _remove_parents(parent))


def _remove_parents(parent: str) -> bool:
    for path in (f"{parent}/inner", parent):
        for hierarchy in (CGROUPS, *CGROUPS.iterdir()):
            with suppress(OSError):
                (hierarchy / path.lstrip("/")).rmdir()
    return not any((hierarchy / parent.lstrip("/")).exists() for hierarchy in (CGROUPS, *CGROUPS.iterdir()))


def cgroups_of(made: str) -> list[Path]:
    return [Path(found) for found, _, _ in os.walk(CGROUPS) if found.endswith(made)]


def test_below_the_cgroup_parent_that_is_asked_for(api: Api, image: str, cgroup_parent: str) -> None:
    made = steps.start(api, image, HostConfig={"CgroupParent": cgroup_parent})
    found = cgroups_of(made)
    assert found
    assert all(str(path).endswith(f"{cgroup_parent}/{made}") for path in found)
    api("POST", f"/containers/{made}/pause").expect(204)
    api("POST", f"/containers/{made}/unpause").expect(204)
    api("DELETE", f"/containers/{made}", force=True).expect(204)
    assert not cgroups_of(made)


def test_a_cgroup_elsewhere_outlives_the_daemon_and_goes_with_its_container(
    daemon: Daemon, api: Api, image: str, cgroup_parent: str
) -> None:
    made = steps.start(api, image, HostConfig={"CgroupParent": cgroup_parent})
    daemon.kill()
    daemon.start()
    assert steps.status(api, made) == "running"
    api("DELETE", f"/containers/{made}", force=True).expect(204)
    assert not cgroups_of(made)


# --- time -------------------------------------------------------------------------------------------------


def test_nothing_ends_before_it_starts(api: Api, image: str) -> None:
    for _ in range(5):
        made = steps.start(api, image, "true")
        steps.wait_exit(api, made)
        state = steps.inspect(api, made)["State"]
        assert state["StartedAt"] <= state["FinishedAt"]


# --- signals and restarts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "signal", "status", "said"),
    [
        ("nosuch", "", 404, "No such container: nosuch"),
        ("made", "FROB", 400, "invalid signal: FROB"),
        ("made", "99", 400, "the linux daemon does not support signal 99"),
    ],
)
def test_kill_says_what_it_could_not(
    api: Api, image: str, ref: str, signal: str, status: int, said: str
) -> None:
    steps.create(api, image, name="made")
    refused = api("POST", f"/containers/{ref}/kill", signal=signal).expect(status)
    assert refused.message == f"cannot kill container: {ref}: {said}"


def restarting(api: Api, image: str) -> str:
    """A container that fails at once, again and again, and now waits to be started again."""
    made = steps.start(api, image, "false", HostConfig={"RestartPolicy": {"Name": "always"}})
    steps.until(lambda: steps.inspect(api, made)["RestartCount"] >= 3)  # the next is 800 ms away
    steps.until(lambda: steps.status(api, made) == "restarting")
    return made


def test_a_kill_between_two_runs_ends_the_restarting(api: Api, image: str) -> None:
    """Another one that waits as long and began to wait later is started again; the killed one is not."""
    always = {"RestartPolicy": {"Name": "always"}}
    two = [steps.start(api, image, "false", HostConfig=always) for _ in range(2)]
    seen: list[Any] = []

    def both_wait() -> bool:
        seen[:] = sorted((steps.inspect(api, each) for each in two), key=lambda c: c["State"]["FinishedAt"])
        counts, states = {c["RestartCount"] for c in seen}, {c["State"]["Status"] for c in seen}
        return len(counts) == 1 and counts.pop() >= 3 and states == {"restarting"}

    steps.until(both_wait)  # the next is 800 ms away, or more
    made, later, count = seen[0]["Id"], seen[1]["Id"], seen[0]["RestartCount"]
    api("POST", f"/containers/{made}/kill").expect(204)
    assert steps.status(api, made) == "exited"
    steps.until(lambda: steps.inspect(api, later)["RestartCount"] > count)
    assert steps.status(api, made) == "exited"
    assert steps.inspect(api, made)["RestartCount"] == count
    api("DELETE", f"/containers/{made}").expect(204)


def test_who_waits_between_two_runs_hears_of_the_stop(api: Api, image: str) -> None:
    made = restarting(api, image)
    with api.stream("POST", f"/containers/{made}/wait") as waiting:
        api("POST", f"/containers/{made}/stop").expect(204)
        assert b'"StatusCode":1' in waiting.read().replace(b" ", b"")


def test_links_by_their_holders_name(api: Api, image: str) -> None:
    steps.start(api, image, name="web")
    made = steps.create(api, image, name="shop", HostConfig={"Links": ["web:store"]})
    assert steps.inspect(api, made)["HostConfig"]["Links"] == ["/web:/shop/store"]


# --- logs, names, prune -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "options", "said"),
    [
        ("syslog", {}, "logger: no log driver named 'syslog' is registered"),
        ("json-file", {"max-size": "bad"}, "LogConfig.Config.max-size: invalid size: 'bad'"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
    ],
)
def test_log_options_that_make_no_sense(
    api: Api, image: str, driver: str, options: dict[str, str], said: str
) -> None:
    body = {"Image": image, "HostConfig": {"LogConfig": {"Type": driver, "Config": options}}}
    assert api("POST", "/containers/create", json_body=body).expect(400).message == said


def test_a_log_keeps_to_its_size(api: Api, image: str, daemon: Daemon) -> None:
    log_config = {"Type": "json-file", "Config": {"max-size": "10k", "max-file": "2"}}
    made = steps.start(api, image, "seq", "5000", HostConfig={"LogConfig": log_config})
    steps.wait_exit(api, made)
    assert 0 < (daemon.data_root / "containers" / made / "container.log").stat().st_size <= 20_000
    assert text_of(api, made).endswith("5000\n")


def test_a_name_that_is_taken(api: Api, image: str) -> None:
    first, _ = steps.create(api, image, name="first"), steps.create(api, image, name="second")
    refused = api("POST", "/containers/second/rename", name="first").expect(409)
    assert refused.message.startswith(
        f'Error when allocating new name: Conflict. The container name "/first" is already in use by '
        f'container "{first}"'
    )


def test_system_prune_prunes_all_that_there_is(docker: DockerCli, api: Api, image: str) -> None:
    made = steps.create(api, image)
    done = docker("system", "prune", "-f")
    assert done.returncode == 0, done.stderr
    assert made.encode() in done.stdout
