"""Sync. Checks answers against the API's reference (Swagger 2.0), where it is at hand."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.strictness import skip_for_lack_of

REFERENCE = Path(
    os.environ.get("PROA_API_REFERENCE") or Path(__file__).parents[3] / "shared/api/engine-v1.51.yaml"
)


DOCKER_SAYS_NULL = frozenset({"MemorySwappiness", "OomKillDisable", "io_service_bytes_recursive"})
"""Fields that Docker answers with null for "not asked for", though its reference does not say so."""


@cache
def reference() -> dict[str, Any]:
    """The reference, with ``x-nullable`` turned into what JSON Schema knows; skips where it is missing."""
    if not REFERENCE.exists():
        skip_for_lack_of(f"the API reference at {REFERENCE}")
    with REFERENCE.open() as file:
        loaded = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    translated: dict[str, Any] = _translate(loaded)
    return translated


def _translate(node: Any) -> Any:
    if isinstance(node, list):
        return [_translate(item) for item in node]
    if not isinstance(node, dict):
        return node
    for name in DOCKER_SAYS_NULL.intersection(node.get("properties", {})):
        node["properties"][name]["x-nullable"] = True
    translated = {
        key: _translate(value) for key, value in node.items() if key not in ("x-nullable", "example")
    }
    # "enum" beside a type names what Docker documents; an empty string stands for "not set" in most of them.
    if isinstance(translated.get("enum"), list) and translated.get("type") == "string":
        translated["enum"] = [*translated["enum"], ""]
    if "$ref" in translated:
        translated = {"$ref": translated["$ref"]}
    if node.get("x-nullable") is True:
        return {"anyOf": [translated, {"type": "null"}]}
    return translated


def routes() -> list[tuple[str, str]]:
    """Every method and path of the reference."""
    return [
        (method.upper(), path)
        for path, methods in reference()["paths"].items()
        for method in methods
        if method in ("get", "head", "post", "put", "delete")
    ]


def check(body: Any, definition: str) -> None:
    """Fail unless ``body`` fits the named definition."""
    _check(body, {"$ref": f"#/definitions/{definition}"}, definition)


def check_answer(method: str, path: str, status: int, body: Any) -> None:
    """Fail unless ``body`` fits what the reference says of that route and status.

    ``path`` is a real one (``/containers/abc/json``), without version.
    """
    operation = reference()["paths"][_template(method, path)][method.lower()]
    answer = {str(code): answer for code, answer in operation["responses"].items()}.get(str(status))
    assert answer is not None, f"{method} {path}: the reference knows no answer {status}"
    if "schema" in answer:
        _check(body, answer["schema"], f"{method} {path} {status}")


def _template(method: str, path: str) -> str:
    best: list[str] = []
    for known_method, template in routes():
        pattern = re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(template))
        if known_method == method and re.fullmatch(pattern, path):
            best.append(template)
    assert best, f"{method} {path} is not in the reference"
    return min(best, key=lambda template: template.count("{"))


def _check(body: Any, schema: dict[str, Any], what: str) -> None:
    document = {**schema, "definitions": reference()["definitions"]}
    if "$ref" in schema:
        document = {"allOf": [schema], "definitions": reference()["definitions"]}
    validator = jsonschema.Draft4Validator(document)
    found = sorted(validator.iter_errors(body), key=lambda error: list(map(str, error.absolute_path)))
    texts = [f"{'/'.join(map(str, e.absolute_path)) or '(top)'}: {e.message[:300]}" for e in found]
    assert not texts, f"{what} does not fit the reference:\n" + "\n".join(texts)
