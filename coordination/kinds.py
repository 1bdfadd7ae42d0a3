"""How each kind of step begins, and what ends it.  Pure.

A step begins once all steps before it have ended, unless all of them were skipped. It ends once: everything that comes
for it later is stale. What its end means for the run is for the engine to say.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from coordination import events as e
from coordination.asking import Asking, Unfillable, task_error, task_id
from coordination.graph import MAX_DEPTH, Ask, Form, Pause, Step
from coordination.maps import Maps
from coordination.rows import Error, StepState
from coordination.runs_state import Book, LiveRun, LiveStep, Place

MAX_SIGNALS = 1_000  # of one run


class Steps:
    """Begins and ends the steps of runs."""

    def __init__(self, book: Book, asking: Asking, maps: Maps) -> None:
        self._book = book
        self._asking = asking
        self._maps = maps

    # ---- beginning ----------------------------------------------------------------------------------------------

    def begin(self, run: LiveRun, number: int, now: float) -> None:
        """Begin a step whose time has come, or skip it."""
        known, definition = run.steps[number], run.plan.graph.steps[number]
        override = known.override if known is not None else ()
        if not override and definition.name in run.spec.overrides:
            override = (run.spec.overrides[definition.name],)
        step = run.steps[number] = LiveStep("waiting", run.round, override=override)
        if known is not None and known.passed:
            self.skip(run, number, now, output=known.output)
            return
        try:
            if reason := self._reason_to_skip(run, number, definition):
                self.end(run, number, "skipped", now, data={"reason": reason})
                return
            step.state, step.started_at = "running", now
            run.flying.add(number)
            self._book.note(run, number, "step_running", now)
            _BEGIN[definition.kind](self, run, number, definition, step, now)
        except Unfillable as wrong:
            self.fail(run, number, wrong.error, now)

    def skip(self, run: LiveRun, number: int, now: float, *, output: Any) -> None:
        """End the step as one that is not done because somebody said so: what follows it begins all the same."""
        run.live(number).passed = True
        self.end(run, number, "skipped", now, output=output, data={"reason": "somebody said so"})

    def _reason_to_skip(self, run: LiveRun, number: int, definition: Step) -> str:
        """Return in words why the step is not done, "" if it is. Raises ``Unfillable``."""
        before = run.plan.after[number]
        if before and all(run.live(other).is_skipped for other in before):
            return "all steps before it were skipped"
        if definition.needs == "completed" and not all(run.live(other).is_done for other in before):
            return "a step before it did not complete"
        for choice in run.plan.picks.get(number, ()):
            if not _is_picked(definition.name, run.live(choice)):
                return f"{run.plan.graph.steps[choice].name} did not choose it"
        if definition.when and not self._asking.holds(definition.when, run.scope, "its condition"):
            return "its condition does not hold"
        return ""

    def _begin_task(self, run: LiveRun, number: int, definition: Step, step: LiveStep, now: float) -> None:
        self._limit(run, number, _ask(definition), step, now)
        self._submit(run, number, definition, step, "step")

    def _begin_map(self, run: LiveRun, number: int, definition: Step, step: LiveStep, now: float) -> None:
        self._maps.open(run, number)
        self._limit(run, number, _ask(definition), step, now)
        self.go_on(run, number, now)

    def _begin_choice(self, run: LiveRun, number: int, definition: Step, step: LiveStep, now: float) -> None:
        for place, case in enumerate(definition.cases):
            if not case.when or self._asking.holds(case.when, run.scope, f"the condition of case {place + 1}"):
                self.end(run, number, "completed", now, output={"case": place, "then": list(case.then)})
                return
        self.end(run, number, "completed", now, output={"case": None, "then": []})

    def _begin_approval(self, run: LiveRun, number: int, definition: Step, step: LiveStep, now: float) -> None:
        form = _form(definition)
        title = self._asking.text(form.title, run.scope, "the title")
        text = self._asking.text(form.text, run.scope, "the text")
        step.until = None if form.expires_s is None else now + form.expires_s
        step.remind_at = None if form.remind_s is None else now + form.remind_s
        self._book.watch(step.until, run, number)
        self._book.watch(step.remind_at, run, number)
        self._book.say(
            e.AskApproval(
                run=run.id,
                step=definition.name,
                round=step.round,
                title=title,
                text=text,
                schema=form.schema,
                who=form.who,
                expires_at=step.until,
            )
        )

    def _begin_workflow(self, run: LiveRun, number: int, definition: Step, step: LiveStep, now: float) -> None:
        child, spec = definition.child, run.spec
        assert child is not None
        if spec.depth >= MAX_DEPTH:
            raise Unfillable({"kind": "limit", "message": f"workflows lie at most {MAX_DEPTH} deep within each other"})
        input = step.override[0] if step.override else self._asking.fill(child.input, run.scope, "the input")
        started = e.StartRun(
            run=_child_id(run, number),
            workflow=self._asking.text(child.workflow, run.scope, "the workflow"),
            version=child.version,
            input=input,
            tenant=spec.tenant,
            priority=spec.priority,
            context=spec.context,
            parent=run.id,
            parent_step=definition.name,
            depth=spec.depth + 1,
        )
        self._book.children[started.run] = (run, number)
        self._book.say(started)

    def _begin_wait(self, run: LiveRun, number: int, definition: Step, step: LiveStep, now: float) -> None:
        pause = _pause(definition)
        if pause.signal:
            step.until = None if pause.timeout_s is None else now + pause.timeout_s
        elif pause.until:
            step.until = _moment(self._asking.fill(pause.until, run.scope, "the moment"))
        else:
            step.until = now + (pause.seconds or 0.0)
        self._book.watch(step.until, run, number)
        if pause.signal:
            self._take_signal(run, number, pause.signal, now)

    def _begin_compensate(self, run: LiveRun, number: int, definition: Step, step: LiveStep, now: float) -> None:
        """Nothing begins here: the engine undoes what came before."""

    # ---- what comes for a step ----------------------------------------------------------------------------------

    def task_ended(self, place: Place, fact: e.TaskEnded, now: float) -> None:
        """Take the end of a step's task, or of one of its items."""
        run, number = place.run, place.step
        definition, step = run.plan.graph.steps[number], run.live(number)
        if definition.kind == "map":
            self._maps.item_ended(run, number, place, fact, now)
            self.go_on(run, number, now)
        elif fact.state == "completed":
            step.agent, step.attempt = fact.agent, fact.attempt
            self.end(run, number, "completed", now, output=fact.output)
        elif run.closing and (fact.state == "canceled" or (_ask(definition).fallback and not step.fallback)):
            self.end(run, number, "canceled", now)  # the second skill is asked no more, so it has not failed for good
        else:
            step.agent, step.attempt = fact.agent, fact.attempt
            if not self._fall_back(run, number, definition, step, fact, now):
                self.fail(run, number, task_error(fact), now)

    def _fall_back(
        self, run: LiveRun, number: int, definition: Step, step: LiveStep, fact: e.TaskEnded, now: float
    ) -> bool:
        """Ask the second skill, once, unless it is too late for that."""
        ask = _ask(definition)
        if not ask.fallback or step.fallback or fact.state == "canceled" or run.closing:
            return False
        if step.until is not None and step.until <= now:
            return False
        step.fallback = True
        self._book.note(run, number, "step_fallback", now, data={"skill": ask.fallback, "error": task_error(fact)})
        self._submit(run, number, definition, step, "fallback")
        return True

    def go_on(self, run: LiveRun, number: int, now: float) -> None:
        """Let a map's next items begin, and end it when it is over or lost."""
        live = run.live(number).items
        assert live is not None
        if not run.closing and run.state != "paused":
            self._maps.advance(run, number, now)
        if self._maps.is_lost(live):
            self._cancel(run, self._maps.tasks(run, number), "too many items have failed")
            self.fail(run, number, self._maps.error(live), now)
        elif self._maps.is_over(live):
            self.end(run, number, "completed", now, output=self._maps.result(run, number))
        elif run.closing and not live.flying:
            self.end(run, number, "canceled", now)

    def child_ended(self, run: LiveRun, number: int, fact: e.ChildEnded, now: float) -> None:
        """Take the end of a step's sub-run."""
        if fact.state == "completed":
            self.end(run, number, "completed", now, output=fact.output)
        elif run.closing and fact.state == "canceled":
            self.end(run, number, "canceled", now)
        else:
            cause: Any = dict(fact.error or {})
            kind = "canceled" if fact.state == "canceled" else "run"
            message = f"its run {fact.run} is {fact.state}: {cause.get('message', '')}".rstrip(": ")
            self.fail(run, number, {"kind": kind, "message": message, "cause": cause}, now)

    def answered(self, run: LiveRun, number: int, fact: e.Answered, now: float) -> None:
        """Take the answer to an approval."""
        self._close_approval(run, number, "answered")
        self._answer(run, number, fact.answer, fact.by, now)

    def _answer(self, run: LiveRun, number: int, answer: Any, by: str, now: float) -> None:
        output = {"approved": answer is not False, "answer": answer, "by": by}
        self.end(run, number, "completed", now, output=output)

    def signaled(self, run: LiveRun, fact: e.Signaled, now: float) -> None:
        """Keep the signal, and let the first step take it that waits for one of this name."""
        number = len(run.signals) + 1
        row = e.SignalRow(
            run=run.id, id=fact.id, number=number, name=fact.name, payload=fact.payload, taken_by=""
        )  # fmt: skip
        run.signals.append(row)
        self._book.record(run, "signal", now, data={"name": fact.name})
        self._book.say(e.Keep(row=row))
        for place in sorted(run.flying):
            definition = run.plan.graph.steps[place]
            if definition.kind == "wait" and _pause(definition).signal == fact.name and not run.closing:
                self._take_signal(run, place, fact.name, now)
                return

    def _take_signal(self, run: LiveRun, number: int, name: str, now: float) -> None:
        for place, signal in enumerate(run.signals):
            if signal.name == name and not signal.taken_by:
                run.signals[place] = taken = replace(signal, taken_by=run.plan.graph.steps[number].name)
                self._book.say(e.Keep(row=taken))
                self.end(run, number, "completed", now, output=signal.payload)
                return

    def time_passed(self, run: LiveRun, number: int, now: float) -> None:
        """Do what is due: a reminder, or the end of the step."""
        step, definition = run.live(number), run.plan.graph.steps[number]
        if step.until is not None and step.until <= now:
            self._time_up(run, number, definition, step, now)
        elif step.remind_at is not None and step.remind_at <= now:
            step.remind_at = None
            self._book.note(run, number, "step_reminded", now)
            self._book.say(e.Remind(run=run.id, step=definition.name, round=step.round))

    def _time_up(self, run: LiveRun, number: int, definition: Step, step: LiveStep, now: float) -> None:
        if definition.kind == "approval":
            self._expire(run, number, _form(definition), now)
        elif definition.kind == "wait" and not _pause(definition).signal:
            self.end(run, number, "completed", now)
        elif definition.kind == "wait":
            words = f"no signal {_pause(definition).signal} came in time"
            self.fail(run, number, {"kind": "timeout", "message": words}, now)
        else:
            self.leave(run, number, "its time is up")
            self.fail(run, number, {"kind": "deadline", "message": "it took longer than it may in total"}, now)

    def _expire(self, run: LiveRun, number: int, form: Form, now: float) -> None:
        self._close_approval(run, number, "expired")
        if form.on_expiry in ("approve", "reject"):
            self._answer(run, number, form.on_expiry == "approve", "", now)
        else:
            self.fail(run, number, {"kind": "expired", "message": "nobody answered in time"}, now)

    # ---- ending -------------------------------------------------------------------------------------------------

    def end(
        self,
        run: LiveRun,
        number: int,
        state: StepState,
        now: float,
        *,
        output: Any = None,
        error: Error | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """End the step; those after it that waited for nothing else become ready."""
        step = run.live(number)
        step.state, step.output, step.error, step.ended_at = state, output, error, now
        step.until = step.remind_at = step.items = None
        run.ended_steps += 1
        step.order = run.ended_steps
        run.flying.discard(number)
        run.see(number)
        run.left -= 1
        for other in run.plan.next[number]:
            run.missing[other] -= 1
            if not run.missing[other] and _is_open(run.steps[other]):
                heapq.heappush(run.ready, other)
        told: dict[str, Any] = {"agent": step.agent, "attempt": step.attempt} if step.agent else {}
        told |= {"error": error} if error is not None else {}
        self._book.note(run, number, f"step_{state}", now, data={**told, **(data or {})})

    def fail(self, run: LiveRun, number: int, error: Error, now: float) -> None:
        """End the step by a failure, and note what that means for the run."""
        step, definition = run.live(number), run.plan.graph.steps[number]
        named: Error = {
            "kind": error.get("kind", "agent"),
            "message": error.get("message", ""),
            "step": definition.name,
        }
        if step.agent:
            named["agent"] = step.agent
        if step.attempt is not None:
            named["attempt"] = step.attempt
        named["cause"] = error.get("cause", dict(error))
        self.end(run, number, "failed", now, error=named)
        if run.broken is None and definition.on_error != "fail_late" and not is_tolerated(definition, named):
            run.broken = (failure_of(named), definition.on_error == "compensate")

    def leave(self, run: LiveRun, number: int, reason: str, *, cascade: Callable[[str], None] | None = None) -> None:
        """Ask for the end of all that runs for the step, and do not listen to it any more."""
        definition = run.plan.graph.steps[number]
        self._cancel(run, self.tasks(run, number), reason)
        if definition.kind == "workflow":
            child = _child_id(run, number)
            self._book.children.pop(child, None)
            if cascade is not None:
                cascade(child)
        elif definition.kind == "approval":
            self._close_approval(run, number, "canceled")

    def tasks(self, run: LiveRun, number: int) -> tuple[str, ...]:
        """Return the tasks in flight for a step that runs."""
        step, kind = run.live(number), run.plan.graph.steps[number].kind
        if kind == "map" and step.items is not None:
            return self._maps.tasks(run, number)
        return (task_id(_place(run, number), step.round),) if kind == "task" else ()

    def child(self, run: LiveRun, number: int) -> str:
        """Return the id of the step's sub-run."""
        return _child_id(run, number)

    def _cancel(self, run: LiveRun, tasks: tuple[str, ...], reason: str) -> None:
        known = tuple(task for task in tasks if self._book.tasks.pop(task, None) is not None)
        if known:
            self._book.say(e.CancelTasks(run=run.id, tasks=known, reason=reason))

    def _close_approval(self, run: LiveRun, number: int, outcome: str) -> None:
        name, round = run.plan.graph.steps[number].name, run.live(number).round
        self._book.say(e.CloseApproval(run=run.id, step=name, round=round, outcome=outcome))

    def _submit(self, run: LiveRun, number: int, definition: Step, step: LiveStep, use: str) -> None:
        place = Place(run, number, None, use)
        self._asking.submit(
            place, _ask(definition), run.scope, round=step.round, deadline=step.until, override=step.override
        )

    def _limit(self, run: LiveRun, number: int, ask: Ask, step: LiveStep, now: float) -> None:
        step.until = None if ask.total_s is None else now + ask.total_s
        self._book.watch(step.until, run, number)

    def recall(self, run: LiveRun, number: int) -> None:
        """Take up what runs for a step, except for the items of a map."""
        kind = run.plan.graph.steps[number].kind
        if kind == "task":
            self._asking.recall(_place(run, number), run.live(number).round)
        elif kind == "workflow":
            self._book.children[_child_id(run, number)] = (run, number)
        self._book.watch(run.live(number).until, run, number)
        self._book.watch(run.live(number).remind_at, run, number)


# ---- small things -----------------------------------------------------------------------------------------------


def is_tolerated(definition: Step, error: Error) -> bool:
    """Return True if the run goes on although the step has failed."""
    form = definition.form
    expired = form is not None and form.on_expiry == "continue" and error.get("kind") == "expired"
    return expired or definition.on_error == "continue"


def failure_of(named: Error) -> Error:
    """Return the error of a run that fails by this error of a step."""
    return {**named, "message": f"step {named['step']}: {named['message']}"}


def _is_open(step: LiveStep | None) -> bool:
    return step is None or step.state == "waiting"


def _is_picked(name: str, choice: LiveStep) -> bool:
    if choice.is_skipped:
        return True  # it said nothing; another step before may want it
    output = choice.output
    if isinstance(output, Mapping) and "then" in output:
        return name in output["then"]
    return choice.passed


def _place(run: LiveRun, number: int) -> Place:
    return Place(run, number, None, "fallback" if run.live(number).fallback else "step")


def _child_id(run: LiveRun, number: int) -> str:
    return run.place(run.plan.graph.steps[number].name, run.live(number).round, "run")


def _moment(text: Any) -> float:
    """Return seconds since the epoch. Raises ``Unfillable``."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise Unfillable({"kind": "bad_input", "message": f"{text!r:.100} is no moment"}) from error
    if moment.tzinfo is None:
        raise Unfillable({"kind": "bad_input", "message": f"the moment {text} has no time zone"})
    return moment.timestamp()


def _ask(definition: Step) -> Ask:
    assert definition.ask is not None
    return definition.ask


def _form(definition: Step) -> Form:
    assert definition.form is not None
    return definition.form


def _pause(definition: Step) -> Pause:
    assert definition.pause is not None
    return definition.pause


_BEGIN: dict[str, Callable[[Steps, LiveRun, int, Step, LiveStep, float], None]] = {
    "task": Steps._begin_task,
    "map": Steps._begin_map,
    "choice": Steps._begin_choice,
    "approval": Steps._begin_approval,
    "workflow": Steps._begin_workflow,
    "wait": Steps._begin_wait,
    "compensate": Steps._begin_compensate,
}
