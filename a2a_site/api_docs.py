"""The REST API's documentation as a page of our own, made from the OpenAPI document. It loads no foreign scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

BASE = "/api/v1/"


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Show every operation with its parameters, its body and its answers, and every shape."""
    told = document()
    operations = sorted(_operations(told), key=lambda each: each["group"])
    groups = [(name, list(found)) for name, found in groupby(operations, key=lambda each: each["group"])]
    shapes = [(name, _fields(shape)) for name, shape in sorted(told["components"]["schemas"].items())]
    return render(request, "a2a_site/api.html", {"info": told["info"], "groups": groups, "shapes": shapes})


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    import a2a_site.urls  # noqa: F401  (adds every app's router)
    from routing.api import api

    return dict(api.get_openapi_schema(path_prefix=BASE))


def _operations(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield {
                "id": operation["operationId"],
                "group": path.removeprefix(BASE).partition("/")[0].partition(":")[0],
                "method": method.upper(),
                "path": path,
                "text": operation.get("description", ""),
                "parameters": [
                    {**each, "shape": _name(each.get("schema", {}))} for each in operation.get("parameters", [])
                ],
                "body": _content(operation.get("requestBody", {})),
                "answers": [
                    {"status": status, "words": answer.get("description", ""), "shape": _content(answer)}
                    for status, answer in operation["responses"].items()
                ],
            }


def _content(holder: Mapping[str, Any]) -> str:
    return ", ".join(f"{_name(each.get('schema', {}))} ({kind})" for kind, each in holder.get("content", {}).items())


def _fields(shape: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = shape.get("required", ())
    return [
        {"name": name, "shape": _name(each), "required": name in required, "text": each.get("description", "")}
        for name, each in shape.get("properties", {}).items()
    ] or [{"name": "", "shape": _name(shape), "required": True, "text": shape.get("description", "")}]


def _name(schema: Mapping[str, Any]) -> str:
    """Return a schema in a few words, such as ``array of TaskOut``."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for way in ("anyOf", "oneOf", "allOf"):
        if way in schema:
            return " or ".join(_name(each) for each in schema[way])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"array of {_name(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "anything")
