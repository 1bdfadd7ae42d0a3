"""Why tasks wait, as of now. Their rows tell why they waited when they came: rewriting a long lane would be dear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import redis
from django.utils import timezone

from routing import broker, ledger
from routing.lanes import LaneKey
from routing.models import Task, TaskState

PATIENCE_S = 0.25  # Redis has to answer within; a page must not wait for it


def details(tasks: Sequence[Task]) -> dict[UUID, str]:
    """Return what is to be said of each task; "" where nothing is.

    Of a task that waits in a lane it is what the controller last said of the lane, at most about a second ago. Without
    Redis, and of a task in no lane, it is what the row holds.
    """
    found = {task.id: task.detail for task in tasks}
    waiting = [task for task in tasks if task.state == TaskState.SUBMITTED and task.seq and not task.agent]
    if waiting:
        lanes = _lanes()
        found |= {task.id: _detail(task, lanes) for task in waiting}
    return found


def detail(task: Task) -> str:
    """Return what is to be said of one task, as ``details`` does."""
    return details([task])[task.id]


def lane(task: Task, live: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the row of the lane where the task waits, from the controller's snapshot; None if it is in none."""
    rows = {(row["tenant"], row["lane"]): row for row in live["lanes"]}
    return next((rows[name] for name in _names(task) if name in rows), None)


def snapshot() -> dict[str, Any] | None:
    """Return the controller's last snapshot, None if Redis does not tell or no controller reports."""
    try:
        value: Any = broker.client(PATIENCE_S).get(broker.SNAPSHOT)
    except redis.RedisError:
        return None
    found: dict[str, Any] | None = orjson.loads(value) if value else None
    return found


def _detail(task: Task, lanes: Mapping[tuple[str, str], str]) -> str:
    if task.not_before is not None and task.not_before > timezone.now():
        return f"It waits for its time, {task.not_before.isoformat(timespec='seconds').replace('+00:00', 'Z')}."
    return next((lanes[name] for name in _names(task) if name in lanes), task.detail)


def _names(task: Task) -> list[tuple[str, str]]:
    """Return the lanes where the task may wait, as (tenant, name)."""
    key = LaneKey.of(ledger.spec_of(task))
    return [(task.tenant_id, str(lane)) for lane in (key, replace(key, alone=True))]


def _lanes() -> dict[tuple[str, str], str]:
    """Return (tenant, lane) → why nobody can serve it, "" if somebody can; empty if Redis does not tell."""
    return {(row["tenant"], row["lane"]): row["reason"] or "" for row in (snapshot() or {"lanes": ()})["lanes"]}
