"""Which names and images a removal or a prune takes, and what is in the way: Docker's rules."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio

from proad.engine.imagegarbage import Garbage
from proad.engine.imagelisting import ImageQuery, list_images
from proad.engine.imagepruning import ImagePruning
from proad.engine.imageremoval import ImageRemoval
from proad.host.blobs import BlobStore, LayerInfo
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.hostconfig import ContainerConfig, HostConfig
from proad.model.image import Image, ImageConfig, chain_ids
from proad.store.db import Store, open_store


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


DIGEST = digest("manifest")
OTHER_DIGEST = digest("another manifest")


class Shop:
    """A store with images, as a test wants them."""

    def __init__(self, directory: Path) -> None:
        self.store: Store = open_store(directory / "state.db", events_max_count=100, events_max_age_s=3600)
        self.blobs = BlobStore(directory)
        self.garbage = Garbage(self.store, self.blobs)
        self.removal = ImageRemoval(self.store, self.garbage)
        self.pruning = ImagePruning(self.store, self.removal)
        trio.run(self.blobs.prepare)

    def add(
        self, name: str, *references: str, parent: Image | None = None, created: str = "", **labels: str
    ) -> Image:
        """An image of one layer on top of its parent's."""
        diff_ids = (*(parent.diff_ids if parent else ()), digest(f"layer of {name}"))
        image = Image(
            id=digest(name),
            architecture="amd64",
            os="linux",
            created=created,
            config=ImageConfig(labels=labels),
            diff_ids=diff_ids,
            chain_ids=chain_ids(diff_ids),
            layer_sizes=(10,) * len(diff_ids),
            layer_blobs=tuple(self.blobs.put_blob(f"blob {diff_id}".encode()) for diff_id in diff_ids),
            parent_id=parent.id if parent else "",
        )
        trio.run(self._place, image)
        with self.store.transaction() as tx:
            tx.put_image(image)
            for reference in references:
                tx.put_reference(f"docker.io/library/{reference}", image.id)
        return image

    async def _place(self, image: Image) -> None:
        async with self.blobs.workspace() as work:
            (work / "tree").mkdir()
            info = LayerInfo(chain_id=image.chain_ids[-1], diff_id=image.diff_ids[-1], size_bytes=10)
            await self.blobs.place_layer(work / "tree", info)

    def use(self, image: Image, status: Status = Status.EXITED) -> Container:
        container = Container(
            id="c" * 64, name="user", created_ns=1, image_id=image.id, image_ref="x",
            layers=image.chain_ids, config=ContainerConfig(), host_config=HostConfig(), status=status,
        )  # fmt: skip
        with self.store.transaction() as tx:
            tx.put_container(container)
        return container

    def remove(self, image: Image, ref: str, *, force: bool = False, prune: bool = True) -> list[str]:
        """Names and ids, as they went."""

        async def work() -> list[str]:
            done = await self.removal.remove(image, ref, force=force, prune=prune)
            return [item.untagged or item.deleted for item in done.items]

        return trio.run(work)

    def prune(self, **filters: Sequence[str]) -> tuple[list[str], int]:
        async def work() -> tuple[list[str], int]:
            wanted = {name.replace("_not", "!"): list(values) for name, values in filters.items()}
            done = await self.pruning.prune(wanted)
            return [item.untagged or item.deleted for item in done.removed], done.space_bytes

        return trio.run(work)

    def listed(self, *, all: bool = False, **filters: Sequence[str]) -> set[str]:
        query = ImageQuery(all=all, filters={name: list(values) for name, values in filters.items()})
        by_id = {image.id: image for image in self.store.images.values()}
        return {item.image.id for item in list_images(self.store, query, by_id.__getitem__)}

    def told(self) -> list[str]:
        cursor = self.store.journal.cursor(0, None, lambda event: event.type == "image")
        return [event.action for event in cursor.take()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.store.close()


# --- names --------------------------------------------------------------------------------------------------


def test_a_tag_and_then_the_image(shop: Shop) -> None:
    image = shop.add("app", "app:1", "other:1")
    assert shop.remove(image, "app:1") == ["app:1"]
    assert shop.remove(image, "other:1") == ["other:1", image.id, image.chain_ids[0]]
    assert shop.told() == ["untag", "untag", "delete"]
    assert shop.blobs.layers() == shop.blobs.blobs() == set()


def test_the_last_tag_of_a_repository_takes_its_digests_along(shop: Shop) -> None:
    image = shop.add("app", "app:1", "app:2", f"app@{DIGEST}", f"other@{DIGEST}")
    assert shop.remove(image, "app:1") == ["app:1"]
    assert shop.remove(image, "app:2") == ["app:2", f"app@{DIGEST}"]
    assert shop.told() == ["untag", "untag"]
    assert shop.remove(image, f"other@{DIGEST}") == [f"other@{DIGEST}", image.id, image.chain_ids[0]]


@pytest.mark.parametrize("ref", [f"app@{DIGEST}", f"app:1@{DIGEST}"])
def test_a_digest_goes_alone(shop: Shop, ref: str) -> None:
    image = shop.add("app", "app:1", f"app@{DIGEST}", f"app@{OTHER_DIGEST}")
    assert shop.remove(image, ref) == [f"app@{DIGEST}"]
    assert sorted(shop.store.references) == [
        "docker.io/library/app:1",
        f"docker.io/library/app@{OTHER_DIGEST}",
    ]


def test_an_id_takes_all_names_of_one_repository(shop: Shop) -> None:
    image = shop.add("app", "app:1", f"app@{DIGEST}", f"app@{OTHER_DIGEST}")
    gone = shop.remove(image, image.id[7:15])
    assert gone[0] == "app:1"
    assert gone[3:] == [image.id, image.chain_ids[0]]
    assert shop.told() == ["untag", "untag", "untag", "delete"]


@pytest.mark.parametrize(
    "references",
    [("app:1", "app:2"), ("app:1", f"other@{DIGEST}"), (f"app@{DIGEST}", f"other@{DIGEST}")],
    ids=["two tags", "another repository's digest", "digests of two"],
)
def test_an_id_with_more_names_must_be_forced(shop: Shop, references: Sequence[str]) -> None:
    image = shop.add("app", *references)
    with pytest.raises(errors.Conflict, match=r"must be forced.* referenced in multiple repositories"):
        shop.remove(image, image.id)
    assert len(shop.store.references) == 2
    assert shop.told() == []
    assert shop.remove(image, image.id, force=True)[2] == image.id


# --- who is in the way --------------------------------------------------------------------------------------


def test_the_only_name_of_what_a_container_uses(shop: Shop) -> None:
    image = shop.add("app", "app:1", f"app@{DIGEST}")
    user = shop.use(image)
    with pytest.raises(errors.Conflict, match=rf'reference "app:1" \(must force\).*{user.short_id}'):
        shop.remove(image, "app:1")
    assert shop.remove(image, "app:1", force=True) == ["app:1", f"app@{DIGEST}", image.id]
    assert shop.blobs.layers() == {*image.chain_ids}  # which the container stands on


def test_one_of_two_names_of_what_runs(shop: Shop) -> None:
    image = shop.add("app", "app:1", "app:2")
    shop.use(image, Status.RUNNING)
    assert shop.remove(image, "app:1") == ["app:1"]
    assert shop.remove(image, "app:2", force=True) == ["app:2"]  # and the image stays, without a word
    assert image.id in shop.store.images
    with pytest.raises(errors.Conflict, match=r"cannot be forced.* used by running container"):
        shop.remove(image, image.id, force=True)


def test_what_others_were_made_from(shop: Shop) -> None:
    base = shop.add("base", "base:1")
    shop.add("child", "child:1", parent=base)
    with pytest.raises(errors.Conflict, match=r"cannot be forced.* has dependent child images"):
        shop.remove(base, base.id, force=True)
    assert shop.remove(base, "base:1") == ["base:1"]
    assert base.id in shop.store.images


def test_images_that_it_was_made_from_go_along(shop: Shop) -> None:
    """As far as nobody names or uses them; each with the layers that are its own."""
    named = shop.add("named", "named:1")
    middle = shop.add("middle", parent=named)
    top = shop.add("top", parent=middle)
    last = shop.add("last", "last:1", parent=top)
    assert shop.remove(last, "last:1") == [
        "last:1", last.id, last.chain_ids[-1], top.id, top.chain_ids[-1], middle.id, middle.chain_ids[-1]
    ]  # fmt: skip
    assert set(shop.store.images) == {named.id}


def test_images_that_it_was_made_from_may_stay(shop: Shop) -> None:
    base = shop.add("base")
    top = shop.add("top", "top:1", parent=base)
    assert shop.remove(top, "top:1", prune=False) == ["top:1", top.id, top.chain_ids[-1]]
    assert set(shop.store.images) == {base.id}
    again = shop.add("again", "again:1", parent=base)
    shop.use(base)
    assert shop.remove(again, "again:1") == ["again:1", again.id, again.chain_ids[-1]]


# --- prune --------------------------------------------------------------------------------------------------


def test_prune_takes_what_has_no_tag(shop: Shop) -> None:
    base = shop.add("base")
    kept = shop.add("kept", "kept:1", parent=base)
    by_digest = shop.add("by digest", f"app@{DIGEST}")
    middle = shop.add("middle")
    dangling = shop.add("dangling", parent=middle)
    removed, space_bytes = shop.prune()
    gone = {by_digest.id, dangling.id, middle.id}
    assert sorted(item for item in removed if item in gone) == sorted(gone)
    blob_bytes = sum(len(f"blob {diff_id}") for image in (by_digest, dangling) for diff_id in image.diff_ids)
    assert space_bytes == 30 + blob_bytes
    assert set(shop.store.images) == {base.id, kept.id}
    assert shop.told().count("delete") == 3


def test_prune_of_all_spares_what_is_used(shop: Shop) -> None:
    used, stopped = shop.add("used", "used:1"), shop.add("unused", "unused:1", f"unused@{DIGEST}")
    shop.use(used)
    removed, _ = shop.prune(dangling=["false"])
    assert removed[:3] == ["unused:1", f"unused@{DIGEST}", stopped.id]
    assert set(shop.store.images) == {used.id}


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"label": ["a"]}, "none"),
        ({"label": ["a=1"]}, "two none"),
        ({"label": ["a", "b"]}, "one none"),
        ({"label_not": ["a"]}, "one two"),
        ({"label_not": ["a=1"]}, "one"),
        ({"label_not": ["a", "b"]}, "two"),
        ({"until": ["2024-01-01"]}, "two none"),
        ({"until": ["24h"]}, "none"),
        ({"until": ["24h"], "label": ["b"]}, "one none"),
    ],
)
def test_prune_filters(shop: Shop, filters: dict[str, list[str]], kept: str) -> None:
    """``none`` has no labels, and does not say when it was made."""
    images = {
        "one": shop.add("one", created="2023-05-05T00:00:00Z", a="1"),
        "two": shop.add("two", created="2024-05-05T00:00:00Z", a="2", b=""),
        "none": shop.add("none"),
    }
    shop.prune(**filters)
    assert {name for name, image in images.items() if image.id in shop.store.images} == set(kept.split())


@pytest.mark.parametrize(
    "filters",
    [
        {"before": ["x"]},
        {"dangling": ["maybe"]},
        {"dangling": ["1", "0"]},
        {"until": ["1h", "2h"]},
        {"until": ["x"]},
    ],
)
def test_prune_refuses(shop: Shop, filters: dict[str, list[str]]) -> None:
    with pytest.raises(errors.InvalidParameter):
        shop.prune(**filters)


# --- lists --------------------------------------------------------------------------------------------------


def test_what_dangles(shop: Shop) -> None:
    """As with Docker: not what others were made from, nor what has a tag; what has but a digest is on either
    list.
    """
    base = shop.add("base")
    child = shop.add("child", parent=base)
    tagged = shop.add("tagged", "tagged:1")
    by_digest = shop.add("by digest", f"app@{DIGEST}")
    assert shop.listed() == {child.id, tagged.id, by_digest.id}
    assert shop.listed(all=True) == {base.id, child.id, tagged.id, by_digest.id}
    assert shop.listed(dangling=["true"]) == shop.listed(dangling=["1"], all=True) == {child.id, by_digest.id}
    assert shop.listed(dangling=["false"], all=True) == {tagged.id, by_digest.id}
    assert shop.listed(reference=["tag*"]) == {tagged.id}
    assert shop.listed(reference=["app@*", "nothing"]) == {by_digest.id}


def test_when_they_were_made(shop: Shop) -> None:
    """Of several times the narrowest counts."""
    first, second, third = (shop.add(str(day), created=f"2024-05-0{day}T00:00:00Z") for day in (1, 2, 3))
    assert shop.listed(before=[second.id]) == {first.id}
    assert shop.listed(before=[third.id, second.id]) == {first.id}
    assert shop.listed(since=[first.id]) == {second.id, third.id}
    assert shop.listed(since=[first.id, second.id]) == {third.id}
    assert shop.listed(since=[first.id], before=[third.id]) == {second.id}
    assert shop.listed(until=["2024-05-02T12:00:00", "2024-05-01T12:00:00"]) == {first.id}
    assert shop.listed(until=["24h"]) == {first.id, second.id, third.id}
