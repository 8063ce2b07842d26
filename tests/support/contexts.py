"""Sync. Contexts of builds, and what the API says while it builds them."""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.rawhttp import Answer, Api

TAR = {"Content-Type": "application/x-tar"}


@dataclass(frozen=True)
class Link:
    """A symbolic link, or with ``hard`` another name of a file."""

    target: str
    hard: bool = False


@dataclass(frozen=True)
class File:
    """A file with all that an archive can say of it."""

    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 1_600_000_000


Content = str | bytes | File | Link | None
"""None is a directory."""


def pack(files: Mapping[str, Content], compression: str = "") -> bytes:
    """A tar of files by their names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            _add(archive, name, content)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: Content) -> None:
    entry = tarfile.TarInfo(name)
    if content is None:
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    elif isinstance(content, Link):
        entry.type = tarfile.LNKTYPE if content.hard else tarfile.SYMTYPE
        entry.linkname = content.target
    else:
        file = content if isinstance(content, File) else File(_bytes(content))
        entry.size, entry.mode, entry.mtime = len(file.content), file.mode, file.mtime
        entry.uid, entry.gid = file.uid, file.gid
        archive.addfile(entry, io.BytesIO(file.content))
        return
    archive.addfile(entry)


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


@dataclass(frozen=True)
class Told:
    """A build's answer."""

    answer: Answer

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.answer.body.splitlines()]

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(line.get("stream", "") for line in self.lines)

    @property
    def error(self) -> str:
        return str(next((line["error"] for line in self.lines if "error" in line), ""))

    @property
    def image_id(self) -> str:
        """The image of the last stage; a build that failed has none."""
        assert not self.error, self.text + self.error
        return str([line["aux"]["ID"] for line in self.lines if "aux" in line][-1])

    @property
    def steps_done(self) -> int:
        """How many steps were not in the cache, of those that could be."""
        return self.text.count("\n ---> ") - self.text.count("Using cache")


def build(
    api: Api,
    dockerfile: str,
    files: Mapping[str, Content] | None = None,
    /,
    *,
    status: int = 200,
    **query: object,
) -> Told:
    """Build from a Dockerfile and what else is in the context."""
    body = pack({"Dockerfile": dockerfile, **(files or {})})
    return Told(api("POST", "/build", body=body, headers=TAR, **query).expect(status))


def files_of(api: Api, image: str) -> dict[str, tarfile.TarInfo]:
    """What an image holds, by path, as containers of it find it; without what the engine makes."""
    made = api("POST", "/containers/create", json_body={"Image": image, "Cmd": ["x"]}).expect(201).json["Id"]
    content = api("GET", f"/containers/{made}/export").expect(200).body
    api("DELETE", f"/containers/{made}", v=True).expect(204)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {member.name.rstrip("/"): member for member in archive}


def text_of(api: Api, image: str, path: str) -> str:
    """What a file of an image holds."""
    made = api("POST", "/containers/create", json_body={"Image": image, "Cmd": ["x"]}).expect(201).json["Id"]
    content = api("GET", f"/containers/{made}/archive", path=path).expect(200).body
    api("DELETE", f"/containers/{made}", v=True).expect(204)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        file = archive.extractfile(archive.getmembers()[0])
        assert file is not None
        return file.read().decode()


def write_context(directory: Path, dockerfile: str, **files: str) -> Path:
    """A context on disk, for clients that pack it themselves; an underscore in a name is a dot."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    for name, content in files.items():
        (directory / name.replace("_", ".")).write_text(content)
    return directory
