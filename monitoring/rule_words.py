"""What is wrong with a rule's condition, in words that help.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from monitoring import catalogue, metrics, rules

_OPTIONS = {
    "threshold": {"metric", "labels", "by", "above", "below", "clear", "quantile", "over_s"},
    "rate": {"metric", "labels", "by", "above", "below", "clear", "over_s"},
    "ratio": {"part", "whole", "by", "above", "below", "clear", "over_s", "least"},
    "burn": {"bad", "total", "objective", "windows", "least"},
    "absence": {"metric", "labels", "for_s", "each"},
    "all": {"of"},
    "any": {"of"},
    "not": {"of"},
}
_NUMBERS = ("above", "below", "clear", "over_s", "for_s", "least", "quantile", "objective")
DEEPEST = 5


def problems(condition: Any, known: frozenset[str] = frozenset(), *, depth: int = 0) -> Iterator[str]:
    """Yield what is wrong; ``known`` are metrics measured here beside those of the catalogue."""
    if not isinstance(condition, Mapping) or condition.get("kind") not in rules.KINDS:
        yield f"A condition is an object whose “kind” is one of {', '.join(rules.KINDS)}."
        return
    kind = condition["kind"]
    allowed = _OPTIONS.get(kind, set(condition))  # what is registered by others they check themselves
    if unknown := sorted(condition.keys() - allowed - {"kind"}):
        yield f"{kind} has no {', '.join(unknown)}; it has {', '.join(sorted(allowed))}."
    wrong = [name for name in _NUMBERS if name in condition and not _is_number(condition[name])]
    if wrong:
        yield f"{', '.join(wrong)} of {kind}: a finite number is wanted."
        return
    yield from _of_kind(kind, condition, known, depth)


def _of_kind(kind: str, condition: Mapping[str, Any], known: frozenset[str], depth: int) -> Iterator[str]:
    if kind in ("all", "any", "not"):
        yield from _of_join(kind, condition.get("of"), known, depth)
    elif kind == "burn":
        yield from _of_burn(condition, known)
    elif kind == "ratio":
        yield from _of_sides(condition, ("part", "whole"), known)
        yield from _of_bounds(condition)
    else:
        yield from _of_selector(condition, known)
        if kind in ("threshold", "rate"):
            yield from _of_bounds(condition)
    for name in ("over_s", "for_s"):
        if name in condition and not 0 < condition[name] <= rules.LONGEST_S:
            yield f"{name}: more than 0 and at most {rules.LONGEST_S:.0f} seconds."
    if not 0 <= condition.get("quantile", 0) <= 1:
        yield "quantile: between 0 and 1."


def _of_join(kind: str, parts: Any, known: frozenset[str], depth: int) -> Iterator[str]:
    if not isinstance(parts, list) or not parts or (kind == "not" and len(parts) != 1) or len(parts) > 10:
        yield f"{kind} wants “of”: a list of {'one condition' if kind == 'not' else 'one to ten conditions'}."
    elif depth >= DEEPEST:
        yield f"Conditions stand at most {DEEPEST} deep."
    else:
        for part in parts:
            yield from problems(part, known, depth=depth + 1)


def _of_burn(condition: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    yield from _of_sides(condition, ("bad", "total"), known)
    if not 0 < condition.get("objective", 0) < 1:
        yield "burn wants an “objective” between 0 and 1, as in 0.99."
    windows = condition.get("windows")
    numbers = ("long_s", "short_s", "factor")
    if not isinstance(windows, list) or not windows:
        yield "burn wants “windows”: a list of {long_s, short_s, factor}."
        return
    for each in windows:
        if not isinstance(each, Mapping) or not all(_is_number(each.get(name)) and each[name] > 0 for name in numbers):
            yield "A window of burn is {long_s, short_s, factor}, all greater than 0."
        elif each["long_s"] > rules.LONGEST_S or each["short_s"] > each["long_s"]:
            yield "A window's short_s is at most its long_s, and that at most 30 days."


def _of_sides(condition: Mapping[str, Any], sides: tuple[str, str], known: frozenset[str]) -> Iterator[str]:
    for side in sides:
        if not isinstance(condition.get(side), Mapping):
            yield f"{condition['kind']} wants “{side}”: a metric with its labels."
        else:
            yield from _of_selector(condition[side], known)


def _of_selector(selector: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    name, labels, by = selector.get("metric"), selector.get("labels", {}), selector.get("by", [])
    measured = known | catalogue.METRICS.keys()
    if not isinstance(name, str) or name not in measured:
        close = metrics.alike(str(name), measured)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        yield f"There is no metric {name!r}.{hint} “GET /api/v1/metrics” lists all."
    if not isinstance(labels, Mapping) or not all(isinstance(value, str) for value in labels.values()):
        yield "labels: an object of names and texts."
    if not isinstance(by, list) or not all(isinstance(label, str) for label in by):
        yield "by: a list of label names."


def _of_bounds(condition: Mapping[str, Any]) -> Iterator[str]:
    if ("above" in condition) == ("below" in condition):
        yield f"{condition['kind']} wants either “above” or “below”."
    elif "clear" in condition:
        above = "above" in condition
        if condition["clear"] > condition["above"] if above else condition["clear"] < condition["below"]:
            yield "“clear” is where it ends: not beyond the bound where it begins."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
