"""Alert rules: what a rule says of the metrics at one moment.  Pure.

A condition is JSON. Leaves: ``threshold``, ``absence``, ``rate``, ``ratio``, ``burn``, and what is registered (anomaly,
forecast); ``all``, ``any`` and ``not`` join them. A leaf answers for each group of series by itself: each combination
of labels, or of those that ``by`` names.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from monitoring.metrics import Value
from monitoring.sketches import Distribution

Labels = tuple[tuple[str, str], ...]  # in order of their names
Condition = Mapping[str, Any]

FRESH_S = 30.0  # what is older says nothing of now
OVER_S = 300.0  # the window of a rate, a ratio or a distribution that names none
KEPT_POINTS = 200  # of each series over the longest window that a rule asks for
LONGEST_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a condition says of one group of series."""

    holds: bool
    value: float


Findings = dict[Labels, Finding]


class History:
    """The newest points of the metrics that rules ask for, thinned to what their windows need."""

    def __init__(self) -> None:
        self.began: float | None = None  # seconds since the epoch, of the first moment
        self._reach: dict[str, float] = {}
        self._series: dict[str, dict[Labels, deque[tuple[float, Value]]]] = {}

    def follow(self, reach: Mapping[str, float]) -> set[str]:
        """Keep so many seconds of these metrics, and no others; return those that are asked for longer than before."""
        longer = {name for name, seconds in reach.items() if seconds > self._reach.get(name, 0.0)}
        self._reach = dict(reach)
        self._series = {name: found for name, found in self._series.items() if name in reach}
        return longer

    def add(self, name: str, labels: Mapping[str, str], at: float, value: Value) -> None:
        """Take in what was measured; points of a series come in order of time."""
        reach = self._reach.get(name)
        if reach is None:
            return
        points = self._series.setdefault(name, {}).setdefault(tuple(sorted(labels.items())), deque())
        if len(points) > 1 and points[-1][0] - points[-2][0] < reach / KEPT_POINTS:
            value = _joined(points.pop()[1], value)
        points.append((at, value))
        while len(points) > 2 and points[1][0] <= at - reach:
            points.popleft()

    def forget_before(self, border: float) -> None:
        """Drop series that were not measured since."""
        for found in self._series.values():
            for labels in [labels for labels, points in found.items() if points[-1][0] < border]:
                del found[labels]

    def series(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Labels, deque[tuple[float, Value]]]]:
        """Yield the series of the metric that carry the labels, with their points."""
        wanted = set(labels.items())
        for found, points in self._series.get(name, {}).items():
            if wanted.issubset(found):
                yield found, points


def _joined(before: Value, value: Value) -> Value:
    if not (isinstance(before, Distribution) and isinstance(value, Distribution)):
        return value
    both = Distribution()
    both.merge(before)
    both.merge(value)
    return both


# ---- evaluation -------------------------------------------------------------------------------------------------

Evaluate = Callable[[Condition, History, float, frozenset[Labels]], Findings]


def evaluate(condition: Condition, history: History, now: float, was: frozenset[Labels] = frozenset()) -> Findings:
    """Return what holds for which labels; ``was`` are those it held for a moment ago, which end at ``clear``."""
    return KINDS[condition["kind"]](condition, history, now, was)


def _threshold(condition: Condition, history: History, now: float, was: frozenset[Labels]) -> Findings:
    return _judged(condition, _newest(condition, history, now), was)


def _rate(condition: Condition, history: History, now: float, was: frozenset[Labels]) -> Findings:
    over_s = float(condition.get("over_s", OVER_S))
    values: dict[Labels, float] = {}
    for labels, points in _fresh(condition, history, now):
        window = _window(points, now - over_s)
        span = window[-1][0] - window[0][0]
        if span > 0:
            change = _growth(window) if _is_counter(condition) else _number(window[-1][1]) - _number(window[0][1])
            group = _group(labels, condition)
            values[group] = values.get(group, 0.0) + change / span
    return _judged(condition, values, was)


def _ratio(condition: Condition, history: History, now: float, was: frozenset[Labels]) -> Findings:
    over_s, by = float(condition.get("over_s", OVER_S)), condition.get("by", [])
    part = _amounts({**condition["part"], "by": by}, history, now, over_s)
    whole = _amounts({**condition["whole"], "by": by}, history, now, over_s)
    least = float(condition.get("least", 1.0))
    return _judged(condition, {key: part.get(key, 0.0) / all for key, all in whole.items() if all >= least > 0}, was)


def _burn(condition: Condition, history: History, now: float, was: frozenset[Labels]) -> Findings:
    """Return whether the error budget goes too fast over a long and a short window (Beyer 2018, SRE workbook 5)."""
    worst, holds = 0.0, False
    for window in condition["windows"]:
        long = burn_rate(condition, history, now, float(window["long_s"]))
        short = burn_rate(condition, history, now, float(window["short_s"]))
        worst = max(worst, long)
        holds = holds or min(long, short) >= float(window["factor"])
    return {(): Finding(holds, worst)}


def burn_rate(condition: Condition, history: History, now: float, over_s: float) -> float:
    """Return how many times faster than allowed the budget of ``objective`` goes; 1 uses it up just in time."""
    bad = sum(_amounts({**condition["bad"], "by": []}, history, now, over_s).values())
    total = sum(_amounts({**condition["total"], "by": []}, history, now, over_s).values())
    if total < float(condition.get("least", 10.0)):
        return 0.0
    return bad / total / (1.0 - float(condition["objective"]))


def _absence(condition: Condition, history: History, now: float, was: frozenset[Labels]) -> Findings:
    for_s = float(condition.get("for_s", 60.0))
    if history.began is None or now - history.began < for_s:
        return {}
    ages = {labels: now - points[-1][0] for labels, points in _series(condition, history)}
    if condition.get("each"):
        return {labels: Finding(age >= for_s, age) for labels, age in ages.items()}
    youngest = min(ages.values(), default=now - history.began)
    return {(): Finding(youngest >= for_s, youngest)}


def _all(condition: Condition, history: History, now: float, was: frozenset[Labels]) -> Findings:
    """Return the first part's groups; another part counts for a group if its labels are among the group's."""
    first, *others = [evaluate(part, history, now, was) for part in condition["of"]]
    found = {}
    for labels, finding in first.items():
        holds = finding.holds and all(_holds_for(labels, other) for other in others)
        found[labels] = Finding(holds, finding.value)
    return found


def _any(condition: Condition, history: History, now: float, was: frozenset[Labels]) -> Findings:
    found: Findings = {}
    for part in condition["of"]:
        for labels, finding in evaluate(part, history, now, was).items():
            if finding.holds or labels not in found:
                found[labels] = finding
    return found


def _not(condition: Condition, history: History, now: float, was: frozenset[Labels]) -> Findings:
    (part,) = condition["of"]
    inner = evaluate(part, history, now)
    return {labels: Finding(not finding.holds, finding.value) for labels, finding in inner.items()}


def _holds_for(labels: Labels, findings: Findings) -> bool:
    return any(finding.holds and set(other).issubset(labels) for other, finding in findings.items())


KINDS: dict[str, Evaluate] = {
    "threshold": _threshold,
    "rate": _rate,
    "ratio": _ratio,
    "burn": _burn,
    "absence": _absence,
    "all": _all,
    "any": _any,
    "not": _not,
}
_JOINS = ("all", "any", "not")
_REGISTERED: set[str] = set()  # kinds of apps above


def register(kind: str, evaluate: Evaluate) -> None:
    """Have conditions of one more kind, as ``anomaly`` or ``forecast``; each names a ``metric`` and may bound it."""
    KINDS[kind] = evaluate
    _REGISTERED.add(kind)


# ---- what leaves look at ----------------------------------------------------------------------------------------


def _series(selector: Condition, history: History) -> Iterator[tuple[Labels, deque[tuple[float, Value]]]]:
    return history.series(selector["metric"], selector.get("labels", {}))


def _fresh(selector: Condition, history: History, now: float) -> Iterator[tuple[Labels, deque[tuple[float, Value]]]]:
    return ((labels, points) for labels, points in _series(selector, history) if now - points[-1][0] <= FRESH_S)


def _newest(selector: Condition, history: History, now: float) -> dict[Labels, float]:
    """Return the newest value of each group; of a distribution its quantile, or mean, over ``over_s``."""
    values: dict[Labels, float] = {}
    for labels, points in _fresh(selector, history, now):
        value = points[-1][1]
        if isinstance(value, Distribution):
            number = _observed(selector, points, now)
            if number is None:
                continue
        else:
            number = float(value)
        group = _group(labels, selector)
        values[group] = values.get(group, 0.0) + number
    return values


def _observed(selector: Condition, points: Iterable[tuple[float, Value]], now: float) -> float | None:
    merged, since = Distribution(), now - float(selector.get("over_s", OVER_S))
    for at, value in points:
        if at > since and isinstance(value, Distribution):
            merged.merge(value)
    if not merged.count:
        return None
    return merged.quantile(selector["quantile"]) if "quantile" in selector else merged.total / merged.count


def _amounts(selector: Condition, history: History, now: float, over_s: float) -> dict[Labels, float]:
    """Return how much each group grew over the window, or for a gauge what it is."""
    if not _is_counter(selector):
        return _newest(selector, history, now)
    values: dict[Labels, float] = {}
    for labels, points in _series(selector, history):
        group = _group(labels, selector)
        values[group] = values.get(group, 0.0) + _growth(_window(points, now - over_s))
    return values


def _window(points: Iterable[tuple[float, Value]], since: float) -> list[tuple[float, Value]]:
    """Return the points from the last one at or before ``since``; at least one."""
    found: list[tuple[float, Value]] = []
    for point in points:
        if point[0] <= since:
            found = [point]
        else:
            found.append(point)
    return found


def _growth(window: Iterable[tuple[float, Value]]) -> float:
    """Return how much a counter grew; one that fell has begun again at 0."""
    numbers = [_number(value) for _, value in window]
    return math.fsum(after - before if after >= before else after for before, after in pairwise(numbers))


def _number(value: Value) -> float:
    return float(value.count) if isinstance(value, Distribution) else float(value)


def _is_counter(selector: Condition) -> bool:
    return str(selector["metric"]).endswith("_total")


def _group(labels: Labels, selector: Condition) -> Labels:
    by = selector.get("by")
    return labels if by is None else tuple((label, value) for label, value in labels if label in by)


def _judged(condition: Condition, values: Mapping[Labels, float], was: frozenset[Labels]) -> Findings:
    """Return which values are beyond the bound; one that was ends only at ``clear``."""
    found = {}
    is_upper = "above" in condition
    bound = float(condition["above" if is_upper else "below"])
    clear = float(condition.get("clear", bound))
    for labels, value in values.items():
        limit = clear if labels in was else bound
        found[labels] = Finding(value > limit if is_upper else value < limit, value)
    return found


# ---- what a condition asks for ----------------------------------------------------------------------------------


def reach(condition: Condition) -> dict[str, float]:
    """Return how many seconds back the condition looks, by metric."""
    found: dict[str, float] = {}
    for metric, seconds in _looks(condition):
        found[metric] = max(found.get(metric, 0.0), seconds)
    return found


def _looks(condition: Condition) -> Iterator[tuple[str, float]]:
    kind = condition["kind"]
    if kind in _JOINS:
        for part in condition["of"]:
            yield from _looks(part)
    elif kind == "burn":
        longest = max(float(window["long_s"]) for window in condition["windows"])
        yield from ((condition[side]["metric"], longest) for side in ("bad", "total"))
    elif kind == "ratio":
        over_s = float(condition.get("over_s", OVER_S))
        yield from ((condition[side]["metric"], over_s) for side in ("part", "whole"))
    else:
        needed = {"absence": "for_s", "threshold": ""}.get(kind, "over_s")
        default = 0.0 if kind == "threshold" and "over_s" not in condition else OVER_S
        yield condition["metric"], max(FRESH_S, float(condition.get(needed or "over_s", default)))
