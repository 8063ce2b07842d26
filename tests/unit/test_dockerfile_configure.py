"""What instructions make of an image's configuration, and what its history says of them."""

import pytest

from proad.model import errors
from proad.model.configure import configure, describe, parse_ports
from proad.model.dockerfile import parse_dockerfile
from proad.model.expansion import expand
from proad.model.hostconfig import Healthcheck
from proad.model.image import ImageConfig
from proad.model.instructions import Instruction, User, Volume, Workdir

BASE = ImageConfig(env=("PATH=/bin", "A=1"), cmd=("base",), labels={"l": "1"}, working_dir="/w")


def build(text: str, config: ImageConfig = BASE) -> tuple[ImageConfig, list[str]]:
    """The configuration after all instructions, and what history says of each."""
    history: list[str] = []
    has_cmd = False
    for written in parse_dockerfile(f"FROM x\n{text}".encode()).stages[0].instructions:
        instruction: Instruction = expand(written, dict(v.partition("=")[::2] for v in config.env))
        config = configure(instruction, config, has_cmd=has_cmd)
        has_cmd = has_cmd or instruction.keyword == "CMD"
        history.append(describe(instruction, config))
    return config, history


@pytest.mark.parametrize(
    ("text", "field", "value", "history"),
    [
        ("CMD a b", "cmd", ("/bin/sh", "-c", "a b"), r'CMD ["/bin/sh" "-c" "a b"]'),
        ('CMD ["a", "\\"\\n"]', "cmd", ("a", '"\n'), r'CMD ["a" "\"\n"]'),
        ("CMD []", "cmd", (), "CMD []"),
        ("CMD", "cmd", ("/bin/sh", "-c"), 'CMD ["/bin/sh" "-c"]'),
        ("ENTRYPOINT a", "entrypoint", ("/bin/sh", "-c", "a"), 'ENTRYPOINT ["/bin/sh" "-c" "a"]'),
        ("ENTRYPOINT []", "entrypoint", None, "ENTRYPOINT []"),
        ("ENTRYPOINT", "entrypoint", None, "ENTRYPOINT []"),
        ("ENV B=$A A=2", "env", ("PATH=/bin", "A=2", "B=1"), "ENV B=1 A=2"),
        ("ENV B a  b", "env", ("PATH=/bin", "A=1", "B=a  b"), "ENV B=a  b"),
        ("LABEL l=2 m='x y'", "labels", {"l": "2", "m": "x y"}, "LABEL l=2 m=x y"),
        ("USER $A", "user", "1", "USER 1"),
        ("WORKDIR a/../b", "working_dir", "/w/b", "WORKDIR /w/b"),
        ("WORKDIR //a/", "working_dir", "/a", "WORKDIR /a"),
        ("STOPSIGNAL RTMIN+3", "stop_signal", "RTMIN+3", "STOPSIGNAL RTMIN+3"),
        ('SHELL ["/bin/bash", "-c"]', "shell", ("/bin/bash", "-c"), "SHELL [/bin/bash -c]"),
        ("ONBUILD RUN $A", "on_build", ("RUN $A",), "ONBUILD RUN $A"),
        ("ARG a b=1", "env", BASE.env, "ARG a b=1"),
        ("MAINTAINER Me", "env", BASE.env, "MAINTAINER Me"),
        ("HEALTHCHECK NONE", "healthcheck", Healthcheck(test=("NONE",)),
         r"""HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" '\x00'}"""),
        ("HEALTHCHECK --interval=30s --timeout=3s --retries=5 CMD a $A", "healthcheck",
         Healthcheck(test=("CMD-SHELL", "a $A"), interval=30 * 10**9, timeout=3 * 10**9, retries=5),
         r"""HEALTHCHECK &{["CMD-SHELL" "a $A"] "30s" "3s" "0s" "0s" '\x05'}"""),
    ],
)  # fmt: skip
def test_instruction_changes_the_configuration(text: str, field: str, value: object, history: str) -> None:
    config, told = build(text)
    assert getattr(config, field) == value
    assert told == [history]


def test_shell_is_for_what_follows() -> None:
    config, _ = build('CMD a\nSHELL ["s"]\nENTRYPOINT b')
    assert config.cmd == ("/bin/sh", "-c", "a")
    assert config.entrypoint == ("s", "b")


def test_entrypoint_voids_a_command_of_the_base_only() -> None:
    assert build('ENTRYPOINT ["a"]')[0].cmd is None
    assert build('CMD ["c"]\nENTRYPOINT ["a"]')[0].cmd == ("c",)


def test_ports_and_volumes_are_gathered() -> None:
    config, told = build('EXPOSE 80 53/UDP\nEXPOSE 80-81\nVOLUME /a /b\nVOLUME ["/c d"]')
    assert list(config.exposed_ports) == ["53/udp", "80/tcp", "81/tcp"]
    assert list(config.volumes) == ["/a", "/b", "/c d"]
    assert told == ["EXPOSE 53/UDP 80", "EXPOSE 80-81", "VOLUME [/a /b]", "VOLUME [/c d]"]


@pytest.mark.parametrize(
    ("specs", "ports"),
    [
        (["80"], ("80/tcp",)),
        (["8080:80/udp"], ("80/udp",)),
        (["127.0.0.1:8080:80"], ("80/tcp",)),
        (["127.0.0.1::80"], ("80/tcp",)),
        (["[::1]:8080:80"], ("80/tcp",)),
        (["9000-9001:80-81"], ("80/tcp", "81/tcp")),
        (["9000-9001:80"], ("80/tcp",)),
        (["3-4", "1-3", "2"], ("1/tcp", "2/tcp", "3/tcp", "4/tcp")),
        (["80/"], ("80/tcp",)),
    ],
)
def test_ports(specs: list[str], ports: tuple[str, ...]) -> None:
    assert parse_ports(specs) == ports


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("0", "invalid containerPort: 0"),
        ("65536", "invalid containerPort: 65536"),
        ("2-1", "invalid containerPort: 2-1"),
        ("http", "invalid containerPort: http"),
        ("80/icmp", "invalid proto: icmp"),
        ("/tcp", "no port specified: /tcp<empty>"),
        ("80:", "no port specified: 80:<empty>"),
        ("x:80", "invalid hostPort: x"),
        ("nowhere:1:80", "invalid IP address: nowhere"),
        ("1:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1"),
    ],
)
def test_ports_that_are_none(spec: str, message: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        parse_ports([spec])
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("STOPSIGNAL NONSENSE", "invalid signal: NONSENSE"),
        ("WORKDIR $none", "cannot normalize nothing"),
        ("VOLUME $none", "VOLUME specified can not be an empty string"),
    ],
)
def test_wrong_values(text: str, message: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        build(text)
    assert caught.value.message == message


def test_nothing_but_its_own_field_changes() -> None:
    assert configure(User(user="u"), BASE).env == BASE.env
    assert configure(Volume(paths=("/v",)), BASE).cmd == BASE.cmd
    assert configure(Workdir(path="x"), ImageConfig()).working_dir == "/x"
