"""The metric store: what is measured, as it was for a day, by the minute for 7 and by ten minutes for 90 days.

    write ─▶ Tick (all series of a moment, one row) ─▶ every ten minutes ─▶ Chunk (one series over a while) ─▶ deleted

So a moment costs one small row, whatever the number of series, and reading a long time of one series touches few rows.
The only writer of ``Series``, ``Tick`` and ``Chunk``.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import transaction
from django.utils import timezone

from monitoring import catalogue, metrics
from monitoring.metrics import Kind, Point, Sample, Value
from monitoring.models import Chunk, Series, Tick
from monitoring.sketches import Distribution

WINDOW_S = 600  # ticks become chunks when so much time is full
SPANS: dict[int, int] = {0: WINDOW_S, 60: 7200, 600: 86_400}  # resolution → seconds in one chunk
KEPT: dict[int, float] = {0: 86_400.0, 60: 7 * 86_400.0, 600: 90 * 86_400.0}
MOST_COMBINATIONS = 1_000  # of labels, for one name: what comes beyond is left out, and counted
SLICE = 200  # series in one transaction: the controller must not wait long for the database
READ_TICKS = 500  # kept decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The points of one series, in order of time."""

    name: str
    labels: Mapping[str, str]
    kind: Kind
    points: list[Point]


_lock = threading.Lock()
_series: dict[str, int] = {}  # numbers by key
_counts: Counter[str] = Counter()  # series by metric
_ticks: OrderedDict[float, dict[int, Any]] = OrderedDict()  # decoded, by their time
left_out: Counter[str] = Counter()  # samples that were one combination of labels too many, by metric


def forget() -> None:
    """Forget what this process remembers of the tables."""
    with _lock:
        _series.clear()
        _counts.clear()
        _ticks.clear()


# ---- writing ----------------------------------------------------------------------------------------------------


def write(samples: Iterable[Sample], at: dt.datetime) -> int:
    """Keep what was measured at ``at`` and return how many samples that were. One row; raises ``DatabaseError``.

    A clock that was set back is no trouble: what was measured at the same moment is replaced.
    """
    numbered = [(id, value) for sample in samples if (id := _id(sample, at)) is not None
                and (value := _plain(sample.value)) is not None]  # fmt: skip
    Tick.objects.bulk_create(
        [Tick(at=at, data=_packed(numbered))], update_conflicts=True, unique_fields=["at"], update_fields=["data"]
    )
    return len(numbered)


def _plain(value: Value) -> Any:
    if isinstance(value, Distribution):
        return value.as_json()
    return float(value) if math.isfinite(value) else None


def _id(sample: Sample, at: dt.datetime) -> int | None:
    """Return the number of the sample's series, made if there is none; None for one too many."""
    key = metrics.key(sample.name, sample.labels)
    with _lock:
        if not _series:
            _load()
        if (known := _series.get(key)) is not None:
            return known
        if len(key) > 500 or _counts[sample.name] >= MOST_COMBINATIONS:
            left_out[sample.name] += 1
            return None
        kind = Kind.DISTRIBUTION if isinstance(sample.value, Distribution) else catalogue.kind(sample.name)
        row, _ = Series.objects.get_or_create(
            key=key, defaults={"name": sample.name, "labels": dict(sample.labels), "kind": kind, "seen_at": at}
        )
        _remember(row)
        return int(row.pk)


def _load() -> None:
    for row in Series.objects.all():
        _remember(row)


def _remember(row: Series) -> None:
    _series[row.key] = row.pk
    _counts[row.name] += 1


def _packed(rows: Sequence[Any]) -> bytes:
    return zlib.compress(orjson.dumps(rows), 1)


def _unpacked(data: Any) -> list[Any]:
    rows: list[Any] = orjson.loads(zlib.decompress(bytes(data)))
    return rows


# ---- rolling up -------------------------------------------------------------------------------------------------


def roll_up(now: dt.datetime) -> int:
    """Turn ticks of full ten minutes into chunks, and return how many ticks that were.

    It may be ended at any moment and done again: chunks are replaced, and the ticks go last.
    """
    border = _floor(now.timestamp() - 10, WINDOW_S)
    first = Tick.objects.filter(at__lt=_time(border)).order_by("at").values_list("at", flat=True).first()
    done = 0
    while first is not None and first.timestamp() < border:
        start = _floor(first.timestamp(), WINDOW_S)
        done += _roll_window(start)
        following = Tick.objects.filter(at__gte=_time(start + WINDOW_S), at__lt=_time(border)).order_by("at")
        first = following.values_list("at", flat=True).first()
    return done


def _roll_window(start: float) -> int:
    rows = Tick.objects.filter(at__gte=_time(start), at__lt=_time(start + WINDOW_S)).order_by("at")
    ticks = list(rows.values_list("at", "data"))
    points: dict[int, list[Point]] = {}
    for at, data in ticks:
        for series, value in _unpacked(data):
            points.setdefault(series, []).append(_point(at.timestamp(), value))
    numbers = sorted(points)
    for begin in range(0, len(numbers), SLICE):
        _write_chunks({number: points[number] for number in numbers[begin : begin + SLICE]}, start)
    Tick.objects.filter(at__in=[at for at, _ in ticks]).delete()
    return len(ticks)


def _write_chunks(points: Mapping[int, list[Point]], start: float) -> None:
    with transaction.atomic():
        known = set(Series.objects.filter(pk__in=points).values_list("pk", flat=True))
        for step_s, span_s in SPANS.items():
            at = _time(_floor(start, span_s))
            before: dict[int, list[Point]] = {}
            for series, data in Chunk.objects.filter(series__in=known, step_s=step_s, start=at).values_list(
                "series_id", "data"
            ):
                before[series] = [Point.of_json(row) for row in _unpacked(data)]
            rows = []
            for series in known:
                new = metrics.rolled(points[series], step_s) if step_s else points[series]
                merged = {point.at: point for point in [*before.get(series, ()), *new]}
                packed = _packed([merged[moment].as_json() for moment in sorted(merged)])
                rows.append(Chunk(series_id=series, step_s=step_s, start=at, data=packed))
            Chunk.objects.bulk_create(
                rows, update_conflicts=True, unique_fields=["series", "step_s", "start"], update_fields=["data"]
            )
        Series.objects.filter(pk__in=known).update(seen_at=_time(start + WINDOW_S))


def delete_old(now: dt.datetime) -> int:
    """Delete what is older than its resolution is kept, and series of which nothing is left; return how many rows."""
    deleted = 0
    for step_s, kept_s in KEPT.items():
        border = now - dt.timedelta(seconds=kept_s + SPANS[step_s])
        while numbers := list(Chunk.objects.filter(step_s=step_s, start__lt=border).values_list("pk", flat=True)[:500]):
            deleted += Chunk.objects.filter(pk__in=numbers).delete()[0]
    gone = Series.objects.filter(seen_at__lt=now - dt.timedelta(seconds=2 * 86_400), chunks=None)
    if count := gone.delete()[0]:
        forget()
    return deleted + count


# ---- reading ----------------------------------------------------------------------------------------------------


def names() -> dict[str, Kind]:
    """Return all metrics there are points of, by name."""
    rows = Series.objects.values_list("name", "kind").distinct().order_by("name")
    return {name: Kind(kind) for name, kind in rows}


def read(
    name: str,
    labels: Mapping[str, str] | None = None,
    since: dt.datetime | None = None,
    step: float = 0.0,
    *,
    until: dt.datetime | None = None,
) -> list[Reading]:
    """Return the series of ``name`` that carry all of ``labels``, with their points in ``[since, until)``.

    ``since`` None is the last hour. ``step`` in seconds rolls up to it; 0 is as fine as it is kept. Empty where there
    is nothing: whether the metric exists at all tells ``names``.
    """
    end = (until or timezone.now()).timestamp()
    begin = since.timestamp() if since is not None else end - 3600.0
    wanted = {row.pk: row for row in Series.objects.filter(name=name).order_by("key") if _carries(row.labels, labels)}
    points: dict[int, list[Point]] = {number: [] for number in wanted}
    if wanted:
        _read_chunks(points, begin, end, step)
        _read_ticks(points, begin, end)
    return [
        Reading(name=name, labels=row.labels, kind=Kind(row.kind), points=_shaped(points[number], step))
        for number, row in wanted.items()
    ]


def latest(name: str = "", *, within_s: float = 60.0, now: dt.datetime | None = None) -> list[Reading]:
    """Return the newest point of each series of ``name``, of all series if it is empty; none is older than that."""
    end = now or timezone.now()
    ticks = _decoded((end - dt.timedelta(seconds=within_s)).timestamp(), end.timestamp() + 1.0)
    newest: dict[int, tuple[float, Any]] = {}
    for at, values in ticks:
        newest.update({series: (at, value) for series, value in values.items()})
    rows = Series.objects.filter(name=name) if name else Series.objects.all()
    return [
        Reading(name=row.name, labels=row.labels, kind=Kind(row.kind), points=[_point(*newest[row.pk])])
        for row in rows.order_by("key") if row.pk in newest
    ]  # fmt: skip


def _carries(labels: Mapping[str, str], wanted: Mapping[str, str] | None) -> bool:
    return all(labels.get(label) == value for label, value in (wanted or {}).items())


def _read_chunks(points: dict[int, list[Point]], begin: float, end: float, step: float) -> None:
    resolution = _resolution(begin, step)
    low, high = _time(_floor(begin, SPANS[resolution])), _time(end)
    rows = Chunk.objects.filter(series__in=points, step_s=resolution, start__gte=low, start__lt=high).order_by("start")
    for series, data in rows.values_list("series_id", "data"):
        found = (Point.of_json(row) for row in _unpacked(data))
        points[series] += [point for point in found if begin <= point.at < end]


def _resolution(begin: float, step: float) -> int:
    """Return the coarsest resolution that is fine enough, of those that reach back so far."""
    age_s = timezone.now().timestamp() - begin
    reaching = [each for each, kept_s in KEPT.items() if kept_s >= age_s] or [600]
    fine = [each for each in reaching if each <= step] or reaching[:1]
    return fine[-1]


def _read_ticks(points: dict[int, list[Point]], begin: float, end: float) -> None:
    newest = {series: found[-1].at if found else 0.0 for series, found in points.items()}
    for at, values in _decoded(begin, end):
        for series in points:
            if series in values and at > newest[series]:
                points[series].append(_point(at, values[series]))


def _decoded(begin: float, end: float) -> list[tuple[float, dict[int, Any]]]:
    """Return the ticks in ``[begin, end)`` in order of time; each is decoded once in this process."""
    rows = Tick.objects.filter(at__gte=_time(begin), at__lt=_time(end)).order_by("at")
    moments = list(rows.values_list("at", flat=True))
    with _lock:
        missing = [at for at in moments if at.timestamp() not in _ticks]
    fresh = {
        at.timestamp(): dict(_unpacked(data)) for at, data in rows.filter(at__in=missing).values_list("at", "data")
    }
    with _lock:
        found = {at.timestamp(): known for at in moments
                 if (known := fresh.get(at.timestamp()) or _ticks.get(at.timestamp())) is not None}  # fmt: skip
        _ticks.update(fresh)
        while len(_ticks) > READ_TICKS:
            _ticks.popitem(last=False)
    return sorted(found.items())


def _point(at: float, value: Any) -> Point:
    return Point.of(at, Distribution.of_json(value) if isinstance(value, list) else value)


def _shaped(points: list[Point], step: float) -> list[Point]:
    return metrics.thinned(metrics.rolled(points, step) if step else points)


def _floor(at: float, step: float) -> float:
    return math.floor(at / step) * step


def _time(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)
