"""How a run comes into being, and how people and programs ask something of it. Every door calls these.

What they ask is a row; the controller acts on it and records the outcome.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from coordination import definition, errors, workflows
from coordination.graph import Graph
from coordination.models import (
    ENDED,
    Approval,
    ContextKey,
    ContextLock,
    Definition,
    MapItem,
    Run,
    RunCommand,
    RunEvent,
    RunState,
    ScheduleTime,
    SignalReceived,
    StepRun,
    StepTask,
)
from routing import broker, payloads
from routing import errors as routing_errors
from routing.models import DEFAULT_TENANT, new_id

MAX_REASON = 300
SLICE = 200  # runs deleted in one transaction
Kind = RunCommand.Kind
ALIVE_ONLY = frozenset({Kind.PAUSE, Kind.RESUME, Kind.CANCEL, Kind.SIGNAL, Kind.SKIP, Kind.ANSWER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a caller asks for: a workflow by name, or a graph of its own."""

    workflow: str = ""
    version: int | None = None  # None: the newest
    graph: Graph | None = None
    input: Any = None  # JSON
    tenant: str = DEFAULT_TENANT
    priority: int | None = None  # 0..9; None: the workflow's
    context: UUID | None = None
    idempotency_key: str | None = None
    by: str = ""
    id: UUID | None = None
    parent: UUID | None = None
    parent_step: str = ""
    depth: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[Mapping[str, Any]] = ()
    forked_from: UUID | None = None
    reason: str = ""
    schedule: int | None = None
    due: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The run, and whether this call made it (False: the same request had made it before)."""

    run: Run
    created: bool


def start(request: Request) -> Started:
    """Return the run, inserted in the caller's transaction: it exists exactly if the caller's work commits.

    Raises a ``routing.errors.RoutingError`` with nothing stored when the request cannot be accepted.
    """
    payloads.check(request.input, max_bytes=settings.A2A_MAX_INPUT_BYTES, at="/input")
    _check_words(request)
    digest = _digest(request)
    try:
        with transaction.atomic():
            run = row_of(request, digest)
            run.save(force_insert=True)
            transaction.on_commit(broker.ring)
    except (IntegrityError, routing_errors.RoutingError):
        known = _known(request, digest)
        if known is None:
            raise
        return Started(run=known, created=False)
    return Started(run=run, created=True)


def row_of(request: Request, digest: str = "") -> Run:
    """Return the run's row, not saved. Raises a ``RoutingError`` for what is not known or does not suit its form."""
    if request.graph is not None:
        graph, pinned, name, number = request.graph, workflows.keep(request.graph), request.graph.name, 0
    else:
        version = workflows.find(request.tenant, request.workflow, request.version)
        graph, pinned = workflows.graph_of(version.definition), version.definition
        name, number = version.workflow.name, version.number
    wrong = payloads.mismatch(graph.input_schema, request.input)
    if wrong is not None:
        where, why = wrong
        raise errors.BadWorkflow(
            why=f"the input does not suit it: at {where or 'the top'}, {why}", pointer=f"/input{where}"
        )
    return Run(
        id=request.id or new_id(),
        tenant_id=request.tenant,
        workflow=name,
        version=number,
        definition=pinned,
        input=request.input,
        priority=graph.priority if request.priority is None else request.priority,
        context=request.context,
        parent=request.parent,
        parent_step=request.parent_step,
        depth=request.depth,
        overrides=dict(request.overrides),
        seeds=list(request.seeds),
        forked_from=request.forked_from,
        reason=request.reason[:MAX_REASON],
        schedule=request.schedule,
        due=request.due,
        idempotency_key=request.idempotency_key,
        request_digest=digest,
        by=request.by[:150],
    )


def _check_words(request: Request) -> None:
    if request.idempotency_key is not None:
        payloads.check(request.idempotency_key, max_bytes=1000, at="/idempotency_key")
        if not 1 <= len(request.idempotency_key) <= 200:
            _refuse("/idempotency_key", "An idempotency key has 1 to 200 characters.")
    if request.priority is not None and not 0 <= request.priority <= 9:
        _refuse("/priority", f"The priority is {request.priority!r}; it has to be a whole number from 0 to 9.")


def _refuse(pointer: str, why: str) -> None:
    raise routing_errors.BadInput(why=why, pointer=pointer)


def _digest(request: Request) -> str:
    graph = None if request.graph is None else definition.checksum(request.graph)
    material = [request.workflow, request.version, graph, request.input, request.priority, str(request.context)]
    return hashlib.sha256(orjson.dumps(material, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _known(request: Request, digest: str) -> Run | None:
    """Return the run that the same key or id has made before. Raises if that was another request."""
    known = None
    if request.idempotency_key is not None:
        known = Run.objects.filter(tenant_id=request.tenant, idempotency_key=request.idempotency_key).first()
    if known is None and request.id is not None:
        known = Run.objects.filter(id=request.id, tenant_id=request.tenant).first()
    if known is not None and known.request_digest != digest:
        raise errors.RunKeyReused(key=request.idempotency_key or str(request.id), pointer="/idempotency_key")
    return known


# ---- what is asked of a run ---------------------------------------------------------------------------------------


def find(tenant: str, run_id: UUID) -> Run:
    """Return the tenant's run. Raises ``NoSuchRun``, for another tenant's just the same."""
    run = Run.objects.filter(tenant_id=tenant, id=run_id).select_related("definition").first()
    if run is None:
        raise errors.NoSuchRun(id=run_id)
    return run


def ask(run: Run, kind: RunCommand.Kind, *, by: str, reason: str = "", **data: Any) -> RunCommand:
    """Return what is asked of the run, now in the ledger. Raises ``RunOver`` or ``NoSuchStep``."""
    payloads.check(data, max_bytes=settings.A2A_MAX_INPUT_BYTES)
    with transaction.atomic():
        state = Run.objects.values_list("state", flat=True).get(id=run.id)
        if state in ENDED and kind in ALIVE_ONLY:
            raise errors.RunOver(state=state, verb=kind.label.lower())
        if "step" in data:
            _check_step(run, data["step"])
        command = RunCommand.objects.create(
            run_id=run.id, kind=kind, data=data, by=by[:150], reason=reason[:MAX_REASON]
        )
        transaction.on_commit(broker.ring)
    return command


def fork(run: Run, *, step: str, by: str, reason: str = "", input: Any = None, has_input: bool = False) -> Run:
    """Return a new run of the same graph that begins at ``step``, with what came before it as it ended in ``run``.

    The old run stays as it is, but for a line in what was asked of it.
    """
    _check_step(run, step)
    graph = workflows.graph_of(run.definition)
    again = {step, *_following(graph, step)}
    seeds = [
        {"step": row.step, "state": row.state, "output": row.output, "error": row.error}
        for row in StepRun.objects.filter(run_id=run.id)
        if row.step not in again and row.ended_at is not None
    ]
    request = Request(
        graph=graph, input=run.input, tenant=run.tenant_id, priority=run.priority, context=run.context, by=by,
        overrides={**run.overrides, step: input} if has_input else run.overrides, seeds=seeds, forked_from=run.id,
        reason=reason, due=run.due,
    )  # fmt: skip
    made = row_of(request)
    made.workflow, made.version, made.definition = run.workflow, run.version, run.definition
    with transaction.atomic():
        made.save(force_insert=True)
        RunCommand.objects.create(
            run_id=run.id, kind=Kind.FORK, data={"step": step, "made": str(made.id)}, by=by[:150],
            reason=reason[:MAX_REASON], done_at=timezone.now(),
        )  # fmt: skip
        transaction.on_commit(broker.ring)
    return made


def answer(
    approval: Approval, value: Any, *, by: str, groups: Sequence[str] = (), is_operator: bool = True
) -> RunCommand:
    """Return the answer, on its way to the run. Raises ``ApprovalClosed``, ``MayNotAnswer`` or ``AnswerMismatch``."""
    if approval.state != Approval.State.OPEN:
        who = f", by {approval.answered_by}" if approval.answered_by else ""
        raise errors.ApprovalClosed(state=approval.state, by=who)
    allowed = set(approval.who)
    is_named = by in allowed or any(f"group:{group}" in allowed for group in groups)
    if not (is_named or (not allowed and is_operator)):
        raise errors.MayNotAnswer(who=by, allowed=", ".join(sorted(allowed)) or "operators")
    schema = approval.schema or {"type": "boolean"}
    wrong = payloads.mismatch(schema, value)
    if wrong is not None:
        raise errors.AnswerMismatch(where=wrong[0] or "the top", why=wrong[1], pointer=f"/answer{wrong[0]}")
    with transaction.atomic():
        open_rows = Approval.objects.filter(pk=approval.pk, state=Approval.State.OPEN)
        moved = open_rows.update(
            state=Approval.State.ANSWERED, answer=value, answered_by=by[:150], answered_at=timezone.now()
        )
        if not moved:
            approval.refresh_from_db()
            raise errors.ApprovalClosed(state=approval.state, by=f", by {approval.answered_by}")
        data = {"step": approval.step, "round": approval.round, "answer": value}
        command = RunCommand.objects.create(run_id=approval.run_id, kind=Kind.ANSWER, data=data, by=by[:150])
        transaction.on_commit(broker.ring)
    return command


def active(tenant: str, workflow: str) -> int:
    """Return how many runs of the workflow have not ended."""
    rows = Run.objects.filter(tenant_id=tenant, workflow=workflow)
    return rows.exclude(state__in=ENDED).exclude(state=RunState.PENDING).count()


def delete_old(border: datetime) -> int:
    """Delete runs that ended before ``border`` with all that belongs to them, and return how many that were.

    Sub-runs go with their own end. What a schedule notes of a time, and a context's state, go by their age.
    """
    deleted = 0
    old = Run.objects.filter(ended_at__lt=border).order_by("ended_at").values_list("id", flat=True)
    while ids := list(old[:SLICE]):
        with transaction.atomic():
            for model in (StepRun, MapItem, StepTask, RunEvent, Approval, SignalReceived, RunCommand):
                model._default_manager.filter(run_id__in=ids).delete()
            Run.objects.filter(id__in=ids).delete()
        deleted += len(ids)
    ScheduleTime.objects.filter(at__lt=border).delete()
    ContextKey.objects.filter(at__lt=border).delete()
    ContextLock.objects.filter(expires_at__lt=border).delete()
    return deleted


def _check_step(run: Run, step: str) -> None:
    names = [known.name for known in workflows.graph_of(run.definition).steps]
    if step not in names:
        raise errors.NoSuchStep(step=step, known=", ".join(names[:30]), pointer="/step")


def _following(graph: Graph, step: str) -> set[str]:
    """Return the steps that wait, directly or not, for ``step``."""
    found: set[str] = set()
    edge = {step}
    while edge:
        edge = {s.name for s in graph.steps if edge & set(s.after)} - found
        found |= edge
    return found


__all__ = ["Definition", "Kind", "Request", "Started", "active", "answer", "ask", "find", "fork", "row_of", "start"]
