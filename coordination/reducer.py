"""The engine in the controller: what it is told comes from the ledger, what it says goes into the same commit."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.utils import timezone

from coordination import conditions, keeping, runs, templates
from coordination import events as e
from coordination.engine import Engine
from coordination.models import ENDED, Run, RunCommand
from coordination.rows import RUN_ENDS, RunRow
from routing import events as routing_events
from routing import ledger, lifecycle
from routing.errors import RoutingError
from routing.models import Task
from routing.prepared import insert_many, is_there
from routing.reducers import Submission, Wish
from routing.retries import RetryPolicy

log = logging.getLogger(__name__)

BATCH = 200
ORIGIN = "workflow"
VERBS: dict[str, Any] = {
    "pause": e.PauseAsked,
    "resume": e.ResumeAsked,
    "cancel": e.CancelAsked,
    "retry": e.RetryAsked,
    "skip": e.SkipAsked,
    "rerun": e.RerunAsked,
}


def _as_json(retries: RetryPolicy) -> dict[str, Any]:
    return {kind: asdict(rule) for kind, rule in retries.rules.items()}


class _Templates:
    """How the engine fills templates in and decides conditions."""

    fill = staticmethod(templates.fill)
    holds = staticmethod(conditions.holds)


class Coordination:
    """A ``routing.reducers.Reducer``: runs of workflows, decided in the controller's own commit."""

    def __init__(self) -> None:
        self._engine = Engine(_Templates())
        self._pen = keeping.Pen()
        self._tenants: dict[str, tuple[str, UUID | None]] = {}  # run → (tenant, context), of those taken up
        self._new_runs: list[Run] = []
        self._new_tasks: list[Task] = []
        self._accepted: list[UUID] = []
        self._over: list[str] = []  # runs that have ended
        self._done: dict[UUID, str] = {}  # commands acted on → why not, "" where it was done

    # ---- the reducer's doors ------------------------------------------------------------------------------------

    def restore(self, now: float) -> Sequence[Wish]:
        """Take up what was under way."""
        live = Run.objects.exclude(state__in=ENDED).filter(accepted_at__isnull=False).select_related("definition")
        self._take_up(list(live.order_by("created_at")))
        return self.due(now)

    def look(self, now: float) -> Sequence[Wish]:
        """Take in new runs, and what was asked of others."""
        wishes: list[Wish] = []
        fresh = Run.objects.filter(accepted_at__isnull=True).select_related("definition").order_by("created_at")
        for run in fresh[:BATCH]:
            wishes += self._accept(run, now)
        for command in RunCommand.objects.filter(done_at__isnull=True).order_by("created_at")[:BATCH]:
            if command.id not in self._done:
                wishes += self._obey(command, now)
        return wishes

    def hear(self, recorded: Sequence[routing_events.Recorded], now: float) -> Sequence[Wish]:
        """Learn how tasks of runs ended."""
        wishes: list[Wish] = []
        for line in recorded:
            fact = e.task_ended(line)
            if fact is not None:
                wishes += self._apply(fact, now)
        return wishes

    def awaits(self, task: str) -> bool:
        """Return whether the task is a step's."""
        return self._engine.awaits(task)

    def due(self, now: float) -> Sequence[Wish]:
        """Let time pass."""
        return self._act(self._engine.due(now), now)

    def next_due(self) -> float | None:
        """Return when ``due`` should be called at the latest."""
        return self._engine.next_due()

    def has_news(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self._pen or self._new_runs or self._new_tasks or self._accepted or self._done)

    def write(self) -> None:
        """Write everything since the last commit."""
        now = timezone.now()
        if self._new_runs:
            Run.objects.bulk_create(self._new_runs, ignore_conflicts=True)
        insert_many(self._new_tasks)
        if self._accepted:
            Run.objects.filter(id__in=self._accepted).update(accepted_at=now)
        self._pen.write()
        done = [id for id, refusal in self._done.items() if not refusal]
        if done:
            RunCommand.objects.filter(id__in=done).update(done_at=now)
        for id, refusal in self._done.items():
            if refusal:
                RunCommand.objects.filter(id=id).update(done_at=now, refusal=refusal[:300])

    def committed(self) -> None:
        """Forget what was written."""
        self._pen = keeping.Pen()
        self._new_runs, self._new_tasks, self._accepted, self._done = [], [], [], {}
        for run in self._over:  # the engine forgets them too: what is asked of them takes them up again
            self._tenants.pop(run, None)
        self._over = []

    # ---- what the engine is told --------------------------------------------------------------------------------

    def _take_up(self, rows: list[Run]) -> None:
        for row, kept in zip(rows, keeping.kept(rows), strict=True):
            self._know(row)
            self._engine.restore(kept)

    def _know(self, run: Run) -> None:
        self._tenants[str(run.id)] = (run.tenant_id, run.context)

    def _accept(self, run: Run, now: float) -> list[Wish]:
        if str(run.id) in self._tenants:
            return []
        self._know(run)
        self._accepted.append(run.id)
        return self._apply(e.RunStarted(run=keeping.spec_of(run), seeds=keeping.seeds_of(run)), now)

    def _obey(self, command: RunCommand, now: float) -> list[Wish]:
        """Do what was asked of a run, which may have ended long ago."""
        run = str(command.run_id)
        if run in self._over:
            return []  # its rows are not written yet: at the next look
        if not self._engine.holds(run):
            rows = list(Run.objects.filter(id=command.run_id).select_related("definition"))
            if not rows or rows[0].accepted_at is None:
                return []  # its run comes first
            self._take_up(rows)
        self._done[command.id] = ""
        return self._apply(self._fact(command), now)

    def _fact(self, command: RunCommand) -> e.Fact:
        run, data = str(command.run_id), command.data
        if command.kind == RunCommand.Kind.SIGNAL:
            return e.Signaled(run=run, id=str(command.id), name=data["name"], payload=data.get("payload"))
        if command.kind == RunCommand.Kind.ANSWER:
            return e.Answered(run=run, step=data["step"], round=data["round"], answer=data["answer"], by=command.by)
        verb: e.Fact = VERBS[command.kind](
            run=run, command=str(command.id), by=command.by, reason=command.reason, **data
        )
        return verb

    def _apply(self, fact: e.Fact, now: float) -> list[Wish]:
        return self._act(self._engine.apply(fact, now), now)

    # ---- what it says -------------------------------------------------------------------------------------------

    def _act(self, effects: Iterable[e.Effect], now: float) -> list[Wish]:
        """Note down what is to be written, and return what is wished of the fleet."""
        wishes: list[Wish] = []
        for effect in effects:
            if isinstance(effect, e.Keep):
                self._pen.keep(effect.row)
                if isinstance(effect.row, RunRow) and effect.row.state in RUN_ENDS:
                    self._over.append(effect.row.run)
            elif isinstance(effect, e.RunEvent):
                self._pen.event(effect)
            elif isinstance(effect, e.Submit):
                wishes += self._submit(effect, now)
            elif isinstance(effect, e.CancelTasks):
                wishes += [
                    routing_events.CancelAsked(task=task, by=ORIGIN, reason=effect.reason) for task in effect.tasks
                ]
            elif isinstance(effect, e.StartRun):
                wishes += self._start(effect, now)
            elif isinstance(effect, e.Refused):
                self._done[UUID(effect.command)] = effect.reason
            else:
                self._note_question(effect)
        return wishes

    def _note_question(self, effect: e.AskApproval | e.Remind | e.CloseApproval) -> None:
        if isinstance(effect, e.AskApproval):
            self._pen.asked(effect, self._tenants[effect.run][0])
        elif isinstance(effect, e.CloseApproval):
            self._pen.closed(effect)
        else:
            self._pen.reminded(effect)

    def _submit(self, effect: e.Submit, now: float) -> list[Wish]:
        """Return the step's task, to be taken in with this commit; one that is refused has failed."""
        tenant, context = self._tenants[effect.run]
        try:
            task = lifecycle.prepare(
                lifecycle.Request(
                    skill=effect.skill,
                    version=effect.version,
                    input=effect.input if effect.call is None else effect.call,
                    id=UUID(effect.task),
                    tenant=tenant,
                    labels=effect.labels,
                    requires=effect.requires,
                    agent=effect.agent,
                    priority=effect.priority,
                    deadline=None if effect.deadline is None else dt.datetime.fromtimestamp(effect.deadline, dt.UTC),
                    timeout_s=effect.timeout_s,
                    max_attempts=effect.max_attempts,
                    wait_s=effect.wait_s,
                    retries=None if effect.retries is None else _as_json(effect.retries),
                    context=context or UUID(effect.run),
                    origin=ORIGIN,
                )
            )
        except RoutingError as error:
            refusal = {"kind": "bad_input", "message": str(error), "retryable": False}
            return self._apply(e.TaskEnded(task=effect.task, state="failed", error=refusal), now)
        if is_there(Task, task.id):  # submitted before the last controller ended
            return []
        self._new_tasks.append(task)
        self._pen.submitted(effect)
        return [Submission(task=ledger.spec_of(task), input=task.input, call=task.call)]

    def _start(self, effect: e.StartRun, now: float) -> list[Wish]:
        """Begin a sub-run, or tell why it cannot be."""
        try:
            run = runs.row_of(
                runs.Request(
                    workflow=effect.workflow,
                    version=effect.version,
                    input=effect.input,
                    tenant=effect.tenant,
                    priority=effect.priority,
                    context=UUID(effect.context) if effect.context else None,
                    id=UUID(effect.run),
                    parent=UUID(effect.parent),
                    parent_step=effect.parent_step,
                    depth=effect.depth,
                    by=ORIGIN,
                )
            )
        except RoutingError as error:
            refusal = {"kind": "bad_input", "message": str(error)}
            return self._apply(e.ChildEnded(run=effect.run, state="failed", error=refusal), now)
        self._know(run)
        run.accepted_at = timezone.now()
        self._new_runs.append(run)
        return self._apply(e.RunStarted(run=keeping.spec_of(run)), now)
