"""What people and programs say to a task: the message that made it, and the answers to what its agent asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from routing import broker, errors, payloads
from routing.models import TERMINAL, Command, Task, TaskEvent, TaskMessage, TaskState
from routing.prepared import insert

ASKING = (TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED)
TRIES = 3  # somebody else may take the number first


def begin(task: Task, *, message_id: str, message: Mapping[str, Any], by: str) -> None:
    """Keep the message that made a task, in the transaction that inserts it."""
    kept = dict(message)
    insert(TaskMessage(task_id=task.pk, number=0, message_id=message_id, input=None, message=kept, seq=0, by=by[:150]))


def answer(
    task_id: UUID,
    *,
    tenant: str,
    by: str,
    input: Any,
    message_id: str = "",
    message: Mapping[str, Any] | None = None,
    must_ask: bool = True,
) -> tuple[TaskMessage, bool]:
    """Return what was said, now in the ledger, and whether this call put it there: once for each message id.

    A task that asks goes on with it. Raises ``NoSuchTask`` (also for another tenant's), ``AlreadyEnded``,
    ``NothingAsked`` for one that does not ask where it ``must_ask``, and ``AnswerMisfits`` for what is not of the form
    that was asked for.
    """
    payloads.check(input, max_bytes=settings.A2A_MAX_INPUT_BYTES, at="/input")
    for tries_left in reversed(range(TRIES)):
        task = _find(task_id, tenant)
        known = _known(task, message_id)
        if known is not None:
            return known, False
        _refuse_unasked(task, input, must_ask=must_ask)
        try:
            return _insert(task, by=by, input=input, message_id=message_id, message=message), True
        except IntegrityError:
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def answers(task_id: str) -> list[Any]:
    """Return what was said to a task since it was submitted, in order."""
    said = TaskMessage.objects.filter(task_id=UUID(task_id), number__gt=0).order_by("number")
    return list(said.values_list("input", flat=True))


def question(task: Task) -> TaskEvent | None:
    """Return what the task's agent asked last, None if it has not."""
    return TaskEvent.objects.filter(task_id=task.pk, kind__in=ASKING).order_by("seq").last()


def _find(task_id: UUID, tenant: str) -> Task:
    task = Task.objects.only("state", "seq", "tenant_id").filter(id=task_id, tenant_id=tenant).first()
    if task is None:
        raise errors.NoSuchTask(id=task_id)
    return task


def _known(task: Task, message_id: str) -> TaskMessage | None:
    return TaskMessage.objects.filter(task_id=task.pk, message_id=message_id).first() if message_id else None


def _refuse_unasked(task: Task, input: Any, *, must_ask: bool) -> None:
    if task.state in TERMINAL:
        raise errors.NothingAsked(state=task.state)
    if task.state not in ASKING:
        if must_ask:
            raise errors.NothingAsked(state=task.state)
        return
    asked = question(task)
    schema = (asked.data.get("detail") or {}).get("schema") if asked is not None else None
    wrong = payloads.mismatch(schema, input) if isinstance(schema, dict) else None
    if wrong is not None:
        raise errors.AnswerMisfits(where=wrong[0] or "the top", why=wrong[1], pointer=f"/input{wrong[0]}")


def _insert(task: Task, *, by: str, input: Any, message_id: str, message: Mapping[str, Any] | None) -> TaskMessage:
    """Insert the message and wake the task. Raises ``IntegrityError`` if somebody was faster."""
    with transaction.atomic():
        last = TaskMessage.objects.filter(task_id=task.pk).order_by("number").last()
        row = TaskMessage(
            task_id=task.pk,
            number=max(1, last.number + 1) if last is not None else 1,
            message_id=message_id,
            input=input,
            message=None if message is None else dict(message),
            seq=task.seq,
            by=by[:150],
        )
        insert(row)
        Command.objects.create(tenant_id=task.tenant_id, kind=Command.Kind.ANSWER, task_id=task.pk, by=by[:150])
        transaction.on_commit(broker.ring)
    return row
