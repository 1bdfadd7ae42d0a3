"""What callers say of a task's output. The only writer of ``Feedback``."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.models import Avg
from django.utils import timezone

from routing import broker, errors, payloads
from routing.matching import is_number
from routing.models import Command, Feedback, Task, TaskState

MAX_COMMENT_BYTES = 10_000
UNRATED = 1.0  # what a success counts before anybody has judged it


def give(task_id: UUID, *, tenant: str, by: str, score: float, comment: str = "") -> Feedback:
    """Return the caller's word on a completed task, which takes the place of an earlier one.

    The controller learns of it by a request in the ledger: the task counts as the mean of its callers' scores, 0..1.
    Raises ``BadInput``, ``NoSuchTask`` (also for another tenant's) or ``NotCompleted``.
    """
    if not is_number(score) or not 0 <= score <= 1:
        raise errors.BadInput(why=f"A score is a number from 0 to 1, not {score!r}.", pointer="/score")
    payloads.check(comment, max_bytes=MAX_COMMENT_BYTES, at="/comment")
    with transaction.atomic():
        rows = Task.objects.select_for_update().only("state", "agent", "skill", "version")
        task = rows.filter(id=task_id, tenant_id=tenant).first()
        if task is None:
            raise errors.NoSuchTask(id=task_id)
        if task.state != TaskState.COMPLETED:
            raise errors.NotCompleted(state=task.state)
        before = _quality(task)
        said = {"score": score, "comment": comment, "at": timezone.now()}
        row, _ = Feedback.objects.update_or_create(task_id=task.pk, by=by[:150], defaults=said)
        _tell(task, tenant, by, before)
    return row


def _quality(task: Task) -> float:
    """Return the mean of the scores, or what a success counts without any."""
    mean = Feedback.objects.filter(task_id=task.pk).aggregate(mean=Avg("score"))["mean"]
    return UNRATED if mean is None else float(mean)


def _tell(task: Task, tenant: str, by: str, before: float) -> None:
    Command.objects.create(
        tenant_id=tenant,
        kind=Command.Kind.RATE,
        task_id=task.pk,
        by=by[:150],
        data={
            "agent": task.agent,
            "skill": [task.skill, task.version],
            "score": _quality(task),
            "before": before,
        },
    )
    transaction.on_commit(broker.ring)
