"""Sync, pure. Carries out Go templates on JSON values and on rows of a listing.

Values are what JSON gives (dict, list, str, int, float, bool, None) and objects with a `template_field(name)`
method, which may return a function for a field that takes arguments (`.Label "x"`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from proa.cli.text import template_syntax as syntax
from proa.cli.text.go_values import is_true, show
from proa.cli.text.template_functions import FUNCTIONS
from proa.cli.text.template_syntax import TemplateError

# Docker's types have lists and maps where JSON may have null; printed, those are empty and not "<no value>".
_NULL_LISTS = frozenset({"Args", "Binds", "CapAdd", "CapDrop", "Cmd", "Devices", "Dns", "Entrypoint", "Env"})
_NULL_LISTS |= frozenset(
    {"ExtraHosts", "Links", "Mounts", "OnBuild", "RepoDigests", "RepoTags", "SecurityOpt"}
)
_NULL_MAPS = frozenset({"ExposedPorts", "Labels", "Options", "PortBindings", "Ports", "Tmpfs", "Volumes"})


class NullList(list[Any]):
    """A list that JSON shows as null."""


class NullMap(dict[str, Any]):
    """A map that JSON shows as null."""


@runtime_checkable
class HasFields(Protocol):
    """What else than a dictionary `.Name` can be asked of."""

    def template_field(self, name: str) -> Any:
        """The field's value, or a function for a field with arguments. Raises KeyError."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A parsed template; `render(value)` as often as wanted. Raises TemplateError for bad syntax."""

    def __init__(self, source: str) -> None:
        try:
            self._nodes = syntax.parse(source)
        except TemplateError as error:
            raise TemplateError(f"template parsing error: {error}") from None
        _check_functions(self._nodes)

    def render(self, value: Any) -> str:
        """The text for a value. Raises TemplateError for a field that is not there and the like."""
        run = _Run(value)
        try:
            run.nodes(self._nodes, value)
        except TemplateError as error:
            raise TemplateError(f"failed to execute template: {error}") from None
        return "".join(run.output)


class _Run:
    """One execution: the output so far and the variables in scope."""

    def __init__(self, root: Any) -> None:
        self.output: list[str] = []
        self._variables: list[tuple[str, Any]] = [("$", root)]

    def nodes(self, nodes: tuple[syntax.Node, ...], dot: Any) -> None:
        depth = len(self._variables)
        try:
            for node in nodes:
                self._node(node, dot)
        finally:
            del self._variables[depth:]

    def _node(self, node: syntax.Node, dot: Any) -> None:
        match node:
            case syntax.Text(text):
                self.output.append(text)
            case syntax.Output(pipeline):
                value = self._pipeline(pipeline, dot)
                if not pipeline.declares:
                    self.output.append(show(value))
            case syntax.Jump(kind):
                raise _Break if kind == "break" else _Continue
            case syntax.Branch("range"):
                self._range(node, dot)
            case syntax.Branch():
                depth = len(self._variables)
                value = self._pipeline(node.pipeline, dot)
                if is_true(value):
                    self.nodes(node.body, value if node.kind == "with" else dot)
                else:
                    self.nodes(node.otherwise, dot)
                del self._variables[depth:]

    def _range(self, node: syntax.Branch, dot: Any) -> None:
        value = self._pipeline(syntax.Pipeline(node.pipeline.calls), dot)
        items = _items(value)
        if not items:
            self.nodes(node.otherwise, dot)
            return
        names = node.pipeline.declares
        for key, item in items:
            depth = len(self._variables)
            # Without names nothing is bound; with one it is the item.
            for name, bound in zip(names, (key, item) if len(names) == 2 else (item,), strict=False):
                self._set(name, bound, node.pipeline.assigns)
            try:
                self.nodes(node.body, item)
            except _Break:
                return
            except _Continue:
                continue
            finally:
                del self._variables[depth:]

    def _set(self, name: str, value: Any, assigns: bool) -> None:
        if not assigns:
            self._variables.append((name, value))
            return
        for index in range(len(self._variables) - 1, -1, -1):
            if self._variables[index][0] == name:
                self._variables[index] = (name, value)
                return
        raise TemplateError(f"undefined variable {name!r}")

    def _pipeline(self, pipeline: syntax.Pipeline, dot: Any) -> Any:
        value: Any = None
        for index, call in enumerate(pipeline.calls):
            value = self._call(call, dot, [value] if index else [])
        for name in pipeline.declares:
            self._set(name, value, pipeline.assigns)
        return value

    def _call(self, call: syntax.Call, dot: Any, piped: list[Any]) -> Any:
        target = call.target
        if isinstance(target, syntax.Function) and target.name in ("and", "or"):
            return self._short_circuit(target.name, call.arguments, dot, piped)
        if isinstance(target, syntax.Function):
            function: Any = FUNCTIONS[target.name]
            name = target.name
        elif isinstance(target, syntax.Field):
            function = _field(self._operand(target.base, dot), target.name)
            name = f".{target.name}"
        else:
            function, name = self._operand(target, dot), "value"
        arguments = [self._operand(argument, dot) for argument in call.arguments] + piped
        if callable(function):
            return _invoke(name, function, arguments)
        if arguments:
            raise TemplateError(f"{name} has arguments but is no function")
        return function

    def _short_circuit(
        self, name: str, operands: tuple[syntax.Operand, ...], dot: Any, piped: list[Any]
    ) -> Any:
        value: Any = None
        if not operands and not piped:
            raise TemplateError(f"{name} wants at least one argument")
        for operand in operands:
            value = self._operand(operand, dot)
            if is_true(value) == (name == "or"):
                return value
        return piped[0] if piped else value

    def _operand(self, operand: syntax.Operand, dot: Any) -> Any:
        match operand:
            case syntax.Literal(value):
                return value
            case syntax.Dot():
                return dot
            case syntax.Variable(name):
                for known, value in reversed(self._variables):
                    if known == name:
                        return value
                raise TemplateError(f"undefined variable {name!r}")
            case syntax.Field(base, name):
                value = _field(self._operand(base, dot), name)
                return _invoke(f".{name}", value, []) if callable(value) else value
            case syntax.Function(name):
                return _invoke(name, FUNCTIONS[name], []) if name in FUNCTIONS else None
            case syntax.Pipeline():
                return self._pipeline(operand, dot)


def _field(value: Any, name: str) -> Any:
    if isinstance(value, HasFields):
        try:
            return value.template_field(name)
        except KeyError as error:
            raise TemplateError(f"no field {name!r} here; {error.args[0]}") from None
    if isinstance(value, dict):
        found = value[name] if name in value else value[_json_name(value, name)]
        if found is None and name in _NULL_LISTS:
            return NullList()
        if found is None and name in _NULL_MAPS:
            return NullMap()
        return found
    if value is None:
        raise TemplateError(f"nil value; can't evaluate field {name}")
    raise TemplateError(f"can't evaluate field {name} in {show(value)!r}")


def _json_name(value: dict[str, Any], name: str) -> str:
    """The key that docker's Go types call `name`: ID for Id, APIVersion for ApiVersion, DNS for Dns.

    Docker takes both the Go name and the JSON key; they differ in the case of abbreviations only.
    """
    folded = name.casefold()
    alike = [key for key in value if key.casefold() == folded] if name[:1].isupper() else []
    if len(alike) != 1:
        raise TemplateError(f'map has no entry for key "{name}"')
    return alike[0]


def _items(value: Any) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    raise TemplateError(f"range can't iterate over {show(value)}")


def _invoke(name: str, function: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except TemplateError as error:
        raise TemplateError(f"error calling {name.removeprefix('.')}: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        # Wrong number or kind of arguments: Python's own words name the argument well enough.
        raise TemplateError(f"wrong arguments for {name.removeprefix('.')}: {error}") from None


def _check_functions(nodes: tuple[syntax.Node, ...]) -> None:
    """Refuse unknown functions before anything is printed, as Go does when it parses."""
    for node in nodes:
        if isinstance(node, syntax.Output):
            _check_operand(node.pipeline)
        elif isinstance(node, syntax.Branch):
            _check_operand(node.pipeline)
            _check_functions(node.body + node.otherwise)


def _check_operand(operand: syntax.Operand) -> None:
    if isinstance(operand, syntax.Function):
        if operand.name not in FUNCTIONS and operand.name not in ("and", "or"):
            raise TemplateError(f'template parsing error: function "{operand.name}" not defined')
    elif isinstance(operand, syntax.Field):
        _check_operand(operand.base)
    elif isinstance(operand, syntax.Pipeline):
        for call in operand.calls:
            for part in (call.target, *call.arguments):
                _check_operand(part)
