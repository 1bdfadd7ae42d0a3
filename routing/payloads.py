"""One strict gate for JSON at every door: text, Python values, and JSON Schemas.  No Django here.

Python's own ``json`` takes NaN and duplicate keys and dies at a depth of 5,000; PostgreSQL takes no NUL character.
What passes here can be stored, sent, hashed and read back everywhere.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import orjson
from jsonschema import Draft202012Validator, FormatChecker, exceptions, validators
from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from routing.errors import BadInput, Malformed, RoutingError, TooLarge

MAX_DEPTH = 64  # arrays and objects within one another
LOWEST, HIGHEST = -(2**63), 2**64 - 1  # integers
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Path = tuple["Path", str | int] | None  # where a value stands: (path of what holds it, key), None for the top

# A string that is never closed is taken to the end: so every start matches, and the scan stays linear.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def loads(data: bytes | str, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of a JSON text. Raises ``TooLarge`` or ``Malformed``; ``data`` may be anything at all."""
    text = _text(data, max_bytes)
    _check_brackets(text, max_depth)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
        )
    except json.JSONDecodeError as error:
        why = f"{error.msg} (line {error.lineno}, column {error.colno})."
        raise Malformed(why=why) from None
    if _ODD_ESCAPE.search(text):  # rare, and an escaped backslash before it makes it harmless: look at the values
        check(value, max_bytes=max_bytes, max_depth=max_depth)
    return value


def check(value: Any, *, max_bytes: int, max_depth: int = MAX_DEPTH, at: str = "") -> int:
    """Return the bytes of ``value`` as compact JSON. Raises ``TooLarge``, ``Malformed`` or ``BadInput``, with pointer.

    For values that came by Python or by Celery: the same rules as ``loads``, and only types that JSON knows. ``at`` is
    the pointer of the value itself in whatever holds it.
    """
    try:
        return _measure(value, max_bytes, max_depth)
    except RoutingError as error:
        error.pointer = at + error.pointer
        raise


def _measure(value: Any, max_bytes: int, max_depth: int) -> int:
    least = 0  # bytes seen so far: ends the walk of a small value that unfolds without end
    stack: list[tuple[Any, Path, int]] = [(value, None, 0)]
    while stack:
        item, path, depth = stack.pop()
        least += 1 + (len(item) if isinstance(item, str | Mapping | list | tuple) else 0)
        if least > max_bytes:
            raise TooLarge(size=f"more than {max_bytes}", limit=max_bytes)
        if isinstance(item, Mapping | list | tuple):
            if depth >= max_depth:
                raise _too_deep(max_depth)
            stack += ((inner, (path, key), depth + 1) for key, inner in _members(item, path))
        elif why := _flaw(item):
            raise Malformed(why=f"{_where(path)} is {why}.", pointer=pointer(path))
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > max_bytes:
        raise TooLarge(size=size, limit=max_bytes)
    return size


def pointer(path: Path) -> str:
    """Return the JSON Pointer (RFC 6901) of a path; "" for the top."""
    keys: list[str | int] = []
    while path is not None:
        path, key = path
        keys.append(key)
    return join(reversed(keys))


def join(keys: Iterable[str | int]) -> str:
    """Return the JSON Pointer (RFC 6901) of keys, outermost first."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def problems(schema: Any) -> list[str]:
    """Return in words what keeps ``schema`` from being a JSON Schema 2020-12 that is safe to use; [] if nothing.

    References stay inside the schema: nothing is ever fetched. Patterns are matched in linear time (Rust's ``regex``),
    so they know no look-around and no back-reference.
    """
    if not isinstance(schema, Mapping):
        return ["A schema is a JSON object; {} accepts anything."]
    if schema.get("$schema", DIALECT) not in (DIALECT, DIALECT + "#"):
        return [f"Only JSON Schema 2020-12 is understood: leave $schema out, or write {DIALECT}."]
    try:
        check(schema, max_bytes=1_000_000)
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(()))
    except (Malformed, TooLarge, BadInput) as error:
        return [str(error)]
    except exceptions.SchemaError as error:
        return [f"At {join(error.absolute_path) or 'the top'}: {_short(error.message)}"]
    found = [*_keyword_problems(schema, None)]
    return found or [*_reference_problems(schema)]


def mismatch(schema: Mapping[str, Any], value: Any) -> tuple[str, str] | None:
    """Return (JSON Pointer into the value, why) of the most telling misfit, or None if the value fits the schema."""
    if not schema:
        return None
    try:
        errors = islice(_validator(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).iter_errors(value), 20)
        error = exceptions.best_match(errors)
    except RecursionError:
        return "", "the value is nested too deeply for this schema, or the schema refers to itself without end"
    except Unresolvable as unresolvable:
        return "", f"the schema refers to {unresolvable.ref}, which is not in it"
    return None if error is None else (join(error.absolute_path), _short(error.message))


class Misfit(NamedTuple):
    """One way in which a value does not fit a schema."""

    path: tuple[str | int, ...]  # into the value
    keyword: str  # of the schema, such as "type"
    wanted: Any  # what the schema says there
    words: str


def misfits(schema: Mapping[str, Any], value: Any, *, most: int = 20) -> list[Misfit]:
    """Return how the value does not fit the schema, the first ``most``; [] if it does."""
    try:
        errors = islice(_validator(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).iter_errors(value), most)
        return [
            Misfit(tuple(error.absolute_path), str(error.validator), error.validator_value, _short(error.message))
            for error in errors
        ]
    except (RecursionError, Unresolvable) as error:
        return [Misfit((), "$ref", None, f"the schema cannot be followed: {_short(str(error))}")]


# ---- text ---------------------------------------------------------------------------------------------------------


def _text(data: bytes | str, max_bytes: int) -> str:
    """Return the text, known to be valid UTF-8 and at most ``max_bytes`` long."""
    try:
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > max_bytes:
            raise TooLarge(size=len(raw), limit=max_bytes)
        return data if isinstance(data, str) else raw.decode()
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        raise Malformed(why=f"it is not valid UTF-8 (at position {start}).") from None


def _check_brackets(text: str, max_depth: int) -> None:
    """Raise ``Malformed`` when arrays and objects stand deeper in one another than ``max_depth``; never recurses."""
    if text.count("[") + text.count("{") <= max_depth:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > max_depth:
            raise _too_deep(max_depth)


def _too_deep(max_depth: int) -> Malformed:
    return Malformed(why=f"its arrays and objects are nested more than {max_depth} deep.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict. Raises ``Malformed`` for a key that stands twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(why=f"the key {_short(json.dumps(twice))} stands twice in one object.")
    return made


def _constant(name: str) -> NoReturn:
    raise Malformed(why=f"{name} is not a JSON number.")


def _integer(digits: str) -> int:
    """Return the integer. Raises ``Malformed`` beyond 64 bits, before Python spends time on a long one."""
    if len(digits) > 20 or not LOWEST <= (value := int(digits)) <= HIGHEST:
        raise Malformed(why=f"the integer {_short(digits)} has more than 64 bits.")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise Malformed(why=f"the number {_short(digits)} is too large.")
    return value


# ---- values -------------------------------------------------------------------------------------------------------


def _members(item: Any, path: Path) -> Iterator[tuple[str | int, Any]]:
    """Yield the (key, value) pairs of a container. Raises for a key that is not a clean string."""
    if not isinstance(item, Mapping):
        yield from enumerate(item)
        return
    if not isinstance(item, dict):
        raise BadInput(why=f"{_where(path)} is a {type(item).__name__}; use a dict.", pointer=pointer(path))
    for key, value in item.items():
        if not isinstance(key, str):
            why = f"{_where(path)} has a key that is a {type(key).__name__}; keys of a JSON object are strings."
            raise BadInput(why=why, pointer=pointer(path))
        if flaw := _text_flaw(key):
            raise Malformed(why=f"{_where(path)} has a key that is {flaw}.", pointer=pointer(path))
        yield key, value


def _flaw(item: Any) -> str | None:
    """Return what is wrong with a value that is no container, or None."""
    match item:
        case str():
            return _text_flaw(item)
        case bool() | None:
            return None
        case int():
            return None if LOWEST <= item <= HIGHEST else "an integer of more than 64 bits"
        case float():
            return None if math.isfinite(item) else f"{item}, which is not a JSON number"
        case _:
            return f"a {type(item).__name__}, which JSON does not know"


def _text_flaw(text: str) -> str | None:
    if "\0" in text:
        return "text with a NUL character"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "text with half a surrogate pair"
    return None


def _where(path: Path) -> str:
    return _short(pointer(path)) or "the value"


def _short(text: str, limit: int = 240) -> str:
    """Return the text, its middle left out when it is longer than ``limit``; safe to print and to store."""
    text = text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]}"


# ---- schemas ------------------------------------------------------------------------------------------------------

_DATA = ("const", "enum", "default", "examples")  # keywords whose value is data, not a schema
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # name → schema


def _subschemas(schema: Any, path: Path) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Yield ``schema`` and everything in it that is used as a schema, with its place."""
    if isinstance(schema, Mapping):
        yield schema, path
        for key, inner in schema.items():
            if key in _NAMED and isinstance(inner, Mapping):
                for name, named in inner.items():
                    yield from _subschemas(named, ((path, key), name))
            elif key not in _DATA:
                yield from _subschemas(inner, (path, key))
    elif isinstance(schema, list):
        for number, inner in enumerate(schema):
            yield from _subschemas(inner, (path, number))


def _keyword_problems(schema: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Yield what 2020-12 allows and we do not: patterns that may take for ever, keys that move a reference's base."""
    for part, place in _subschemas(schema, path):
        where = pointer(place) or "the top"
        for pattern in _patterns(part):
            if why := _pattern_problem(pattern):
                yield f"At {where}: the pattern {_short(json.dumps(pattern))} cannot be used: {why}"
        if "patternProperties" in part and "unevaluatedProperties" in part:
            yield f"At {where}: patternProperties and unevaluatedProperties cannot stand together."
        if place is not None and ("$id" in part or "$schema" in part):
            yield f"At {where}: $id and $schema may stand at the top only."


def _reference_problems(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the references that lead out of the schema, or to nothing."""
    resource: Resource[Any] = DRAFT202012.create_resource(schema)
    registry: Registry[Any] = Registry()
    resolver = registry.resolver_with_root(resource)
    for part, place in _subschemas(schema, None):
        for keyword in ("$ref", "$dynamicRef"):
            reference = part.get(keyword, "#")
            where = f"At {pointer(place) or 'the top'}: {keyword} {_short(json.dumps(reference))}"
            if not reference.startswith("#"):
                yield f"{where} leads out of the schema. Copy what it means into $defs and refer to #/$defs/…"
                continue
            try:
                resolver.lookup(reference)
            except Unresolvable:
                yield f"{where} leads to nothing."


def _patterns(schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(schema.get("pattern"), str):
        yield schema["pattern"]
    if isinstance(schema.get("patternProperties"), Mapping):
        yield from schema["patternProperties"]


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> SchemaValidator:
    """Return what matches the pattern in linear time, whatever the text. Raises pydantic's ``SchemaError``."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _pattern_problem(pattern: str) -> str | None:
    try:
        _matcher(pattern)
    except SchemaError as error:
        return _short(" ".join(str(error).split()).removeprefix('Error building "str" validator: SchemaError: '))
    return None


def _matches(pattern: str, text: str) -> bool:
    try:
        _matcher(pattern).validate_python(text)
    except ValidationError:
        return False
    return True


Errors = Iterator[exceptions.ValidationError]


def _pattern(validator: Any, pattern: str, instance: Any, schema: Mapping[str, Any]) -> Errors:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield exceptions.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, named: Mapping[str, Any], instance: Any, schema: Mapping[str, Any]) -> Errors:
    if not isinstance(instance, dict):
        return
    for pattern, inner in named.items():
        for key, value in instance.items():
            if _matches(pattern, key):
                yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional_properties(validator: Any, rule: Any, instance: Any, schema: Mapping[str, Any]) -> Errors:
    if not isinstance(instance, dict):
        return
    patterns = schema.get("patternProperties", ())
    for key in instance.keys() - schema.get("properties", {}).keys():
        if any(_matches(pattern, key) for pattern in patterns):
            continue
        if rule is False:
            yield exceptions.ValidationError(f"{key!r} is not a known property", path=[key])
        else:
            yield from validator.descend(instance[key], rule, path=key)


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Mapping[str, Any]) -> Errors:
    """jsonschema's own compares every pair where items are objects: hours for a megabyte of them."""
    if not wanted or not isinstance(instance, list):
        return
    seen: set[Any] = set()
    for number, item in enumerate(instance):
        frozen = _frozen(item)
        if frozen in seen:
            yield exceptions.ValidationError(f"item {number} stands in the list before", path=[number])
            return
        seen.add(frozen)


def _frozen(value: Any) -> Any:
    """Return a hashable stand-in that is equal exactly for equal JSON values: 1 is 1.0, and true is not 1."""
    if isinstance(value, dict):
        return "object", frozenset((key, _frozen(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "array", tuple(map(_frozen, value))
    return isinstance(value, bool), value


_Validator = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    },
)


@lru_cache(maxsize=1024)
def _validator(schema: bytes) -> Any:
    """Return the compiled validator of a schema's JSON. Its registry is empty, so no reference is ever fetched."""
    return _Validator(orjson.loads(schema), registry=Registry())
