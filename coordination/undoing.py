"""How a run comes to an end before its steps have, and how what was done is undone.  Pure.

Whatever ends a run early (a failure, somebody's wish, its time-out) goes the same way: nothing begins any more, all
that runs is asked to end, and only when each has confirmed that or had its 30 seconds, the run ends. Where it is
wanted the completed steps are undone before that, one by one, the last to complete first.
"""

from __future__ import annotations

from typing import Any

from coordination import events as e
from coordination.asking import Asking, Unfillable, task_error
from coordination.kinds import Steps
from coordination.rows import Error
from coordination.runs_state import Book, LiveRun, LiveStep, Place

CONFIRM_S = 30.0  # what was asked to end is waited for so long


class Undoing:
    """Closes runs and undoes steps."""

    def __init__(self, book: Book, asking: Asking, steps: Steps) -> None:
        self._book = book
        self._asking = asking
        self._steps = steps

    # ---- closing ------------------------------------------------------------------------------------------------

    def close(
        self, run: LiveRun, ends_as: str, now: float, *, error: Error | None, compensate: bool, reason: str
    ) -> None:
        """Ask for the end of all that runs. The run ends as ``ends_as`` once it has."""
        run.closing, run.error, run.compensate, run.broken = ends_as, error, compensate, None
        run.state = "canceling" if ends_as == "canceled" else "running"
        run.close_at = now + CONFIRM_S
        data: dict[str, Any] = {"error": error} if error is not None else {"reason": reason}
        self._book.record(run, "canceling" if ends_as == "canceled" else "failing", now, data=data)
        self._book.watch(run.close_at, run)
        tasks: list[str] = []
        for number in sorted(run.flying):
            tasks += self._close_step(run, number, now, reason)
        if tasks:
            self._book.say(e.CancelTasks(run=run.id, tasks=tuple(tasks), reason=reason))

    def _close_step(self, run: LiveRun, number: int, now: float, reason: str) -> tuple[str, ...]:
        """End a step that nobody works for; return the tasks that have to confirm their end for another."""
        kind = run.plan.graph.steps[number].kind
        if kind in ("approval", "wait"):
            self._steps.leave(run, number, reason)
            self._steps.end(run, number, "canceled", now)
        elif kind == "workflow":
            child = self._book.runs.get(self._steps.child(run, number))
            if child is None:  # it has not been told yet, and will find that nobody waits for it
                self._steps.leave(run, number, reason)
                self._steps.end(run, number, "canceled", now)
            else:
                self.cancel(child, now, reason=f"its parent {run.id} ends", compensate=run.compensate)
        elif kind == "map":
            self._steps.go_on(run, number, now)
        return self._steps.tasks(run, number) if number in run.flying else ()

    def cancel(self, run: LiveRun, now: float, *, reason: str, compensate: bool) -> None:
        """Let the run end as canceled, with all that runs for it. One that ends already goes on doing so."""
        if not run.closing:
            self.close(run, "canceled", now, error=None, compensate=compensate, reason=reason)
        self._book.unsettled.append(run)

    def give_up(self, run: LiveRun, now: float) -> None:
        """Wait no longer for tasks that do not confirm their end."""
        run.close_at = None
        for number in sorted(run.flying):
            if run.plan.graph.steps[number].kind in ("task", "map"):
                tasks = self._steps.tasks(run, number)
                run.unconfirmed += tasks
                for task in tasks:
                    self._book.tasks.pop(task, None)
                self._steps.end(run, number, "canceled", now, data={"unconfirmed": len(tasks)})
        self._book.touch(run)
        if run.unconfirmed:
            self._book.record(run, "unconfirmed", now, data={"tasks": list(run.unconfirmed[:100])})

    # ---- undoing ------------------------------------------------------------------------------------------------

    def advance(self, run: LiveRun, now: float) -> None:
        """Undo the next step before the run ends, if one is left."""
        while run.undoing is None and (number := self._next(run, range(len(run.steps)))) is not None:
            run.undoing = number
            self._undo(run, number, "", now)

    def advance_step(self, run: LiveRun, number: int, now: float) -> None:
        """Undo the next step for a compensate step, and end that one when none is left."""
        name = run.plan.graph.steps[number].name
        if any(_is_undone_by(step, name) for step in run.steps):
            return
        if run.closing:
            self._steps.end(run, number, "canceled", now)
            return
        above = run.plan.above(number)
        while (other := self._next(run, above)) is not None:
            self._undo(run, other, name, now)
            if run.live(other).state == "undoing":
                return
        self._end_compensation(run, number, now)

    def _next(self, run: LiveRun, numbers: Any) -> int | None:
        """Return the step that completed last of those that can still be undone, None if there is none."""
        left = [number for number in numbers if self._can_undo(run, number)]
        return max(left, key=lambda number: run.live(number).order, default=None)

    def _can_undo(self, run: LiveRun, number: int) -> bool:
        step, undo = run.steps[number], run.plan.graph.steps[number].undo
        return undo is not None and step is not None and _is_undoable(step)

    def _undo(self, run: LiveRun, number: int, by: str, now: float) -> None:
        step, ask = run.live(number), run.plan.graph.steps[number].undo
        assert ask is not None
        step.state, step.undone_by, step.undo_round = "undoing", by, run.round
        self._book.note(run, number, "step_undoing", now)
        deadline = None if ask.total_s is None else now + ask.total_s
        try:
            self._asking.submit(
                Place(run, number, None, "undo"), ask, run.scope, round=step.undo_round, deadline=deadline
            )
        except Unfillable as wrong:
            self._not_undone(run, number, wrong.error, now)

    def task_ended(self, place: Place, fact: e.TaskEnded, now: float) -> None:
        """Take the end of an undoing task: a failure is noted, and the others are undone all the same."""
        run, number = place.run, place.step
        step = run.live(number)
        if fact.state == "completed":
            step.state = "undone"
            run.undoing = None if run.undoing == number else run.undoing
            self._book.note(run, number, "step_undone", now)
            return
        error = task_error(fact)
        if fact.agent:
            error["agent"] = fact.agent
        if fact.attempt is not None:
            error["attempt"] = fact.attempt
        self._not_undone(run, number, error, now)

    def _not_undone(self, run: LiveRun, number: int, error: Error, now: float) -> None:
        step, name = run.live(number), run.plan.graph.steps[number].name
        step.state, step.undo_error = "completed", {**error, "step": name}
        run.undoing = None if run.undoing == number else run.undoing
        self._book.note(run, number, "step_undo_failed", now, data={"error": step.undo_error})

    def _end_compensation(self, run: LiveRun, number: int, now: float) -> None:
        name = run.plan.graph.steps[number].name
        own = [(place, step) for place, step in enumerate(run.steps) if step is not None and step.undone_by == name]
        names = [run.plan.graph.steps[place].name for place, step in own if step.state == "undone"]
        failed = [step.undo_error for _, step in own if step.undo_error is not None]
        if failed:
            message = f"{len(failed)} steps could not be undone: {', '.join(error['step'] for error in failed)}"
            self._steps.fail(run, number, {"kind": "undo", "message": message, "cause": failed}, now)
        else:
            self._steps.end(run, number, "completed", now, output={"undone": names})

    def errors(self, run: LiveRun) -> list[Error]:
        """Return why steps could not be undone before the run ended."""
        steps = [step for step in run.steps if step is not None]
        return [step.undo_error for step in steps if step.undo_error is not None and not step.undone_by]


def _is_undoable(step: LiveStep) -> bool:
    return step.state == "completed" and step.order > 0 and step.undo_error is None


def _is_undone_by(step: LiveStep | None, name: str) -> bool:
    return step is not None and step.state == "undoing" and step.undone_by == name
