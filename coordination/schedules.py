"""Schedules, and the runs they begin. The only writer of ``Schedule`` and ``ScheduleTime``.

The controller calls ``fire_due`` within its own commit. A time is met once, whoever looks and however often: the run's
idempotency key is made of the schedule and the time.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Min, Q
from django.utils import timezone

from coordination import errors, runs, timetable
from coordination.models import ENDED, Run, Schedule, ScheduleTime, Workflow
from coordination.timetable import CatchUp, Outcome, Overlap, Settled, Timetable, Verdict
from routing import broker, payloads
from routing.errors import RoutingError
from routing.models import DEFAULT_TENANT

log = logging.getLogger(__name__)

MAX_BACKFILL = 1_000  # runs of one call
KEPT_TIMES = 500  # of one schedule
AGAIN = dt.timedelta(seconds=1)  # while a time waits for the last run
AFTER_TROUBLE = dt.timedelta(seconds=60)
FIELDS = (
    "description", "workflow", "input", "priority", "cron", "every_s", "zone", "overlap", "catch_up", "catch_up_s",
    "enabled",
)  # fmt: skip
Cause = ScheduleTime.Cause
Problem = tuple[str, str]  # (field or "", what is wrong, in words)


# ---- writing ------------------------------------------------------------------------------------------------------


def save(schedule: Schedule, *, by: str) -> Schedule:
    """Keep the schedule as it stands. What it would have met before now is settled. Raises ``BadSchedule``."""
    found = problems(schedule)
    if found:
        raise errors.BadSchedule(why=" ".join(f"{field}: {why}" if field else why for field, why in found),
                                 pointer=f"/{found[0][0]}" if found[0][0] else "")  # fmt: skip
    now = timezone.now()
    schedule.after, schedule.held, schedule.trouble = now, None, ""
    schedule.next_at = table(schedule).next(now) if schedule.enabled else None
    schedule.changed_by = by[:150]
    with transaction.atomic():
        schedule.save()
        transaction.on_commit(broker.ring)
    return schedule


def problems(schedule: Schedule) -> list[Problem]:
    """Return what keeps the schedule from being kept, in words."""
    found = list(timetable.problems(cron=schedule.cron, every_s=schedule.every_s, zone=schedule.zone))
    if schedule.priority is not None and not 0 <= schedule.priority <= 9:
        found.append(("priority", "It is from 0 to 9."))
    if not 0 <= schedule.catch_up_s <= timetable.MAX_EVERY_S:
        found.append(("catch_up_s", f"It is from 0 to {timetable.MAX_EVERY_S:g} seconds."))
    if not Workflow.objects.filter(tenant_id=schedule.tenant_id, name=schedule.workflow).exists():
        known = ", ".join(Workflow.objects.filter(tenant_id=schedule.tenant_id).values_list("name", flat=True)[:20])
        found.append(("workflow", f"There is no workflow {schedule.workflow!r}. Known: {known or 'none'}."))
    same = Schedule.objects.filter(tenant_id=schedule.tenant_id, name=schedule.name).exclude(pk=schedule.pk)
    if same.exists():
        found.append(("name", f"There is a schedule called {schedule.name!r} already."))
    try:
        payloads.check(schedule.input, max_bytes=settings.A2A_MAX_INPUT_BYTES, at="/input")
        schedule.clean_fields(exclude=[field for field, _ in found] + ["input", "tenant"])
    except RoutingError as error:
        found.append(("input", str(error)))
    except ValidationError as error:
        told = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
        found += [("" if field == "__all__" else field, " ".join(words)) for field, words in told.items()]
    return found


def set_enabled(schedule: Schedule, *, enabled: bool, by: str) -> Schedule:
    """Let the schedule begin runs, or not. What came while it was off is not made up for."""
    schedule.enabled = enabled
    return save(schedule, by=by)


def remove(schedule: Schedule) -> None:
    """Delete the schedule and what is kept of its times. Its runs stay."""
    schedule.delete()


# ---- beginning runs -----------------------------------------------------------------------------------------------


def next_at() -> dt.datetime | None:
    """Return when the first schedule is due, None if there is none."""
    found: dt.datetime | None = Schedule.objects.filter(next_at__isnull=False).aggregate(at=Min("next_at"))["at"]
    return found


def fire_due(now: dt.datetime) -> None:
    """Meet what is due, in the open transaction. One schedule's trouble is told with it and holds up no other."""
    for pk in Schedule.objects.filter(next_at__lte=now).order_by("next_at").values_list("pk", flat=True):
        try:
            with transaction.atomic():
                _fire(pk, now)
        except RoutingError as error:
            _note_trouble(pk, now, str(error))
        except (ValueError, ArithmeticError, LookupError, StopIteration) as error:
            log.exception("schedule %s cannot be met", pk)
            _note_trouble(pk, now, f"It cannot be met: {error}")


def _fire(pk: int, now: dt.datetime) -> None:
    schedule = Schedule.objects.select_for_update().filter(pk=pk, enabled=True, next_at__lte=now).first()
    if schedule is None:
        return
    settled = timetable.settle(
        table(schedule), now, after=schedule.after, held=schedule.held, overlap=Overlap(schedule.overlap),
        catch_up=CatchUp(schedule.catch_up), window=dt.timedelta(seconds=schedule.catch_up_s),
        is_busy=is_busy(schedule),
    )  # fmt: skip
    for verdict in settled.verdicts:
        _carry_out(schedule, verdict)
    _move_on(schedule, settled, now)


def _move_on(schedule: Schedule, settled: Settled, now: dt.datetime) -> None:
    following = now + AGAIN if settled.held else table(schedule).next(settled.after)
    Schedule.objects.filter(pk=schedule.pk).update(after=settled.after, held=settled.held, next_at=following)
    if settled.verdicts:
        Schedule.objects.filter(pk=schedule.pk).exclude(trouble="").update(trouble="")
        kept = schedule.times.order_by("-at", "-pk").values_list("pk", flat=True)[KEPT_TIMES : KEPT_TIMES + 1]
        for last in list(kept):
            schedule.times.filter(pk__lte=last).delete()


def _carry_out(schedule: Schedule, verdict: Verdict) -> None:
    if verdict.outcome == Outcome.STARTED:
        _begin(schedule, verdict.due, Cause.TIME, by=f"schedule {schedule.name}")
    else:
        _note(schedule, verdict.due, Cause.TIME, verdict.outcome, why=verdict.why)


def _begin(schedule: Schedule, due: dt.datetime, cause: Cause, *, by: str, key: str = "") -> Run | None:
    """Return the run for this time, None where it is refused; what became of the time is kept."""
    try:
        with transaction.atomic():
            started = runs.start(_request(schedule, due, by=by, key=key))
    except RoutingError as error:
        _note(schedule, due, cause, Outcome.REFUSED, why=str(error), by=by)
        return None
    _note(schedule, due, cause, Outcome.STARTED, run=started.run, by=by)
    return started.run


def _request(schedule: Schedule, due: dt.datetime, *, by: str, key: str = "") -> runs.Request:
    return runs.Request(
        workflow=schedule.workflow,
        input=schedule.input,
        tenant=schedule.tenant_id or DEFAULT_TENANT,
        priority=schedule.priority,
        idempotency_key=key or _key(schedule, due),
        by=by,
        schedule=schedule.pk,
        due=due,
    )


def _key(schedule: Schedule, due: dt.datetime) -> str:
    return f"schedule:{schedule.pk}:{due.astimezone(dt.UTC).isoformat()}"


def _note(
    schedule: Schedule, due: dt.datetime, cause: Cause, outcome: str, *, why: str = "", run: Run | None = None,
    by: str = "",
) -> None:  # fmt: skip
    told: Mapping[str, Any] = {"outcome": outcome, "why": why[:300], "run": run and run.pk, "by": by[:150],
                               "at": timezone.now()}  # fmt: skip
    ScheduleTime.objects.update_or_create(schedule=schedule, due=due, cause=cause, defaults=told)


def _note_trouble(pk: int, now: dt.datetime, why: str) -> None:
    Schedule.objects.filter(pk=pk).update(trouble=why[:300], next_at=now + AFTER_TROUBLE)


# ---- by hand ------------------------------------------------------------------------------------------------------


def run_now(schedule: Schedule, *, by: str, key: str = "") -> Run:
    """Return a run that begins at once, whatever the schedule says of time and overlap; the same key gives the same.

    Raises a ``RoutingError``.
    """
    now = timezone.now()
    request = _request(schedule, now, by=by, key=key or f"schedule:{schedule.pk}:hand:{now.isoformat()}")
    with transaction.atomic():
        started = runs.start(request)
        if started.created:
            _note(schedule, now, Cause.HAND, Outcome.STARTED, run=started.run, by=by)
    return started.run


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """The times of a range: those for which a run is there already, and those for which one was, or would be, begun."""

    fresh: Sequence[dt.datetime]
    known: Sequence[dt.datetime]
    made: Sequence[Run] = ()


def backfill(schedule: Schedule, since: dt.datetime, until: dt.datetime, *, by: str, dry_run: bool = False) -> Backfill:
    """Begin a run for each of the schedule's times in [since, until) that has none yet.

    They begin at once, all of them; the workflow's ``max_active_runs`` keeps them apart. Raises ``BadBackfill``.
    """
    _check_range(since, until)
    times = table(schedule).between(since, until, limit=MAX_BACKFILL + 1)
    if len(times) > MAX_BACKFILL:
        raise errors.BadBackfill(why=f"there are more than {MAX_BACKFILL:,} times in this range. Split it.")
    keys = {_key(schedule, due): due for due in times}
    found = Run.objects.filter(tenant_id=schedule.tenant_id, idempotency_key__in=keys)
    known = {keys[key] for key in found.values_list("idempotency_key", flat=True) if key}
    fresh = [due for due in times if due not in known]
    if dry_run:
        return Backfill(fresh=fresh, known=sorted(known))
    with transaction.atomic():
        made = [run for due in fresh if (run := _begin(schedule, due, Cause.BACKFILL, by=by)) is not None]
    return Backfill(fresh=fresh, known=sorted(known), made=made)


def _check_range(since: dt.datetime, until: dt.datetime) -> None:
    if until <= since:
        raise errors.BadBackfill(why="the range ends before it begins.")
    if until > timezone.now():
        raise errors.BadBackfill(why="it reaches into the future; those times come by themselves.")


# ---- reading ------------------------------------------------------------------------------------------------------


def find(tenant: str, name: str) -> Schedule:
    """Return the tenant's schedule. Raises ``NoSuchSchedule``."""
    found = None if "\0" in name else Schedule.objects.filter(tenant_id=tenant, name=name).first()
    if found is None:
        known = ", ".join(Schedule.objects.filter(tenant_id=tenant).values_list("name", flat=True)[:20])
        raise errors.NoSuchSchedule(name=name, known=known or "none")
    return found


def table(schedule: Schedule) -> Timetable:
    """Return when the schedule is due."""
    return Timetable(
        cron=schedule.cron, every_s=schedule.every_s, zone=schedule.zone, anchor=schedule.created_at.astimezone(dt.UTC)
    )


def upcoming(schedule: Schedule, count: int = 5) -> list[dt.datetime]:
    """Return the next times, in UTC; none of a schedule that is off."""
    if not schedule.enabled:
        return []
    found = table(schedule).after(timezone.now())
    return [due for _, due in zip(range(count), found, strict=False)]


def is_busy(schedule: Schedule) -> bool:
    """Return True while a run of the schedule goes on."""
    return Run.objects.filter(Q(schedule=schedule.pk) & ~Q(state__in=ENDED)).exists()
