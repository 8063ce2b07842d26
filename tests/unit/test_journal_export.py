"""Sync, pure. Entries of the journal as lines of a log, and what a container is called there."""

import pytest

from proad.model import errors
from proad.model.container import Container, Status
from proad.model.hostconfig import ContainerConfig, HostConfig, LogConfig
from proad.model.journalexport import ExportReader
from proad.model.logtag import log_tag

MICROSECONDS = 1732399080123456
HEAD = b"2024-11-23T21:58:00.123456000+00:00 "


def entry(message: bytes, *, cursor: str = "c", **fields: str) -> bytes:
    plain = {"__CURSOR": cursor, "__REALTIME_TIMESTAMP": str(MICROSECONDS), "_BOOT_ID": "b", **fields}
    head = b"".join(f"{key}={value}\n".encode() for key, value in plain.items())
    return head + b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n\n"


def test_lines_parts_and_streams() -> None:
    reader = ExportReader()
    assert reader.feed(entry(b"one\n")) == HEAD + b"stdout F one\n"
    assert reader.feed(entry(b"two\n", PRIORITY="3")) == HEAD + b"stderr F two\n"
    part = {"CONTAINER_PARTIAL_MESSAGE": "true"}
    assert reader.feed(entry(b"par", cursor="d", **part)) == HEAD + b"stdout P par\n"
    assert reader.feed(entry(b"\n")) == HEAD + b"stdout F \n"
    assert reader.feed(entry(b"", cursor="e", **part)) == b""
    assert reader.cursor == "e"
    text = b"__CURSOR=x\n__REALTIME_TIMESTAMP=%d\nMESSAGE=of another writer\n\n" % MICROSECONDS
    assert reader.feed(text) == HEAD + b"stdout F of another writer\n"
    assert reader.feed(entry(b"a\nb\n")) == HEAD + b"stdout F a\n" + HEAD + b"stdout F b\n"


def test_the_stream_may_come_in_any_pieces() -> None:
    messages = [b"plain\n", b"\n\nMESSAGE\n\x05\0\0\0\0\0\0\0=\n", b"\xff" * 300 + b"\n", b"end\n"]
    whole = b"".join(entry(message) for message in messages)
    wanted = ExportReader().feed(whole)
    for size in (1, 2, 7, 64):
        reader = ExportReader()
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert b"".join(map(reader.feed, pieces)) == wanted


def test_what_was_broken_off_is_forgotten() -> None:
    reader = ExportReader()
    reader.feed(entry(b"1\n", cursor="first") + entry(b"2\n", cursor="second")[:-5])
    assert reader.cursor == "first"
    reader.forget_rest()
    assert reader.feed(entry(b"2\n", cursor="second")) == HEAD + b"stdout F 2\n"


def tagged(tag: str) -> str:
    log = LogConfig(type="journald", config={"tag": tag})
    made = Container(
        id="0123456789abcdef", name="web", created_ns=0, image_id="sha256:fedcba9876543210",
        image_ref="app:1", config=ContainerConfig(), layers=(), status=Status.CREATED,
        host_config=HostConfig(log_config=log),
    )  # fmt: skip
    return log_tag(made)


def test_tags() -> None:
    assert tagged("") == tagged("{{.ID}}") == "0123456789ab"
    assert tagged("{{ .Name }}.{{.ImageName}}-{{.ImageID}}") == "web.app:1-fedcba987654"
    assert tagged("{{.FullID}} {{.ImageFullID}} {{.DaemonName}}") == (
        "0123456789abcdef sha256:fedcba9876543210 docker"
    )
    assert tagged("plain}}") == "plain}}"
    for wrong in ("{{.Frob}}", "{{", "{{.ID", "{{range .X}}"):
        with pytest.raises(errors.InvalidParameter, match="failed to initialize logging driver: template"):
            tagged(wrong)
