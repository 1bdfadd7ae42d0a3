"""What changed before a moment: what people did in the admin, processes that began, another controller that leads."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from django.contrib.admin.models import LogEntry

from monitoring import store

BEFORE = dt.timedelta(minutes=15)
MOST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that may be the cause."""

    at: dt.datetime
    what: str
    by: str  # "" where nobody did it


def before(moment: dt.datetime) -> list[Change]:
    """Return what changed in the 15 minutes before, newest first, at most 50."""
    since = moment - BEFORE
    found = [*_by_people(since, moment), *_started(since, moment), *_reigns(since, moment)]
    return sorted(found, key=lambda change: change.at, reverse=True)[:MOST]


def _by_people(since: dt.datetime, until: dt.datetime) -> Iterator[Change]:
    rows = LogEntry.objects.filter(action_time__gte=since, action_time__lt=until).select_related("user", "content_type")
    for row in rows.order_by("-action_time")[:MOST]:
        kind = row.content_type.name if row.content_type else "row"
        act = row.get_change_message() or row.get_action_flag_display()
        yield Change(at=row.action_time, what=f"{kind} {row.object_repr}: {act}", by=row.user.get_username())


def _started(since: dt.datetime, until: dt.datetime) -> Iterator[Change]:
    for reading in store.read("a2a_process_uptime_seconds", None, since, until=until):
        begun: float | None = None
        for point in reading.points:
            at = point.at - point.last
            if at >= since.timestamp() and (begun is None or at - begun > 1.0):
                begun = at
                name = reading.labels.get("process", "")
                yield Change(at=dt.datetime.fromtimestamp(at, dt.UTC), what=f"The process {name} started.", by="")


def _reigns(since: dt.datetime, until: dt.datetime) -> Iterator[Change]:
    for reading in store.read("a2a_controller_epoch", None, since, until=until):
        for earlier, later in zip(reading.points, reading.points[1:], strict=False):
            if later.last != earlier.last:
                at = dt.datetime.fromtimestamp(later.at, dt.UTC)
                yield Change(at=at, what=f"Another controller leads: reign {later.last:.0f}.", by="")
