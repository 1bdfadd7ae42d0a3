"""How the engine's rows stand in the tables, and come back from them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any
from uuid import UUID

from coordination import events as e
from coordination import workflows
from coordination.models import Approval, MapItem, Run, RunEvent, SignalReceived, StepRun, StepTask
from coordination.rows import ItemRow, Kept, RunRow, RunSpec, Seed, SignalRow, StepRow
from routing.prepared import Table

RUN_PLAIN = (
    "state", "seq", "round", "ended_steps", "deadline", "closing", "close_at", "compensate", "output", "error",
)  # fmt: skip
STEP_PLAIN = ("state", "round", "order", "output", "error", "undo_error", "agent", "attempt")
STEP_FACTS = tuple(
    field.name for field in fields(StepRow) if field.name not in {*STEP_PLAIN, "run", "step", "started_at", "ended_at"}
)


# ---- from the tables ----------------------------------------------------------------------------------------------


def spec_of(run: Run) -> RunSpec:
    """Return the run as the engine knows it."""
    return RunSpec(
        id=str(run.id),
        graph=workflows.graph_of(run.definition),
        workflow=run.workflow,
        version=run.version,
        tenant=run.tenant_id,
        input=run.input,
        priority=run.priority,
        context=str(run.context or ""),
        created_at=run.created_at.timestamp(),
        parent=str(run.parent or ""),
        parent_step=run.parent_step,
        depth=run.depth,
        overrides=run.overrides,
        due=None if run.due is None else run.due.astimezone(dt.UTC).isoformat(),
    )


def seeds_of(run: Run) -> tuple[Seed, ...]:
    """Return how steps had ended in the run that this one is a fork of."""
    return tuple(Seed(**seed) for seed in run.seeds)


def kept(runs: Sequence[Run]) -> list[Kept]:
    """Return all that the ledger keeps of these runs."""
    ids = [run.id for run in runs]
    steps = _grouped(StepRun.objects.filter(run_id__in=ids), _step_row)
    items = _grouped(MapItem.objects.filter(run_id__in=ids), _item_row)
    signals = _grouped(SignalReceived.objects.filter(run_id__in=ids), _signal_row)
    return [
        Kept(
            spec=spec_of(run),
            run=_run_row(run),
            steps=tuple(steps.get(run.id, ())),
            items=tuple(items.get(run.id, ())),
            signals=tuple(signals.get(run.id, ())),
        )
        for run in runs
    ]


def _grouped(rows: Iterable[Any], read: Any) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = {}
    for row in rows:
        found.setdefault(row.run_id, []).append(read(row))
    return found


def _run_row(run: Run) -> RunRow:
    return RunRow(
        run=str(run.id),
        **{name: getattr(run, name) for name in RUN_PLAIN},
        started_at=_seconds(run.started_at),
        ended_at=_seconds(run.ended_at),
        unconfirmed=tuple(run.unconfirmed),
        commands=tuple(run.commands),
    )


def _step_row(row: StepRun) -> StepRow:
    facts = {**row.facts, "override": tuple(row.facts["override"])}
    plain = {name: getattr(row, name) for name in STEP_PLAIN}
    times: dict[str, Any] = {"started_at": _seconds(row.started_at), "ended_at": _seconds(row.ended_at)}
    return StepRow(run=str(row.run_id), step=row.step, **plain, **times, **facts)


def _item_row(row: MapItem) -> ItemRow:
    state: Any = row.state
    return ItemRow(
        run=str(row.run_id), step=row.step, round=row.round, item=row.item, state=state, output=row.output,
        error=row.error,
    )  # fmt: skip


def _signal_row(row: SignalReceived) -> SignalRow:
    return SignalRow(
        run=str(row.run_id), id=row.id, number=row.number, name=row.name, payload=row.payload, taken_by=row.taken_by
    )


# ---- into the tables ----------------------------------------------------------------------------------------------


class Pen:
    """Gathers what the engine said, and writes it: of each row the last state, events all."""

    def __init__(self) -> None:
        self._runs: dict[str, RunRow] = {}
        self._steps: dict[tuple[str, str], StepRow] = {}
        self._items: dict[tuple[str, str, int, int], ItemRow] = {}
        self._signals: dict[tuple[str, str], SignalRow] = {}
        self._events: list[e.RunEvent] = []
        self._tasks: list[e.Submit] = []
        self._asked: list[tuple[e.AskApproval, str]] = []
        self._closed: list[e.CloseApproval] = []
        self._reminded: list[e.Remind] = []

    def __bool__(self) -> bool:
        said = (self._runs, self._steps, self._items, self._signals, self._events, self._tasks, self._asked)
        return any(said) or bool(self._closed) or bool(self._reminded)

    def keep(self, row: RunRow | StepRow | ItemRow | SignalRow) -> None:
        """Note down a row in place of the one with the same key."""
        if isinstance(row, RunRow):
            self._runs[row.run] = row
        elif isinstance(row, StepRow):
            self._steps[row.run, row.step] = row
        elif isinstance(row, ItemRow):
            self._items[row.run, row.step, row.round, row.item] = row
        else:
            self._signals[row.run, row.id] = row

    def event(self, event: e.RunEvent) -> None:
        """Note down a line of a run's history."""
        self._events.append(event)

    def submitted(self, effect: e.Submit) -> None:
        """Note down what a task is for."""
        self._tasks.append(effect)

    def asked(self, effect: e.AskApproval, tenant: str) -> None:
        """Note down a question."""
        self._asked.append((effect, tenant))

    def closed(self, effect: e.CloseApproval) -> None:
        """Note down that a question is no longer open."""
        self._closed.append(effect)

    def reminded(self, effect: e.Remind) -> None:
        """Note down that people were reminded."""
        self._reminded.append(effect)

    def write(self) -> None:
        """Write all of it, in the open transaction."""
        RUNS.update([_run_values(row) for row in self._runs.values()], "id")
        STEPS.upsert([_step_values(row) for row in self._steps.values()], ("run_id", "step"))
        ITEMS.upsert([_item_values(row) for row in self._items.values()], ("run_id", "step", "round", "item"))
        SIGNALS.upsert([_signal_values(row) for row in self._signals.values()], ("run_id", "id"))
        TASKS.insert([_task_values(effect) for effect in self._tasks], only_if_missing=True)
        EVENTS.insert([_event_values(event) for event in self._events])
        self._write_questions()

    def _write_questions(self) -> None:
        if self._asked:
            fresh = [_approval(asked, tenant) for asked, tenant in self._asked]
            Approval.objects.bulk_create(fresh, ignore_conflicts=True)
        for closed in self._closed:
            rows = Approval.objects.filter(run_id=UUID(closed.run), step=closed.step, round=closed.round)
            rows.filter(state=Approval.State.OPEN).update(state=closed.outcome)
        for reminded in self._reminded:
            rows = Approval.objects.filter(run_id=UUID(reminded.run), step=reminded.step, round=reminded.round)
            rows.update(reminded_at=dt.datetime.now(dt.UTC))


# The columns of each table; below, the values of a row in the same order. Written for every step, so without the ORM.
RUNS = Table(Run, (*RUN_PLAIN, "started_at", "ended_at", "unconfirmed", "commands", "id"))
STEPS = Table(StepRun, ("run_id", "step", *STEP_PLAIN, "started_at", "ended_at", "facts"))
ITEMS = Table(MapItem, ("run_id", "step", "round", "item", "state", "output", "error"))
SIGNALS = Table(SignalReceived, ("run_id", "id", "number", "name", "payload", "taken_by"))
TASKS = Table(StepTask, ("task", "run_id", "step", "round", "item", "use"))
EVENTS = Table(RunEvent, ("run_id", "seq", "kind", "step", "round", "at", "data"))

_run_plain = attrgetter(*RUN_PLAIN)
_step_plain = attrgetter(*STEP_PLAIN)


def _run_values(row: RunRow) -> tuple[Any, ...]:
    times = _moment(row.started_at), _moment(row.ended_at)
    return *_run_plain(row), *times, list(row.unconfirmed), list(row.commands), UUID(row.run)


def _step_values(row: StepRow) -> tuple[Any, ...]:
    facts = {name: getattr(row, name) for name in STEP_FACTS}
    return UUID(row.run), row.step, *_step_plain(row), _moment(row.started_at), _moment(row.ended_at), facts


def _item_values(row: ItemRow) -> tuple[Any, ...]:
    return UUID(row.run), row.step, row.round, row.item, row.state, row.output, row.error


def _signal_values(row: SignalRow) -> tuple[Any, ...]:
    return UUID(row.run), row.id, row.number, row.name, row.payload, row.taken_by


def _task_values(effect: e.Submit) -> tuple[Any, ...]:
    return UUID(effect.task), UUID(effect.run), effect.step, effect.round, effect.item, effect.use


def _event_values(event: e.RunEvent) -> tuple[Any, ...]:
    at = dt.datetime.fromtimestamp(event.at, dt.UTC)
    return UUID(event.run), event.seq, event.kind, event.step, event.round, at, dict(event.data)


def _approval(asked: e.AskApproval, tenant: str) -> Approval:
    return Approval(
        tenant_id=tenant, run_id=UUID(asked.run), step=asked.step, round=asked.round, title=asked.title[:300],
        text=asked.text, schema=dict(asked.schema), who=list(asked.who), expires_at=_moment(asked.expires_at),
    )  # fmt: skip


def _seconds(moment: dt.datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _moment(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)
