"""When a schedule is due, and what becomes of the times that were not met.  Pure.

Times are aware and in UTC outside; a cron expression is read in the schedule's own time zone. Where a clock is set
forward, a time in the gap comes at its end; where it is set back, a fixed time comes once and "every half hour" goes on
(Debian's cron; the library cronsim does the same).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

GRACE = dt.timedelta(seconds=60)  # a time met so late was met
MIN_EVERY_S, MAX_EVERY_S = 1.0, 366 * 86400.0
MAX_TIMES = 1_000  # looked at in one go
INSTANT = dt.timedelta(microseconds=1)
MOST_IN_AN_HOUR = 3_601


class Overlap(StrEnum):
    """What happens when a time comes while the schedule's last run goes on."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """What happens to times that passed while nothing was there to meet them."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class Outcome(StrEnum):
    """What became of a time."""

    STARTED = "started"
    SKIPPED = "skipped"
    MISSED = "missed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """Times by a cron expression or at a fixed distance; exactly one of both."""

    cron: str = ""
    every_s: float | None = None  # from ``anchor`` on
    zone: str = "UTC"  # IANA's name
    anchor: dt.datetime = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

    def after(self, moment: dt.datetime) -> Iterator[dt.datetime]:
        """Yield the times strictly after ``moment``, in UTC; ends where there is none within years."""
        if self.every_s is not None:
            return self._at_distances(moment)
        local = moment.astimezone(ZoneInfo(self.zone))
        return (found.astimezone(dt.UTC) for found in CronSim(self.cron, local))

    def next(self, moment: dt.datetime) -> dt.datetime | None:
        """Return the first time strictly after ``moment``, or None."""
        return next(self.after(moment), None)

    def between(self, since: dt.datetime, until: dt.datetime, limit: int = MAX_TIMES) -> list[dt.datetime]:
        """Return the times with since <= time < until, the first ``limit`` of them."""
        found: list[dt.datetime] = []
        for moment in islice(self.after(since - INSTANT), limit):
            if moment >= until:
                break
            found.append(moment)
        return found

    def _at_distances(self, moment: dt.datetime) -> Iterator[dt.datetime]:
        assert self.every_s is not None
        passed = (moment - self.anchor).total_seconds()
        number = max(0, math.floor(passed / self.every_s))
        while True:
            number += 1
            found = self.anchor + dt.timedelta(seconds=number * self.every_s)
            if found > moment:
                yield found

    def in_words(self) -> str:
        """Return the timetable as a sentence without its full stop."""
        if self.every_s is not None:
            return f"Every {duration(self.every_s)}"
        return f"{CronSim(self.cron, self.anchor).explain()}, {self.zone} time"


def duration(seconds: float) -> str:
    """Return seconds in the largest unit that makes them whole."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return name if count == 1 else f"{count} {name}s"
    return "second" if seconds == 1 else f"{seconds:g} seconds"


def problems(*, cron: str, every_s: float | None, zone: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a timetable, as (field, words)."""
    if bool(cron) == (every_s is not None):
        yield "cron", "Give either a cron expression or a distance in seconds (every_s)."
    if every_s is not None and not MIN_EVERY_S <= every_s <= MAX_EVERY_S:
        yield "every_s", f"It has to be from {MIN_EVERY_S:g} to {MAX_EVERY_S:g} seconds."
    try:
        ZoneInfo(zone)
    except (ValueError, LookupError, OSError):
        yield "zone", f"No time zone is called {zone!r}. Names look like Europe/Berlin or UTC."
        return
    if cron:
        yield from _cron_problems(cron, zone)


def _cron_problems(cron: str, zone: str) -> Iterator[tuple[str, str]]:
    try:
        next(CronSim(cron, dt.datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))))
    except CronSimError as error:
        yield "cron", f"It is no cron expression ({error}). The five fields are minute, hour, day, month, weekday."
    except StopIteration:
        yield "cron", "Such a time never comes."


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a time; of ``count`` times in a row from ``due`` on where they were missed."""

    due: dt.datetime
    outcome: Outcome
    why: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Verdicts over the times until now. ``after``: what came until then is settled; ``held``: the first that waits."""

    verdicts: Sequence[Verdict] = field(default=())
    after: dt.datetime
    held: dt.datetime | None = None


def settle(
    table: Timetable,
    now: dt.datetime,
    *,
    after: dt.datetime,
    held: dt.datetime | None,
    overlap: Overlap,
    catch_up: CatchUp,
    window: dt.timedelta,
    is_busy: bool,
) -> Settled:
    """Return what becomes of the times in (after, now].

    ``held`` is the time that has waited for the last run since an earlier call; those from it on were met, and only
    wait. ``window`` bounds how far back missed times are made up for. ``is_busy``: the last run goes on.
    """
    verdicts: list[Verdict] = []
    met_from = held or now - GRACE
    missed, candidates = _missed(table, after=after, now=now, met_from=met_from, catch_up=catch_up, window=window)
    verdicts += missed
    for due in candidates:
        if is_busy and overlap == Overlap.QUEUE:
            return Settled(verdicts=verdicts, after=due - INSTANT, held=due)
        if is_busy and overlap == Overlap.SKIP:
            verdicts.append(Verdict(due=due, outcome=Outcome.SKIPPED, why="The run before it had not ended."))
            continue
        verdicts.append(Verdict(due=due, outcome=Outcome.STARTED))
        is_busy = True
    return Settled(verdicts=verdicts, after=now)


def _missed(
    table: Timetable,
    *,
    after: dt.datetime,
    now: dt.datetime,
    met_from: dt.datetime,
    catch_up: CatchUp,
    window: dt.timedelta,
) -> tuple[list[Verdict], list[dt.datetime]]:
    """Return what is given up, as at most one verdict, and the times for which a run should begin, in order."""
    met = table.between(max(after + INSTANT, met_from), now + INSTANT)
    if after + INSTANT >= met_from:
        return [], met
    late = table.between(after + INSTANT, met_from, limit=MAX_TIMES)
    if catch_up == CatchUp.ALL:
        made_up = table.between(max(after + INSTANT, met_from - window), met_from)
    else:
        made_up = _latest(table, after + INSTANT, met_from, window) if catch_up == CatchUp.LATEST and not met else []
    given_up = [due for due in late if due not in set(made_up)]
    if not given_up:
        return [], made_up + met
    how_many = "at least " if len(late) == MAX_TIMES else ""
    why = f"Nothing was there to meet {how_many}{len(given_up)} of its times, the last of them {given_up[-1]:%F %R}Z."
    return [Verdict(due=given_up[0], outcome=Outcome.MISSED, why=why, count=len(given_up))], made_up + met


def _latest(table: Timetable, since: dt.datetime, until: dt.datetime, window: dt.timedelta) -> list[dt.datetime]:
    """Return the last time in [since, until), if there is one within the window: it is looked for from the end."""
    start = max(since, until - window)
    span = dt.timedelta(hours=1)
    while True:
        begin = max(start, until - span)
        found = table.between(begin, until, limit=MOST_IN_AN_HOUR)
        if found:
            return found[-1:]
        if begin == start:
            return []
        span *= 4
