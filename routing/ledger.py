"""The controller's pen: turns what the fleet says into rows, in the same transaction as the position in the log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from routing import events as e
from routing import registry, rulespecs
from routing.artifacts import Store
from routing.failpoints import failpoint
from routing.flights import Flight, Restored
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
    Feedback,
    FleetMemory,
    PushConfig,
    Task,
    TaskEvent,
    TaskMessage,
    TaskState,
)
from routing.prepared import Prepared, direct, json_text
from routing.reducers import Reducer

SLICE = 500  # tasks deleted in one transaction
PATIENCE_S = 0.5  # a standby waits so long for the controller's row
IDLE_S = 5.0  # a transaction of the controller's may stand still so long, on PostgreSQL

ASKING = (str(TaskState.INPUT_REQUIRED), str(TaskState.AUTH_REQUIRED))
STATUSES = frozenset({"submitted", "working", "requeued", "answered", *ASKING, *map(str, TERMINAL)})  # new states
TERMINAL_KINDS = frozenset(str(state) for state in TERMINAL)
ATTEMPT_ENDS = {"completed": AttemptState.COMPLETED, "failed": AttemptState.FAILED, "canceled": AttemptState.CANCELED}


class Deposed(Exception):
    """Another controller leads now; this one's work since its last commit is void."""


# ---- leadership -------------------------------------------------------------------------------------------------


def controller_row() -> Controller:
    """Return the row that says who leads and how far the log has been read; made on first use."""
    return Controller.objects.get_or_create(id=1)[0]


def take_lead(seen: Controller, holder: str) -> int | None:
    """Return the new epoch if this process leads from now on, None if somebody else was faster.

    Raises ``DatabaseError`` when the row is locked for longer than ``PATIENCE_S``.
    """
    rows = Controller.objects.filter(id=1, epoch=seen.epoch, beat=seen.beat)
    with _impatience():
        taken = rows.update(holder=holder, epoch=F("epoch") + 1, beat=F("beat") + 1)
    return seen.epoch + 1 if taken else None


@contextmanager
def _impatience() -> Iterator[None]:
    """While inside, wait for a lock no longer than ``PATIENCE_S``."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with transaction.atomic():
                cursor.execute(f"SET LOCAL lock_timeout = {PATIENCE_S * 1000:.0f}")
                yield
            return
        cursor.execute(f"PRAGMA busy_timeout = {PATIENCE_S * 1000:.0f}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {connection.settings_dict['OPTIONS']['timeout'] * 1000:.0f}")


def limit_idleness(connection: Any, **_: Any) -> None:
    """Have PostgreSQL end a transaction of ours that stands still: this process was stopped in the middle of it.

    For the signal ``connection_created``. Without it a stopped leader keeps the controller's row locked.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_S * 1000:.0f}")


def give_up_lead(epoch: int) -> None:
    """Let a standby take over at once."""
    Controller.objects.filter(id=1, epoch=epoch).update(holder="", beat=F("beat") + 1)


def commit(
    effects: Sequence[e.Effect],
    *,
    epoch: int,
    position: str,
    commit_seq: int,
    done: Sequence[UUID] = (),
    others: Sequence[Reducer] = (),
) -> None:
    """Write all rows that follow from ``effects`` and how far the log is read, in one transaction.

    ``done`` are the commands acted on; ``others`` write their rows first, for the tasks they submit are among them.
    Raises ``Deposed`` (and writes nothing) when ``epoch`` is no longer the leader's.
    """
    with transaction.atomic():
        with direct() as cursor:
            if not _advance(cursor, epoch, position, commit_seq):
                raise Deposed
            failpoint("in_commit")
            for other in others:
                if other.has_news():
                    other.write()
            recorded = [effect for effect in effects if isinstance(effect, e.Recorded)]
            if recorded:
                _Pen(cursor).write(recorded)
        learned = [effect for effect in effects if isinstance(effect, e.Remembered)]
        if learned:
            _remember(learned)
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
        self._insert_attempts([r for r in recorded if r.kind in ("assigned", "hedged")])
        self._insert_artifacts([r for r in recorded if r.kind == "artifact"])
        self._update_attempts(recorded)
        self._update_tasks(recorded)
        self._insert_settlements([r for r in recorded if r.kind in TERMINAL_KINDS and r.kind != "completed"])

    def _insert_events(self, recorded: Sequence[e.Recorded]) -> None:
        rows = [(self._id(r.task), r.seq, r.kind, r.attempt, self._at(r.at), json_text(r.data)) for r in recorded]
        self._insert(TaskEvent, ("task_id", "seq", "kind", "attempt", "at", "data"), rows)

    def _insert_attempts(self, assigned: Sequence[e.Recorded]) -> None:
        rows = [
            (self._id(r.task), r.attempt, r.agent, "", "assigned", r.kind == "hedged", self._at(r.at)) for r in assigned
        ]
        self._insert(Attempt, ("task_id", "number", "agent", "worker", "state", "hedge", "assigned_at"), rows)
        decisions = [
            (self._id(r.task), r.attempt, r.agent, self._at(r.at), *_decided(r.decision))
            for r in assigned
            if r.decision is not None
        ]
        self._insert(Decision, ("task_id", "attempt", "agent", "at", *DECIDED), decisions)

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
        if r.kind in ("requeued", "dropped"):
            state = str(r.data["outcome"])
        elif r.kind in ASKING:
            state = str(AttemptState.RETURNED)
        elif r.kind in ATTEMPT_ENDS:
            state = str(ATTEMPT_ENDS[r.kind])
        else:
            return {}
        error, usage = r.data.get("error"), r.data.get("usage")
        change = {"state": state, "finished_at": self._at(r.at), "error": json_text(error) if error else None}
        return change | ({"usage": json_text(usage)} if usage else {})

    def _update_tasks(self, recorded: Sequence[e.Recorded]) -> None:
        changes: dict[tuple[Any], dict[str, Any]] = {}
        for r in recorded:
            changes.setdefault((self._id(r.task),), {}).update(self._task_change(r))
        self._update(Task, ("id",), changes)

    def _task_change(self, r: e.Recorded) -> dict[str, Any]:
        at, kind = self._at(r.at), r.kind
        change: dict[str, Any] = {"seq": r.seq} | ({"status_at": at} if kind in STATUSES else {})
        if kind == "submitted":
            change |= {"accepted_at": at, "detail": r.data.get("detail", "")[:300]}
        elif kind == "assigned":
            change |= {"attempt": r.attempt, "agent": r.agent, "detail": ""}
        elif kind == "hedged":
            change |= {"attempt": r.attempt}
        elif kind == "working":
            change |= {"state": "working"} | ({} if r.data.get("hedge") else {"started_at": at})
        elif kind == "requeued":
            change |= {"state": "submitted", "agent": "", "tries": r.data["tries"], "progress": None}
            change |= {"call": json_text(r.call)} if r.call is not None else {}
        elif kind == "dropped":
            change |= {"agent": r.data["goes_on"], "tries": r.data["tries"]}
        elif kind in ASKING:
            change |= {"state": kind, "agent": "", "detail": r.data["message"][:300]}
        elif kind == "answered":
            change |= {"state": "submitted", "detail": ""}
        elif kind == "progress" and r.data.get("fraction") is not None:
            change |= {"progress": r.data["fraction"]}
        elif kind == "cancel_requested":
            change |= {"cancel_requested_at": at}
        elif kind in TERMINAL_KINDS:
            change |= {"state": kind, "finished_at": at, "detail": ""} | ({"agent": r.agent} if r.agent else {})
            change |= {"output": json_text(r.output)} if kind == "completed" else {}
            change |= {"error": json_text(r.data["error"])} if r.data.get("error") else {}
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


DECIDED = ("policy", "revision", "strategy", "candidates", "exclusions", "more", "waited_for", "shadow")


def _decided(decision: e.DecisionMade) -> tuple[Any, ...]:
    """Return the values of the columns ``DECIDED``."""
    return (
        decision.policy,
        decision.revision,
        decision.strategy,
        json_text(decision.candidates),
        json_text(decision.exclusions),
        decision.more,
        decision.waited_for[:300],
        json_text(decision.shadow) if decision.shadow is not None else None,
    )


def _remember(learned: Sequence[e.Remembered]) -> None:
    """Keep what was said last under each kind and name; None is forgotten."""
    latest = {(effect.kind, effect.name): effect.data for effect in learned}
    kept = [(kind, name, data) for (kind, name), data in latest.items() if data is not None]
    gone = [key for key, data in latest.items() if data is None]
    table = FleetMemory._meta.db_table
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        if kept:
            cursor.executemany(
                f'INSERT INTO "{table}" (kind, name, data, at) VALUES (%s, %s, %s, %s) '
                "ON CONFLICT (kind, name) DO UPDATE SET data = excluded.data, at = excluded.at",
                [(kind, name, json_text(data), now) for kind, name, data in kept],
            )
        if gone:
            cursor.executemany(f'DELETE FROM "{table}" WHERE kind = %s AND name = %s', gone)


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
    requires: str
    agent_pinned: str
    agents_excluded: list[str]
    not_before: dt.datetime | None
    deadline: dt.datetime | None
    timeout_s: float
    max_attempts: int
    created_at: dt.datetime
    size: float
    concurrency_key: str
    affinity: str
    context: UUID | None
    budget: dict[str, float] | None
    wait_s: float | None
    retries: dict[str, Any] | None
    input: Any
    call: Any


def spec_of(task: Task | Unaccepted) -> e.TaskSpec:
    """Return a task as the fleet sees it."""
    skill = registry.known_skill(task.tenant_id, task.skill, task.version)
    return e.TaskSpec(
        id=str(task.id),
        tenant=task.tenant_id,
        skill=task.skill,
        version=task.version,
        priority=task.priority,
        labels=tuple(sorted(task.labels.items())),
        requires=task.requires,
        pinned=task.agent_pinned,
        excluded=tuple(task.agents_excluded),
        not_before=task.not_before.timestamp() if task.not_before else None,
        deadline=task.deadline.timestamp() if task.deadline else None,
        timeout_s=task.timeout_s,
        max_attempts=task.max_attempts,
        wait_s=task.wait_s,
        retries=None if task.retries is None else rulespecs.retry_policy(task.retries),
        created_at=task.created_at.timestamp(),
        size=task.size,
        concurrency_key=task.concurrency_key,
        affinity=task.affinity,
        context=str(task.context) if task.context else "",
        budget=tuple(sorted(task.budget.items())) if task.budget else (),
        idempotent=skill is not None and skill.idempotent,
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


def rated(command: Command) -> e.Rated:
    """Return the fact that a request of the kind ``rate`` tells."""
    told: Any = command.data
    name, version = told["skill"]
    return e.Rated(agent=told["agent"], skill=(name, version), score=told["score"], before=told["before"])


def memory() -> Iterator[tuple[str, str, Any]]:
    """Yield (kind, name, data) of all that earlier controllers have learned."""
    yield from (
        FleetMemory.objects.order_by("kind", "name").values_list("kind", "name", "data").iterator(chunk_size=1000)
    )


def live() -> Iterator[Restored]:
    """Yield every accepted task that has not ended, as the fleet takes it up again."""
    tasks = Task.objects.filter(~Q(state__in=TERMINAL), accepted_at__isnull=False).defer("input", "call", "output")
    flights, used = _flights(), _used()
    for task in tasks.order_by("created_at").iterator(chunk_size=1000):
        yield Restored(
            spec=spec_of(task),
            seq=task.seq,
            attempt=task.attempt,
            tries=task.tries,
            flights=tuple(flights.get(task.id, ())),
            cancel_asked=task.cancel_requested_at is not None,
            is_asking=task.state in ASKING,
            used=used.get(task.id, {}),
        )


def _used() -> dict[UUID, dict[str, float]]:
    """Return what the ended attempts of each live task with a budget of its own have used, by unit."""
    live = Q(task__budget__isnull=False) & ~Q(task__state__in=TERMINAL)
    ended = Attempt.objects.filter(live, started_at__isnull=False, finished_at__isnull=False)
    found: dict[UUID, dict[str, float]] = {}
    for row in ended.only("task_id", "started_at", "finished_at", "usage"):
        seconds = (row.finished_at - row.started_at).total_seconds() if row.finished_at and row.started_at else 0.0
        used = found.setdefault(row.task_id, {})
        for unit, amount in {"wall_s": seconds, "attempts": 1.0, **(row.usage or {})}.items():
            used[unit] = used.get(unit, 0.0) + amount
    return found


def _flights() -> dict[UUID, list[Flight]]:
    """Return the attempts in flight of each live task, the oldest first."""
    begun = TaskEvent.objects.filter(kind="working", task__state=TaskState.WORKING)
    incarnations = {
        (task, attempt): data.get("incarnation", "")
        for task, attempt, data in begun.values_list("task_id", "attempt", "data")
    }
    live = Q(task__accepted_at__isnull=False) & ~Q(task__state__in=TERMINAL)
    rows = Attempt.objects.filter(live, state__in=(AttemptState.ASSIGNED, AttemptState.WORKING)).order_by("number")
    found: dict[UUID, list[Flight]] = {}
    for row in rows.iterator(chunk_size=1000):
        working = row.state == AttemptState.WORKING
        began = row.started_at if working and row.started_at else timezone.now()
        flight = Flight(
            str(row.task_id),
            row.number,
            row.agent,
            began.timestamp(),
            phase="working" if working else "assigned",
            worker=row.worker,
            incarnation=incarnations.get((row.task_id, row.number), ""),
        )
        found.setdefault(row.task_id, []).append(flight)
    return found


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
            for model in (TaskEvent, Attempt, Decision, Artifact, Command, Feedback, TaskMessage, PushConfig):
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
