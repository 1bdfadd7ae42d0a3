"""REST for workflows, runs and approvals. Every view validates, makes one call, and returns."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from ninja import Body, Query, Router, Status
from ninja.params.functions import Header

from coordination import bulk, context_api, definition, errors, live_canvas, runs, schedule_api, schemas, workflows
from coordination.graph import Graph
from coordination.models import Approval, Run, RunEvent, StepRun, StepTask, Workflow, WorkflowVersion, newest
from routing import errors as routing_errors
from routing.access import Needs, caller
from routing.models import Scope
from routing.schemas import Key, Problem

router = Router()
router.add_router("", schedule_api.router)
router.add_router("", context_api.router)
BASE = "/api/v1"
REFUSALS = {frozenset({400, 401, 403, 404, 409, 413, 415, 422, 503}): Problem}
reads, writes = Needs(Scope.TASKS_READ), Needs(Scope.TASKS_WRITE)
IDEMPOTENCY_KEY = Header(None, alias="Idempotency-Key")
NO_REASON, NO_CANCEL = schemas.Wish(), schemas.CancelWish(compensate=False)
TASKS_SHOWN = 100
Kind = runs.Kind


# ---- workflows ----------------------------------------------------------------------------------------------------


@router.get("/workflows", auth=reads, response={200: schemas.WorkflowList, **REFUSALS})
def list_workflows(request: HttpRequest) -> schemas.WorkflowList:
    """List the workflows."""
    rows = Workflow.objects.filter(tenant_id=caller(request).tenant)
    return schemas.WorkflowList(workflows=[_workflow(row) for row in rows])


@router.post("/workflows", auth=writes, response={201: schemas.VersionOut, 200: schemas.VersionOut, **REFUSALS})
def save_workflow(request: HttpRequest, workflow: schemas.WorkflowIn) -> Status[schemas.VersionOut]:
    """Save a workflow. 201: a new version. 200: the newest version says the same already."""
    who = caller(request)
    known = set(_versions(who.tenant).values_list("pk", flat=True))
    row = workflows.save(workflow.source, tenant=who.tenant, author=who.name, note=workflow.note, seen=workflow.seen)
    return Status(200 if row.pk in known else 201, _version(row))


@router.get("/workflows/{name}", auth=reads, response={200: schemas.VersionOut, **REFUSALS})
def get_workflow(request: HttpRequest, name: str, version: int | None = None) -> schemas.VersionOut:
    """Return a version of a workflow, the newest if none is named."""
    return _version(workflows.look_up(caller(request).tenant, name, version))


# ---- runs ---------------------------------------------------------------------------------------------------------


@router.post("/runs", auth=writes, response={201: schemas.RunOut, 200: schemas.RunOut, **REFUSALS})
def start_run(
    request: HttpRequest, response: HttpResponse, run: schemas.RunIn, idempotency_key: Key | None = IDEMPOTENCY_KEY
) -> Status[schemas.RunOut]:
    """Start a run. 201: made. 200: the same request with the same idempotency key had made it before."""
    who = caller(request)
    done = runs.start(
        runs.Request(
            workflow=run.workflow,
            version=run.version,
            graph=_graph(run, who.tenant),
            input=run.input,
            tenant=who.tenant,
            priority=run.priority,
            context=run.context,
            idempotency_key=run.idempotency_key or idempotency_key,
            by=who.name,
        )
    )
    response["Location"] = f"{BASE}/runs/{done.run.pk}"
    return Status(201 if done.created else 200, _run(done.run))


@router.get("/runs", auth=reads, response={200: schemas.RunPage, **REFUSALS})
def list_runs(request: HttpRequest, response: HttpResponse, query: Query[schemas.RunQuery]) -> schemas.RunPage:
    """List runs, newest first. ``next`` and the Link header lead to the next page."""
    tenant = caller(request).tenant
    rows = Run.objects.filter(tenant_id=tenant, **query.model_dump(include={"state", "workflow"}, exclude_none=True))
    if query.cursor is not None:
        at, last = _place(tenant, query.cursor)
        rows = rows.filter(created_at__lte=at).filter(Q(created_at__lt=at) | Q(id__lt=last))
    found = list(rows.order_by("-created_at", "-id").defer("input", "output")[: query.limit + 1])
    shown = found[: query.limit]
    address = None
    if len(found) > len(shown):
        cursor = signing.dumps([shown[-1].created_at.isoformat(), shown[-1].pk.hex], salt=f"runs of {tenant}")
        address = f"{BASE}/runs?limit={query.limit}&cursor={cursor}"
        address += "".join(f"&{k}={v}" for k, v in query.model_dump(include={"state", "workflow"}).items() if v)
        response["Link"] = f'<{address}>; rel="next"'
    return schemas.RunPage(runs=[schedule_api.line(row) for row in shown], next=address)


@router.post("/runs:bulk", auth=writes, response={200: schemas.BulkOut, **REFUSALS})
def ask_many(request: HttpRequest, wish: schemas.BulkIn) -> schemas.BulkOut:
    """Ask a verb of all runs that fit a filter; ``dry_run`` only counts them."""
    who = caller(request)
    which = bulk.Filter(tenant=who.tenant, state=wish.state, workflow=wish.workflow, since=wish.since, until=wish.until)
    done = bulk.ask(which, Kind(wish.verb), by=who.name, reason=wish.reason, dry_run=wish.dry_run)
    return schemas.BulkOut(matched=done.matched, suited=done.suited, asked=done.asked, refused=list(done.refused))


@router.get("/runs/{uuid:run_id}", auth=reads, response={200: schemas.RunOut, **REFUSALS})
def get_run(request: HttpRequest, run_id: UUID) -> schemas.RunOut:
    """Return one run with its steps."""
    return _run(runs.find(caller(request).tenant, run_id))


@router.get("/runs/{uuid:run_id}/events", auth=reads, response={200: schemas.EventPage, **REFUSALS})
def list_run_events(request: HttpRequest, run_id: UUID, after: int = 0) -> schemas.EventPage:
    """List a run's events in order, at most 1,000, from the one after ``after``."""
    run = runs.find(caller(request).tenant, run_id)
    rows = RunEvent.objects.filter(run_id=run.pk, seq__gt=max(0, after)).order_by("seq")[:1000]
    shown = [
        schemas.EventOut(seq=row.seq, kind=row.kind, step=row.step, round=row.round, at=row.at, data=row.data)
        for row in rows
    ]
    return schemas.EventPage(events=shown)


@router.post("/runs/{uuid:run_id}:pause", auth=writes, response={202: schemas.CommandOut, **REFUSALS})
def pause_run(request: HttpRequest, run_id: UUID, wish: Body[schemas.Wish] = NO_REASON) -> Status[schemas.CommandOut]:
    """Let nothing new begin; what runs goes on."""
    return _ask(request, run_id, Kind.PAUSE, wish.reason)


@router.post("/runs/{uuid:run_id}:resume", auth=writes, response={202: schemas.CommandOut, **REFUSALS})
def resume_run(request: HttpRequest, run_id: UUID, wish: Body[schemas.Wish] = NO_REASON) -> Status[schemas.CommandOut]:
    """Let a paused run go on."""
    return _ask(request, run_id, Kind.RESUME, wish.reason)


@router.post("/runs/{uuid:run_id}:cancel", auth=writes, response={202: schemas.CommandOut, **REFUSALS})
def cancel_run(
    request: HttpRequest, run_id: UUID, wish: Body[schemas.CancelWish] = NO_CANCEL
) -> Status[schemas.CommandOut]:
    """End a run, with its sub-runs and all that runs for it."""
    return _ask(request, run_id, Kind.CANCEL, wish.reason, compensate=wish.compensate)


@router.post("/runs/{uuid:run_id}:retry", auth=writes, response={202: schemas.CommandOut, **REFUSALS})
def retry_run(request: HttpRequest, run_id: UUID, wish: Body[schemas.Wish] = NO_REASON) -> Status[schemas.CommandOut]:
    """Do again what did not succeed, and all that follows it."""
    return _ask(request, run_id, Kind.RETRY, wish.reason)


@router.post("/runs/{uuid:run_id}:skip", auth=writes, response={202: schemas.CommandOut, **REFUSALS})
def skip_step(request: HttpRequest, run_id: UUID, wish: schemas.StepWish) -> Status[schemas.CommandOut]:
    """Go on as if the step had completed with ``output``."""
    return _ask(request, run_id, Kind.SKIP, wish.reason, step=wish.step, output=wish.output)


@router.post(
    "/runs/{uuid:run_id}:rerun",
    auth=writes,
    response={202: schemas.CommandOut, 201: schemas.RunOut, **REFUSALS},
)
def rerun(
    request: HttpRequest, run_id: UUID, wish: schemas.RerunWish
) -> Status[schemas.CommandOut] | Status[schemas.RunOut]:
    """Go again from a step. 202: in this run. 201: in a fork of it, which is returned."""
    given = {"input": wish.input} if "input" in wish.model_fields_set else {}
    if not wish.fork:
        return _ask(request, run_id, Kind.RERUN, wish.reason, step=wish.step, **given)
    who = caller(request)
    made = runs.fork(
        runs.find(who.tenant, run_id),
        step=wish.step,
        by=who.name,
        reason=wish.reason,
        input=wish.input,
        has_input=bool(given),
    )
    return Status(201, _run(made))


@router.post("/runs/{uuid:run_id}/signals", auth=writes, response={202: schemas.CommandOut, **REFUSALS})
def signal_run(request: HttpRequest, run_id: UUID, signal: schemas.SignalIn) -> Status[schemas.CommandOut]:
    """Send a signal; it is kept until a step waits for it."""
    return _ask(request, run_id, Kind.SIGNAL, "", name=signal.name, payload=signal.payload)


# ---- approvals ----------------------------------------------------------------------------------------------------


@router.get("/approvals", auth=reads, response={200: schemas.ApprovalList, **REFUSALS})
def list_approvals(request: HttpRequest, state: str = "open") -> schemas.ApprovalList:
    """List the questions in a state, newest first, at most 200."""
    rows = Approval.objects.filter(tenant_id=caller(request).tenant, state=state).order_by("-asked_at")[:200]
    return schemas.ApprovalList(approvals=[_approval(row) for row in rows])


@router.post("/approvals/{uuid:approval_id}:answer", auth=writes, response={202: schemas.CommandOut, **REFUSALS})
def answer_approval(request: HttpRequest, approval_id: UUID, given: schemas.AnswerIn) -> Status[schemas.CommandOut]:
    """Answer a question, once."""
    who = caller(request)
    row = Approval.objects.filter(tenant_id=who.tenant, id=approval_id).first()
    if row is None:
        raise errors.NoSuchApproval(id=approval_id)
    command = runs.answer(row, given.answer, by=who.name)
    return Status(202, schemas.CommandOut(id=command.id, run=command.run_id, kind=command.kind))


def _graph(run: schemas.RunIn, tenant: str) -> Graph | None:
    """Return the graph that the run brings with it, None for a workflow by name. Raises ``BadWorkflow``."""
    if sum(map(bool, (run.workflow, run.definition, run.canvas))) != 1:
        raise errors.BadWorkflow(why="Give one of workflow, definition and canvas.")
    if run.canvas is not None:
        return live_canvas.checked(run.canvas, name="canvas")
    return None if run.definition is None else workflows.checked(run.definition, tenant)


# ---- shapes -------------------------------------------------------------------------------------------------------


def _ask(request: HttpRequest, run_id: UUID, kind: runs.Kind, reason: str, **data: Any) -> Status[schemas.CommandOut]:
    who = caller(request)
    command = runs.ask(runs.find(who.tenant, run_id), kind, by=who.name, reason=reason, **data)
    return Status(202, schemas.CommandOut(id=command.id, run=run_id, kind=command.kind))


def _versions(tenant: str) -> Any:
    return WorkflowVersion.objects.filter(workflow__tenant_id=tenant)


def _workflow(row: Workflow) -> schemas.WorkflowOut:
    last = newest(row)
    return schemas.WorkflowOut(
        name=row.name, description=row.description, enabled=row.enabled, version=last.number if last else None
    )


def _version(row: Any) -> schemas.VersionOut:
    return schemas.VersionOut(
        workflow=row.workflow.name, version=row.number, checksum=row.definition_id, author=row.author, note=row.note,
        created_at=row.created_at, source=definition.write(workflows.graph_of(row.definition)),
    )  # fmt: skip


def _run(row: Run) -> schemas.RunOut:
    tasks: dict[str, list[UUID]] = {}
    for step, task in StepTask.objects.filter(run_id=row.pk).values_list("step", "task"):
        tasks.setdefault(step, []).append(task)
    own = [name for name in schemas.RunOut.model_fields if name != "steps"]
    steps = [_step(step, tasks.get(step.step, [])) for step in StepRun.objects.filter(run_id=row.pk)]
    order = {step.name: n for n, step in enumerate(workflows.graph_of(row.definition).steps)}
    steps.sort(key=lambda step: order.get(step.step, 0))
    return schemas.RunOut(**{name: getattr(row, name) for name in own}, steps=steps)


def _step(row: StepRun, tasks: list[UUID]) -> schemas.StepOut:
    own = [name for name in schemas.StepOut.model_fields if name != "tasks"]
    return schemas.StepOut(**{name: getattr(row, name) for name in own}, tasks=tasks[:TASKS_SHOWN])


def _approval(row: Approval) -> schemas.ApprovalOut:
    own = [name for name in schemas.ApprovalOut.model_fields if name not in ("run", "form")]
    return schemas.ApprovalOut(**{name: getattr(row, name) for name in own}, run=row.run_id, form=row.schema)


def _place(tenant: str, cursor: str) -> tuple[datetime, UUID]:
    try:
        at, last = signing.loads(cursor, salt=f"runs of {tenant}")
    except signing.BadSignature:
        raise routing_errors.BadCursor(pointer="/cursor") from None
    return datetime.fromisoformat(at), UUID(last)
