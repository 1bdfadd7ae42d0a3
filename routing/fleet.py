"""Who is doing what, and what happens next?  Pure.

The fleet is a reducer. ``apply`` takes one fact, ``due`` lets time pass and gives waiting tasks to free agents; both
return what follows from it. It reads no clock and calls nobody, so the same code runs in production, in the simulator
and under property tests. Who is there stands in ``roster``, who waits in ``lanes``; ``assignment`` joins them.

The life of a task in here::

    waiting ──assign──▶ assigned ──started──▶ working ──finished──▶ (ended, forgotten)
       ▲  ▲                │                     │
       │  └── lease ends ──┘                     │ lost, handed back, or failed and worth another try
       └── delayed ◀─────────────────────────────┘

Beside an attempt that takes long a second one may fly on another agent, a hedge; the first answer counts.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from routing import events as e
from routing import policy
from routing.assignment import Assignment
from routing.estimates import Estimates
from routing.flights import Flight, LiveTask, Restored
from routing.lanes import LaneKey, Lanes, bucket_of
from routing.roster import Roster

START_LEASE_S = 10.0  # an assigned attempt has to begin within
WORK_LEASE_S = 10.0  # a working attempt has to be heard of within
TIMEOUT_GRACE_S = 5.0  # the worker ends an attempt at its time-out; this is for when it does not
CANCEL_GRACE_S = 30.0  # likewise for an attempt that was asked to stop
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
SUSPECT_AFTER = 2  # a task lost so often runs alone, so that what kills its worker takes no other task with it
KEPT_LOOKS = 1_000  # outdated entries of the timer heap are kept up to so many, and as many again as tasks live
BLAMELESS = frozenset({"bad_input", "canceled", "deadline"})  # errors that say nothing about the agent


class Fleet:
    """The state of everything in flight. All changes go through ``apply``, ``due`` and ``restore``."""

    make_roster = Roster

    def __init__(self) -> None:
        self.tasks: dict[str, LiveTask] = {}
        self.roster = self.make_roster()
        self.lanes = Lanes()
        self.estimates = Estimates()
        self.assignment = Assignment(self.roster, self.lanes, self.estimates)
        self.hedges = 0  # attempts in flight beside another one of their task
        self.stale = 0  # reports that came from attempts no longer current
        self._timers: list[tuple[float, str]] = []  # (when to look, task); outdated ones are skipped
        self._out: list[e.Effect] = []

    # ---- the reducer's three doors ------------------------------------------------------------------------------

    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        """Return what follows from ``fact`` at ``now``. A fact about something unknown or stale follows in nothing."""
        handler = _HANDLERS[type(fact)]
        handler(self, fact, now)
        return self._drain()

    def due(self, now: float) -> list[e.Effect]:
        """Return what is to be done at ``now``: leases and delays that ended, and every assignment now possible."""
        self.roster.forget_silent(now)
        while self._timers and self._timers[0][0] <= now:
            at, task_id = heapq.heappop(self._timers)
            task = self.tasks.get(task_id)
            if task is not None and task.look_at == at:
                task.look_at = math.inf
                self._task_due(task, now)
                self._watch(task)
        for task, decision in self.assignment.matches(self.tasks, now):
            self._launch(task, decision, now)
        return self._drain()

    def next_due(self) -> float | None:
        """Return when ``due`` should be called at the latest, or None if nothing is scheduled."""
        return self._timers[0][0] if self._timers else None

    def restore(self, restored: Restored, now: float) -> list[e.Effect]:
        """Take up a task where the ledger left it. What was sent and not begun is sent again."""
        task = self._live(restored.spec)
        task.seq, task.attempt, task.tries = restored.seq, restored.attempt, restored.tries
        task.cancel_asked_at = now if restored.cancel_asked else None
        self._suspect(task, restored.tries)
        if not restored.flights:
            self._wait(task, now)
        for flight in restored.flights:
            flight.predicted_s = self.estimates.predicted_s(flight.agent, task.skill)
            self._occupy(task, flight)
            self._lease(task, flight, now, START_LEASE_S if flight.phase == "assigned" else WORK_LEASE_S)
            if flight.phase == "assigned":
                self._send(task, flight)
        return self._drain()

    @property
    def is_pressed(self) -> bool:
        """Return True if somebody waits who could be served: then it matters at once that a slot is free again."""
        return any(self.lanes.all[key].able for key in self.lanes.waiting)

    # ---- facts --------------------------------------------------------------------------------------------------

    def _submitted(self, fact: e.Submitted, now: float) -> None:
        if fact.task.id in self.tasks:
            return
        task = self._live(fact.task)
        lane = self.lanes.lane(task.lane)
        self._record(task, "submitted", now, data={"detail": lane.reason} if lane.reason else {})
        self._wait(task, now)

    def _agents_changed(self, fact: e.AgentsChanged, now: float) -> None:
        self.assignment.strategies = {key: name for key, name in fact.strategies.items() if name in policy.STRATEGIES}
        self.roster.register(fact.agents)
        self.lanes.follow(self.roster.registered())

    def _beat(self, fact: e.Beat, now: float) -> None:
        known = self.roster.workers.get(fact.worker)
        if known is not None and known.incarnation != fact.incarnation:
            self._worker_ended(fact.worker, now)
            known = None
        if known is None:
            self._take_from_predecessors(fact, now)
        if self.roster.hear(fact, now):
            self.lanes.hope()
        for task_id, attempt in fact.attempts:
            flight = self._current(task_id, attempt)
            if flight is None:
                self._out.append(e.Stop(task=task_id, attempt=attempt, reason="stale"))
                continue
            if flight.phase == "assigned":
                self._begin(self.tasks[task_id], flight, fact.worker, fact.incarnation, now)
            elif (flight.worker, flight.incarnation) != (fact.worker, fact.incarnation):
                self.roster.move(flight, fact.worker, fact.incarnation)
            flight.lease_until = now + WORK_LEASE_S
            if self.tasks[task_id].cancel_asked_at is not None:
                self._out.append(e.Stop(task=task_id, attempt=attempt, reason="canceled"))

    def _worker_gone(self, fact: e.WorkerGone, now: float) -> None:
        known = self.roster.workers.get(fact.worker)
        if known is not None and known.incarnation == fact.incarnation:
            self._worker_ended(fact.worker, now)

    def _started(self, fact: e.Started, now: float) -> None:
        flight = self._current(fact.task, fact.attempt)
        if flight is None:
            self.stale += 1
            self._out.append(e.Stop(task=fact.task, attempt=fact.attempt, reason="stale"))
        elif flight.phase == "assigned":
            self._begin(self.tasks[fact.task], flight, fact.worker, fact.incarnation, now)

    def _noted(self, fact: e.Noted, now: float) -> None:
        flight = self._reporting(fact.task, fact.attempt)
        if flight is None:
            return
        task = self.tasks[fact.task]
        if flight.phase == "assigned":
            self._begin(task, flight, "", "", now)
        self._record(task, fact.kind, now, data=fact.data, flight=flight)

    def _finished(self, fact: e.Finished, now: float) -> None:
        flight = self._reporting(fact.task, fact.attempt)
        if flight is None:
            return
        task = self.tasks[fact.task]
        if flight.phase == "working" and fact.error is None:
            self.estimates.succeeded(flight.agent, task.skill, now - flight.began_at)
        if flight.phase == "assigned":  # its start was never heard of: nothing to learn from the time it took
            self._begin(task, flight, "", "", now)
        if fact.error is None:
            self._completed(task, flight, now, output=fact.output)
        elif fact.retry_in_s is not None:
            self._requeue(task, flight, fact.error, now, delay_s=fact.retry_in_s, outcome="returned", call=fact.call)
        elif fact.error.get("kind") == "canceled" and task.cancel_asked_at is None:
            self._lost(task, flight, now)  # nobody asked for it, so it does not count as the task's end
        else:
            self._attempt_failed(task, flight, fact.error, now)

    def _handed_back(self, fact: e.HandedBack, now: float) -> None:
        flight = self._reporting(fact.task, fact.attempt)
        if flight is not None:
            error: e.Error = {"kind": "lost", "message": "its worker stopped and gave it back", "retryable": True}
            self._requeue(self.tasks[fact.task], flight, error, now, delay_s=0.0, outcome="returned")

    def _cancel_asked(self, fact: e.CancelAsked, now: float) -> None:
        task = self.tasks.get(fact.task)
        if task is None or task.cancel_asked_at is not None:
            return
        task.cancel_asked_at = now
        self._record(task, "cancel_requested", now, data={"by": fact.by, "reason": fact.reason})
        working = [flight for flight in task.flights if flight.phase == "working"]
        if not working:
            self._end(task, "canceled", now)
            return
        for flight in [flight for flight in task.flights if flight.phase == "assigned"]:
            self._drop(task, flight, now, outcome="canceled", why="the task was canceled")
        for flight in working:
            self._out.append(e.Stop(task=task.spec.id, attempt=flight.attempt, reason="canceled"))
        self._watch(task)

    def _stalled(self, fact: e.Stalled, now: float) -> None:
        self.roster.forgive(fact.seconds)

    def _messages_lost(self, fact: e.MessagesLost, now: float) -> None:
        for flight in list(self.roster.flights()):
            if flight.phase == "assigned":
                task = self.tasks[flight.task]
                self._lease(task, flight, now, START_LEASE_S)
                self._send(task, flight)

    # ---- time ---------------------------------------------------------------------------------------------------

    def _task_due(self, task: LiveTask, now: float) -> None:
        if not task.flights:
            self._waiting_due(task, now)
        for flight in list(task.flights):
            if task.spec.id in self.tasks and flight in task.flights:
                self._flight_due(task, flight, now)

    def _flight_due(self, task: LiveTask, flight: Flight, now: float) -> None:
        if flight.phase == "working" and now >= self._cancel_until(task):
            self._end(task, "canceled", now, data={"detail": "its agent did not confirm that it stopped"})
        elif flight.phase == "working" and now >= self._work_until(task, flight):
            message = f"did not end within {task.spec.timeout_s:g} s"
            error: e.Error = {"kind": "timeout", "message": message, "retryable": True}
            self._attempt_failed(task, flight, error, now)
        elif flight.lease_until <= now:
            if flight.phase == "assigned":
                self._never_began(task, flight, now)
            else:
                self._lost(task, flight, now)

    def _waiting_due(self, task: LiveTask, now: float) -> None:
        if task.spec.deadline is not None and task.spec.deadline <= now:
            self._fail(task, {"kind": "deadline", "message": "its deadline passed while it waited"}, now)
        elif task.delayed_until is not None and task.delayed_until <= now:
            self._wait(task, now)

    def _next_look(self, task: LiveTask) -> float:
        """Return when the next thing about the task may be due, infinity if nothing is."""
        if task.flights:
            return min(self._next_look_at(task, flight) for flight in task.flights)
        deadline = math.inf if task.spec.deadline is None else task.spec.deadline
        return deadline if task.delayed_until is None else min(deadline, task.delayed_until)

    def _next_look_at(self, task: LiveTask, flight: Flight) -> float:
        if flight.phase == "assigned":
            return flight.lease_until
        return min(flight.lease_until, self._work_until(task, flight), self._cancel_until(task))

    def _work_until(self, task: LiveTask, flight: Flight) -> float:
        return flight.began_at + task.spec.timeout_s + TIMEOUT_GRACE_S

    def _cancel_until(self, task: LiveTask) -> float:
        return math.inf if task.cancel_asked_at is None else task.cancel_asked_at + CANCEL_GRACE_S

    def _never_began(self, task: LiveTask, flight: Flight, now: float) -> None:
        message = f"no worker began it on {flight.agent}"
        error: e.Error = {"kind": "unavailable", "message": message, "retryable": True}
        task.unstarted += 1
        delay = _backoff(task.unstarted - 1) if task.unstarted > 1 else 0.0
        self._requeue(task, flight, error, now, delay_s=delay, outcome="lost")

    def _lost(self, task: LiveTask, flight: Flight, now: float) -> None:
        message = f"nothing more was heard of it from {flight.worker or 'its worker'}"
        self._attempt_failed(task, flight, {"kind": "lost", "message": message, "retryable": True}, now)

    def _worker_ended(self, name: str, now: float) -> None:
        del self.roster.workers[name]
        for flight in [f for f in self.roster.flights() if f.phase == "working" and f.worker == name]:
            if self._current(flight.task, flight.attempt) is flight:
                self._lost(self.tasks[flight.task], flight, now)
        for flight in self.roster.flights():
            if flight.phase == "assigned":  # its message may have been in that worker's hands: twice does no harm
                self._send(self.tasks[flight.task], flight)

    def _take_from_predecessors(self, fact: e.Beat, now: float) -> None:
        """Give up what a worker of this name began before it was started anew, while another controller led."""
        listed = set(fact.attempts)
        for flight in [f for f in self.roster.flights() if f.phase == "working" and f.worker == fact.worker]:
            if flight.incarnation not in ("", fact.incarnation) and (flight.task, flight.attempt) not in listed:
                self._lost(self.tasks[flight.task], flight, now)

    # ---- from one phase to the next -----------------------------------------------------------------------------

    def _live(self, spec: e.TaskSpec) -> LiveTask:
        task = LiveTask(spec, (spec.skill, spec.version), LaneKey.of(spec), bucket_of(spec.size))
        self.tasks[spec.id] = task
        return task

    def _wait(self, task: LiveTask, now: float) -> None:
        """Let the task wait: until its ``not_before``, or in its lane."""
        not_before = task.spec.not_before
        if not_before is not None and not_before > now:
            self._delay(task, not_before)
            return
        task.delayed_until = None
        self.lanes.add(task.lane, task.spec, now, bucket=task.bucket)
        self._watch(task)

    def _delay(self, task: LiveTask, until: float) -> None:
        task.delayed_until = until
        self._watch(task)

    def _launch(self, task: LiveTask, decision: e.DecisionMade, now: float) -> None:
        """Reserve a slot of the chosen agent for the task, and send it there."""
        waited = now - self.lanes.lane(task.lane).since(task.spec.id)
        self.lanes.remove(task.lane, task.spec.id)
        flight = self._fly(task, decision, now)
        data = {"agent": flight.agent, "attempt": flight.attempt, "waited_s": round(waited, 6)}
        self._record(task, "assigned", now, data=data, decision=decision, flight=flight)
        self._send(task, flight)

    def _fly(self, task: LiveTask, decision: e.DecisionMade, now: float) -> Flight:
        agent = str(decision.candidates[0]["agent"])
        task.attempt += 1
        predicted_s = self.estimates.predicted_s(agent, task.skill)
        flight = Flight(task.spec.id, task.attempt, agent, now, predicted_s=predicted_s)
        self._occupy(task, flight)
        self._lease(task, flight, now, START_LEASE_S)
        return flight

    def _begin(self, task: LiveTask, flight: Flight, worker: str, incarnation: str, now: float) -> None:
        self.roster.begin(flight, worker, incarnation, now)
        task.unstarted = 0
        self._lease(task, flight, now, WORK_LEASE_S)
        data: dict[str, Any] = {"worker": worker, "incarnation": incarnation}
        data |= {} if flight is task.flights[0] else {"hedge": True}
        self._record(task, "working", now, data=data, flight=flight)

    def _completed(self, task: LiveTask, flight: Flight, now: float, *, output: Any) -> None:
        """End the task by this attempt's answer; another one in flight is stopped."""
        for other in [f for f in task.flights if f is not flight]:
            self._out.append(e.Stop(task=task.spec.id, attempt=other.attempt, reason="stale"))
            self._drop(task, other, now, outcome="canceled", why=f"{flight.agent} answered first")
        self._end(task, "completed", now, output=output)

    def _attempt_failed(self, task: LiveTask, flight: Flight, error: e.Error, now: float) -> None:
        """End the attempt by its fault: another one follows if it is worth it and the limit allows."""
        task.tries += 1
        task.failed_on.add(flight.agent)
        kind = error.get("kind", "agent")
        outcome = "lost" if kind == "lost" else "failed"
        if kind == "lost":
            self._suspect(task, task.losses + 1)
        if kind not in BLAMELESS:
            self.estimates.failed(flight.agent)
        if len(task.flights) > 1:
            self._drop(task, flight, now, outcome=outcome, error=error)
        elif task.cancel_asked_at is not None:
            self._end(task, "canceled", now, data={"error": error})
        elif not error.get("retryable"):
            self._fail(task, error, now)
        elif task.tries >= task.spec.max_attempts:
            message = f"{error.get('message', '')} (attempt {task.tries} of {task.spec.max_attempts}, the last)"
            self._fail(task, {**error, "message": message}, now)
        else:
            delay_s = 0.0 if kind == "lost" else _backoff(task.tries)
            self._requeue(task, flight, error, now, delay_s=delay_s, outcome=outcome)

    def _requeue(
        self,
        task: LiveTask,
        flight: Flight,
        error: e.Error,
        now: float,
        *,
        delay_s: float,
        outcome: str,
        call: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the task from its agent and let it wait again. ``outcome`` is the attempt's last state."""
        if len(task.flights) > 1:
            self._drop(task, flight, now, outcome=outcome, error=error)
            return
        if task.cancel_asked_at is not None:
            self._end(task, "canceled", now, data={"error": error})
            return
        data = {"error": error, "retry_in_s": delay_s, "outcome": outcome, "tries": task.tries}
        self._record(task, "requeued", now, data=data, call=call, flight=flight)
        self._release(task, flight)
        self._out.append(e.Fence(task=task.spec.id, attempt=flight.attempt))
        if delay_s > 0:
            self._delay(task, now + delay_s)
        else:
            self._wait(task, now)

    def _drop(
        self, task: LiveTask, flight: Flight, now: float, *, outcome: str, why: str = "", error: e.Error | None = None
    ) -> None:
        """End one of two attempts in flight; the task goes on with the other."""
        [other] = [f for f in task.flights if f is not flight]
        data: dict[str, Any] = {"outcome": outcome, "tries": task.tries, "goes_on": other.agent}
        data |= {"detail": why} if why else {}
        data |= {"error": error} if error is not None else {}
        self._record(task, "dropped", now, data=data, flight=flight)
        self._release(task, flight)
        self._out.append(e.Fence(task=task.spec.id, attempt=flight.attempt))
        self._watch(task)

    def _fail(self, task: LiveTask, error: e.Error, now: float) -> None:
        self._end(task, "failed", now, data={"error": error})

    def _end(
        self, task: LiveTask, kind: str, now: float, *, data: Mapping[str, Any] | None = None, output: Any = None
    ) -> None:
        """Record the one terminal event of the task, free what it holds, and forget it."""
        for hedge in task.flights[1:]:
            self._drop(task, hedge, now, outcome="canceled", why=f"the task is {kind}")
        flight = task.flights[0] if task.flights else None
        self._record(task, kind, now, data=data or {}, output=output, flight=flight)
        if flight is not None:
            self._release(task, flight)
            if kind != "completed":
                self._out.append(e.Fence(task=task.spec.id, attempt=flight.attempt))
        elif task.delayed_until is None:
            self.lanes.remove(task.lane, task.spec.id)
        del self.tasks[task.spec.id]

    # ---- small things -------------------------------------------------------------------------------------------

    def _occupy(self, task: LiveTask, flight: Flight) -> None:
        task.flights.append(flight)
        self.hedges += len(task.flights) > 1
        self.roster.occupy(flight)
        self.assignment.began(task)

    def _release(self, task: LiveTask, flight: Flight) -> None:
        self.hedges -= len(task.flights) > 1
        task.flights.remove(flight)
        self.roster.release(flight)
        self.assignment.ended(task, flight.agent)

    def _suspect(self, task: LiveTask, losses: int) -> None:
        """Count a loss; a task that was lost too often waits in a lane whose tasks run one at a time."""
        task.losses = losses
        if losses >= SUSPECT_AFTER:
            task.lane = replace(task.lane, alone=True)

    def _current(self, task_id: str, attempt: int) -> Flight | None:
        task = self.tasks.get(task_id)
        return None if task is None else task.flight(attempt)

    def _reporting(self, task_id: str, attempt: int) -> Flight | None:
        """Return the attempt that a report is about; None, and counted, for a stale one."""
        flight = self._current(task_id, attempt)
        self.stale += flight is None
        return flight

    def _lease(self, task: LiveTask, flight: Flight, start: float, seconds: float) -> None:
        flight.lease_until = start + seconds
        self._watch(task)

    def _watch(self, task: LiveTask) -> None:
        """See to it that ``due`` looks at the task in time. At most one entry of the heap counts for each task."""
        at = self._next_look(task)
        if at < task.look_at and task.spec.id in self.tasks:
            task.look_at = at
            heapq.heappush(self._timers, (at, task.spec.id))
            if len(self._timers) > 2 * len(self.tasks) + KEPT_LOOKS:
                self._timers = [(t.look_at, t.spec.id) for t in self.tasks.values() if t.look_at < math.inf]
                heapq.heapify(self._timers)

    def _send(self, task: LiveTask, flight: Flight) -> None:
        self._out.append(
            e.Dispatch(task=task.spec.id, attempt=flight.attempt, agent=flight.agent, timeout_s=task.spec.timeout_s)
        )

    def _record(
        self,
        task: LiveTask,
        kind: str,
        now: float,
        *,
        data: Mapping[str, Any],
        flight: Flight | None = None,
        output: Any = None,
        call: Mapping[str, Any] | None = None,
        decision: e.DecisionMade | None = None,
    ) -> None:
        task.seq += 1
        flight = flight or (task.flights[0] if task.flights else None)
        self._out.append(
            e.Recorded(
                task=task.spec.id,
                tenant=task.spec.tenant,
                skill=task.spec.skill,
                seq=task.seq,
                kind=kind,
                at=now,
                attempt=(flight.attempt if flight is not None else task.attempt) or None,
                agent=flight.agent if flight is not None else "",
                data=data,
                output=output,
                call=call,
                decision=decision,
            )
        )

    def _drain(self) -> list[e.Effect]:
        out, self._out = self._out, []
        return out


def _backoff(times: int) -> float:
    """Return the seconds to wait before trying again after ``times`` failures in a row."""
    return BACKOFF_S[min(times, len(BACKOFF_S)) - 1]


_HANDLERS: dict[type, Any] = {
    e.Submitted: Fleet._submitted,
    e.AgentsChanged: Fleet._agents_changed,
    e.Beat: Fleet._beat,
    e.WorkerGone: Fleet._worker_gone,
    e.Started: Fleet._started,
    e.Noted: Fleet._noted,
    e.Finished: Fleet._finished,
    e.HandedBack: Fleet._handed_back,
    e.CancelAsked: Fleet._cancel_asked,
    e.Stalled: Fleet._stalled,
    e.MessagesLost: Fleet._messages_lost,
}
