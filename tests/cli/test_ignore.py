"""`.dockerignore` in the client and in the daemon: two readers of one language, which must agree."""

from hypothesis import given
from hypothesis import strategies as st

from proa.context.ignore import Patterns, parse_ignore
from proa.errors import ContextFailed
from proad.model import errors
from proad.model.dockerignore import parse_dockerignore

NAMES = st.text("ab.-]", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TEXTS = st.text("ab.]*?[\\/^#", max_size=8) | st.sampled_from(
    ["**", "*", "a/**", "**/a", "**/b", "a[.-b]", "a/b"]
)
PATTERNS = st.builds(
    str.__add__, st.sampled_from(["", "", "!"]), TEXTS.filter(lambda text: text.strip("/. "))
)


def ours(text: str, path: str) -> bool | str:
    try:
        return Patterns(parse_ignore(text)).excludes(path)
    except ContextFailed as error:
        return str(error)


def theirs(text: str, path: str) -> bool | str:
    try:
        return parse_dockerignore(text.encode()).excludes(path)
    except errors.InvalidParameter as error:
        return str(error)


@given(lines=st.lists(PATTERNS, max_size=4), path=PATHS)
def test_both_sides_read_it_the_same(lines: list[str], path: str) -> None:
    """Docker's client walks down the tree, its daemon looks at one path: what an exception between two lines
    for one directory is worth below it is not the same to these two, so it need not be to ours."""
    text = "\n".join(lines)
    if "!" in text:
        path = path.partition("/")[0]
    assert ours(text, path) == theirs(text, path)


def test_what_may_be_below_a_directory_that_stays_behind() -> None:
    patterns = Patterns(["docs", "!docs/deep/x.md", "!**/README"])
    assert patterns.may_keep_below("docs")
    assert patterns.may_keep_below("docs/deep")
    assert not patterns.may_keep_below("src")
    assert not patterns.may_keep_below("doc")
