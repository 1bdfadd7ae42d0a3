"""Questions to the metric store as the API and the pages ask them, checked, and their answers as plain values."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Max
from django.utils import timezone

from monitoring import catalogue, metrics, store
from monitoring.metrics import Kind, Point
from monitoring.models import Series
from routing.errors import BadInput, RoutingError

MOST_SERIES = 50  # in one answer
MOST_POINTS = metrics.MOST_POINTS  # in one answer, of all its series together
FEWEST_POINTS = 100  # of each series, however many there are
LONGEST_S = max(store.KEPT.values())
QUANTILES = (0.5, 0.95, 0.99)


class UnknownMetric(RoutingError):
    """No metric {name!r} was measured within the last days.{close}"""

    kind, status = "unknown-metric", 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one metric, in ``[since, until)``."""

    name: str
    since: dt.datetime
    until: dt.datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    step_s: float = 0.0  # 0: as fine as it is kept, thinned to ``MOST_POINTS``
    quantiles: Sequence[float] = QUANTILES


def catalogue_rows() -> list[dict[str, Any]]:
    """Return each metric there are points of: name, kind, unit, help, how many series, when it was last measured."""
    rows = Series.objects.values("name", "kind").annotate(series=Count("pk"), seen_at=Max("seen_at")).order_by("name")
    return [row | _known(row["name"]) for row in rows]


def _known(name: str) -> dict[str, str]:
    metric = catalogue.METRICS.get(name)
    return {"unit": metric.unit if metric else "1", "help": metric.help if metric else ""}


def series_rows(name: str) -> list[dict[str, Any]]:
    """Return the labels of each series of the metric, and when it was last measured. Raises ``UnknownMetric``."""
    rows = Series.objects.filter(name=name).order_by("key").values("labels", "seen_at")
    if not rows:
        raise unknown(name)
    return [dict(row) for row in rows]


def unknown(name: str) -> UnknownMetric:
    """Return the refusal, which names metrics that are called alike."""
    close = metrics.alike(name, store.names())
    return UnknownMetric(name=name, close=f" Did you mean {' or '.join(close)}?" if close else "")


def question(
    name: str,
    *,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    step_s: float = 0.0,
    where: Sequence[str] = (),
    quantiles: Sequence[float] = (),
    now: dt.datetime | None = None,
) -> Question:
    """Return what was asked; without times it is the last hour. ``where``: ``label:value``. Raises ``BadInput``."""
    end = until or now or timezone.now()
    begin = since or end - dt.timedelta(hours=1)
    if timezone.is_naive(end) or timezone.is_naive(begin):
        raise BadInput(why="A time needs its zone, as in 2026-11-27T10:00:00Z.")
    if begin >= end:
        raise BadInput(why="“since” has to be before “until”.")
    if (end - begin).total_seconds() > LONGEST_S:
        raise BadInput(why=f"Metrics are kept for {LONGEST_S / 86_400:.0f} days: ask for less.")
    if not math.isfinite(step_s) or step_s < 0:
        raise BadInput(why="“step” is a number of seconds, 0 for as fine as it is kept.")
    if any(not 0 <= share <= 1 for share in quantiles):
        raise BadInput(why="A quantile lies between 0 and 1.")
    labels = dict(_label(text) for text in where)
    return Question(
        name=name, since=begin, until=end, labels=labels, step_s=step_s, quantiles=tuple(quantiles) or QUANTILES
    )


def _label(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name and colon):
        raise BadInput(why=f"“where” is a label with its value, as in skill:echo, not {text!r}.")
    return name, value


def answer(asked: Question) -> dict[str, Any]:
    """Return the series with their points; at most 50 series and 2,000 points in all, lows and highs kept.

    Of more series than that it shows those with the highest points, and says how many it left out. Raises
    ``UnknownMetric``.
    """
    found = store.read(asked.name, asked.labels, asked.since, asked.step_s, until=asked.until)
    if not found and not Series.objects.filter(name=asked.name).exists():
        raise unknown(asked.name)
    full = [reading for reading in found if reading.points]
    full.sort(key=lambda reading: max(point.high for point in reading.points), reverse=True)
    shown = full[:MOST_SERIES]
    most = max(MOST_POINTS // max(1, len(shown)), min(FEWEST_POINTS, MOST_POINTS // MOST_SERIES))
    kind = shown[0].kind if shown else catalogue.kind(asked.name)
    return {
        "name": asked.name,
        "kind": kind.value,
        **_known(asked.name),
        "since": asked.since,
        "until": asked.until,
        "step_s": asked.step_s,
        "series": [
            {"labels": dict(each.labels), "points": list(_points(kind, each.points, most, asked.quantiles))}
            for each in shown
        ],
        "left_out": len(full) - len(shown),
    }


def _points(kind: Kind, points: Sequence[Point], most: int, quantiles: Sequence[float]) -> Iterator[dict[str, Any]]:
    rates = _rates(points, most) if kind is Kind.COUNTER else {}
    for point in metrics.thinned(points, most):
        row: dict[str, Any] = {
            "at": dt.datetime.fromtimestamp(point.at, dt.UTC),
            "low": point.low,
            "high": point.high,
            "mean": point.mean,
            "last": point.last,
            "count": point.count,
        }
        if kind is Kind.COUNTER:
            row["rate"] = rates.get(point.at)
        if point.distribution is not None:
            row["quantiles"] = {f"{share:g}": point.distribution.quantile(share) for share in quantiles}
        yield row


def _rates(points: Sequence[Point], most: int) -> dict[float, float]:
    """Return the growth per second up to each of the points as they are shown; the first has none."""
    shown = metrics.thinned(points, most)
    return {at: growth / seconds for at, seconds, growth in metrics.increases(shown)}
