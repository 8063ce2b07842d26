"""What `docker build` and `proa build` send a daemon, and what they make of its answers."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from proa.context.archive import read_all
from proa.context.prepare import prepare
from tests.cli.recorder import Asked, Both, Recorder, meaning, only
from tests.strictness import skip_for_older_docker
from tests.support.archives import Item, make_tar, symlink


def context_of(asked: Asked) -> dict[str, object]:
    """The entries of an uploaded context, with all that tells them apart; generated names are made one."""
    found: dict[str, object] = {}
    generated = asked.query.get("dockerfile", [""])[0] if "dockerfile" in asked.query else ""
    is_generated = generated.startswith(".dockerfile.")
    # docker forgets the end of an archive that it put a Dockerfile into.
    with tarfile.open(fileobj=io.BytesIO(asked.body + bytes(-len(asked.body) % 512 + 1024))) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            content = file.read().decode() if file else ""
            name = member.name
            mtime = member.mtime
            if is_generated:
                content = content.replace(generated, "GENERATED")
                mtime = 0 if name in (generated, ".dockerignore") else mtime
                name = "GENERATED" if name == generated else name
            owner = (member.uid, member.gid, member.uname)
            found[name] = (member.type, member.mode, owner, member.linkname, content, mtime)
    return found


# --- contexts of builds -------------------------------------------------------------------------------------

TREE = {
    "Dockerfile": "FROM scratch\nCOPY . /\n",
    "a.md": "a", "b.txt": "b", "docs/README.md": "r", "docs/deep/x.md": "x", "docs/deep/y.txt": "y",
    "src/main.c": "m", "src/main.o": "o", "src/lib/z.o": "z", ".git/HEAD": "h",
    "Dockerfile.other": "FROM scratch\n",
    "sub/Dockerfile": "FROM scratch\n", "weird [x]": "w", "b\\*c": "q", "lib/.keep": "",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "ctx"
    for name, content in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (root / "src/main.c").chmod(0o4755)
    (root / "src").chmod(0o2711)
    (root / "link").symlink_to("src/main.c")
    (root / "dangling").symlink_to("/no/such/place")
    os.link(root / "a.md", root / "hard")
    os.mkfifo(root / "pipe")
    os.chown(root / "b.txt", 1234, 5678)
    return root


IGNORED = [
    None, "", "*", "*.md", "**/*.md", "docs", "docs/", "/docs", "docs/*", "docs\n!docs/README.md",
    "docs\n!docs/deep/x.md", "*\n!docs/README.md", "*\n!**/README.md", "**\n!src", "**/*.o\n!src/main.o",
    "# docs\n  a.md  \n", "\ufeffa.md\n", "!a.md\n*.md", "*.md\n!a.md\n*.md", "src/*.?", "s[a-r]c",
    "s[^a-q]c/m*", "weird \\[x\\]", "b\\\\\\*c", "*/*/x.md", "./docs/../a.md", "..", ".", "Dockerfile",
    "Dockerfile*\n.dockerignore", "**/deep", "docs/**", "docs/**/x.md", "**md", "!docs", "/",
    "src/\n!src/lib", "*/\n!src/main.c",
    "link", "pipe", "docs\n!docs/README.md\ndocs", "d*\n!docs/*.md\ndocs\n!docs/deep/x.md",
    "docs/deep\n!docs", "d?cs/d*\n!docs/deep/*.txt", "! docs", "*\r\n!a.md\r\n", "a.md\n\n\n#x\nb.txt",
]  # fmt: skip


@pytest.mark.parametrize("ignored", IGNORED, ids=range(len(IGNORED)))
def test_the_same_of_a_directory_is_sent(both: Both, tree: Path, ignored: str | None) -> None:
    if ignored is not None:
        (tree / ".dockerignore").write_bytes(ignored.encode())
    (theirs,) = both("build", str(tree), whose="docker")
    sent = only(theirs.asked)
    with prepare(str(tree)) as prepared:
        body = read_all(prepared.archive)
    assert context_of(sent._replace(body=body)) == context_of(sent)


@pytest.mark.parametrize(
    "words",
    [
        ("-f", "Dockerfile.other", "."),
        ("-f", "sub/Dockerfile", "."),
        ("-f", "../outside", "."),
        ("-f", "-", "."),
        ("sub",),
        ("-f", "sub/../link-to-dockerfile", "."),
    ],
)
@pytest.mark.parametrize("ignored", [None, "Dockerfile*\nsub\n", "*"])
def test_dockerfiles_wherever_they_are(
    both: Both, tree: Path, words: tuple[str, ...], ignored: str | None
) -> None:
    (tree.parent / "outside").write_text("FROM outside\n")
    (tree / "link-to-dockerfile").symlink_to("sub/Dockerfile")
    if ignored is not None:
        (tree / ".dockerignore").write_text(ignored)
    theirs, ours = both("build", *words, input=b"FROM stdin\n", cwd=tree)
    assert context_of(only(ours.asked)) == context_of(only(theirs.asked))
    for outcome in (theirs, ours):
        dockerfile = only(outcome.asked).query["dockerfile"]
        if dockerfile[0].startswith(".dockerfile."):
            dockerfile[0] = "GENERATED"
    assert only(ours.asked).query["dockerfile"] == only(theirs.asked).query["dockerfile"]


def test_a_dockerfile_in_small_letters_will_do(both: Both, tree: Path) -> None:
    (tree / "Dockerfile").rename(tree / "dockerfile")
    theirs, ours = both("build", str(tree))
    assert only(ours.asked).query == only(theirs.asked).query
    assert only(ours.asked).query["dockerfile"] == ["dockerfile"]


def test_contexts_on_standard_input(both: Both) -> None:
    archive = make_tar([Item("Dockerfile", b"FROM scratch\n"), symlink("l", "x")])
    for words, given in (
        (("-",), archive),
        (("-f", "Dockerfile", "-"), archive),
        (("-",), b"FROM scratch\n"),
        (("-",), b""),
    ):
        theirs, ours = both("build", *words, input=given)
        first, second = only(theirs.asked), only(ours.asked)
        assert first.query == second.query
        their_context, our_context = context_of(first), context_of(second)
        for each in (their_context, our_context):
            each.update({name: fact[:-1] for name, fact in each.items() if isinstance(fact, tuple)})
        assert our_context == their_context


def test_a_compressed_context(both: Both, tree: Path) -> None:
    theirs, ours = both("build", "--compress", str(tree))
    assert only(ours.asked).body[:2] == only(theirs.asked).body[:2] == b"\x1f\x8b"
    assert context_of(only(ours.asked)) == context_of(only(theirs.asked))


@pytest.mark.parametrize(
    "words",
    [
        ("-f", "-", "-"), ("-f", "x", "-"), ("/no/such/place",), ("Dockerfile",), ("-f", "nowhere", "."),
        ("sub/empty",), ("-t", "Upper", "."), ("--build-arg", "=x", "."), ("--label", "=x", "."),
        ("--ulimit", "x", "."), ("-m", "x", "."),
        (), (".", "."), ("--nonsense", "."), ("github.com.invalid/x",), ("--add-host", "x", "."),
    ],
)  # fmt: skip
def test_builds_that_cannot_begin(both: Both, tree: Path, words: tuple[str, ...]) -> None:
    skip_for_older_docker(28)
    (tree / "sub/empty").mkdir()
    theirs, ours = both("build", *words, input=b"FROM scratch\n", cwd=tree)
    assert (ours.code, ours.out, ours.asked) == (theirs.code, theirs.out, [])
    assert theirs.asked == []
    assert ours.err.splitlines()[0] in theirs.err


def test_bad_patterns(both: Both, tree: Path) -> None:
    for pattern in ("[", "a[", "!", "[-x]", "x\\", "[z-a]"):
        (tree / ".dockerignore").write_text(pattern)
        theirs, ours = both("build", str(tree))
        assert (ours.code, ours.asked, theirs.asked) == (theirs.code, [], [])
        assert ours.err.strip() in theirs.err


# --- flags of builds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("-t", "a", "-t", "b:1", "--target", "stage", "--no-cache", "--pull", "--force-rm", "--rm=false"),
        ("--build-arg", "A=1", "--build-arg", "GIVEN", "--build-arg", "ABSENT", "--build-arg", "E="),
        ("--label", "a=b", "--label", "c", "--cache-from", "x,y", "--cache-from", "z"),
        ("-m", "1g", "--memory-swap", "-1", "-c", "5", "--cpu-period", "6", "--cpu-quota", "7"),
        ("--cpuset-cpus", "0-1", "--cpuset-mems", "0", "--shm-size", "64m", "--cgroup-parent", "p"),
        ("--ulimit", "nofile=10:20", "--ulimit", "core=-1", "--security-opt", "seccomp=unconfined"),
        ("--network", "none", "--add-host", "a:1.2.3.4", "--add-host", "b=::1", "--isolation", "default"),
        ("--platform", "linux/arm64", "-q"),
    ],
)
def test_the_same_is_asked_of_a_build(both: Both, tree: Path, words: tuple[str, ...]) -> None:
    theirs, ours = both("build", *words, str(tree), GIVEN="by the environment")
    first, second = only(theirs.asked), only(ours.asked)
    assert meaning(second.query) == meaning(first.query)
    assert second.path == first.path == "build"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert {key: told["username"] for key, told in registries(second).items()} == {
        key: told["username"] for key, told in registries(first).items()
    }


def registries(asked: Asked) -> dict[str, dict[str, str]]:
    told = asked.told("X-Registry-Config")
    assert isinstance(told, dict)
    return told


def test_what_a_build_says(both: Both, tree: Path, recorder: Recorder, tmp_path: Path) -> None:
    image_id = "sha256:" + "1" * 64
    id_file = tmp_path / "iid"
    recorder.say(
        {"stream": "Step 1/1 : FROM scratch\n"}, {"aux": {"ID": image_id}}, {"stream": "Successfully\n"}
    )
    theirs, ours = both("build", "--iidfile", str(id_file), str(tree))
    assert [line.rstrip() for line in ours.out.splitlines() if "Sending" not in line] == [
        line.rstrip() for line in theirs.out.splitlines() if "Sending" not in line
    ]
    assert id_file.read_text() == image_id
    recorder.say({"stream": image_id + "\n"}, {"aux": {"ID": image_id}})
    theirs, ours = both("build", "-q", str(tree))
    assert ours.out == theirs.out == image_id + "\n"


def test_builds_that_fail(both: Both, tree: Path, recorder: Recorder, tmp_path: Path) -> None:
    id_file = tmp_path / "iid"
    for detail in ({"code": 5, "message": "returned a non-zero code: 5"}, {"message": "no such stage"}):
        id_file.write_text("of an earlier build")
        recorder.say({"stream": "Step\n"}, {"errorDetail": detail, "error": detail["message"]})
        for words in ((), ("-q",)):
            theirs, ours = both("build", "--iidfile", str(id_file), *words, str(tree))
            assert ours.code == theirs.code == detail.get("code", 1)
            assert ours.err.splitlines()[-1] == theirs.err.splitlines()[-1] == detail["message"]
            assert "Step" in ours.err + ours.out
            assert not id_file.exists()
    recorder.say({"message": "no builder here"}, status=500)
    theirs, ours = both("build", str(tree))
    assert (ours.code, ours.err) == (theirs.code, "Error response from daemon: no builder here\n")
