"""The controller's pen: turns what the fleet says into rows, in the same transaction as the position in the log."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from routing import events as e
from routing.artifacts import Store
from routing.fleet import Restored
from routing.models import (
    TERMINAL,
    Artifact,
    Attempt,
    AttemptState,
    CeleryState,
    ChordPart,
    Command,
    Controller,
    Decision,
    Task,
    TaskEvent,
    TaskState,
)
from routing.prepared import Prepared, direct

SLICE = 500  # tasks deleted in one transaction

TERMINAL_KINDS = frozenset(str(state) for state in TERMINAL)
ATTEMPT_ENDS = {"completed": AttemptState.COMPLETED, "failed": AttemptState.FAILED, "canceled": AttemptState.CANCELED}


class Deposed(Exception):
    """Another controller leads now; this one's work since its last commit is void."""


# ---- leadership -------------------------------------------------------------------------------------------------


def controller_row() -> Controller:
    """Return the row that says who leads and how far the log has been read; made on first use."""
    return Controller.objects.get_or_create(id=1)[0]


def take_lead(seen: Controller, holder: str) -> int | None:
    """Return the new epoch if this process leads from now on, None if somebody else was faster."""
    rows = Controller.objects.filter(id=1, epoch=seen.epoch, beat=seen.beat)
    taken = rows.update(holder=holder, epoch=F("epoch") + 1, beat=F("beat") + 1)
    return seen.epoch + 1 if taken else None


def give_up_lead(epoch: int) -> None:
    """Let a standby take over at once."""
    Controller.objects.filter(id=1, epoch=epoch).update(holder="", beat=F("beat") + 1)


def commit(
    effects: Sequence[e.Effect], *, epoch: int, position: str, commit_seq: int, done: Sequence[UUID] = ()
) -> None:
    """Write all rows that follow from ``effects`` and how far the log is read, in one transaction.

    ``done`` are the commands acted on. Raises ``Deposed`` (and writes nothing) when ``epoch`` is no longer the
    leader's.
    """
    with transaction.atomic():
        with direct() as cursor:
            if not _advance(cursor, epoch, position, commit_seq):
                raise Deposed
            recorded = [effect for effect in effects if isinstance(effect, e.Recorded)]
            if recorded:
                _Pen(cursor).write(recorded)
        if done:
            Command.objects.filter(id__in=done).update(done_at=timezone.now())


def _advance(cursor: Any, epoch: int, position: str, commit_seq: int) -> bool:
    """Note how far the log is read; False when ``epoch`` no longer leads."""
    sql = f'UPDATE "{_CONTROLLER}" SET position = %s, commit_seq = %s, beat = beat + 1 WHERE id = 1 AND epoch = %s'
    cursor.execute(sql, (position, commit_seq, epoch))
    return bool(cursor.rowcount == 1)


_CONTROLLER = Controller._meta.db_table


def checkpoint() -> None:
    """Move what SQLite's log holds into the database's file, without anybody waiting. Nothing on other databases.

    Left to itself SQLite makes every fiftieth task or so wait for it, in the very commit that it waits for.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")


# ---- rows -------------------------------------------------------------------------------------------------------


class _Pen:
    """Writes rows with plain SQL, many in one statement: this is the hot path of the whole product."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        postgres = connection.vendor == "postgresql"
        self._id: Callable[[str], Any] = UUID if postgres else (lambda text: text.replace("-", ""))
        self._moments: dict[float, Any] = {}

    def write(self, recorded: Sequence[e.Recorded]) -> None:
        """Insert events, attempts, decisions and artifacts; update tasks and attempts."""
        self._insert_events(recorded)
        self._insert_attempts([r for r in recorded if r.kind == "assigned"])
        self._insert_artifacts([r for r in recorded if r.kind == "artifact"])
        self._update_attempts(recorded)
        self._update_tasks(recorded)
        self._insert_settlements([r for r in recorded if r.kind in TERMINAL_KINDS and r.kind != "completed"])

    def _insert_events(self, recorded: Sequence[e.Recorded]) -> None:
        rows = [(self._id(r.task), r.seq, r.kind, r.attempt, self._at(r.at), _json(r.data)) for r in recorded]
        self._insert(TaskEvent, ("task_id", "seq", "kind", "attempt", "at", "data"), rows)

    def _insert_attempts(self, assigned: Sequence[e.Recorded]) -> None:
        rows = [(self._id(r.task), r.attempt, r.agent, "", "assigned", self._at(r.at)) for r in assigned]
        self._insert(Attempt, ("task_id", "number", "agent", "worker", "state", "assigned_at"), rows)
        decisions = [
            (self._id(r.task), r.attempt, r.decision.strategy, r.agent, self._at(r.at),
             _json(r.decision.candidates), _json(r.decision.exclusions))
            for r in assigned if r.decision is not None
        ]  # fmt: skip
        self._insert(Decision, ("task_id", "attempt", "strategy", "agent", "at", "candidates", "exclusions"), decisions)

    def _insert_artifacts(self, recorded: Sequence[e.Recorded]) -> None:
        rows = [
            (self._id(r.task), r.seq, r.attempt, r.data["name"], r.data["sha256"], r.data["size"],
             r.data["media_type"], self._at(r.at))
            for r in recorded
        ]  # fmt: skip
        self._insert(Artifact, ("task_id", "seq", "attempt", "name", "sha256", "size", "media_type", "at"), rows)

    def _update_attempts(self, recorded: Sequence[e.Recorded]) -> None:
        changes: dict[tuple[Any, Any], dict[str, Any]] = {}
        for r in recorded:
            change = self._attempt_change(r)
            if change:
                changes.setdefault((self._id(r.task), r.attempt), {}).update(change)
        self._update(Attempt, ("task_id", "number"), changes)

    def _attempt_change(self, r: e.Recorded) -> dict[str, Any]:
        if r.kind == "working":
            return {"state": "working", "worker": r.data.get("worker", ""), "started_at": self._at(r.at)}
        if not r.agent:  # nothing was in flight
            return {}
        if r.kind == "requeued":
            state = str(r.data["outcome"])
        elif r.kind in ATTEMPT_ENDS:
            state = str(ATTEMPT_ENDS[r.kind])
        else:
            return {}
        error = r.data.get("error")
        return {"state": state, "finished_at": self._at(r.at), "error": _json(error) if error else None}

    def _update_tasks(self, recorded: Sequence[e.Recorded]) -> None:
        changes: dict[tuple[Any], dict[str, Any]] = {}
        for r in recorded:
            changes.setdefault((self._id(r.task),), {}).update(self._task_change(r))
        self._update(Task, ("id",), changes)

    def _task_change(self, r: e.Recorded) -> dict[str, Any]:
        at, kind = self._at(r.at), r.kind
        change: dict[str, Any] = {"seq": r.seq}
        if kind == "submitted":
            change |= {"accepted_at": at, "detail": r.data.get("detail", "")[:300]}
        elif kind == "assigned":
            change |= {"attempt": r.attempt, "agent": r.agent, "detail": ""}
        elif kind == "working":
            change |= {"state": "working", "started_at": at}
        elif kind == "requeued":
            change |= {"state": "submitted", "agent": "", "tries": r.data["tries"], "progress": None}
            change |= {"call": _json(r.call)} if r.call is not None else {}
        elif kind == "progress" and r.data.get("fraction") is not None:
            change |= {"progress": r.data["fraction"]}
        elif kind == "cancel_requested":
            change |= {"cancel_requested_at": at}
        elif kind in TERMINAL_KINDS:
            change |= {"state": kind, "finished_at": at, "detail": ""}
            change |= {"output": _json(r.output)} if kind == "completed" else {}
            change |= {"error": _json(r.data["error"])} if r.data.get("error") else {}
        return change

    def _insert_settlements(self, ended: Sequence[e.Recorded]) -> None:
        """Note down the canvases that have to learn of a task's bad end."""
        if not ended:
            return
        tasks = Task.objects.filter(id__in=[r.task for r in ended], call__body__isnull=False)
        Command.objects.bulk_create(
            Command(tenant_id=tenant, kind=Command.Kind.SETTLE, task_id=task, by="controller")
            for task, tenant in tasks.values_list("id", "tenant_id")
        )

    def _insert(self, model: Any, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self._cursor.executemany(_insertion(model, columns), rows)

    def _update(self, model: Any, keys: Sequence[str], changes: Mapping[tuple[Any, ...], dict[str, Any]]) -> None:
        """Update rows, grouping those that change the same columns into one statement."""
        groups: dict[tuple[str, ...], list[list[Any]]] = {}
        for key, change in changes.items():
            groups.setdefault(tuple(change), []).append([*change.values(), *key])
        where = " AND ".join(f'"{key}" = %s' for key in keys)
        for columns, rows in groups.items():
            sets = ", ".join(f'"{column}" = %s' for column in columns)
            self._cursor.executemany(f'UPDATE "{model._meta.db_table}" SET {sets} WHERE {where}', rows)

    def _at(self, at: float) -> Any:
        known = self._moments.get(at)
        if known is None:
            moment = dt.datetime.fromtimestamp(at, dt.UTC)
            known = self._moments[at] = connection.ops.adapt_datetimefield_value(moment)
        return known


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits, say
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@cache
def _insertion(model: Any, columns: tuple[str, ...]) -> str:
    nullable = [f for f in model._meta.concrete_fields if f.attname not in {"task_id", *columns}]
    assert all(f.null for f in nullable), "a column without a value would be left empty"
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join(["%s"] * len(columns))
    return f'INSERT INTO "{model._meta.db_table}" ({names}) VALUES ({marks})'


# ---- what the controller reads ----------------------------------------------------------------------------------


class Unaccepted(NamedTuple):
    """What the fleet has to know of a task, and what its message will carry. Named as the columns."""

    id: UUID
    tenant_id: str
    skill: str
    version: str
    priority: int
    labels: dict[str, str]
    agent_pinned: str
    agents_excluded: list[str]
    not_before: dt.datetime | None
    deadline: dt.datetime | None
    timeout_s: float
    max_attempts: int
    created_at: dt.datetime
    input: Any
    call: Any


def spec_of(task: Task | Unaccepted) -> e.TaskSpec:
    """Return a task as the fleet sees it."""
    return e.TaskSpec(
        id=str(task.id),
        tenant=task.tenant_id,
        skill=task.skill,
        version=task.version,
        priority=task.priority,
        labels=tuple(sorted(task.labels.items())),
        pinned=task.agent_pinned,
        excluded=tuple(task.agents_excluded),
        not_before=task.not_before.timestamp() if task.not_before else None,
        deadline=task.deadline.timestamp() if task.deadline else None,
        timeout_s=task.timeout_s,
        max_attempts=task.max_attempts,
        created_at=task.created_at.timestamp(),
    )


def unaccepted(limit: int) -> list[Unaccepted]:
    """Return tasks that no controller has accepted yet, oldest first."""
    return [Unaccepted(*row) for row in _unaccepted(limit).rows()]


@cache
def _unaccepted(limit: int) -> Prepared:
    tasks = Task.objects.filter(accepted_at__isnull=True).order_by("created_at")
    return Prepared(lambda: tasks.values_list(*Unaccepted._fields)[:limit])


def is_unaccepted(task: UUID) -> bool:
    """Return True for a task that no controller has accepted yet."""
    return Task.objects.filter(id=task, accepted_at__isnull=True).exists()


def open_commands(limit: int = 500) -> list[Command]:
    """Return requests that nobody has acted on, oldest first."""
    if not _open_command.rows():  # nearly always
        return []
    return list(Command.objects.filter(done_at__isnull=True).order_by("created_at")[:limit])


_open_command = Prepared(lambda: Command.objects.filter(done_at__isnull=True).order_by().values_list("id")[:1])


def live() -> Iterator[Restored]:
    """Yield every accepted task that has not ended, as the fleet takes it up again."""
    tasks = Task.objects.filter(~Q(state__in=TERMINAL), accepted_at__isnull=False).defer("input", "call", "output")
    begun = TaskEvent.objects.filter(kind="working", task__state=TaskState.WORKING)
    workers = {(task, attempt): data for task, attempt, data in begun.values_list("task_id", "attempt", "data")}
    for task in tasks.order_by("created_at").iterator(chunk_size=1000):
        in_flight = bool(task.agent)
        working = task.state == TaskState.WORKING
        place = workers.get((task.id, task.attempt), {}) if working else {}
        began = task.started_at if working and task.started_at else timezone.now()
        yield Restored(
            spec=spec_of(task),
            seq=task.seq,
            attempt=task.attempt,
            tries=task.tries,
            phase="working" if working else "assigned" if in_flight else "waiting",
            agent=task.agent,
            worker=place.get("worker", ""),
            incarnation=place.get("incarnation", ""),
            began_at=began.timestamp(),
            cancel_asked=task.cancel_requested_at is not None,
        )


def calls(tasks: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Return (input, recorded call) of each task."""
    rows = Task.objects.filter(id__in=list(tasks)).values_list("id", "input", "call")
    return {str(id): (value, call) for id, value, call in rows}


def counts() -> dict[str, int]:
    """Return how many tasks there are in each state."""
    from django.db.models import Count

    return dict(Task.objects.values_list("state").annotate(n=Count("id")).order_by())


# ---- retention --------------------------------------------------------------------------------------------------


def delete_old(now: dt.datetime | None = None) -> int:
    """Delete what ended more than ``A2A_RETENTION_DAYS`` ago, and return how many tasks that were.

    It goes in slices by the time a task ended, so that no transaction is long and a partitioned table could drop
    whole parts instead.
    """
    border = (now or timezone.now()) - dt.timedelta(days=settings.A2A_RETENTION_DAYS)
    deleted = 0
    while True:
        old = list(
            Task.objects.filter(finished_at__lt=border).order_by("finished_at").values_list("id", flat=True)[:SLICE]
        )
        if not old:
            break
        files = set(Artifact.objects.filter(task_id__in=old).values_list("sha256", flat=True))
        with transaction.atomic():
            for model in (TaskEvent, Attempt, Decision, Artifact, Command):
                model.objects.filter(task_id__in=old).delete()
            Task.objects.filter(id__in=old).delete()
        _delete_files(files)
        deleted += len(old)
    CeleryState.objects.filter(expires_at__lt=timezone.now()).delete()
    ChordPart.objects.filter(created_at__lt=border).delete()
    return deleted


def _delete_files(files: set[str]) -> None:
    """Delete artifacts that no task has any more. One just put, whose event is on its way, is spared."""
    kept = set(Artifact.objects.filter(sha256__in=files).values_list("sha256", flat=True))
    store = Store(settings.A2A_ARTIFACTS_DIR)
    for sha256 in files - kept:
        store.delete(sha256, idle_s=3600)
