"""A form for people out of a JSON Schema, and the answer out of what they filled in.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from routing import payloads
from routing.errors import BadInput, RoutingError

WHOLE = "answer"  # the field that holds the whole answer
PREFIX = "field."  # before the names of an object's fields
SHORT = 100  # characters; a longer text gets a box
MAX_FIELDS = 50

Kind = Literal["line", "text", "number", "choice"]
NUMBERS = {"integer": "1", "number": "any"}
BOOLEANS = (("true", "Yes"), ("false", "No"))
# Words of a schema that a field shows or may leave to the check of the answer. With any other the answer is JSON.
PLAIN = {
    "type", "title", "description", "default", "examples", "enum", "const", "minLength", "maxLength", "pattern",
    "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
}  # fmt: skip
FLAT = {"type", "properties", "required", "additionalProperties", "title", "description", "$schema", "$id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. ``options`` are (JSON text, label); ``step`` is a number input's."""

    name: str  # of the input
    key: str  # of the object
    label: str
    kind: Kind
    help: str = ""
    required: bool = False
    options: tuple[tuple[str, str], ...] = ()
    step: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What is shown: two buttons, fields, or a box for text or for JSON."""

    kind: Literal["yes-no", "fields", "text", "json"]
    fields: tuple[Field, ...] = ()
    value: str = ""  # of the box


def form(schema: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> Form:
    """Return the form that asks for what the schema describes, with what somebody has ``typed`` already."""
    typed = typed or {}
    if _asks_yes_or_no(schema):
        return Form(kind="yes-no")
    if _asks_text(schema):
        return Form(kind="text", value=typed.get(WHOLE, ""))
    fields = _fields(schema, typed)
    if fields is None:
        return Form(kind="json", value=typed.get(WHOLE, ""))
    return Form(kind="fields", fields=fields)


def moment(text: str) -> datetime:
    """Return the time that was typed, in UTC unless it says otherwise. Raises ``BadInput``."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(why=f"{text[:40]!r} is no time. Write one such as 2026-01-31T12:00.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def answer(schema: Mapping[str, Any], posted: Mapping[str, str], *, max_bytes: int) -> Any:
    """Return the value that was filled in. Whether it suits the schema is not looked at.

    Raises a ``RoutingError`` for what is no JSON or no number.
    """
    made = form(schema, posted)
    if made.kind == "text":
        return posted.get(WHOLE, "")
    if made.kind != "fields":
        return payloads.loads(posted.get(WHOLE, ""), max_bytes=max_bytes)
    filled = ((field, posted.get(field.name, "")) for field in made.fields)
    return {field.key: _value(field, text) for field, text in filled if text or _must_stand(field)}


def _asks_yes_or_no(schema: Mapping[str, Any]) -> bool:
    return not schema or (schema.get("type") == "boolean" and schema.keys() <= {"type", "title", "description"})


def _asks_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string" and schema.keys() <= PLAIN - {"enum", "const"}


def _fields(schema: Mapping[str, Any], typed: Mapping[str, str]) -> tuple[Field, ...] | None:
    """Return a field for each property, None where fields cannot say all that the schema asks for."""
    properties = schema.get("properties")
    if schema.get("type") != "object" or schema.keys() - FLAT or not isinstance(properties, Mapping):
        return None
    required = set(schema.get("required") or ())
    if not 0 < len(properties) <= MAX_FIELDS or required - properties.keys():
        return None
    fields = [_field(key, inner, typed, required=key in required) for key, inner in properties.items()]
    return None if None in fields else tuple(field for field in fields if field is not None)


def _field(key: str, schema: Any, typed: Mapping[str, str], *, required: bool) -> Field | None:
    if not isinstance(schema, Mapping) or schema.keys() - PLAIN:
        return None
    name = PREFIX + key
    facts: dict[str, Any] = {
        "name": name,
        "key": key,
        "label": str(schema.get("title") or key),
        "help": str(schema.get("description") or ""),
        "required": required,
    }
    if "enum" in schema:
        options = tuple((json.dumps(one), one if isinstance(one, str) else json.dumps(one)) for one in schema["enum"])
        return Field(kind="choice", options=options, value=typed.get(name, _default(schema)), **facts)
    match schema.get("type"):
        case "boolean":
            return Field(kind="choice", options=BOOLEANS, value=typed.get(name, _default(schema)), **facts)
        case "integer" | "number" as kind:
            value = typed.get(name, _default(schema))
            return Field(kind="number", step=NUMBERS[kind], value=value, **facts)
        case "string":
            short: Kind = "line" if schema.get("maxLength", SHORT + 1) <= SHORT else "text"
            return Field(kind=short, value=typed.get(name, str(schema.get("default") or "")), **facts)
    return None


def _default(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema["default"]) if "default" in schema else ""


def _must_stand(field: Field) -> bool:
    """Return True if an empty text is an answer too: of a text that has to be there."""
    return field.required and field.kind in ("line", "text")


def _value(field: Field, text: str) -> Any:
    if field.kind in ("line", "text"):
        return text.replace("\r\n", "\n")
    try:
        return payloads.loads(text, max_bytes=10_000)
    except RoutingError:
        why = f"{field.label!r} has to be a number; {text[:40]!r} is none."
        raise BadInput(why=why, pointer=f"/{WHOLE}/{field.key}") from None
