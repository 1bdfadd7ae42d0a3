"""How a task comes into being, and how its end is asked for. Every door calls ``submit``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from routing import broker, errors, payloads, registry
from routing.models import DEFAULT_TENANT, TERMINAL, Command, Task, new_id
from routing.prepared import insert

MAX_LABELS = 32
MAX_WORDS_BYTES = 65_536  # of everything that is not the input
MAX_TIMEOUT_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a caller asks for."""

    skill: str
    input: Any = None  # JSON
    tenant: str = DEFAULT_TENANT
    version: str = ""  # "" accepts any
    priority: int = 5  # 0..9, higher goes first
    labels: Mapping[str, str] = field(default_factory=dict)  # what the agent must carry
    agent: str = ""  # pinned; "" leaves the choice to the router
    exclude: Sequence[str] = ()  # agents that must not get it
    not_before: datetime | None = None
    deadline: datetime | None = None
    timeout_s: float | None = None  # None: the skill's
    max_attempts: int | None = None  # None: the skill's
    idempotency_key: str | None = None
    id: UUID | None = None  # None: a new one
    parent: UUID | None = None
    context: UUID | None = None
    origin: str = ""  # the door
    call: Mapping[str, Any] | None = None  # the Celery message to publish unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The task, and whether this call made it (False: the same request had made it before)."""

    task: Task
    created: bool


def submit(request: Request) -> Submitted:
    """Return the task, inserted in the caller's transaction: it exists exactly if the caller's work commits.

    The controller is rung on commit, so this works with Redis down. The same request with the same idempotency key
    (or, by Celery, the same id) gives the task that is there already, even if it would not be accepted any more: its
    deadline may have passed, its skill may have changed.

    Raises a ``routing.errors.RoutingError`` with nothing stored when the request cannot be accepted.
    """
    _check_form(request)
    digest = _digest(request)
    try:
        return Submitted(task=_new(request, digest), created=True)
    except (errors.RoutingError, IntegrityError):  # asked for only now: most requests are new
        known = _known(request, digest)
        if known is None:
            raise
        return Submitted(task=known, created=False)


def _new(request: Request, digest: str) -> Task:
    """Insert the task. Raises ``IntegrityError`` if its key or id is taken, a ``RoutingError`` if it is refused."""
    task = _row(request, digest)
    # Alone, one statement is a transaction; within the caller's, its failure must leave that usable.
    with transaction.atomic() if connection.in_atomic_block else nullcontext():
        insert(task)
    transaction.on_commit(broker.ring_for_tasks)
    return task


def submit_many(requests: Sequence[Request]) -> list[Submitted | errors.RoutingError]:
    """Return for each request, in order, what ``submit`` returns or raises. All accepted ones share a transaction."""
    results: list[Submitted | errors.RoutingError] = []
    fresh: list[Task] = []
    with transaction.atomic():
        for request in requests:
            try:
                if request.idempotency_key is None and request.id is None:
                    _check_form(request)
                    fresh.append(_row(request, _digest(request)))
                    results.append(Submitted(task=fresh[-1], created=True))
                else:
                    results.append(submit(request))
            except errors.RoutingError as error:
                results.append(error)
        if fresh:
            Task.objects.bulk_create(fresh, batch_size=200)
            transaction.on_commit(broker.ring_for_tasks)
    return results


def cancel(task_id: UUID, *, tenant: str, by: str, reason: str = "") -> Command:
    """Return the request to cancel, now in the ledger. The controller acts on it and records the outcome.

    Raises ``NoSuchTask`` (also for another tenant's) and ``AlreadyEnded``.
    """
    with transaction.atomic():
        task = Task.objects.only("state").filter(id=task_id, tenant_id=tenant).first()
        if task is None:
            raise errors.NoSuchTask(id=task_id)
        if task.state in TERMINAL:
            raise errors.AlreadyEnded(state=task.state)
        command = Command.objects.create(
            tenant_id=tenant, kind=Command.Kind.CANCEL, task_id=task_id, by=by[:150], reason=reason[:300]
        )
        transaction.on_commit(broker.ring)
    return command


def _known(request: Request, digest: str) -> Task | None:
    """Return the task that the same key or id has made before. Raises if it was made by another request."""
    if request.idempotency_key is not None:
        known = Task.objects.filter(tenant_id=request.tenant, idempotency_key=request.idempotency_key).first()
        if known is not None and known.request_digest != digest:
            raise errors.KeyReused(key=request.idempotency_key, pointer="/idempotency_key")
        if known is not None:
            return known
    if request.id is None:
        return None
    known = Task.objects.filter(id=request.id).first()
    if known is not None and (known.tenant_id != request.tenant or _is_other_request(request, known, digest)):
        raise errors.IdReused(id=request.id, pointer="/id")
    return known


def _is_other_request(request: Request, known: Task, digest: str) -> bool:
    # A step of a canvas is submitted once by every attempt of the step before it, whose outputs may differ.
    return request.call is None and known.request_digest != digest


def _row(request: Request, digest: str) -> Task:
    """Return the row for a well-formed ``request``, not saved. Raises a ``RoutingError`` if it cannot be accepted."""
    skill = _skill(request)
    _check_present(request)
    return Task(
        id=request.id or new_id(),
        tenant_id=request.tenant,
        skill=request.skill,
        version=request.version,
        input=request.input,
        priority=request.priority,
        labels=dict(request.labels),
        agent_pinned=request.agent,
        agents_excluded=sorted(set(request.exclude)),
        not_before=request.not_before,
        deadline=request.deadline,
        timeout_s=request.timeout_s if request.timeout_s is not None else skill.timeout_s,
        max_attempts=request.max_attempts if request.max_attempts is not None else skill.max_attempts,
        idempotency_key=request.idempotency_key,
        request_digest=digest,
        call=request.call,
        parent=request.parent,
        context=request.context,
        origin=request.origin,
    )


def _skill(request: Request) -> registry.SkillFacts:
    """Return the skill asked for. Raises ``UnknownSkill``, or ``SchemaMismatch`` when the input does not suit it."""
    skill = registry.known_skill(request.tenant, request.skill, request.version)
    if skill is None:
        known = registry.skill_names(request.tenant)
        raise errors.UnknownSkill(
            skill=request.skill, tenant=request.tenant, known=", ".join(known[:20]) or "none", pointer="/skill"
        )
    wrong = payloads.mismatch(skill.input_schema, request.input)
    if wrong is not None:
        where, why = wrong
        raise errors.SchemaMismatch(
            skill=skill.name, pointer="/input" + where, pointer_text=where or "the top", why=why
        )
    return skill


def _check_form(request: Request) -> None:
    """Raise a ``RoutingError`` that points at what no task could ever hold."""
    payloads.check(request.input, max_bytes=settings.A2A_MAX_INPUT_BYTES, at="/input")
    words: dict[str, Any] = {
        "version": request.version,
        "labels": dict(request.labels),
        "exclude": list(request.exclude),
    }
    words |= {"agent": request.agent, "idempotency_key": request.idempotency_key}
    payloads.check(words, max_bytes=MAX_WORDS_BYTES)
    _check_numbers(request)
    _check_names(request)


def _check_numbers(request: Request) -> None:
    if not isinstance(request.priority, int) or isinstance(request.priority, bool) or not 0 <= request.priority <= 9:
        _refuse("/priority", f"The priority is {request.priority!r}; it has to be a whole number from 0 to 9.")
    if request.timeout_s is not None and not 0 < request.timeout_s <= MAX_TIMEOUT_S:
        _refuse("/timeout_s", f"The time-out is {request.timeout_s!r} s; it has to be above 0 and at most 7 days.")
    if request.max_attempts is not None and not 1 <= request.max_attempts <= 100:
        _refuse("/max_attempts", f"max_attempts is {request.max_attempts!r}; it has to be from 1 to 100.")
    for name, moment in (("not_before", request.not_before), ("deadline", request.deadline)):
        if moment is not None and timezone.is_naive(moment):
            _refuse(f"/{name}", f"{name} has no time zone. Write it with one, as 2026-01-31T12:00:00Z.")
    if request.deadline and request.not_before and request.deadline <= request.not_before:
        _refuse("/deadline", "The deadline is not after not_before, so the task could never begin.")


def _check_names(request: Request) -> None:
    if request.idempotency_key is not None and not 1 <= len(request.idempotency_key) <= 200:
        _refuse("/idempotency_key", "An idempotency key has 1 to 200 characters.")
    if request.agent and request.agent in request.exclude:
        _refuse("/exclude", f"The agent {request.agent!r} is both asked for and excluded.")
    if len(request.labels) > MAX_LABELS:
        _refuse("/labels", f"There are {len(request.labels)} labels; at most {MAX_LABELS} are accepted.")
    for label, value in request.labels.items():
        if not isinstance(label, str) or not isinstance(value, str) or not 1 <= len(label) <= 64 or len(value) > 200:
            _refuse("/labels", f"The label {label!r} is not a short text with a short text as its value.")


def _check_present(request: Request) -> None:
    """Raise a ``RoutingError`` for what was possible once, or will be, and is not now."""
    if request.deadline is not None and request.deadline <= timezone.now():
        _refuse("/deadline", f"The deadline {request.deadline.isoformat()} has passed already.")
    if request.agent and not registry.known_agent(request.tenant, request.agent):
        raise errors.UnknownAgent(agent=request.agent, tenant=request.tenant, pointer="/agent")


def _refuse(pointer: str, why: str) -> None:
    raise errors.BadInput(why=why, pointer=pointer)


def _digest(request: Request) -> str:
    """Return the SHA-256 of everything that makes two requests the same work."""
    material = [
        request.skill,
        request.version,
        request.input,
        request.priority,
        dict(request.labels),
        request.agent,
        sorted(set(request.exclude)),
        str(request.not_before),
        str(request.deadline),
        request.timeout_s,
        request.max_attempts,
        str(request.parent),
        str(request.context),
    ]
    return hashlib.sha256(orjson.dumps(material, option=orjson.OPT_SORT_KEYS)).hexdigest()
