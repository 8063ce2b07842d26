"""Sync, pure. Lists as the commands print them: columns, `--format` templates, JSON lines, bare ids.

A Row names its fields in `HEADERS` (field -> column title) and has a method of the field's name for each; so
`{{.Names}}` in a template, the column NAMES and the key "Names" of the JSON form are one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TextIO

MIN_COLUMN = 10
PADDING = 3
Painter = Callable[[str, str], str]


class Row:
    """One line of a list. Subclasses add a method for each field; `EXTRAS` are those that take arguments."""

    HEADERS: ClassVar[dict[str, str]] = {}
    EXTRAS: ClassVar[tuple[str, ...]] = ()

    def template_field(self, name: str) -> Any:
        """The field's value, for templates. Raises KeyError, which names the fields there are."""
        if name in self.EXTRAS:
            return getattr(self, name)
        if name not in self.HEADERS:
            raise KeyError(f"the fields are {', '.join(sorted(self.HEADERS))}")
        return getattr(self, name)()

    def template_json(self) -> dict[str, Any]:
        """All fields, for `{{json .}}`."""
        return {name: getattr(self, name)() for name in sorted(self.HEADERS)}


class _Headers:
    """Stands for a row when a `table` template prints its titles."""

    def __init__(self, row_type: type[Row]) -> None:
        self._row_type = row_type

    def template_field(self, name: str) -> Any:
        if name in self._row_type.EXTRAS:
            return lambda *arguments: str(arguments[0]) if arguments else name
        return self._row_type.HEADERS.get(name, "<no value>")


def print_list(
    out: TextIO,
    row_type: type[Row],
    rows: Iterable[Row],
    *,
    columns: Sequence[str],
    form: str = "",
    quiet: str = "",
    painter: Painter | None = None,
) -> None:
    """Print rows: as a table of `columns`, or as `form` (--format) says, or with `quiet` just that field.

    Raises TemplateError when the form cannot be carried out.
    """
    if quiet and form in ("", "table"):
        out.writelines(f"{row.template_field(quiet)}\n" for row in rows)
    elif form in ("", "table"):
        lines = [[row_type.HEADERS[name] for name in columns]]
        lines += [[str(getattr(row, name)()) for name in columns] for row in rows]
        print_columns(out, lines, painter=painter, names=columns)
    elif form == "json":
        _print_rows(out, rows, "{{json .}}")
    elif form.startswith("table "):
        _print_table(out, row_type, rows, form.removeprefix("table ").strip())
    else:
        _print_rows(out, rows, form)


def unescape(form: str) -> str:
    r"""A form in which a typed `\t` and `\n` mean what they say, as with docker."""
    return form.replace("\\t", "\t").replace("\\n", "\n")


def _print_rows(out: TextIO, rows: Iterable[Row], form: str) -> None:
    from proa.cli.text.template import Template

    template = Template(unescape(form))
    out.writelines(f"{template.render(row)}\n" for row in rows)


def _print_table(out: TextIO, row_type: type[Row], rows: Iterable[Row], form: str) -> None:
    from proa.cli.text.template import Template

    template = Template(unescape(form))
    texts = [template.render(_Headers(row_type)), *(template.render(row) for row in rows)]
    print_columns(out, [line.split("\t") for text in texts for line in text.split("\n")])


def print_columns(
    out: TextIO,
    lines: Sequence[Sequence[str]],
    *,
    min_width: int = MIN_COLUMN,
    painter: Painter | None = None,
    names: Sequence[str] = (),
) -> None:
    """Align cells in columns as docker does: at least `min_width` wide, three spaces between.

    `painter(name, text)` may wrap a cell into colours; widths are reckoned without them. The first line are
    the titles, painted under the name "".
    """
    widths: list[int] = []
    for line in lines:
        for index, cell in enumerate(line[:-1]):
            if index == len(widths):
                widths.append(min_width)
            widths[index] = max(widths[index], len(cell) + PADDING)
    for number, line in enumerate(lines):
        text = ""
        for index, cell in enumerate(line):
            shown = painter(names[index] if number else "", cell) if painter else cell
            text += shown if index == len(line) - 1 else shown + " " * (widths[index] - len(cell))
        out.write(f"{text}\n")
