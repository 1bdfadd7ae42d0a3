"""What we promise, how well it was kept, and how fast its error budget goes, from the metric store and the alerts."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.utils import timezone

from monitoring import metrics, store
from monitoring.meters import TICK_S
from monitoring.models import Alert

WINDOWS: dict[str, tuple[float, float]] = {  # name: seconds, and the step that is looked at
    "1h": (3600.0, 60.0),
    "6h": (21_600.0, 60.0),
    "3d": (3 * 86_400.0, 600.0),
    "30d": (30 * 86_400.0, 3600.0),
}
DRIFT = 0.98  # of the ticks that a step should hold: the thread is a little late each time


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time, in whole steps."""

    since: dt.datetime
    until: dt.datetime
    step_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One promise. ``allowed`` is how bad ``badness`` may be: a share, or for a mean the mean itself."""

    name: str
    title: str
    allowed: float
    unit: str
    badness: Callable[[Window], float | None]  # None: nothing to judge by


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a promise was kept over a window. ``burn``: 1 uses the budget up just in time; more is too fast."""

    badness: float | None
    burn: float | None

    @property
    def is_met(self) -> bool | None:
        """Return None where there is nothing to judge by."""
        return None if self.burn is None else self.burn <= 1.0

    @property
    def budget_left(self) -> float | None:
        """Return which share of the window's budget is left, negative if it is overdrawn."""
        return None if self.burn is None else 1.0 - self.burn


def standings(objective: Objective, now: dt.datetime | None = None) -> dict[str, Standing]:
    """Return how the promise was kept over 1 h, 6 h, 3 d and 30 d."""
    end = (now or timezone.now()).timestamp()
    found = {}
    for name, (span_s, step_s) in WINDOWS.items():
        until = math.floor(end / step_s) * step_s if name != "1h" else end
        window = Window(since=_time(until - span_s), until=_time(until), step_s=step_s)
        bad = objective.badness(window)
        found[name] = Standing(badness=bad, burn=None if bad is None else bad / objective.allowed)
    return found


def _time(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


def _downtime(window: Window) -> float | None:
    """Return the share of time, since the first measurement, in which no controller measured."""
    readings = store.read("a2a_controller_epoch", None, window.since, window.step_s, until=window.until)
    points = [point for reading in readings for point in reading.points][:-1]  # the last step may not be full
    if len(points) < 2:
        return None
    steps = (points[-1].at - points[0].at) / window.step_s  # the first one is not full either
    up = sum(min(1.0, point.count / (window.step_s / TICK_S * DRIFT)) for point in points[1:])
    return max(0.0, 1.0 - up / steps)


def _mean_wait(window: Window) -> float | None:
    """Return the mean seconds from a task's turn to wait until an agent was chosen."""
    readings = store.read("a2a_task_wait_seconds", None, window.since, window.step_s, until=window.until)
    points = [point for reading in readings for point in reading.points]
    count = sum(point.count for point in points)
    return sum(point.total for point in points) / count if count else None


def _errors(window: Window) -> float | None:
    """Return the share of tasks that failed, of those that ended."""
    ended = failed = 0.0
    for reading in store.read("a2a_tasks_ended_total", None, window.since, window.step_s, until=window.until):
        grown = metrics.increase(reading.points)
        ended += grown
        failed += grown if reading.labels.get("state") == "failed" else 0.0
    return failed / ended if ended else None


def _late_answers(window: Window) -> float | None:
    """Return the share of alerts that nobody acknowledged within five minutes and that were not over by then."""
    late = total = 0
    limit = dt.timedelta(minutes=5)
    for alert in Alert.objects.filter(opened_at__gte=window.since, opened_at__lt=window.until - limit):
        total += 1
        ends = [at for at in (alert.acknowledged_at, alert.resolved_at) if at is not None]
        late += not ends or min(ends) - alert.opened_at > limit
    return late / total if total else None


def _slow_recoveries(window: Window) -> float | None:
    """Return the share of changes of the leading controller that took more than 30 s, as measured at the last day."""
    since = max(window.since, window.until - dt.timedelta(days=1))
    slow = total = 0
    for reading in store.read("a2a_controller_epoch", None, since, until=window.until):
        for before, after in zip(reading.points, reading.points[1:], strict=False):
            if after.last != before.last:
                total += 1
                slow += after.at - before.at - TICK_S > 30.0
    return slow / total if total else None


def _slow_minutes(window: Window) -> float | None:
    """Return the share of steps, of those in which all the while tasks waited, with fewer than 100 ends a second."""
    waiting = store.read("a2a_tasks", {"state": "waiting"}, window.since, window.step_s, until=window.until)
    loaded = {point.at for reading in waiting for point in reading.points if point.low > 0}
    ended: dict[float, float] = {}
    for reading in store.read("a2a_tasks_ended_total", None, window.since, window.step_s, until=window.until):
        for at, seconds, growth in metrics.increases(reading.points):
            ended[at] = ended.get(at, 0.0) + growth / seconds
    rates = [ended[at] for at in loaded if at in ended]
    return sum(rate < 100.0 for rate in rates) / len(rates) if rates else None


def _crowded(window: Window) -> float | None:
    """Return the mean share of slots that was taken."""
    readings = store.read("a2a_fleet_utilisation_ratio", None, window.since, window.step_s, until=window.until)
    points = [point for reading in readings for point in reading.points]
    count = sum(point.count for point in points)
    return sum(point.total for point in points) / count if count else None


def _unmeasured(window: Window) -> float | None:
    """Return None: web processes do not report their sessions yet."""
    return None


OBJECTIVES: Mapping[str, Objective] = {
    each.name: each
    for each in (
        Objective(name="uptime", title="Up for 99.9 % of the time", allowed=0.001, unit="ratio", badness=_downtime),
        Objective(name="response", title="Mean wait below 0.5 s", allowed=0.5, unit="s", badness=_mean_wait),
        Objective(name="errors", title="Less than 1 % of tasks fail", allowed=0.01, unit="ratio", badness=_errors),
        Objective(
            name="alert-response",
            title="95 % of alerts answered within 5 min",
            allowed=0.05,
            unit="ratio",
            badness=_late_answers,
        ),
        Objective(
            name="recovery",
            title="95 % of changes of the controller within 30 s",
            allowed=0.05,
            unit="ratio",
            badness=_slow_recoveries,
        ),
        Objective(
            name="throughput",
            title="100 tasks/s in 95 % of the time with tasks waiting",
            allowed=0.05,
            unit="ratio",
            badness=_slow_minutes,
        ),
        Objective(
            name="utilisation", title="Less than 80 % of slots taken", allowed=0.8, unit="ratio", badness=_crowded
        ),
        Objective(name="sessions", title="10 sessions at once", allowed=1.0, unit="ratio", badness=_unmeasured),
    )
}
