"""What can stand at a path of a value that fits a JSON Schema?  Pure.

Only what is certain is said: a schema that is open, or cannot be followed, allows everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coordination.problems import listed

Schema = Mapping[str, Any]
TYPES = frozenset(("object", "array", "string", "number", "boolean", "null"))
MAX_FOLLOWED = 200  # schemas within one question: an end to those that refer to themselves

_WORDS = {"object": "an object", "array": "a list", "string": "text", "number": "a number",
          "boolean": "true or false", "null": "null"}  # fmt: skip


def absence(schema: Schema, path: tuple[str | int, ...]) -> str | None:
    """Return in words why a value of the schema can have nothing at the path, or None if it may have."""
    here = [schema]
    for part in path:
        found = [inner for each in _branches(here, schema) for inner in _members(each, part)]
        if not found:
            return _why_not(list(_branches(here, schema)), part)
        here = found
    return None


def types(schema: Schema, path: tuple[str | int, ...] = ()) -> frozenset[str]:
    """Return the JSON types that the value at the path can have; all if nothing is known. Integers are numbers."""
    here = [schema]
    for part in path:
        here = [inner for each in _branches(here, schema) for inner in _members(each, part)]
        if not here:
            return TYPES
    allowed = [_own_types(each) for each in _branches(here, schema)]
    return frozenset().union(*allowed) if allowed else TYPES


def in_words(kinds: frozenset[str]) -> str:
    """Return types in words: "text or null"."""
    return " or ".join(_WORDS[kind] for kind in sorted(kinds, key=list(_WORDS).index))


def _branches(schemas: list[Schema], root: Schema) -> Iterator[Schema]:
    """Yield the alternatives of the schemas with references and ``anyOf``, ``oneOf`` followed."""
    waiting, followed = list(schemas), 0
    while waiting:
        schema = waiting.pop()
        followed += 1
        if not isinstance(schema, Mapping) or followed > MAX_FOLLOWED:
            yield {}
            continue
        inner = [part for keyword in ("anyOf", "oneOf") for part in schema.get(keyword, ())]
        if "$ref" in schema:
            inner.append(_pointed(root, schema["$ref"]))
        if inner:
            waiting += inner
        else:
            yield schema


def _pointed(root: Schema, reference: str) -> Schema:
    here: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        here = here.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(here, Mapping) else None
    return here if reference.startswith("#") and isinstance(here, Mapping) else {}


def _members(schema: Schema, part: str | int) -> Iterator[Schema]:
    """Yield what the schema says of the member; {} where it allows anything, nothing where it allows none."""
    if ("array" if isinstance(part, int) else "object") not in _own_types(schema):
        return
    if isinstance(part, int):
        inner = schema.get("items", {}) if "prefixItems" not in schema else {}
    else:
        others = {} if "patternProperties" in schema or "allOf" in schema else schema.get("additionalProperties", {})
        inner = schema.get("properties", {}).get(part, others)
    if inner is not False:
        yield inner if isinstance(inner, Mapping) else {}


def _own_types(schema: Schema) -> frozenset[str]:
    given = schema.get("type", ())
    named = {given} if isinstance(given, str) else set(given)
    if not named and ("const" in schema or "enum" in schema):
        named = {_type(value) for value in schema.get("enum", [schema.get("const")])}
    return frozenset("number" if name == "integer" else name for name in named) or TYPES


def _type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _why_not(schemas: list[Schema], part: str | int) -> str:
    kinds = frozenset().union(*(_own_types(each) for each in schemas))
    if isinstance(part, int):
        return f"there is no place {part}; it is {in_words(kinds)}, not a list"
    if "object" not in kinds:
        return f"there is no '{part}'; it is {in_words(kinds)}, not an object"
    known = dict.fromkeys(name for each in schemas for name in each.get("properties", ()))
    return f"there is no '{part}'; there are {listed(known)}"
