"""What happens next in a workflow's run?  Pure.

The engine is a reducer beside the fleet, in the same commit. ``apply`` takes one fact, ``due`` lets time pass; both
return what follows. It reads no clock and calls nobody, and it is the only one who decides about runs, so a join can
neither hang nor fire twice. Facts may come twice or late; runs that have ended are forgotten, so a run that was
accepted must not be told as started again.

    pending ──▶ running ◀──▶ paused          waiting ─▶ (ready) ─▶ running ─▶ completed ─▶ undoing ─▶ undone
                  │ failing, canceling                                  │ failed, skipped, canceled
                  ▼
                completed failed canceled

``kinds`` knows how each kind of step begins and ends, ``maps`` their items, ``undoing`` how runs end early, ``verbs``
what people ask, ``turns`` who may run beside whom. Here all that is put in its order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordination import events as e
from coordination.asking import Asking, Templates, Unfillable
from coordination.kinds import MAX_SIGNALS, Steps, failure_of, is_tolerated
from coordination.maps import Maps
from coordination.restoring import take_up
from coordination.rows import RUN_ENDS, Error, Kept, RunState
from coordination.runs_state import Book, LiveRun, LiveStep
from coordination.turns import Turns
from coordination.undoing import Undoing
from coordination.verbs import Verbs


class Engine:
    """All runs in flight. All changes go through ``apply``, ``due`` and ``restore``."""

    def __init__(self, templates: Templates) -> None:
        self.book = Book()
        self.turns = Turns()
        self._visiting: list[LiveRun] = []  # runs that had ended when they were taken up
        self._asking = Asking(self.book, templates)
        self._maps = Maps(self.book, self._asking)
        self._steps = Steps(self.book, self._asking, self._maps)
        self._undoing = Undoing(self.book, self._asking, self._steps)
        self._verbs = Verbs(self.book, self._steps, self._undoing, self.turns)

    # ---- the reducer's doors ------------------------------------------------------------------------------------

    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        """Return what follows from ``fact`` at ``now``."""
        _HANDLERS[type(fact)](self, fact, now)
        self._settle(now)
        self._see_off()
        return self.book.drain()

    def due(self, now: float) -> list[e.Effect]:
        """Return what is to be done at ``now`` because time has passed."""
        while (look := self.book.look(now)) is not None:
            run, number = look
            if number >= 0:
                self._steps.time_passed(run, number, now)
            elif run.closing:
                self._undoing.give_up(run, now)
            else:
                error: Error = {"kind": "deadline", "message": "the run took longer than it may in total"}
                self._close_failed(run, error, now)
            self.book.unsettled.append(run)
            self._settle(now)
        return self.book.drain()

    def next_due(self) -> float | None:
        """Return when ``due`` should be called at the latest, or None if nothing is scheduled."""
        return self.book.next_look()

    def restore(self, kept: Kept) -> None:
        """Take up a run where the ledger left it; nothing has to be said for that.

        One that has ended is held for the next fact alone: so it can be retried, rerun, or skipped in.
        """
        if kept.spec.id in self.book.runs:
            return
        run = take_up(kept, self.book, self._steps, self._maps, self._asking, self.turns)
        if run.state in RUN_ENDS:
            self._visiting.append(run)

    def holds(self, run: str) -> bool:
        """Return True if the run is in flight here, or has been taken up for the next fact."""
        return run in self.book.runs

    def awaits(self, task: str) -> bool:
        """Return True if the task is one of a run in flight."""
        return task in self.book.tasks

    # ---- facts --------------------------------------------------------------------------------------------------

    def _run_started(self, fact: e.RunStarted, now: float) -> None:
        spec = fact.run
        if spec.id in self.book.runs:
            return
        run = self.book.open(spec)
        parent = self.book.children.get(spec.id, (None, 0))[0] if spec.parent else None
        if spec.parent and (parent is None or parent.closing):
            self._end(run, "canceled", now, error={"kind": "canceled", "message": "nobody waits for it any more"})
            return
        self._plant(run, fact.seeds, now)
        if self.turns.has_room(run):
            self._begin(run, now, paused=parent is not None and parent.state == "paused")
        elif run.plan.graph.on_full == "reject":
            most = run.plan.graph.max_active_runs
            message = f"{most} runs of {spec.workflow} are active, the most there may be"
            self._end(run, "failed", now, error={"kind": "limit", "message": message})
        else:
            self._wait(run, now)

    def _plant(self, run: LiveRun, seeds: tuple[e.Seed, ...], now: float) -> None:
        """Take over the steps of the run that this one is a fork of. What they did is not this run's to undo."""
        for seed in sorted(seeds, key=lambda seed: run.plan.index[seed.step]):
            number = run.plan.index[seed.step]
            step = LiveStep(seed.state, run.round, output=seed.output, error=seed.error, passed=seed.passed)
            step.ended_at, run.steps[number] = now, step
            run.see(number)
            self.book.changed(run, number)
        if seeds:
            run.recount()
            self.book.record(run, "copied", now, data={"steps": [seed.step for seed in seeds]})

    def _wait(self, run: LiveRun, now: float) -> None:
        """Let the run wait for its turn; where the newest counts, those before it end."""
        others = self.turns.in_the_way_of(run) if run.plan.graph.on_full == "replace" else []
        self.turns.wait(run)
        self.book.record(run, "pending", now)
        for other in others:
            self._undoing.cancel(other, now, reason=f"run {run.id} takes its place", compensate=False)

    def _begin(self, run: LiveRun, now: float, *, paused: bool = False) -> None:
        run.state, run.started_at = "paused" if paused else "running", now
        total_s = run.plan.graph.total_s
        run.deadline = None if total_s is None else now + total_s
        self.book.watch(run.deadline, run)
        self.turns.enter(run)
        self.book.record(run, run.state, now)
        self.book.unsettled.append(run)

    def _task_ended(self, fact: e.TaskEnded, now: float) -> None:
        place = self.book.tasks.pop(fact.task, None)
        if place is None:
            return
        if place.use == "undo":
            self._undoing.task_ended(place, fact, now)
        else:
            self._steps.task_ended(place, fact, now)
        self.book.unsettled.append(place.run)

    def _child_ended(self, fact: e.ChildEnded, now: float) -> None:
        place = self.book.children.pop(fact.run, None)
        if place is None:
            return
        run, number = place
        self._steps.child_ended(run, number, fact, now)
        self.book.unsettled.append(run)

    def _answered(self, fact: e.Answered, now: float) -> None:
        run = self.book.runs.get(fact.run)
        number = run.plan.index.get(fact.step) if run is not None else None
        if run is None or number is None or number not in run.flying:
            return
        if run.plan.graph.steps[number].kind == "approval" and run.live(number).round == fact.round:
            self._steps.answered(run, number, fact, now)
            self.book.unsettled.append(run)

    def _signaled(self, fact: e.Signaled, now: float) -> None:
        run = self.book.runs.get(fact.run)
        if run is None or run.state in RUN_ENDS:
            self.book.say(e.Refused(run=fact.run, command=fact.id, reason="There is no such run in flight."))
        elif any(signal.id == fact.id for signal in run.signals):
            return
        elif len(run.signals) >= MAX_SIGNALS:
            reason = f"{MAX_SIGNALS:,} signals came for the run, the most there may be."
            self.book.say(e.Refused(run=fact.run, command=fact.id, reason=reason))
        else:
            self._steps.signaled(run, fact, now)
            self.book.unsettled.append(run)

    def _verb(self, fact: e.Verb, now: float) -> None:
        run = self.book.runs.get(fact.run)
        if run is None:
            self.book.say(e.Refused(run=fact.run, command=fact.command, reason="There is no such run in flight."))
            return
        self._verbs.act(run, fact, now)

    def _see_off(self) -> None:
        """Forget the runs that had ended, unless they go on now."""
        visiting, self._visiting = self._visiting, []
        for run in visiting:
            if run.state in RUN_ENDS and self.book.runs.get(run.id) is run:
                self.book.forget(run)

    # ---- what follows -------------------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """Go on with every run that something has happened to, until nothing is left to decide."""
        while self.book.unsettled:
            run = self.book.unsettled.popleft()
            if run.state not in RUN_ENDS:
                self._advance(run, now)

    def _advance(self, run: LiveRun, now: float) -> None:
        if run.state == "pending" and not run.closing:
            return
        while True:
            if run.broken is not None and not run.closing:
                self._close_failed(run, run.broken[0], now, compensate=run.broken[1])
            elif run.closing:
                self._advance_closing(run, now)
                return
            elif run.ready and run.state == "running":
                self._steps.begin(run, run.take(), now)
            elif self._compensate(run, now):
                continue
            elif not run.left:
                self._finish(run, now)
                return
            else:
                break
        if run.state == "paused":
            self._hold(run, now)

    def _advance_closing(self, run: LiveRun, now: float) -> None:
        """Undo what is to be undone once nothing runs any more, and then end the run."""
        self._compensate(run, now)
        if run.flying:
            return
        if run.compensate:
            self._undoing.advance(run, now)
            if run.undoing is not None:
                return
        error = run.error
        if run.closing == "canceled" and run.unconfirmed:
            error = {"kind": "canceled", "message": f"{len(run.unconfirmed)} tasks did not confirm their end"}
        self._end(run, "failed" if run.closing == "failed" else "canceled", now, error=error)

    def _compensate(self, run: LiveRun, now: float) -> bool:
        """Let compensate steps go on; return True if something came of it."""
        before = run.seq
        for number in run.plan.compensates:
            if number in run.flying:
                self._undoing.advance_step(run, number, now)
        return run.seq != before

    def _hold(self, run: LiveRun, now: float) -> None:
        """Show which steps wait for nothing but the end of the pause."""
        for number in sorted(run.ready):
            step = run.steps[number]
            if step is None or step.state == "waiting":
                held = run.steps[number] = step or LiveStep("ready", run.round)
                held.state = "ready"
                self.book.note(run, number, "step_ready", now)

    def _close_failed(self, run: LiveRun, error: Error, now: float, *, compensate: bool = False) -> None:
        self._undoing.close(run, "failed", now, error=error, compensate=compensate, reason="the run has failed")

    def _finish(self, run: LiveRun, now: float) -> None:
        """End a run all of whose steps have ended."""
        for number, step in enumerate(run.steps):
            definition = run.plan.graph.steps[number]
            if step is not None and step.error is not None and not is_tolerated(definition, step.error):
                self._end(run, "failed", now, error=failure_of(step.error))
                return
        try:
            output = self._output(run)
        except Unfillable as wrong:
            self._end(run, "failed", now, error=wrong.error)
        else:
            self._end(run, "completed", now, output=output)

    def _output(self, run: LiveRun) -> Any:
        if run.plan.graph.output is not None:
            return self._asking.fill(run.plan.graph.output, run.scope, "the run's output")
        ends = ((run.plan.graph.steps[number].name, run.live(number)) for number in run.plan.sinks)
        return {name: step.output for name, step in ends if step.state == "completed" or step.passed}

    def _end(
        self, run: LiveRun, state: RunState, now: float, *, output: Any = None, error: Error | None = None
    ) -> None:
        """End the run, tell its parent, and let the next one have its turn."""
        if error is not None and (not_undone := self._undoing.errors(run)):
            error = {**error, "undo_failed": not_undone}
        run.state, run.output, run.error, run.ended_at = state, output, error, now
        run.closing, run.deadline, run.close_at = "", None, None
        self.book.record(run, state, now, data={"error": error} if error is not None else {})
        self.turns.leave(run)
        self.book.forget(run)
        if run.spec.parent:
            self._child_ended(e.ChildEnded(run=run.id, state=state, output=output, error=error), now)
        while (other := self.turns.next_of(run)) is not None:
            self._begin(other, now)


_HANDLERS: dict[type, Callable[[Engine, Any, float], None]] = {
    e.RunStarted: Engine._run_started,
    e.TaskEnded: Engine._task_ended,
    e.ChildEnded: Engine._child_ended,
    e.Answered: Engine._answered,
    e.Signaled: Engine._signaled,
    e.PauseAsked: Engine._verb,
    e.ResumeAsked: Engine._verb,
    e.CancelAsked: Engine._verb,
    e.RetryAsked: Engine._verb,
    e.SkipAsked: Engine._verb,
    e.RerunAsked: Engine._verb,
}
