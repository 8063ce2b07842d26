"""``docker build``: the unmodified CLI, with contexts as people have them."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.support.contexts import files_of, text_of, write_context
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

MULTI_STAGE = """
# syntax is not for this builder
FROM busybox AS build
WORKDIR /src
COPY . .
RUN cat *.txt >/out.txt && \\
    # comments may stand here
    wc -l </out.txt

FROM busybox
ARG WHO=nobody
LABEL who=$WHO
COPY --from=build --chown=user /out.txt /srv/
ADD more.tar.gz /srv/more/
HEALTHCHECK --interval=1s CMD test -f /srv/out.txt
USER user
CMD ["cat", "/srv/out.txt", "/srv/more/inside"]
"""


@pytest.fixture(autouse=True)
def nothing_is_left(daemon: Daemon, image: str, clean: None) -> Iterator[None]:
    yield
    daemon.remove_containers()
    assert list((daemon.data_root / "tmp").iterdir()) == []


def context(tmp_path: Path) -> Path:
    made = write_context(tmp_path / "context", MULTI_STAGE, a_txt="a\n", b_txt="b\n", secret_key="secret")
    (made / ".dockerignore").write_text("*.key\n")
    (made / "inside").write_text("inside\n")
    subprocess.run(["tar", "-czf", "more.tar.gz", "inside"], cwd=made, check=True)
    return made


def test_a_build(docker: DockerCli, api: Api, tmp_path: Path) -> None:
    made, iid = context(tmp_path), tmp_path / "iid"
    arguments = ("-t", "mine:1", "-t", "mine:2", "--build-arg", "WHO=me", "--iidfile", str(iid), str(made))
    built = docker("build", *arguments)
    said = built.stdout.decode()
    assert built.returncode == 0, said + built.stderr.decode()
    assert "Step 1/12 : FROM busybox AS build\n ---> " in said
    assert said.endswith("Successfully tagged mine:1\nSuccessfully tagged mine:2\n")
    shown = api("GET", "/images/mine:1/json").json
    assert iid.read_text() == shown["Id"]
    assert shown["Config"]["Labels"] == {"who": "me"}
    assert docker("run", "--rm", "mine:2").stdout == b"a\nb\ninside\n"
    again = docker("build", *arguments).stdout.decode()
    assert again.count("Using cache") == 10
    assert "src/secret.key" not in files_of(api, "mine:1")
    (made / "a.txt").write_text("changed\n")
    assert docker("build", *arguments).stdout.decode().count("Using cache") == 3
    quiet = docker("build", "-q", "--target", "build", str(made))
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", quiet.stdout.decode())


def test_from_standard_input(docker: DockerCli, api: Api, tmp_path: Path) -> None:
    """A Dockerfile alone, a whole context, and a Dockerfile beside a context."""
    alone = docker("build", "-t", "alone", "-", input=b"FROM busybox\nENV A=b\n")
    assert alone.returncode == 0, alone.stderr
    made = context(tmp_path)
    packed = subprocess.run(["tar", "-cz", "."], cwd=made, check=True, capture_output=True).stdout
    assert docker("build", "-t", "whole", "-", input=packed).returncode == 0
    beside = docker("build", "-t", "beside", "-f", "-", str(made), input=b"FROM busybox\nCOPY . /c/\n")
    assert beside.returncode == 0, beside.stderr
    names = {name for name in files_of(api, "beside") if name.startswith("c/")}
    assert names == {"c/Dockerfile", "c/.dockerignore", "c/a.txt", "c/b.txt", "c/inside", "c/more.tar.gz"}


def test_onbuild(docker: DockerCli, api: Api, tmp_path: Path) -> None:
    base = write_context(
        tmp_path / "base", "FROM busybox\nONBUILD COPY app /app\nONBUILD RUN cat /app >/ran\n"
    )
    app = write_context(tmp_path / "app", "FROM base\nCMD cat /ran\n", app="content")
    assert docker("build", "-t", "base", str(base)).returncode == 0
    built = docker("build", "-t", "app", str(app))
    assert b"# Executing 2 build triggers\n" in built.stdout
    assert text_of(api, "app", "/ran") == "content"


def test_failures(docker: DockerCli, tmp_path: Path) -> None:
    failed = docker("build", str(write_context(tmp_path / "run", "FROM busybox\nRUN exit 42\n")))
    assert failed.returncode == 42
    assert failed.stderr.decode().endswith("The command '/bin/sh -c exit 42' returned a non-zero code: 42\n")
    wrong = docker("build", str(write_context(tmp_path / "wrong", "FROM busybox\nFOO\n")))
    assert wrong.returncode == 1
    assert b"unknown instruction: FOO" in wrong.stderr


def test_options(docker: DockerCli, api: Api, tmp_path: Path) -> None:
    dockerfile = "FROM busybox\nRUN ulimit -n; cat /etc/hosts; ls /sys/class/net; id -u\n"
    made = write_context(tmp_path / "options", dockerfile)
    built = docker(
        "build", "--network", "none", "--add-host", "there:10.1.2.3", "--ulimit", "nofile=70:80",
        "--memory", "64m", "--cpu-shares", "100", "--shm-size", "1m", "--label", "a=b", "--no-cache",
        "--rm=false", "--platform", "linux/amd64", "-t", "options", str(made),
    )  # fmt: skip
    said = built.stdout.decode()
    assert built.returncode == 0, built.stderr
    assert "70\n" in said
    assert "10.1.2.3\tthere\n" in said
    assert "eth0" not in said
    (left,) = api("GET", "/containers/json", all=True).json
    limits = api("GET", f"/containers/{left['Id']}/json").json["HostConfig"]
    assert (limits["Memory"], limits["CpuShares"], limits["ShmSize"]) == (64 << 20, 100, 1 << 20)


def test_interrupted(daemon: Daemon, api: Api, tmp_path: Path) -> None:
    made = write_context(tmp_path / "slow", "FROM busybox\nRUN echo begun; sleep 1000\n")
    client = subprocess.Popen(
        ["docker", "build", str(made)],
        env={**os.environ, "DOCKER_HOST": daemon.url, "DOCKER_CONFIG": str(tmp_path / "config")},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert client.stdout is not None
    for line in client.stdout:
        if line == b"begun\n":
            break
    client.send_signal(signal.SIGINT)
    client.wait(30)
    client.stdout.close()
    steps.until(lambda: api("GET", "/containers/json", all=True).json == [])
    steps.until(lambda: list((daemon.data_root / "tmp").iterdir()) == [])
    assert daemon.settle() == []


def test_builder_prune(docker: DockerCli, tmp_path: Path) -> None:
    for number in (1, 2):
        made = write_context(tmp_path / "prune", f"FROM busybox\nRUN echo {number} >/f\n")
        assert docker("build", "-t", "pruned", str(made)).returncode == 0
    pruned = docker("builder", "prune", "--force")
    assert pruned.returncode == 0, pruned.stderr
    assert re.search(r"Total reclaimed space:\s+[1-9]", pruned.stdout.decode())
