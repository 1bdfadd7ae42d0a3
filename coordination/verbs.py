"""What people can ask of a run.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from coordination import events as e
from coordination.kinds import Steps, is_tolerated
from coordination.plan import Plan
from coordination.rows import RUN_ENDS, STEP_ENDS, Kept, Seed
from coordination.runs_state import Book, LiveRun, LiveStep
from coordination.turns import Turns
from coordination.undoing import Undoing

KEPT_COMMANDS = 64  # so many of the last commands are known again


class Impossible(Exception):
    """What was asked cannot be done."""


class Verbs:
    """Acts on what was asked, or says why it cannot be done."""

    def __init__(self, book: Book, steps: Steps, undoing: Undoing, turns: Turns) -> None:
        self._book = book
        self._steps = steps
        self._undoing = undoing
        self._turns = turns

    def act(self, run: LiveRun, fact: e.Verb, now: float) -> None:
        """Do what was asked, once for each command."""
        if fact.command and fact.command in run.commands:
            return
        try:
            _ACTS[type(fact)](self, run, fact, now)
        except Impossible as impossible:
            self._book.say(e.Refused(run=run.id, command=fact.command, reason=str(impossible)))
            return
        if fact.command:
            run.commands = (*run.commands[1 - KEPT_COMMANDS :], fact.command)
            self._book.touch(run)

    def _pause(self, run: LiveRun, fact: e.PauseAsked, now: float) -> None:
        if run.state == "pending":
            raise Impossible("It has not begun.")
        _refuse_ended(run)
        _refuse_closing(run)
        if run.state == "running":
            run.state = "paused"
            self._book.record(run, "paused", now, data=_asked(fact))
            for child in self._children(run, "running"):
                self._pause(child, fact, now)

    def _resume(self, run: LiveRun, fact: e.ResumeAsked, now: float) -> None:
        _refuse_ended(run)
        if run.state != "paused":
            return
        run.state = "running"
        self._book.record(run, "resumed", now, data=_asked(fact))
        for number in sorted(run.flying):
            if run.plan.graph.steps[number].kind == "map":
                self._steps.go_on(run, number, now)
        for child in self._children(run, "paused"):
            self._resume(child, fact, now)
        self._book.unsettled.append(run)

    def _cancel(self, run: LiveRun, fact: e.CancelAsked, now: float) -> None:
        _refuse_ended(run)
        self._undoing.cancel(run, now, reason=fact.reason, compensate=fact.compensate)

    def _retry(self, run: LiveRun, fact: e.RetryAsked, now: float) -> None:
        _refuse_closing(run)
        failed = [number for number, step in enumerate(run.steps) if step is not None and step.state == "failed"]
        numbers = failed + self._lost(run)
        if not numbers and run.state != "failed":
            raise Impossible("Nothing in it has failed.")
        self._again(run, numbers, now, "retried", fact)

    def _rerun(self, run: LiveRun, fact: e.RerunAsked, now: float) -> None:
        _refuse_closing(run)
        number = _number(run, fact.step)
        lost = self._lost(run) if run.state in RUN_ENDS else []
        edited = () if fact.input is e.KEEP else (fact.input,)
        if edited and run.plan.graph.steps[number].kind not in ("task", "map", "workflow"):
            raise Impossible(f"The step {fact.step} has no input.")
        self._again(run, [number, *lost], now, "rerun", fact)
        if edited:
            step = run.steps[number] = run.steps[number] or LiveStep("waiting", run.round)
            step.override = edited
            self._book.changed(run, number)

    def _skip(self, run: LiveRun, fact: e.SkipAsked, now: float) -> None:
        _refuse_closing(run)
        number = _number(run, fact.step)
        step = run.steps[number]
        if run.state in RUN_ENDS:
            if run.state == "completed" or (step is not None and not _can_be_skipped(step)):
                raise Impossible(f"The step {fact.step} has ended.")
            self._again(run, [number, *self._lost(run)], now, "resumed", fact)
        elif step is not None and step.state in STEP_ENDS:
            raise Impossible(f"The step {fact.step} has ended.")
        if number in run.flying:
            self._leave(run, number, "the step is skipped", now)
        step = run.steps[number] = run.steps[number] or LiveStep("waiting", run.round)
        self._book.note(run, number, "step_skip_asked", now, data=_asked(fact))
        if run.missing[number]:  # what follows must not begin before what comes before has ended
            step.passed, step.output = True, fact.output
        else:
            run.ready = [other for other in run.ready if other != number]
            self._steps.skip(run, number, now, output=fact.output)
        self._book.unsettled.append(run)

    # ---- doing things again -------------------------------------------------------------------------------------

    def _again(self, run: LiveRun, numbers: Iterable[int], now: float, kind: str, fact: e.Verb) -> None:
        """Let these steps and all that follows them wait anew, and the run go on if it has ended."""
        numbers = run.plan.onward(numbers)
        for number in numbers:
            step = run.steps[number]
            if step is not None and step.state == "undoing":
                raise Impossible(f"The step {run.plan.graph.steps[number].name} is being undone.")
        run.round += 1
        self._book.record(run, kind, now, data={**_asked(fact), "round": run.round})
        if run.state in RUN_ENDS:
            self._revive(run, now)
        for number in sorted(numbers):
            self._reset(run, number, now)
        run.recount()
        self._book.unsettled.append(run)

    def _revive(self, run: LiveRun, now: float) -> None:
        run.state, run.closing, run.compensate, run.broken = "running", "", False, None
        run.ended_at, run.output, run.error, run.unconfirmed = None, None, None, ()
        total_s = run.plan.graph.total_s
        run.started_at = run.started_at if run.started_at is not None else now
        run.deadline = None if total_s is None else now + total_s
        self._book.watch(run.deadline, run)
        self._turns.enter(run)
        self._undo_again(run, "")

    def _undo_again(self, run: LiveRun, by: str) -> None:
        """Let what could not be undone be tried again the next time; ``by`` is a compensate step, "" the run."""
        for number, step in enumerate(run.steps):
            if step is not None and step.undo_error is not None and step.undone_by == by:
                step.undo_error = None
                self._book.changed(run, number)

    def _reset(self, run: LiveRun, number: int, now: float) -> None:
        step = run.steps[number]
        if step is None:
            return
        if number in run.flying:
            self._leave(run, number, "the step is done again", now)
        run.flying.discard(number)
        run.steps[number] = LiveStep("waiting", run.round, override=step.override)
        definition = run.plan.graph.steps[number]
        run.scope["steps"].pop(definition.name, None)
        if definition.kind == "compensate":
            self._undo_again(run, definition.name)
        self._book.note(run, number, "step_waiting", now)

    def _leave(self, run: LiveRun, number: int, reason: str, now: float) -> None:
        def cancel(child_id: str) -> None:
            child = self._book.runs.get(child_id)
            if child is not None:
                self._undoing.cancel(child, now, reason=reason, compensate=False)

        self._steps.leave(run, number, reason, cascade=cancel)

    def _lost(self, run: LiveRun) -> list[int]:
        """Return the steps that came to nothing when the run ended, which are done again when it goes on."""
        return [number for number, step in enumerate(run.steps) if step is not None and _is_lost(step)]

    def _children(self, run: LiveRun, state: str) -> list[LiveRun]:
        ids = [self._steps.child(run, number) for number in sorted(run.flying)
               if run.plan.graph.steps[number].kind == "workflow"]  # fmt: skip
        children = [self._book.runs[child] for child in ids if child in self._book.runs]
        return [child for child in children if child.state == state and not child.closing]


def seeds_of(kept: Kept, step: str) -> tuple[Seed, ...]:
    """Return what a fork takes over that begins again at ``step``: all that ended well and does not follow it.

    Raises ``KeyError`` for an unknown step.
    """
    plan = Plan(kept.spec.graph)
    rows = {row.step: row for row in kept.steps}
    known = {name: row for name, row in rows.items() if _holds(plan, name, row)}
    again = plan.onward([plan.index[step], *(plan.index[name] for name in plan.index if name not in known)])
    return tuple(
        Seed(step=name, state=row.state, output=row.output, error=row.error, passed=row.passed)
        for name, row in known.items()
        if plan.index[name] not in again
    )


def _holds(plan: Plan, name: str, row: e.StepRow) -> bool:
    """Return True if how the step ended still counts."""
    if row.state == "failed":
        return is_tolerated(plan.graph.steps[plan.index[name]], row.error or {})
    return row.state in ("completed", "skipped")


def _asked(fact: e.Verb) -> dict[str, Any]:
    return {"by": fact.by, "reason": fact.reason}


def _number(run: LiveRun, name: str) -> int:
    number = run.plan.index.get(name)
    if number is None:
        raise Impossible(f"There is no step {name}.")
    return number


def _is_lost(step: LiveStep) -> bool:
    return step.state == "canceled" or (step.state == "undone" and not step.undone_by)


def _can_be_skipped(step: LiveStep) -> bool:
    return step.state in ("failed", "waiting") or _is_lost(step)


def _refuse_ended(run: LiveRun) -> None:
    if run.state in RUN_ENDS:
        raise Impossible(f"It is {run.state} already.")


def _refuse_closing(run: LiveRun) -> None:
    if run.closing:
        raise Impossible(f"It is about to end as {run.closing}.")


_ACTS: dict[type, Callable[[Verbs, LiveRun, Any, float], None]] = {
    e.PauseAsked: Verbs._pause,
    e.ResumeAsked: Verbs._resume,
    e.CancelAsked: Verbs._cancel,
    e.RetryAsked: Verbs._retry,
    e.SkipAsked: Verbs._skip,
    e.RerunAsked: Verbs._rerun,
}
