"""REST for schedules. Every view validates, makes one call, and returns."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Router, Status
from ninja.params.functions import Header

from coordination import schedules, schemas
from coordination.models import Run, Schedule
from routing.access import Needs, caller
from routing.models import Scope
from routing.schemas import Key, Problem

router = Router()
REFUSALS = {frozenset({400, 401, 403, 404, 409, 413, 415, 422, 503}): Problem}
reads, writes = Needs(Scope.TASKS_READ), Needs(Scope.TASKS_WRITE)
IDEMPOTENCY_KEY = Header(None, alias="Idempotency-Key")
TIMES_SHOWN = 200


@router.get("/schedules", auth=reads, response={200: schemas.ScheduleList, **REFUSALS})
def list_schedules(request: HttpRequest) -> schemas.ScheduleList:
    """List the schedules."""
    rows = Schedule.objects.filter(tenant_id=caller(request).tenant)
    return schemas.ScheduleList(schedules=[shape(row) for row in rows])


@router.post("/schedules/{name}:pause", auth=writes, response={200: schemas.ScheduleOut, **REFUSALS})
def pause_schedule(request: HttpRequest, name: str) -> schemas.ScheduleOut:
    """Let it begin nothing. Its runs under way go on."""
    return _turn(request, name, enabled=False)


@router.post("/schedules/{name}:resume", auth=writes, response={200: schemas.ScheduleOut, **REFUSALS})
def resume_schedule(request: HttpRequest, name: str) -> schemas.ScheduleOut:
    """Let it begin runs again. What came meanwhile is not made up for; a backfill does that."""
    return _turn(request, name, enabled=True)


@router.post("/schedules/{name}:run", auth=writes, response={201: schemas.RunLine, **REFUSALS})
def run_schedule(
    request: HttpRequest, name: str, idempotency_key: Key | None = IDEMPOTENCY_KEY
) -> Status[schemas.RunLine]:
    """Begin a run now, whatever the schedule says."""
    who = caller(request)
    run = schedules.run_now(schedules.find(who.tenant, name), by=who.name, key=idempotency_key or "")
    return Status(201, line(run))


@router.post("/schedules/{name}:backfill", auth=writes, response={200: schemas.BackfillOut, **REFUSALS})
def backfill_schedule(request: HttpRequest, name: str, wish: schemas.BackfillIn) -> schemas.BackfillOut:
    """Begin a run for each past time of a range that has none yet; ``dry_run`` only lists them."""
    who = caller(request)
    schedule = schedules.find(who.tenant, name)
    done = schedules.backfill(schedule, wish.since, wish.until, by=who.name, dry_run=wish.dry_run)
    return schemas.BackfillOut(fresh=list(done.fresh), known=list(done.known), runs=[run.pk for run in done.made])


@router.get("/schedules/{name}", auth=reads, response={200: schemas.ScheduleOut, **REFUSALS})
def get_schedule(request: HttpRequest, name: str) -> schemas.ScheduleOut:
    """Return one schedule with its next times."""
    return shape(schedules.find(caller(request).tenant, name))


@router.put("/schedules/{name}", auth=writes, response={200: schemas.ScheduleOut, 201: schemas.ScheduleOut, **REFUSALS})
def put_schedule(request: HttpRequest, name: str, wish: schemas.ScheduleIn) -> Status[schemas.ScheduleOut]:
    """Make a schedule (201), or change it to be exactly so (200)."""
    who = caller(request)
    known = Schedule.objects.filter(tenant_id=who.tenant, name=name).first()
    row = known or Schedule(tenant_id=who.tenant, name=name)
    for field in schedules.FIELDS:
        setattr(row, field, getattr(wish, field))
    return Status(200 if known else 201, shape(schedules.save(row, by=who.name)))


@router.delete("/schedules/{name}", auth=writes, response={204: None, **REFUSALS})
def delete_schedule(request: HttpRequest, name: str) -> Status[None]:
    """Remove a schedule. Its runs stay."""
    schedules.remove(schedules.find(caller(request).tenant, name))
    return Status(204, None)


@router.get("/schedules/{name}/times", auth=reads, response={200: schemas.ScheduleTimes, **REFUSALS})
def list_times(request: HttpRequest, name: str) -> schemas.ScheduleTimes:
    """List what became of the schedule's times, newest first, at most 200."""
    rows = schedules.find(caller(request).tenant, name).times.order_by("-at", "-pk")[:TIMES_SHOWN]
    fields = schemas.ScheduleTimeOut.model_fields
    return schemas.ScheduleTimes(
        times=[schemas.ScheduleTimeOut(**{field: getattr(row, field) for field in fields}) for row in rows]
    )


def _turn(request: HttpRequest, name: str, *, enabled: bool) -> schemas.ScheduleOut:
    who = caller(request)
    return shape(schedules.set_enabled(schedules.find(who.tenant, name), enabled=enabled, by=who.name))


def shape(row: Schedule) -> schemas.ScheduleOut:
    """Return the schedule as the API shows it."""
    own = {field: getattr(row, field) for field in schemas.ScheduleOut.model_fields if field not in ("words", "next")}
    return schemas.ScheduleOut(**own, words=schedules.table(row).in_words(), next=schedules.upcoming(row))


def line(run: Run) -> schemas.RunLine:
    """Return the run as a list shows it."""
    return schemas.RunLine(**{name: getattr(run, name) for name in schemas.RunLine.model_fields})
