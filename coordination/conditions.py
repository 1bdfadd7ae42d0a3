"""Conditions: does a step run, which case of a choice is it?  Pure.

JMESPath over ``steps``, ``run`` and ``item``, and of it only what cannot blow up: no building of new lists or objects,
so that the work is at most the length of the expression times the size of the data it looks at. What is not there is
null. Two things are easier than in JMESPath: numbers, true, false and null after a comparison need no backticks, and
names may have hyphens::

    steps.triage.output.severity == 'high' && steps.triage.output.score >= 0.8
    length(steps.find-links.output.links) > 3 || contains(run.input.tags, 'urgent')
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from coordination.problems import listed
from coordination.templates import ROOTS, Reference

MAX_CHARS = 1_000
MAX_DEPTH = 24  # parts within one another
FUNCTIONS = frozenset((
    "abs", "avg", "ceil", "contains", "ends_with", "floor", "keys", "length", "max", "max_by", "min", "min_by",
    "not_null", "reverse", "sort", "sort_by", "starts_with", "sum", "to_number", "type", "values",
))  # fmt: skip
_DOWN = frozenset((  # only the first part of these looks at the whole
    "filter_projection", "flatten", "index_expression", "pipe", "projection", "subexpression", "value_projection",
))  # fmt: skip
_ALLOWED = _DOWN | {
    "and_expression", "comparator", "current", "expref", "field", "function_expression", "identity", "index", "literal",
    "not_expression", "or_expression", "slice",
}  # fmt: skip
_LISTS = {"multi_select_list": "a list in brackets", "multi_select_dict": "an object in braces"}
_FRIENDLY = re.compile(
    r"(?P<keep>'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<sign>==|!=|<=|>=|<|>)(?P<space>\s*)(?P<value>-?\d+(?:\.\d+)?(?![\w.])|(?:true|false|null)\b(?![\w.(\[-]))"
    r"|(?P<name>[A-Za-z_]\w*(?:-\w+)+)"
    r"|(?P<open>['\"`])"
)


class BadCondition(ValueError):
    """The expression cannot be understood, or compares what cannot be compared; the message says why."""


def holds(expression: str, scope: Mapping[str, Any]) -> bool:
    """Return whether the expression holds; "" always does. Raises ``BadCondition``.

    As in JMESPath, null, false, and empty text, lists and objects do not hold; 0 does.
    """
    if not expression.strip():
        return True
    value = evaluate(expression, scope)
    return not (value is None or value is False or (isinstance(value, str | list | dict) and not value))


def evaluate(expression: str, scope: Mapping[str, Any]) -> Any:
    """Return the value of the expression. Raises ``BadCondition``."""
    compiled = _compiled(expression)
    try:
        return compiled.search(dict(scope))
    except (JMESPathError, TypeError, ValueError, RecursionError) as error:
        raise BadCondition(f"{expression!r} cannot be decided: {_first_line(error)}.") from None


def references(expression: str) -> list[Reference]:
    """Return what the expression looks at, each once, as far as names lead. Raises ``BadCondition``."""
    if not expression.strip():
        return []
    found = list(dict.fromkeys(_looked_at(_compiled(expression).parsed, is_root=True)))
    for unknown in (str(reference.path[0]) for reference in found if reference.path[0] not in ROOTS):
        words = f"{expression!r}: there is no {unknown!r}; a condition looks at {listed(ROOTS)}."
        raise BadCondition(f"{words} {_hint(expression)}")
    return found


@lru_cache(maxsize=5_000)
def _compiled(expression: str) -> Any:
    if len(expression) > MAX_CHARS:
        raise BadCondition(f"A condition has at most {MAX_CHARS} characters.")
    try:
        compiled = jmespath.compile(_FRIENDLY.sub(_strict, expression))
    except RecursionError:
        raise BadCondition(f"{expression[:40]!r} … is nested too deep.") from None
    except (JMESPathError, ValueError) as error:
        raise BadCondition(f"{expression!r} is no condition: {_first_line(error)}. {_hint(expression)}") from None
    _check(compiled.parsed, expression)
    return compiled


def _strict(found: re.Match[str]) -> str:
    """Return what JMESPath itself writes for the friendlier forms."""
    if found["open"]:
        raise BadCondition(f"{found.string!r}: the quote {found['open']} has no end.")
    if found["keep"]:
        return _kept(found["keep"])
    if found["name"]:
        return f'"{found["name"]}"'
    return f"{found['sign']}{found['space']}`{found['value']}`"


def _kept(quoted: str) -> str:
    """Return what stands in quotes, known to be JSON where the quotes are backticks."""
    if quoted.startswith("`"):
        try:
            json.loads(quoted[1:-1].replace("\\`", "`"))
        except ValueError:
            raise BadCondition(f"{quoted} is no JSON; text stands in single quotes: 'high'.") from None
    return quoted


def _check(node: Mapping[str, Any], expression: str, depth: int = 0) -> None:
    kind = node["type"]
    if depth > MAX_DEPTH:
        raise BadCondition(f"{expression[:40]!r} … is nested too deep.")
    if kind not in _ALLOWED:
        raise BadCondition(f"{expression!r}: {_LISTS.get(kind, kind)} cannot stand in a condition.")
    if kind in _DOWN and node["children"][0]["type"] == "not_expression":  # JMESPath reads !a.b as (!a).b
        raise BadCondition(f"{expression!r}: brackets belong behind the !, as in !(run.input.done).")
    if kind == "function_expression" and node["value"] not in FUNCTIONS:
        known = listed(sorted(FUNCTIONS), most=99)
        raise BadCondition(f"{expression!r}: there is no function {node['value']!r}; there are {known}.")
    for child in node["children"]:
        if isinstance(child, Mapping):
            _check(child, expression, depth + 1)


def _looked_at(node: Mapping[str, Any], *, is_root: bool) -> Iterator[Reference]:
    """Yield references. Within a projection or after a step down, names are members of what was found before."""
    kind, children = node["type"], node["children"]
    if is_root and (chain := _chain(node)):
        yield Reference(chain)
    elif kind in _DOWN:
        yield from _looked_at(children[0], is_root=is_root)
    else:
        inner = is_root and kind != "expref"
        for child in children:
            if isinstance(child, Mapping):
                yield from _looked_at(child, is_root=inner)


def _chain(node: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Return the path of a node that only steps down by names and places, else ()."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] not in ("subexpression", "index_expression"):
        return ()
    path: tuple[str | int, ...] = ()
    for number, child in enumerate(node["children"]):
        if child["type"] == "index" and number:
            path += (child["value"],)
        elif part := _chain(child):
            path += part
        else:
            return path if number else ()
    return path


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip().rstrip(".,:")


def _hint(expression: str) -> str:
    if '"' in expression:
        return "Text stands in single quotes: 'high'."
    if re.search(r"[^=!<>]=[^=]", expression):
        return "Equal is written ==."
    if re.search(r"\b(and|or|not|in)\b", expression):
        return "And is written &&, or ||, not !, and a member is found by contains(list, value)."
    return "A whole one: steps.triage.output.severity == 'high' && run.input.count > 3."
