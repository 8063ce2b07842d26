"""Go's paths and patterns, and what a .dockerignore excludes."""

import pytest

from proad.model import errors
from proad.model.dockerignore import parse_dockerignore
from proad.model.gopath import clean, join, match


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("", "."), (".", "."), ("a//b/./c/..", "a/b"), ("../a/..", ".."), ("/..", "/"), ("//a", "/a"),
        ("///", "/"), ("a/", "a"), ("./a", "a"),
    ],
)  # fmt: skip
def test_clean(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


def test_join() -> None:
    assert join("/", "a", "../b/", "") == "/b"
    assert join("", "", "") == ""
    assert join("a", "/b") == "a/b"


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "a/b", False),
        ("*", "", True),
        ("a*c", "abbc", True),
        ("a*c", "abbcd", False),
        ("a*/b*", "ax/by", True),
        ("a*/b", "a/x/b", False),
        ("*a*b*c*", "xxaxbxcx", True),
        ("*ab", "aab", True),
        ("a?c", "a☺c", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a]", "/", True),
        ("[\\]\\-]", "-", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("x[*]y", "x*y", True),
    ],
)
def test_match(pattern: str, name: str, matches: bool) -> None:
    assert match(pattern, name) is matches


@pytest.mark.parametrize(
    "pattern", ["[", "[^", "[]", "[]a]", "[-a]", "[a-]", "[a-b-c]", "[a", "a\\", "[\\", "[a\\]"]
)
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(errors.InvalidParameter, match="syntax error in pattern"):
        match(pattern, "a")


@pytest.mark.parametrize(
    ("lines", "path", "excluded"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "b/a", False),
        ("/a", "a", True),
        ("./a/../b/", "b", True),
        ("*", "a/b", True),
        ("*.md", "a/b.md", False),
        ("*/b", "a/b/c", True),
        ("**", "a/b", True),
        ("**/b", "b", True),
        ("**/b", "x/y/b/z", True),
        ("**/b", "xb", False),
        ("**b", "xb", True),
        ("**b?", "xbc", False),
        ("**/*.o", "x/y/z.o", True),
        ("a/**", "a", False),
        ("a/**", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/x/y/c", True),
        ("a**", "ab/c", True),
        ("a**/c", "a/b/c", True),
        ("a.c", "abc", False),
        ("[ab]\\*", "b*", True),
        ("# a\na", "a", True),
        ("#a", "#a", False),
        (" # a", "# a", True),
        ("  a  \r", "a", True),
        ("\ufeffa", "a", True),
        ("a\n!a/b", "a/b", False),
        ("a\n!a/b", "a/b/c", False),
        ("a\n!a/b\na/b/c", "a/b/c", True),
        ("!a\na", "a", True),
        ("*\n! /a", "a", False),
        (".", "a", False),
        ("/", "a", False),
        ("", "a", False),
        ("Dockerfile\n.dockerignore", ".dockerignore", True),
        ("*\n!Dockerfile", "./Dockerfile", False),
    ],
)
def test_last_line_that_matches_decides(lines: str, path: str, excluded: bool) -> None:
    assert parse_dockerignore(lines.encode()).excludes(path) is excluded


def test_the_context_itself_is_never_excluded() -> None:
    assert not parse_dockerignore(b"**\n.").excludes("a/..")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n!", 'illegal exclusion pattern: "!"'),
        (b"! ", 'illegal exclusion pattern: "!"'),
        (b"a[", "syntax error"),
    ],
)
def test_wrong_lines(content: bytes, message: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=message):
        parse_dockerignore(content)


def test_many_stars_take_no_longer() -> None:
    patterns = parse_dockerignore(b"**/a*a*a*a*a*a*a*a*a*a*b\n" + b"a/**/" * 20 + b"b")
    assert not patterns.excludes("a" * 255)
    assert not patterns.excludes("a/" * 200 + "c")
