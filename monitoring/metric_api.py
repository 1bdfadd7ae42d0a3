"""REST for metrics: what is measured, and how it was. Every view validates, makes one call, and returns."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from monitoring import metric_queries
from monitoring.metrics import Kind
from routing.access import Needs
from routing.models import Scope
from routing.schemas import Problem

router = Router()
REFUSALS = {frozenset({400, 401, 403, 404, 422, 503}): Problem}
reads = Needs(Scope.AGENTS_READ)


class MetricOut(Schema):
    """A metric of which there are points."""

    name: str
    kind: Kind
    unit: str = Field(description="s, bytes, ratio (0..1), usd or 1.")
    help: str
    series: int = Field(description="How many combinations of labels.")
    seen_at: datetime = Field(description="When it was last measured, within ten minutes.")


class MetricList(Schema):
    """All metrics, by name."""

    metrics: list[MetricOut]


class SeriesOut(Schema):
    """One combination of labels."""

    labels: dict[str, str]
    seen_at: datetime


class SeriesList(Schema):
    """The series of one metric."""

    series: list[SeriesOut]


class PointOut(Schema):
    """What a series was from ``at`` to the next point."""

    at: datetime
    low: float
    high: float
    mean: float
    last: float
    count: int = Field(description="Measured or observed numbers in it.")
    rate: float | None = Field(None, description="Of a counter: growth per second since the point before.")
    quantiles: dict[str, float | None] | None = Field(None, description="Of a distribution, within 5 %.")


class CurveOut(Schema):
    """One series with its points, in order of time."""

    labels: dict[str, str]
    points: list[PointOut]


class MetricCurves(Schema):
    """A metric over a while: at most 50 series and 2,000 points, which keep the lows and highs of all."""

    name: str
    kind: Kind
    unit: str
    help: str
    since: datetime
    until: datetime
    step_s: float
    series: list[CurveOut]
    left_out: int = Field(description="Series that were too many; those with the highest points are shown.")


class Asked(Schema):
    """Which series, and when."""

    since: datetime | None = Field(None, description="Default: an hour before “until”.")
    until: datetime | None = Field(None, description="Default: now.")
    step: float = Field(0.0, ge=0, le=86_400, description="Seconds for a point; 0: as fine as it is kept.")
    where: Annotated[list[str], Field(max_length=10, description="Only series with this label:value.")] = []
    quantile: Annotated[list[float], Field(max_length=10, description="Default: 0.5, 0.95 and 0.99.")] = []


@router.get("/metrics", auth=reads, response={200: MetricList, **REFUSALS})
def list_metrics(request: HttpRequest) -> dict[str, Any]:
    """List what is measured."""
    return {"metrics": metric_queries.catalogue_rows()}


@router.get("/metrics/{name}/series", auth=reads, response={200: SeriesList, **REFUSALS})
def list_series(request: HttpRequest, name: str) -> dict[str, Any]:
    """List the combinations of labels of a metric."""
    return {"series": metric_queries.series_rows(name)}


@router.get("/metrics/{name}", auth=reads, response={200: MetricCurves, **REFUSALS}, exclude_none=True)
def get_metric(request: HttpRequest, name: str, asked: Query[Asked]) -> dict[str, Any]:
    """Return how a metric was."""
    wanted = metric_queries.question(
        name,
        since=asked.since,
        until=asked.until,
        step_s=asked.step,
        where=asked.where,
        quantiles=asked.quantile,
    )
    return metric_queries.answer(wanted)
