"""The recorded past, as rehearsals replay it. Read in pieces: neither inputs nor outputs are touched."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import cast
from uuid import UUID

from django.db.models import Count

from routing import events as e
from routing import ledger, rulebook
from routing.models import Attempt, AttemptState, Task, TaskState
from routing.rehearsal import MOST_TASKS, Past, PastTask, Rehearsal, Try, rehearse

CHUNK = 500  # tasks whose attempts are read at once
ENDED = (TaskState.COMPLETED, TaskState.FAILED)


def read(since: dt.datetime, until: dt.datetime, *, most: int = MOST_TASKS) -> Past:
    """Return the newest ``most`` tasks that came in [since, until) and completed or failed."""
    came = Task.objects.filter(created_at__gte=since, created_at__lt=until)
    rows = came.filter(state__in=ENDED, finished_at__isnull=False).order_by("-created_at", "-id")
    tasks = list(_tasks(rows.defer("input", "output", "call", "error")[:most].iterator(chunk_size=CHUNK)))
    tasks.sort(key=lambda task: (task.spec.created_at, task.spec.id))
    return Past(
        tasks=tasks,
        since=since.timestamp(),
        until=until.timestamp(),
        left_out=_left_out(dict(came.order_by().values_list("state").annotate(n=Count("id"))), len(tasks)),
    )


def rehearsed(past: Past, draft: e.RegistryChanged) -> Rehearsal:
    """Return the past under the rules as they are and under the draft. Raises ``NotEnough``."""
    return rehearse(past, rulebook.fact(), draft, list(ledger.memory()))


def _tasks(rows: Iterator[Task]) -> Iterator[PastTask]:
    chunk: list[Task] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield from _with_tries(chunk)
            chunk = []
    yield from _with_tries(chunk)


def _with_tries(rows: Sequence[Task]) -> Iterator[PastTask]:
    tries = _tries([row.id for row in rows])
    for row in rows:
        if row.finished_at is not None:
            completed = row.state == TaskState.COMPLETED
            yield PastTask(
                spec=ledger.spec_of(row),
                ended_at=row.finished_at.timestamp(),
                completed=completed,
                agent=row.agent if completed else "",
                tries=tuple(tries.get(row.id, ())),
            )


def _tries(tasks: Sequence[UUID]) -> dict[UUID, list[Try]]:
    """Return the attempts of each task that ended by themselves: what was lost or handed back tells nothing."""
    told = Attempt.objects.filter(task_id__in=tasks, state__in=(AttemptState.COMPLETED, AttemptState.FAILED))
    rows = told.filter(started_at__isnull=False, finished_at__isnull=False).order_by("number")
    found: defaultdict[UUID, list[Try]] = defaultdict(list)
    for row in rows.iterator(chunk_size=CHUNK):
        if row.started_at is not None and row.finished_at is not None:
            seconds = max(1e-4, (row.finished_at - row.started_at).total_seconds())
            error = cast(e.Error, row.error or {"kind": "agent", "message": "it failed", "retryable": True})
            failed = row.state == AttemptState.FAILED
            cost_usd = (row.usage or {}).get("usd")
            found[row.task_id].append(
                Try(agent=row.agent, seconds=seconds, error=error if failed else None, cost_usd=cost_usd)
            )
    return dict(found)


def _left_out(states: dict[str, int], replayed: int) -> dict[str, int]:
    """Return why → tasks of the time that are not replayed."""
    ended = sum(states.get(state, 0) for state in ENDED)
    named = {"canceled": TaskState.CANCELED, "rejected": TaskState.REJECTED}
    out = {why: states.get(state, 0) for why, state in named.items()}
    out["not ended yet"] = sum(states.values()) - ended - sum(out.values())
    out["older than the newest that fit"] = ended - replayed
    return {why: count for why, count in out.items() if count}
