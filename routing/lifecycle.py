"""How a task comes into being, and how its end is asked for. Every door calls ``submit``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from routing import admission, broker, errors, payloads, registry, rulebook
from routing.models import TERMINAL, Command, Task, new_id
from routing.prepared import insert, insert_many
from routing.request import Request, Throttle, check_form, digest_of, refuse, requirement

__all__ = ["Request", "Submitted", "Throttle", "cancel", "prepare", "submit", "submit_many"]

INSERTIONS = 3  # tries: the task in the way may end meanwhile


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

    With a ``singleton`` key, a task of the tenant with the same key that has not ended is returned as it is, whatever
    else the requests ask for; only a Celery call, for whose own id somebody waits, is refused instead.

    Raises a ``routing.errors.RoutingError`` with nothing stored when the request cannot be accepted.
    """
    size = check_form(request)
    digest = digest_of(request)
    for tries_left in reversed(range(INSERTIONS)):
        try:
            return Submitted(task=_new(request, digest, size), created=True)
        except (errors.RoutingError, IntegrityError) as error:  # asked for only now: most requests are new
            known = _known(request, digest) or _living(request)
            if known is not None:
                return Submitted(task=known, created=False)
            if isinstance(error, errors.RoutingError) or not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def _new(request: Request, digest: str, size: int) -> Task:
    """Insert the task. Raises ``IntegrityError`` if its key or id is taken, a ``RoutingError`` if it is refused."""
    task = _row(request, digest, size)
    _insert(task, request)
    transaction.on_commit(broker.ring if task.debounce_key else broker.ring_for_tasks)  # it may cancel others
    return task


def _insert(task: Task, request: Request) -> None:
    """Insert the task, after those that it takes the place of. Raises ``Throttled`` or ``IntegrityError``."""
    is_watched = request.throttle is not None or task.debounce_key is not None
    # Alone, one statement is a transaction; within the caller's, its failure must leave that usable.
    with transaction.atomic() if connection.in_atomic_block or is_watched else nullcontext():
        if request.throttle is not None and task.throttle_key is not None:
            admission.take_turn(request.tenant, f"throttle {task.throttle_key}")
            admission.throttle(request.tenant, task.throttle_key, request.throttle.limit, request.throttle.period_s)
        if task.debounce_key is not None:
            admission.take_turn(request.tenant, f"debounce {task.debounce_key}")
            admission.supersede(task)
        if is_watched:  # it waited for its turn
            task.created_at = timezone.now()
        insert(task)


def prepare(request: Request) -> Task:
    """Return the row of a task that a reducer inserts with the controller's next commit. Raises a ``RoutingError``."""
    return _row(request, digest_of(request), check_form(request))


def submit_many(requests: Sequence[Request]) -> list[Submitted | errors.RoutingError]:
    """Return for each request, in order, what ``submit`` returns or raises. All accepted ones share a transaction."""
    results: list[Submitted | errors.RoutingError] = []
    fresh: list[Task] = []
    with transaction.atomic():
        for request in requests:
            try:
                if _is_plain(request):
                    size = check_form(request)
                    fresh.append(_row(request, digest_of(request), size))
                    results.append(Submitted(task=fresh[-1], created=True))
                else:
                    results.append(submit(request))
            except errors.RoutingError as error:
                results.append(error)
        if fresh:
            insert_many(fresh)
            transaction.on_commit(broker.ring_for_tasks)
    return results


def _is_plain(request: Request) -> bool:
    """Return whether no other task has anything to do with it."""
    keys = (request.idempotency_key, request.id, request.singleton, request.debounce_s, request.throttle)
    return all(key is None for key in keys)


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


def _living(request: Request) -> Task | None:
    """Return the task that lives under the same singleton key. Raises ``SingletonLives`` for a Celery call."""
    if request.singleton is None:
        return None
    task = admission.living(request.tenant, request.singleton)
    if task is not None and request.call is not None:
        raise errors.SingletonLives(id=task.pk, key=request.singleton, pointer="/singleton")
    return task


def _is_other_request(request: Request, known: Task, digest: str) -> bool:
    # A step of a canvas is submitted once by every attempt of the step before it, whose outputs may differ.
    return request.call is None and known.request_digest != digest


def _row(request: Request, digest: str, size: int) -> Task:
    """Return the row for a well-formed ``request``, not saved. Raises a ``RoutingError`` if it cannot be accepted.

    ``size`` is the bytes of its input.
    """
    skill = _skill(request)
    not_before = _not_before(request)
    _check_present(request, not_before)
    policy = rulebook.policy_of(request.tenant, request.skill, request.labels, request.priority)
    return Task(
        id=request.id or new_id(),
        tenant_id=request.tenant,
        skill=request.skill,
        version=request.version,
        input=request.input,
        priority=request.priority,
        labels=dict(request.labels),
        requires=requirement(request) if request.requires else "",
        agent_pinned=request.agent,
        agents_excluded=sorted(set(request.exclude)),
        not_before=not_before,
        deadline=request.deadline,
        timeout_s=_first(request.timeout_s, policy.timeout_s, skill.timeout_s),
        max_attempts=_first(request.max_attempts, policy.max_attempts, skill.max_attempts),
        idempotency_key=request.idempotency_key,
        request_digest=digest,
        call=request.call,
        parent=request.parent,
        context=request.context,
        origin=request.origin,
        owner=request.owner,
        wait_s=request.wait_s,
        retries=None if request.retries is None else dict(request.retries),
        size=_first(request.size, size),
        concurrency_key=request.concurrency_key,
        affinity=request.affinity,
        singleton_key=request.singleton,
        debounce_key=request.debounce_key,
        throttle_key=(request.throttle.key or request.skill) if request.throttle else None,
        budget=None if request.budget is None else dict(request.budget),
    )


def _first(*values: Any) -> Any:
    """Return the first value that is given; the last one always is."""
    return next(value for value in values if value is not None)


def _not_before(request: Request) -> datetime | None:
    """Return when the task may begin; one that is debounced lets some time pass."""
    if request.debounce_s is None:
        return request.not_before
    quiet = timezone.now() + timedelta(seconds=request.debounce_s)
    return quiet if request.not_before is None else max(quiet, request.not_before)


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


def _check_present(request: Request, not_before: datetime | None) -> None:
    """Raise a ``RoutingError`` for what was possible once, or will be, and is not now."""
    admission.refuse_contained(request.tenant, request.skill)
    if request.debounce_s is not None and request.deadline and not_before and request.deadline <= not_before:
        refuse("/deadline", "The deadline is not after the end of debounce_s, so the task could never begin.")
    if request.deadline is not None and request.deadline <= timezone.now():
        refuse("/deadline", f"The deadline {request.deadline.isoformat()} has passed already.")
    if request.agent and not registry.known_agent(request.tenant, request.agent):
        raise errors.UnknownAgent(agent=request.agent, tenant=request.tenant, pointer="/agent")
