"""Building images: what comes of a Dockerfile, what is said on the way, and what is refused."""

import io
import json
import time
from collections.abc import Iterator

import docker as docker_py
import pytest
from docker.errors import BuildError

from tests.api import steps
from tests.support.contexts import TAR, Content, File, Told, build, files_of, pack, text_of
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api, UnixConnection


@pytest.fixture(autouse=True)
def nothing_is_left(daemon: Daemon, image: str, clean: None) -> Iterator[None]:
    yield
    daemon.remove_containers()
    assert list((daemon.data_root / "tmp").iterdir()) == []


# --- what comes of it ---------------------------------------------------------------------------------------

CONFIG = """
ARG TAG=latest
FROM busybox:$TAG
MAINTAINER somebody <me@example.org>
ENV A=b C="d e"
LABEL l1=v1 "l 2"="$A"
EXPOSE 80 443/udp
VOLUME /data
USER user
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT echo
CMD ["a", "b\\"c"]
HEALTHCHECK --interval=5s --retries=4 CMD true
ONBUILD RUN echo triggered >/tmp/t
"""


def test_configuration(api: Api) -> None:
    told = build(api, CONFIG, t="made", labels={"z": "last", "k": "of the request"})
    made = api("GET", "/images/made/json").expect(200).json
    assert made["Id"] == told.image_id
    config = made["Config"]
    assert config["Env"][1:] == ["A=b", "C=d e"]
    assert config["Env"][0].startswith("PATH=")
    assert config["Labels"] == {"l1": "v1", "l 2": "b", "k": "of the request", "z": "last"}
    assert config["ExposedPorts"] == {"80/tcp": {}, "443/udp": {}}
    assert config["Volumes"] == {"/data": {}}
    assert (config["User"], config["StopSignal"]) == ("user", "SIGINT")
    assert config["Entrypoint"] == ["/bin/sh", "-ec", "echo"]
    assert config["Cmd"] == ["a", 'b"c']
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 4}
    assert config["OnBuild"] == ["RUN echo triggered >/tmp/t"]
    assert made["Author"] == "somebody <me@example.org>"
    history = api("GET", "/images/made/history").json
    assert [entry["CreatedBy"] for entry in history[:4]] == [
        "/bin/sh -ec #(nop)  LABEL z=last",
        "/bin/sh -ec #(nop)  LABEL k=of the request",
        "/bin/sh -ec #(nop)  ONBUILD RUN echo triggered >/tmp/t",
        '/bin/sh -ec #(nop)  HEALTHCHECK &{["CMD-SHELL" "true"] "5s" "0s" "0s" "0s" \'\\x04\'}',
    ]
    assert history[0]["Id"] == told.image_id
    assert all(entry["Size"] == 0 for entry in history[:-1])


def test_triggers_of_the_base_run_first(api: Api) -> None:
    build(api, "FROM busybox\nONBUILD RUN echo one >/one\nONBUILD ENV T=two\n", t="base")
    told = build(api, "FROM base\nRUN echo $T >/two\n", t="child")
    assert "# Executing 2 build triggers\n" in told.text
    assert text_of(api, "child", "/one") == "one\n"
    assert text_of(api, "child", "/two") == "two\n"
    assert not api("GET", "/images/child/json").json["Config"]["OnBuild"]


def test_what_is_said(api: Api) -> None:
    told = build(api, "FROM busybox\nENV A=b\nRUN echo out; echo err >&2\n", t=("said", "other:1"))
    base = api("GET", "/images/busybox/json").json["Id"][7:19]
    ids = [line.removeprefix(" ---> ") for line in told.text.splitlines() if line.startswith(" ---> ")]
    running = ids[2].removeprefix("Running in ")
    short = told.image_id[7:19]
    assert [line["stream"] for line in told.lines if "stream" in line][:3] == [
        "Step 1/3 : FROM busybox", "\n", f" ---> {base}\n",
    ]  # fmt: skip
    assert "out\n" in told.text
    assert "\x1b[91merr\n\x1b[0m" in told.text
    assert told.text.endswith(
        f"Removing intermediate container {running}\n ---> {short}\nSuccessfully built {short}\n"
        "Successfully tagged said:latest\nSuccessfully tagged other:1\n"
    )
    assert api("GET", f"/containers/{running}/json").status == 404
    assert told.answer.headers["Content-Type"] == "application/json"
    assert "aux" not in json.dumps(build(api, "FROM busybox\nENV A=b\n", version="v1.29").lines)


def test_quietly(api: Api) -> None:
    told = build(api, "FROM busybox\nENV A=b\n", q=True)
    assert len(told.lines) == 1
    assert told.text.startswith("sha256:")
    assert told.text.strip() == build(api, "FROM busybox\nENV A=b\n").image_id
    failed = build(api, "FROM busybox\nRUN echo said; false\n", q=True)
    assert "said\n" in failed.text
    assert "returned a non-zero code: 1" in failed.error


def test_commands_see_arguments_and_images_do_not(api: Api) -> None:
    arguments = {"GIVEN": "from the request", "HTTP_PROXY": "http://proxy", "NOBODYS": "x", "EMPTY": None}
    dockerfile = (
        "FROM busybox\nARG GIVEN=default\nARG OWN=own\nARG EMPTY\n"
        'RUN echo "$GIVEN,$OWN,$HTTP_PROXY,$EMPTY" >/args\n'
    )
    told = build(api, dockerfile, t="args", buildargs=arguments)
    assert text_of(api, "args", "/args") == "from the request,own,http://proxy,\n"
    assert "[Warning] One or more build-args [NOBODYS] were not consumed\n" in told.text
    made = api("GET", "/images/args/json").json
    assert "OWN" not in json.dumps(made["Config"])
    latest = api("GET", "/images/args/history").json[0]["CreatedBy"]
    assert latest.startswith("|2 GIVEN=from the request OWN=own /bin/sh -c echo")


def test_output_is_whole(api: Api) -> None:
    lines = 200_000
    told = build(api, f"FROM busybox\nRUN seq {lines}\n")
    said = told.text.partition("Running in ")[2].partition("Removing")[0].split("\n")[1:-1]
    assert said == [str(number) for number in range(1, lines + 1)]


def test_characters_in_pieces(api: Api) -> None:
    told = build(api, "FROM busybox\nRUN printf '\\303'; sleep 0.2; printf '\\244\\n\\377\\n'\n")
    assert "ä\n\ufffd\n" in told.text


def test_stages(api: Api) -> None:
    dockerfile = """
FROM busybox AS Build
RUN mkdir /out && echo made >/out/file
FROM scratch AS empty
COPY --from=build /out /got
FROM build
COPY --from=empty /got/file /again
COPY --from=1 /got /numbered
COPY --from=busybox /etc/passwd /of-image
"""
    told = build(api, dockerfile, t="stages")
    files = files_of(api, "stages")
    assert {"again", "numbered/file", "of-image", "out/file"} <= files.keys()
    assert len([line for line in told.lines if "aux" in line]) == 3
    target = build(api, dockerfile, target="EMPTY", t="target")
    assert "Step 4/4" in target.text
    assert {name for name in files_of(api, "target") if name.startswith("got")} == {"got", "got/file"}
    assert api("GET", "/images/target/json").json["Config"]["Env"][0].startswith("PATH=")


def test_what_a_command_changes(api: Api) -> None:
    dockerfile = """
FROM busybox
RUN mkdir -p /d/kept /d/gone && touch /d/kept/f /d/gone/f && chmod 750 /d/kept
RUN rm -r /d/gone && rm -r /d/kept && mkdir /d/kept && ln -s kept /d/link && touch /d/kept/new
RUN true
RUN touch /etc/hosts
"""
    build(api, dockerfile, t="changed")
    files = files_of(api, "changed")
    assert "d/gone" not in files
    assert {name for name in files if name.startswith("d/")} == {"d/kept", "d/kept/new", "d/link"}
    assert files["d/kept"].mode & 0o777 == 0o755
    made = api("GET", "/images/changed/json").json
    assert len(made["RootFS"]["Layers"]) == 3, "a command that changes nothing makes no layer"


# --- limits and the like ------------------------------------------------------------------------------------


def test_limits_and_network(api: Api) -> None:
    dockerfile = (
        "FROM busybox\n"
        "RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; "
        "ulimit -n; df -k /dev/shm | tail -n 1; grep somewhere /etc/hosts; ls /sys/class/net\n"
    )
    told = build(
        api, dockerfile, memory=64 << 20, memswap=-1, shmsize=8 << 20, networkmode="none",
        ulimits=[{"Name": "nofile", "Soft": 77, "Hard": 88}], extrahosts="somewhere:10.9.8.7",
    )  # fmt: skip
    assert f"{64 << 20}\n77\n" in told.text
    assert " 8192 " in told.text
    assert "10.9.8.7\tsomewhere\n" in told.text
    assert "eth0" not in told.text


def test_volumes_go_with_the_step(api: Api) -> None:
    build(api, "FROM busybox\nVOLUME /v\nRUN echo lost >/v/f && echo kept >/f\n", t="volumes")
    assert "v/f" not in files_of(api, "volumes")
    assert api("GET", "/volumes").json["Volumes"] == []


# --- failure ------------------------------------------------------------------------------------------------


def test_a_command_that_fails(api: Api) -> None:
    told = build(api, "FROM busybox\nRUN echo before; exit 3\nRUN echo never\n", t="failed")
    message = "The command '/bin/sh -c echo before; exit 3' returned a non-zero code: 3"
    assert told.lines[-1] == {"errorDetail": {"code": 3, "message": message}, "error": message}
    assert "before\n" in told.text
    assert api("GET", "/images/failed/json").status == 404
    listed = api("GET", "/containers/json", all=True).json
    assert [(one["State"], one["Command"]) for one in listed] == [
        ("exited", "/bin/sh -c 'echo before; exit 3'")
    ], "as with Docker, the container of the step that failed is left to be looked at"


def test_forced_removal(api: Api) -> None:
    told = build(api, "FROM busybox\nRUN exit 3\n", forcerm=True)
    assert "Removing intermediate container" in told.text
    assert api("GET", "/containers/json", all=True).json == []


def test_without_removal(api: Api) -> None:
    told = build(api, "FROM busybox\nRUN echo x >/made\n", t="unremoved", rm=False)
    assert "Removing" not in told.text
    (left,) = api("GET", "/containers/json", all=True).json
    assert api("GET", f"/containers/{left['Id']}/changes").json == [{"Path": "/made", "Kind": 1}]
    assert text_of(api, "unremoved", "/made") == "x\n"
    api("DELETE", f"/containers/{left['Id']}").expect(204)


@pytest.mark.parametrize(
    ("dockerfile", "error"),
    [
        ("COPY nope /x", "COPY failed: file not found in build context or excluded by .dockerignore: "
         "stat nope: file does not exist"),
        ("COPY nope* /x", "COPY failed: no source files were specified"),
        ("COPY a b /x", "When using COPY with more than one source file, the destination must be a directory "
         "and end with a /"),
        ("COPY ../a /x", "COPY failed: forbidden path outside the build context: ../a ()"),
        ("COPY http://x/y /x", "COPY failed: source can't be a URL for COPY"),
        ("COPY --chown=nobody-here a /x", "unable to convert uid/gid chown string to host mapping: can't "
         "find uid for user nobody-here: no such user: nobody-here"),
        ("COPY --chown=1:2:3 a /x", "unable to convert uid/gid chown string to host mapping: invalid chown "
         "string format: 1:2:3"),
        ("COPY --from=9 a /x", "invalid from flag value 9: index out of bounds"),
        ("COPY --from=0 a /x", "invalid from flag value 0: refers to current build stage"),
        ("COPY --from=busybox /nope /x", "COPY failed: stat nope: file does not exist"),
        ("WORKDIR /etc/passwd", "Cannot mkdir: /etc/passwd is not a directory"),
        ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
        ("RUN --mount=type=cache,target=/x true", "the --mount option requires BuildKit. Refer to "
         "https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled"),
    ],
)  # fmt: skip
def test_steps_that_fail(api: Api, dockerfile: str, error: str) -> None:
    told = build(api, f"FROM busybox\n{dockerfile}\n", {"a": "", "b": ""})
    assert told.error == error
    assert told.text.startswith("Step 1/2 : FROM busybox\n")


def test_nothing_to_run(api: Api) -> None:
    assert "no such file or directory" in build(api, "FROM scratch\nRUN x\n").error
    assert build(api, "FROM scratch\n").error == "No image was generated. Is your Dockerfile empty?"
    assert 'exec: "nothing"' in build(api, 'FROM busybox\nRUN ["nothing"]\n').error
    assert build(api, "FROM busybox AS a\nFROM busybox AS A\n").error == "a stage name already used"


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM busybox\nFOO bar\n", "dockerfile parse error on line 2: unknown instruction: FOO"),
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("RUN x\n", "no build stage in current context"),
        ("ARG A\n", "dockerfile contains no stages to build"),
    ],
)
def test_dockerfiles_that_are_wrong(api: Api, dockerfile: str, message: str) -> None:
    assert message in build(api, dockerfile, status=400).answer.message


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"squash": True}, "squash is only supported with experimental mode"),
        ({"t": "UPPER"}, "must be lowercase"),
        ({"t": "x@sha256:" + "0" * 64}, "build tag cannot contain a digest"),
        ({"buildargs": "{"}, "error reading build args"),
        ({"labels": "[]"}, "error reading labels"),
        ({"cachefrom": "{}"}, "error reading cache-from"),
        ({"ulimits": "[{}"}, "error reading ulimit settings"),
        ({"memory": "1"}, "Minimum memory limit allowed is 6MB"),
        ({"memory": "many"}, 'invalid value "many" for "memory"'),
        ({"networkmode": "container:"}, "invalid container format"),
        ({"platform": "plan9/amd64"}, 'operating system "plan9" is not supported'),
        ({"target": "nope"}, 'target stage "nope" could not be found'),
        ({"dockerfile": "other"}, "Cannot locate specified Dockerfile: other"),
        ({"dockerfile": "../../etc/passwd"}, "Cannot locate specified Dockerfile"),
        ({"remote": "ftp://x"}, "remoteURL (ftp://x) could not be recognized as URL"),
        ({"securityopt": "x"}, "does not support setting security options on build"),
        ({"rm": "maybe"}, 'invalid value "maybe" for "rm"'),
    ],
)
def test_requests_that_are_wrong(api: Api, query: dict[str, object], message: str) -> None:
    assert message in build(api, "FROM busybox\n", status=400, **query).answer.message


@pytest.mark.parametrize(
    ("builder", "message"), [("2", "buildkit is not enabled on daemon"), ("3", "invalid version 3")]
)
def test_other_builders(api: Api, builder: str, message: str) -> None:
    connection = UnixConnection(api.path)
    connection.request("POST", f"/v1.51/build?version={builder}", body=pack({}), headers=TAR)
    answer = connection.getresponse()
    assert answer.status == 400
    assert message in json.loads(answer.read())["message"]
    connection.close()


def test_contexts_that_are_wrong(api: Api) -> None:
    for body in (b"no tar at all" * 100, pack({"Dockerfile": "FROM busybox\n"})[:520], b"\x1f\x8bbroken"):
        answer = api("POST", "/build", body=body, headers=TAR)
        assert "Error processing tar file" in answer.expect(400).message


def test_a_base_that_is_not_there(api: Api) -> None:
    told = build(api, "FROM localhost:1/nowhere\n")
    assert told.text == "Step 1/1 : FROM localhost:1/nowhere\n"
    assert told.error


# --- contexts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_compressed_contexts(api: Api, compression: str) -> None:
    body = pack({"Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "x"}, compression)
    told = Told(api("POST", "/build", body=body, headers=TAR).expect(200))
    assert text_of(api, told.image_id, "/a") == "x"


def test_dockerignore_and_other_names(api: Api) -> None:
    """Clients leave out what is ignored, all but these two files."""
    files: dict[str, Content] = {
        "sub/Other": "FROM busybox\nCOPY . /c/\n",
        ".dockerignore": "sub/Other\n.dockerignore\n",
        "a": "x",
    }
    build(api, "", files, dockerfile="sub/Other", t="ignored")
    assert {name for name in files_of(api, "ignored") if name.startswith("c/")} == {
        "c/a", "c/sub", "c/Dockerfile",
    }  # fmt: skip
    body = pack({"dockerfile": "FROM busybox\nENV small=letters\n"})
    assert Told(api("POST", "/build", body=body, headers=TAR).expect(200)).image_id


def test_events(api: Api) -> None:
    since = time.time()
    told = build(api, "FROM busybox\nENV A=b\nRUN echo x >/x\n", t="told", nocache=True)
    running = told.text.partition("Running in ")[2][:12]
    steps.until(lambda: api("GET", f"/containers/{running}/json").status == 404)
    answer = api("GET", "/events", since=f"{since:.6f}", until=f"{time.time():.6f}")
    events = [json.loads(line) for line in answer.body.splitlines()]
    of_container = [
        event["Action"]
        for event in events
        if event["Type"] == "container" and event["Actor"]["ID"][:12] == running
    ]
    assert of_container == ["create", "attach", "start", "die", "destroy"]
    of_images = [
        (event["Action"], event["Actor"]["Attributes"]["name"])
        for event in events
        if event["Type"] == "image"
    ]
    assert of_images == [("tag", "told:latest")]


def test_docker_py(docker_client: docker_py.DockerClient) -> None:
    buffer = pack({"Dockerfile": "FROM busybox\nARG A\nRUN echo $A >/a\n"})
    built, lines = docker_client.images.build(
        fileobj=io.BytesIO(buffer), custom_context=True, tag="by-docker-py", rm=True,
        buildargs={"A": "given"}, labels={"l": "v"}, container_limits={"memory": 64 << 20},
        extra_hosts={"somewhere": "10.9.8.7"}, shmsize=1 << 20, network_mode="none",
    )  # fmt: skip
    assert "by-docker-py:latest" in built.tags
    assert built.labels == {"l": "v"}
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    assert docker_client.containers.run("by-docker-py", ["cat", "/a"], remove=True) == b"given\n"
    with pytest.raises(BuildError, match="returned a non-zero code: 5"):
        docker_client.images.build(
            fileobj=io.BytesIO(pack({"Dockerfile": "FROM busybox\nRUN exit 5\n"})),
            custom_context=True,
        )


def test_files_have_the_times_of_the_context(api: Api) -> None:
    told = build(
        api, "FROM busybox\nCOPY a /a\n", {"a": File(b"x", mode=0o640, uid=7, gid=8, mtime=1_234_567_890)}
    )
    copied = files_of(api, told.image_id)["a"]
    assert (copied.mtime, copied.mode & 0o777, copied.uid, copied.gid) == (1_234_567_890, 0o640, 0, 0)
