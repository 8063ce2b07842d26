"""The out-of-memory watch: the kernel's own groups on this host, and the files of a v2 one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from proad.host.cgroup import Cgroups, Layout, detect_layout
from proad.host.oomwatch import OomWatch
from proad.model import errors
from tests.strictness import skip_for_lack_of
from tests.support.whose import own_name

EAT = f"exec {sys.executable} -c 'b\"x\" * (200 << 20)'"


async def news_within(watch: OomWatch, seconds: float) -> list[str]:
    with trio.move_on_after(seconds):
        return await watch.news()
    return []


class Group:
    """A group of the test's own with 8 MB of memory."""

    def __init__(self, layout: Layout, name: str) -> None:
        root = layout.unified if layout.kind == "v2" else layout.controllers["memory"]
        assert root is not None
        self.cgroup = f"/{name}"
        self.directory = root / name
        self.directory.mkdir()
        limit = "memory.max" if layout.kind == "v2" else "memory.limit_in_bytes"
        (self.directory / limit).write_text(str(8 << 20))
        swap = self.directory / ("memory.swap.max" if layout.kind == "v2" else "memory.memsw.limit_in_bytes")
        if swap.exists():
            swap.write_text("0" if layout.kind == "v2" else str(8 << 20))

    async def run_out(self) -> None:
        script = f"echo $$ > {self.directory}/cgroup.procs; {EAT}"
        await trio.run_process(["sh", "-c", script], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def layout() -> Layout:
    found = detect_layout()
    if "memory" not in found.available:
        skip_for_lack_of("a memory controller")
    return found


@pytest.fixture
def groups(layout: Layout) -> Iterator[list[Group]]:
    made = [Group(layout, own_name("proa-oom-")) for _ in range(2)]
    yield made
    for group in made:
        if group.directory.exists():
            group.directory.rmdir()


def test_it_tells_of_the_group_that_runs_out(layout: Layout, groups: list[Group]) -> None:
    async def main() -> None:
        watch = OomWatch(layout)
        for group in groups:
            watch.watch(group.cgroup)
        for _ in range(2):
            await groups[1].run_out()
            assert await news_within(watch, 5) == [groups[1].cgroup]
        assert await news_within(watch, 0.1) == []
        assert Cgroups(layout).oom_kills(groups[1].cgroup) > 0
        assert [watch.forget(group.cgroup) for group in groups] == [False, False]

    trio.run(main)


def test_what_nobody_has_waited_for_is_told_at_the_end(layout: Layout, groups: list[Group]) -> None:
    async def main() -> None:
        watch = OomWatch(layout)
        watch.watch(groups[0].cgroup)
        await groups[0].run_out()
        assert watch.forget(groups[0].cgroup)
        await groups[0].run_out()
        assert await news_within(watch, 0.1) == []

    trio.run(main)


def test_the_removal_of_a_forgotten_group_is_no_news(layout: Layout, groups: list[Group]) -> None:
    async def main() -> None:
        watch = OomWatch(layout)
        watch.watch(groups[0].cgroup)
        assert not watch.forget(groups[0].cgroup)
        groups[0].directory.rmdir()
        assert await news_within(watch, 0.1) == []

    trio.run(main)


def test_a_group_that_is_gone_is_refused(layout: Layout) -> None:
    with pytest.raises(errors.System):
        OomWatch(layout).watch("/proa-there-is-no-such-group")
    assert not OomWatch(layout).forget("/proa-there-is-no-such-group")


def test_a_host_without_the_controller_never_tells() -> None:
    async def main() -> None:
        watch = OomWatch(Layout("v1", {"pids": Path("/nowhere")}))
        watch.watch("/some")
        assert not watch.forget("/some")
        assert await news_within(watch, 0.05) == []

    trio.run(main)


def events(kills: int, *, high: int = 0) -> str:
    return f"low 0\nhigh {high}\nmax 17\noom {kills}\noom_kill {kills}\noom_group_kill 0\n"


def test_on_v2_the_count_of_kills_is_what_counts(tmp_path: Path) -> None:
    """With files in place of the kernel's: inotify tells of them alike."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "memory.events").write_text(events(3))

    async def main() -> None:
        watch = OomWatch(Layout("v2", {}, unified=tmp_path))
        watch.watch("/a")
        watch.watch("/b")
        (tmp_path / "a" / "memory.events").write_text(events(3, high=9))
        assert await news_within(watch, 0.1) == []
        for kills in (4, 6):
            (tmp_path / "b" / "memory.events").write_text(events(kills))
            assert await news_within(watch, 5) == ["/b"]
        (tmp_path / "a" / "memory.events").write_text(events(4))
        assert watch.forget("/a")
        (tmp_path / "b" / "memory.events").unlink()
        assert await news_within(watch, 0.1) == []
        assert not watch.forget("/b")

    trio.run(main)
