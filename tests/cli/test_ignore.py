"""`.dockerignore` in the client and in the daemon: two readers of one language, which must agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.context.ignore import Patterns, parse_ignore
from proa.errors import ContextFailed
from proad.model import errors
from proad.model.dockerignore import parse_dockerignore

NAMES = st.text("ab.-]", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
LINES = st.lists(
    st.text("ab.-]*?[\\/!^# ", max_size=8)
    | st.sampled_from(["**", "*", "!*", "a/**", "**/a", "!**/b", "a/b"]),
    max_size=4,
)


@given(lines=LINES, path=PATHS)
def test_both_sides_read_it_the_same(lines: list[str], path: str) -> None:
    text = "\n".join(lines)
    try:
        theirs = parse_dockerignore(text.encode()).excludes(path)
    except errors.InvalidParameter as error:
        with pytest.raises(
            ContextFailed, match=r"syntax error in pattern|illegal exclusion pattern"
        ) as caught:
            Patterns(parse_ignore(text))
        assert str(caught.value) in str(error)
        return
    assert Patterns(parse_ignore(text)).excludes(path) is theirs


def test_what_may_be_below_a_directory_that_stays_behind() -> None:
    patterns = Patterns(["docs", "!docs/deep/x.md", "!**/README"])
    assert patterns.may_keep_below("docs")
    assert patterns.may_keep_below("docs/deep")
    assert not patterns.may_keep_below("src")
    assert not patterns.may_keep_below("doc")
