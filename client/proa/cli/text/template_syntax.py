"""Sync, pure. The syntax of Go templates (text/template), as far as command output uses it, into a tree.

Understood: text, `{{- trimming -}}`, comments, fields and chains (`.A.B`, `$x.A`, `(…).A`), variables with
`:=` and `=`, pipelines, calls, literals, if/else if/else, range (also with `$i, $v :=`), with, break,
continue. `define`, `template` and `block` are refused with a TemplateError that says so.
Source: https://pkg.go.dev/text/template
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from proa.errors import ProaError


class TemplateError(ProaError):
    """The template cannot be read or carried out; the text says where and why."""


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Literal:
    value: str | int | float | bool | None


@dataclass(frozen=True)
class Dot:
    pass


@dataclass(frozen=True)
class Variable:
    name: str


@dataclass(frozen=True)
class Function:
    name: str


@dataclass(frozen=True)
class Field:
    """`.Name` of what `base` gives."""

    base: Operand
    name: str


@dataclass(frozen=True)
class Call:
    """One stage of a pipeline: a function or field with arguments, or a plain operand without."""

    target: Operand
    arguments: tuple[Operand, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """Calls whose results feed the next as last argument; `declares` are the variables it sets."""

    calls: tuple[Call, ...]
    declares: tuple[str, ...] = ()
    assigns: bool = False


Operand: TypeAlias = Literal | Dot | Variable | Function | Field | Pipeline


@dataclass(frozen=True)
class Output:
    pipeline: Pipeline


@dataclass(frozen=True)
class Branch:
    """`if`, `with` and `range`; `otherwise` is what stands after else."""

    kind: str
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True)
class Jump:
    """`break` or `continue`."""

    kind: str


Node: TypeAlias = Text | Output | Branch | Jump

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\\n])*")
      | `(?P<raw>[^`]*)`
      | '(?P<char>\\.|[^'\\])'
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?))
      | (?P<field>\.[A-Za-z_]\w*)
      | (?P<dot>\.)
      | (?P<variable>\$\w*)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<mark>:=|=|\||\(|\)|,))""",
    re.VERBOSE,
)
_REFUSED = ("define", "template", "block")
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    end: int
    spaced: bool  # white space stands before it: `.A .B` are two operands, `.A.B` is one


def parse(source: str) -> tuple[Node, ...]:
    """The tree of a template. Raises TemplateError."""
    return _Parser(_split(source)).parse()


def _split(source: str) -> list[str | tuple[str]]:
    """Texts, and actions as one-element tuples; trim markers are applied, comments dropped."""
    parts: list[str | tuple[str]] = []
    position = 0
    trim_next = False
    while True:
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        if trim_next:
            text = text.lstrip()
        if start < 0:
            parts.append(text)
            return parts
        begin = start + 2
        if source[begin : begin + 1] == "-" and source[begin + 1 : begin + 2].isspace():
            text = text.rstrip()
            begin += 1
        end = _action_end(source, begin)
        action = source[begin:end]
        trim_next = len(action) > 1 and action.endswith("-") and action[-2].isspace()
        if trim_next:
            action = action[:-1]
        parts.append(text)
        if not (action.strip().startswith("/*") and action.strip().endswith("*/")):
            parts.append((action,))
        position = end + 2


def _action_end(source: str, begin: int) -> int:
    """Where the `}}` of the action stands that starts at `begin`; those inside quotes do not count."""
    quote = ""
    position = begin
    while position < len(source):
        char = source[position]
        if quote:
            if char == "\\" and quote != "`":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "\"'`":
            quote = char
        elif source.startswith("}}", position):
            return position
        position += 1
    raise TemplateError(
        "unclosed action: there is no }} for the last {{" if not quote else "unterminated quoted string"
    )


def _tokens(action: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while action[position:].strip():
        match = _TOKEN.match(action, position)
        if match is None or match.lastgroup is None:
            raise TemplateError(f"unexpected {action[position:].strip()!r} in {{{{{action}}}}}")
        text = match.group(match.lastgroup)
        tokens.append(_Token(match.lastgroup, text, match.end(), action[position : position + 1].isspace()))
        position = match.end()
    return tokens


def _unquote(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if code:
            return chr(int(code, 16))
        if match[4] not in _ESCAPES:
            raise TemplateError(f"unknown escape \\{match[4]} in {text}")
        return _ESCAPES[match[4]]

    return _ESCAPE.sub(replace, text)


def _number(text: str) -> int | float:
    return int(text, 0) if re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|0|[1-9]\d*)", text) else float(text)


class _Parser:
    """Recursive descent; the parts are the template cut into texts and actions."""

    def __init__(self, parts: list[str | tuple[str]]) -> None:
        self._parts = parts
        self._next = 0
        self._loops = 0

    def parse(self) -> tuple[Node, ...]:
        nodes, stop = self._nodes()
        if stop:
            raise TemplateError(f"unexpected {{{{{' '.join(token.text for token in stop)}}}}}")
        return nodes

    def _nodes(self) -> tuple[tuple[Node, ...], list[_Token]]:
        """Nodes up to an `else`, an `end` (returned as its tokens) or the end of the template (no tokens)."""
        nodes: list[Node] = []
        while self._next < len(self._parts):
            part = self._parts[self._next]
            self._next += 1
            if isinstance(part, str):
                if part:
                    nodes.append(Text(part))
                continue
            tokens = _tokens(part[0])
            if not tokens:
                raise TemplateError("missing value for command: {{}} is empty")
            word = tokens[0].text if tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                return tuple(nodes), tokens
            if word in _REFUSED:
                raise TemplateError(f"{{{{{word}}}}} is not supported here")
            if word in ("if", "range", "with"):
                nodes.append(self._branch(word, tokens[1:]))
            elif word in ("break", "continue"):
                if not self._loops:
                    raise TemplateError(f"{{{{{word}}}}} outside {{{{range}}}}")
                nodes.append(Jump(word))
            else:
                nodes.append(Output(_Expression(tokens).pipeline()))
        return tuple(nodes), []

    def _branch(self, kind: str, tokens: list[_Token]) -> Branch:
        pipeline = _Expression(tokens).pipeline(ranges=kind == "range")
        self._loops += kind == "range"
        body, stop = self._nodes()
        self._loops -= kind == "range"
        otherwise: tuple[Node, ...] = ()
        if stop and stop[0].text == "else":
            if len(stop) > 1:
                if stop[1].text not in ("if", "with") or kind == "range":
                    raise TemplateError(f"unexpected {stop[1].text!r} after else")
                return Branch(kind, pipeline, body, (self._branch(stop[1].text, stop[2:]),))
            otherwise, stop = self._nodes()
        if not stop or stop[0].text != "end" or len(stop) > 1:
            raise TemplateError(f"{{{{{kind}}}}} has no {{{{end}}}}")
        return Branch(kind, pipeline, body, otherwise)


class _Expression:
    """The inside of one action."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def pipeline(self, *, ranges: bool = False) -> Pipeline:
        declares, assigns = self._declaration(ranges)
        calls = self._calls()
        if self._next < len(self._tokens):
            raise TemplateError(f"unexpected {self._tokens[self._next].text!r} in command")
        return Pipeline(calls, declares, assigns)

    def _declaration(self, ranges: bool) -> tuple[tuple[str, ...], bool]:
        kinds = [token.kind if token.kind != "mark" else token.text for token in self._tokens[:4]]
        if kinds[:2] in (["variable", ":="], ["variable", "="]):
            self._next = 2
            return (self._tokens[0].text,), kinds[1] == "="
        if ranges and kinds in (["variable", ",", "variable", ":="], ["variable", ",", "variable", "="]):
            self._next = 4
            return (self._tokens[0].text, self._tokens[2].text), kinds[3] == "="
        return (), False

    def _calls(self) -> tuple[Call, ...]:
        calls = [self._call()]
        while self._at("|"):
            self._next += 1
            calls.append(self._call())
        return tuple(calls)

    def _call(self) -> Call:
        target = self._operand()
        arguments: list[Operand] = []
        while self._next < len(self._tokens) and not (self._at("|") or self._at(")")):
            arguments.append(self._operand())
        if arguments and not isinstance(target, Function | Field):
            raise TemplateError("can't give argument to non-function")
        return Call(target, tuple(arguments))

    def _operand(self) -> Operand:
        if self._next >= len(self._tokens):
            raise TemplateError("missing value for command")
        token = self._tokens[self._next]
        self._next += 1
        operand = self._simple(token)
        while self._next < len(self._tokens):
            following = self._tokens[self._next]
            if following.kind != "field" or following.spaced:
                break
            self._next += 1
            operand = Field(operand, following.text[1:])
        return operand

    def _simple(self, token: _Token) -> Operand:
        match token.kind:
            case "string":
                return Literal(_unquote(token.text[1:-1]))
            case "raw":
                return Literal(token.text)
            case "char":
                return Literal(ord(_unquote(token.text)))
            case "number":
                return Literal(_number(token.text))
            case "field":
                return Field(Dot(), token.text[1:])
            case "dot":
                return Dot()
            case "variable":
                return Variable(token.text)
            case "word" if token.text in ("true", "false"):
                return Literal(token.text == "true")
            case "word" if token.text == "nil":
                return Literal(None)
            case "word":
                return Function(token.text)
            case "mark" if token.text == "(":
                calls = self._calls()
                if not self._at(")"):
                    raise TemplateError("unclosed left paren")
                self._next += 1
                return Pipeline(calls)
        raise TemplateError(f"unexpected {token.text!r} in command")

    def _at(self, mark: str) -> bool:
        if self._next >= len(self._tokens):
            return False
        token = self._tokens[self._next]
        return token.kind == "mark" and token.text == mark
