"""Names, records and configurations of images."""

import json

import msgspec
import pytest

from proad.model import errors
from proad.model.changes import apply_changes
from proad.model.hostconfig import ContainerConfig, Empty, Healthcheck
from proad.model.image import History, Image, ImageConfig, chain_ids, merge_config
from proad.model.imagearchive import (
    Descriptor,
    Platform,
    choose,
    encode_config,
    host_platform,
    name_of,
    parse_archive_manifest,
    parse_image,
    parse_index,
    parse_manifest,
    parse_platform,
)
from proad.model.reference import parse_reference, parse_repository_tag
from tests.support.archives import image_config, sha256

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("me/tool", "docker.io/me/tool:latest", "me/tool:latest"),
        ("docker.io/library/x", "docker.io/library/x:latest", "x:latest"),
        ("index.docker.io/x", "docker.io/library/x:latest", "x:latest"),
        ("localhost/x:y", "localhost/x:y", "localhost/x:y"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("Host/x", "Host/x:latest", "Host/x:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"a.b/c:t@{DIGEST}", f"a.b/c:t@{DIGEST}", f"a.b/c:t@{DIGEST}"),
        ("a__b--c.d", "docker.io/library/a__b--c.d:latest", "a__b--c.d:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ],
)
def test_reference_has_a_canonical_and_a_familiar_form(text: str, canonical: str, familiar: str) -> None:
    reference = parse_reference(text).with_default_tag()
    assert (reference.canonical, reference.familiar) == (canonical, familiar)
    assert parse_reference(reference.canonical) == reference
    assert parse_reference(reference.familiar) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        "a b",
        "-a",
        "a/",
        "/a",
        "a//b",
        "a:-t",
        "a:" + "t" * 129,
        "a@sha256:12",
        "a@",
        "../a",
        "a..b",
    ],
)
def test_reference_refuses_what_is_no_name(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match="invalid reference format"):
        parse_reference(text)


def test_reference_says_what_is_wrong_where_docker_does() -> None:
    with pytest.raises(errors.InvalidParameter, match="must be lowercase"):
        parse_reference("me/Tool")
    with pytest.raises(errors.InvalidParameter, match="cannot specify 64-byte hexadecimal"):
        parse_reference("ab" * 32)
    with pytest.raises(errors.InvalidParameter, match="not be more than 255"):
        parse_reference("a" * 256)
    with pytest.raises(errors.InvalidParameter, match="digest reference"):
        parse_repository_tag("a", DIGEST)
    with pytest.raises(errors.InvalidParameter, match="invalid tag"):
        parse_repository_tag("a", "no good")


def test_repository_and_tag_of_a_request_make_a_name() -> None:
    assert parse_repository_tag("", "") is None
    assert parse_repository_tag("a", "") == parse_reference("a:latest")
    assert parse_repository_tag("a:x", "") == parse_reference("a:x")
    assert parse_repository_tag("a:x", "y") == parse_reference("a:y")


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("busybox", True), ("busy*", True), ("busybox:1.*", True), ("*", True), ("box", False),
        ("*/busybox", False),
        ("busybox:2", False), ("docker.io/library/busybox", False), ("busyb[aeo]x", True),
    ],
)  # fmt: skip
def test_reference_matches_as_a_glob_of_its_familiar_name(pattern: str, matches: bool) -> None:
    assert parse_reference("busybox:1.36").matches(pattern) is matches


def test_star_of_a_glob_stops_at_a_slash() -> None:
    assert not parse_reference("me/tool").matches("*")
    assert parse_reference("me/tool").matches("*/*")


def test_chain_ids_are_those_of_the_specification() -> None:
    low, high = sha256(b"low"), sha256(b"high")
    assert chain_ids(()) == ()
    assert chain_ids((low, high)) == (low, sha256(f"{low} {high}".encode()))


def test_record_survives_the_store() -> None:
    image = Image(
        id=DIGEST,
        architecture="amd64",
        os="linux",
        config=ImageConfig(
            cmd=("sh",),
            entrypoint=(),
            exposed_ports={"80/tcp": Empty()},
            healthcheck=Healthcheck(test=("NONE",)),
        ),
        diff_ids=(DIGEST,),
        layer_sizes=(5,),
        history=(History(created_by="x", empty_layer=True),),
    )
    assert msgspec.json.decode(msgspec.json.encode(image), type=Image) == image
    assert (image.size_bytes, image.short_id) == (5, "0123456789ab")


# --- merging ------------------------------------------------------------------------------------------------

IMAGE = ImageConfig(
    user="web",
    env=("PATH=/bin", "A=image", "B=image"),
    entrypoint=("/entry",),
    cmd=("default",),
    exposed_ports={"80/tcp": Empty()},
    volumes={"/data": Empty()},
    working_dir="/srv",
    labels={"from": "image", "only": "image"},
    stop_signal="SIGQUIT",
    healthcheck=Healthcheck(test=("CMD", "probe"), interval=5, retries=3),
)


def test_container_gets_what_it_does_not_ask_for() -> None:
    merged = merge_config(IMAGE, ContainerConfig())
    for name in ("user", "env", "entrypoint", "cmd", "exposed_ports", "volumes", "working_dir", "labels"):
        assert getattr(merged, name) == getattr(IMAGE, name)
    assert (merged.stop_signal, merged.healthcheck) == ("SIGQUIT", IMAGE.healthcheck)


def test_what_the_container_asks_for_wins_or_is_added() -> None:
    merged = merge_config(
        IMAGE,
        ContainerConfig(
            user="root",
            env=("A=asked", "C"),
            exposed_ports={"81/udp": Empty()},
            volumes={"/more": Empty()},
            labels={"from": "request"},
            healthcheck=Healthcheck(interval=9),
        ),
    )
    assert merged.user == "root"
    assert merged.env == ("A=asked", "C", "PATH=/bin", "B=image")
    assert set(merged.exposed_ports) == {"80/tcp", "81/udp"}
    assert set(merged.volumes) == {"/data", "/more"}
    assert merged.labels == {"from": "request", "only": "image"}
    assert merged.healthcheck == Healthcheck(test=("CMD", "probe"), interval=9, retries=3)


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "expected"),
    [
        (None, None, (("/entry",), ("default",))),
        (None, ("x",), (("/entry",), ("x",))),
        (("/other",), None, (("/other",), None)),
        (("/other",), ("x",), (("/other",), ("x",))),
        ((), None, ((), ("default",))),
    ],
)
def test_entrypoint_and_command_go_together(
    entrypoint: tuple[str, ...] | None, cmd: tuple[str, ...] | None, expected: object
) -> None:
    merged = merge_config(IMAGE, ContainerConfig(entrypoint=entrypoint, cmd=cmd))
    assert (merged.entrypoint, merged.cmd) == expected


# --- changes ------------------------------------------------------------------------------------------------


def test_changes_are_dockerfile_instructions() -> None:
    config = apply_changes(
        ImageConfig(),
        [
            'CMD ["a", "b c"]',
            "entrypoint run me",
            "ENV A=1 B=\"two words\" C='$A'\nENV D=$A-${B}-${E:-none}-\\$A",
            "ENV OLD form of it",
            "EXPOSE 80 53/udp 8000-8001/TCP",
            'LABEL x=y "long key"="long value"',
            "USER $A",
            'VOLUME ["/v 1", "/v2"]',
            "VOLUME /v3",
            "WORKDIR /a",
            "WORKDIR b/../c",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=30s --retries=4 CMD probe | grep x",
            "# nothing\nENV LAST=\\\n1",
        ],
    )
    assert config.cmd == ("a", "b c")
    assert config.entrypoint == ("/bin/sh", "-c", "run me")
    assert config.env == (
        "A=1", "B=two words", "C=$A", "D=1-two words-none-$A", "OLD=form of it", "LAST=1",
    )  # fmt: skip
    assert set(config.exposed_ports) == {"80/tcp", "53/udp", "8000/tcp", "8001/tcp"}
    assert config.labels == {"x": "y", "long key": "long value"}
    assert config.user == "1"
    assert set(config.volumes) == {"/v 1", "/v2", "/v3"}
    assert config.working_dir == "/a/c"
    assert config.stop_signal == "SIGINT"
    assert config.on_build == ("RUN x",)
    assert config.healthcheck == Healthcheck(
        test=("CMD-SHELL", "probe | grep x"), interval=30 * 10**9, retries=4
    )


def test_entrypoint_voids_a_command_that_was_there_before() -> None:
    assert apply_changes(ImageConfig(cmd=("x",)), ['ENTRYPOINT ["y"]']).cmd is None
    assert apply_changes(ImageConfig(), ['CMD ["x"]', 'ENTRYPOINT ["y"]']).cmd == ("x",)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("RUN rm -rf /", "run is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in"),
        ("ENV =x", "names can not be blank"),
        ("EXPOSE 0", "invalid containerPort: 0"),
        ("EXPOSE 70000", "invalid containerPort"),
        ("EXPOSE x", "invalid containerPort"),
        ("STOPSIGNAL NONSENSE", "NONSENSE"),
        ("ONBUILD FROM x", "FROM isn't allowed"),
        ("ONBUILD ONBUILD x", "Chaining ONBUILD"),
        ("HEALTHCHECK maybe", "Unknown type"),
        ("HEALTHCHECK --nonsense=1 CMD x", "unknown flag"),
        ("HEALTHCHECK --interval=soon CMD x", "soon"),
        ("HEALTHCHECK --timeout=10us CMD x", 'Interval "timeout" cannot be less than 1ms'),
        ("HEALTHCHECK --retries=-1 CMD x", r"--retries cannot be negative \(-1\)"),
        ("HEALTHCHECK --retries=many CMD x", "--retries is not a number: many"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ('VOLUME [""]', "empty"),
    ],
)
def test_changes_that_cannot_be_meant_are_refused(change: str, text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=text):
        apply_changes(ImageConfig(), [change])


# --- what is written in images ------------------------------------------------------------------------------


def test_image_is_read_from_its_configuration() -> None:
    content = image_config([b"low", b"high"], Cmd=["x"], Env=None, ExposedPorts={"80/tcp": None}, Future=1)
    image = parse_image(content)
    assert image.id == sha256(content)
    assert image.diff_ids == (sha256(b"low"), sha256(b"high"))
    assert image.config.cmd == ("x",)
    assert set(image.config.exposed_ports) == {"80/tcp"}
    assert [entry.created_by for entry in image.history] == ["step 0", "step 1"]


def test_own_configuration_is_read_as_it_was_written() -> None:
    image = Image(
        id="",
        architecture="arm64",
        os="linux",
        variant="v8",
        created="2024-01-01T00:00:00Z",
        comment="c",
        config=ImageConfig(cmd=("sh",)),
        diff_ids=(DIGEST,),
        chain_ids=(DIGEST,),
        history=(History(created="2024-01-01T00:00:00Z", comment="c"),),
    )
    content = encode_config(image)
    assert parse_image(content) == msgspec.structs.replace(image, id=sha256(content))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"nonsense", "invalid image configuration"),
        (b"[]", "not a JSON object"),
        (b"{}", "no RootFS key"),
        (b'{"rootfs": {"diff_ids": ["sha256:1"]}}', "no SHA-256 digest"),
        (b'{"rootfs": {}, "os": "windows"}', "cannot load windows image on linux"),
        (b'{"rootfs": {}, "os": 1}', "os is not a string"),
        (b'{"rootfs": {}, "config": {"Env": "x"}}', "Env"),
        (json.dumps({"rootfs": {"diff_ids": [DIGEST] * 128}}).encode(), "max depth exceeded"),
    ],
)
def test_broken_configurations_are_refused(content: bytes, text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=text):
        parse_image(content)


def test_broken_manifests_are_refused() -> None:
    with pytest.raises(errors.InvalidParameter, match="cannot be null"):
        parse_archive_manifest(b"null")
    with pytest.raises(errors.InvalidParameter, match=r"manifest\.json"):
        parse_archive_manifest(b"{")
    with pytest.raises(errors.InvalidParameter, match="not one of an image"):
        parse_manifest(b'{"schemaVersion": 1}')
    with pytest.raises(errors.InvalidParameter, match="no list of manifests"):
        parse_index(b"{}")


def test_names_in_an_index_are_found() -> None:
    assert name_of(Descriptor(annotations={"org.opencontainers.image.ref.name": "latest"})) is None
    named = Descriptor(annotations={"io.containerd.image.name": "docker.io/library/x:1"})
    assert name_of(named) == parse_reference("x:1")


def test_manifest_is_chosen_by_platform() -> None:
    amd = Descriptor(digest="a", platform={"os": "linux", "architecture": "amd64"})
    arm = Descriptor(digest="b", platform={"os": "linux", "architecture": "arm64", "variant": "v8"})
    assert choose([amd, arm], Platform("linux", "arm64")) is arm
    assert choose([amd, arm], Platform("linux", "arm64", "v7")) is None
    assert choose([Descriptor(digest="c")], Platform("linux", "riscv64"))


def test_platforms() -> None:
    assert parse_platform("") is None
    assert parse_platform("linux/arm64/v8") == Platform("linux", "arm64", "v8")
    assert parse_platform("linux/x86_64") == Platform("linux", "amd64")
    assert parse_platform("arm64") == Platform("linux", "arm64")
    assert parse_platform("linux") == host_platform()
    with pytest.raises(errors.InvalidParameter, match="invalid OS and architecture"):
        parse_platform("a/b/c/d")
