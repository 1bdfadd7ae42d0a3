"""Who is doing what, and what happens next?  Pure.

The fleet is a reducer. ``apply`` takes one fact, ``due`` lets time pass and gives waiting tasks to free agents; both
return what follows from it. It reads no clock and calls nobody, so the same code runs in production, in the simulator
and under property tests. Who is there stands in ``roster``, who waits in ``lanes``; ``assignment`` joins them.

The life of a task in here::

    waiting ──assign──▶ assigned ──started──▶ working ──finished──▶ (ended, forgotten)
       ▲  ▲                │                     │
       │  └── lease ends ──┘                     │ lost, handed back, or failed and worth another try
       ├── delayed ◀─────────────────────────────┤
       └── asking  ◀─── its agent needs an answer ┘

Beside an attempt that takes long a second one may fly on another agent, a hedge; the first answer counts.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from routing import events as e
from routing.assignment import Assignment
from routing.estimates import Estimates
from routing.flights import Flight, LiveTask, Restored
from routing.gates import Called, Gates, Turned
from routing.lanes import LaneKey, Lanes
from routing.policies import Policies
from routing.records import bucket_of
from routing.retries import UNSTARTED, next_delay_s, wait_s
from routing.roster import Roster

START_LEASE_S = 10.0  # an assigned attempt has to begin within
WORK_LEASE_S = 10.0  # a working attempt has to be heard of within
RESUMED_LEASE_S = 6.0  # likewise after a take-over, which took some time already: two beats
TIMEOUT_GRACE_S = 5.0  # the worker ends an attempt at its time-out; this is for when it does not
CANCEL_GRACE_S = 30.0  # likewise for an attempt that was asked to stop
LOOK_AGAIN_S = 10.0  # a task that stepped aside looks again by itself: an agent it could take may be free
MAX_ASSIGNMENTS = 1_000  # of one task: retries it asks for, hand-backs and starts that never happen have an end
SUSPECT_AFTER = 2  # a task lost so often runs alone, so that what kills its worker takes no other task with it
HEDGE_RATIO, HEDGE_S = 3.0, 0.2  # a second attempt flies no sooner than after so many times what is usual, and so long
HEDGE_AGAIN_S = 1.0  # and where the fleet cannot spare it, the next look is no sooner than after so long
REMEMBER_S = 5.0  # what was learned is kept for the next controller so often
ASKS = {"input_required": "input-required", "auth_required": "auth-required"}  # kinds of errors that ask: the state
ENDS = frozenset({"completed", "failed", "canceled", "requeued", "dropped", *ASKS.values()})  # of an attempt
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
        self.gates = Gates(self.estimates)
        self.assignment = Assignment(self.roster, self.lanes, self.estimates, self.gates)
        self.hedges = 0  # attempts in flight beside another one of their task
        self.stale = 0  # reports that came from attempts no longer current
        self._attempts = 0  # begun since this controller leads, and of these hedges
        self._hedged = 0
        self._remember_at = math.inf  # when what was learned is kept next
        self._is_restored = False  # tasks were taken up, and the gates have not counted them yet
        self._timers: list[tuple[float, str]] = []  # (when to look, task); outdated ones are skipped
        self._out: list[e.Effect] = []

    # ---- the reducer's three doors ------------------------------------------------------------------------------

    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        """Return what follows from ``fact`` at ``now``. A fact about something unknown or stale follows in nothing."""
        self._count_restored(now)
        handler = _HANDLERS[type(fact)]
        handler(self, fact, now)
        return self._drain()

    def due(self, now: float) -> list[e.Effect]:
        """Return what is to be done at ``now``: leases and delays that ended, and every assignment now possible."""
        self.roster.forget_silent(now)
        self._count_restored(now)
        while self._timers and self._timers[0][0] <= now:
            at, task_id = heapq.heappop(self._timers)
            task = self.tasks.get(task_id)
            if task is not None and task.look_at == at:
                task.look_at = math.inf
                self._task_due(task, now)
                self._watch(task)
        self._assign(now)
        while self.gates.has_room(now):  # somebody made room meanwhile for those who wait for it
            self._assign(now)
        self._out += self.gates.changes()
        if now >= self._remember_at:
            self._remember()
        return self._drain()

    def _assign(self, now: float) -> None:
        """Give waiting tasks to free agents, after calling those whom something kept from beginning until now."""
        for called in self.gates.calls(now):
            self._call(called, now)
        for match in self.assignment.matches(self.tasks, now):
            if match.decision is not None:
                self._launch(match.task, match.decision, now)
            elif match.turned is not None:
                self._turn_away(match.task, match.turned, now)

    def next_due(self) -> float | None:
        """Return when ``due`` should be called at the latest, or None if nothing is scheduled."""
        moments = (self._timers[0][0] if self._timers else None, self.gates.next_due())
        return min((at for at in moments if at is not None), default=None)

    def recall(self, kept: Iterable[tuple[str, str, Any]]) -> None:
        """Take up what an earlier controller remembered, as (kind, name, data); before ``restore``."""
        rows = list(kept)
        self.estimates.restore({name: data for kind, name, data in rows if kind == "estimate"})
        self.gates.recall(rows)
        self._is_restored = True

    def restore(self, restored: Restored, now: float) -> list[e.Effect]:
        """Take up a task where the ledger left it. What was sent and not begun is sent again."""
        task = self._live(restored.spec)
        task.seq, task.attempt, task.tries = restored.seq, restored.attempt, restored.tries
        task.cancel_asked_at = now if restored.cancel_asked else None
        task.used = dict(restored.used)
        self._suspect(task, restored.tries)
        self._is_restored = True
        if restored.is_asking:
            task.is_asking = True
            self._delay(task, math.inf)
        elif not restored.flights:
            self._wait(task, now)
        for flight in restored.flights:
            self._predict(task, flight)
            self._occupy(task, flight)
            self._lease(task, flight, now, START_LEASE_S if flight.phase == "assigned" else RESUMED_LEASE_S)
            if flight.phase == "assigned":
                self._send(task, flight)
        return self._drain()

    def _count_restored(self, now: float) -> None:
        """Count what was taken up, before anything of it ends."""
        if self._is_restored:
            self._is_restored = False
            self.gates.rebuild(self.tasks, now)
            self._cancel_contained(now)

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

    def _registry_changed(self, fact: e.RegistryChanged, now: float) -> None:
        known = set(self.roster.registered())
        self.roster.register(fact.agents)
        self.lanes.follow(self.roster.registered())
        for agent in known - {spec.name for spec in fact.agents}:
            self.estimates.forget(agent)
        self.assignment.share.weights = fact.weights
        self.assignment.policies = Policies(fact.policies, revision=fact.revision)
        cancelling = self.gates.configure(fact, now)
        self.gates.rebuild(self.tasks, now)
        for task in self.tasks.values():
            task.policy = self.assignment.policies.of(task.spec)
            if task.is_aside:
                self._wait(task, now)
            elif task.phase == "waiting":
                self._limit_wait(task, now)
                self._watch(task)
        if cancelling:
            self._cancel_contained(now)

    def _cancel_contained(self, now: float) -> None:
        """Cancel what runs on whom, or for whom, a containment says so."""
        for flight in list(self.roster.flights()):
            task = self.tasks.get(flight.task)
            held = self.gates.containments.cancels(task.spec, flight.agent, now) if task is not None else None
            if held is not None:
                self._cancel_asked(e.CancelAsked(task=flight.task, by=held.by, reason=held.words()), now)

    def _rated(self, fact: e.Rated, now: float) -> None:
        self.estimates.rated(fact.agent, fact.skill, fact.score, before=fact.before)
        self._remember_soon(now)

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
        flight.usage = fact.usage
        if flight.phase == "working" and fact.error is None:
            self._learn(task, flight, now)
        if flight.phase == "assigned":  # its start was never heard of: nothing to learn from the time it took
            self._begin(task, flight, "", "", now)
        if fact.error is None:
            self._completed(task, flight, now, output=fact.output)
        elif fact.retry_in_s is not None:
            self._requeue(task, flight, fact.error, now, delay_s=fact.retry_in_s, outcome="returned", call=fact.call)
        elif fact.error.get("kind") == "rejected" and task.cancel_asked_at is None:
            self._drop_others(task, flight, now)
            self._end(task, "rejected", now, data={"error": fact.error})
        elif fact.error.get("kind") in ASKS and task.cancel_asked_at is None:
            self._asks(task, flight, fact.error, now)
        elif fact.error.get("kind") == "canceled" and task.cancel_asked_at is None:
            self._lost(task, flight, now)  # nobody asked for it, so it does not count as the task's end
        else:
            self._attempt_failed(task, flight, fact.error, now)

    def _learn(self, task: LiveTask, flight: Flight, now: float) -> None:
        """Learn from an attempt that succeeded."""
        seconds, agent, spec = now - flight.began_at, flight.agent, task.spec
        cost_usd = flight.usage.get("usd", self._listed_usd(agent))
        self.estimates.succeeded(agent, task.skill, seconds=seconds, size=spec.size, cost_usd=cost_usd, now=now)
        if self.gates.breakers.succeeded(agent, task.skill, now, task=spec.id):
            self.lanes.hope()
        self.gates.outliers.succeeded(spec.tenant, task.skill, agent, now, seconds)
        self._remember_soon(now)

    def _learn_failure(self, task: LiveTask, flight: Flight, kind: str, now: float) -> None:
        """Learn from an attempt that failed; one that was lost says nothing of its agent."""
        agent, spec = flight.agent, task.spec
        seat = self.roster.agents.get(agent)
        if kind == "agent" and seat is not None and seat.spec.is_many:
            return
        if kind not in BLAMELESS:
            self.estimates.failed(agent, task.skill, cost_usd=flight.usage.get("usd"), now=now)
            self.gates.outliers.failed(spec.tenant, task.skill, agent, now)
            self._remember_soon(now)
        if self.gates.breakers.failed(agent, task.skill, now, kind, task=spec.id):
            self.lanes.hope()

    def _listed_usd(self, agent: str) -> float | None:
        seat = self.roster.agents.get(agent)
        return seat.spec.cost_usd if seat is not None and seat.spec.cost_usd else None

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

    def _answered(self, fact: e.Answered, now: float) -> None:
        task = self.tasks.get(fact.task)
        if task is not None and task.is_asking:
            task.is_asking, task.delayed_until = False, None
            self._record(task, "answered", now, data={"by": fact.by})
            self._wait(task, now)

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
        elif now >= flight.hedge_at and flight.lease_until > now and now < self._work_until(task, flight):
            self._hedge(task, flight, now)
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
        elif now >= task.give_up_at:
            message = f"it waited longer than {task.wait_s:g} s for {task.waited_for or 'an agent'}"
            self._fail(task, {"kind": "deadline", "message": message}, now)
        elif task.delayed_until is not None and task.delayed_until <= now:
            self._wait(task, now)

    def _next_look(self, task: LiveTask) -> float:
        """Return when the next thing about the task may be due, infinity if nothing is."""
        if task.flights:
            return min(self._next_look_at(task, flight) for flight in task.flights)
        deadline = min(math.inf if task.spec.deadline is None else task.spec.deadline, task.give_up_at)
        return deadline if task.delayed_until is None else min(deadline, task.delayed_until)

    def _next_look_at(self, task: LiveTask, flight: Flight) -> float:
        if flight.phase == "assigned":
            return flight.lease_until
        return min(flight.lease_until, self._work_until(task, flight), self._cancel_until(task), flight.hedge_at)

    def _work_until(self, task: LiveTask, flight: Flight) -> float:
        return flight.began_at + task.spec.timeout_s + TIMEOUT_GRACE_S

    def _cancel_until(self, task: LiveTask) -> float:
        return math.inf if task.cancel_asked_at is None else task.cancel_asked_at + CANCEL_GRACE_S

    def _never_began(self, task: LiveTask, flight: Flight, now: float) -> None:
        message = f"no worker began it on {flight.agent}"
        error: e.Error = {"kind": "unavailable", "message": message, "retryable": True}
        task.unstarted += 1
        delay = wait_s(UNSTARTED, task.unstarted - 1, task.spec.id)
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
        task = LiveTask(spec, (spec.skill, spec.version), LaneKey.of(spec), self.assignment.policies.of(spec))
        self.tasks[spec.id] = task
        return task

    def _wait(self, task: LiveTask, now: float) -> None:
        """Let the task wait: until its ``not_before``, or in its lane."""
        not_before = task.spec.not_before
        if not_before is not None and not_before > now:
            self._delay(task, not_before)
            return
        if task.owes and (pause_s := self.gates.retry_budget.spend(now, task.owes, task.spec.id)) > 0:
            task.waited_for = "the fleet's account of retries"
            self._delay(task, now + pause_s)
            return
        task.owes, task.delayed_until, task.is_aside = "", None, False
        self.lanes.add(task.lane, task.spec, now, bucket=bucket_of(task.spec.size))
        self._limit_wait(task, now)
        self._watch(task)

    def _limit_wait(self, task: LiveTask, since: float) -> None:
        """See to it that the task gives up when it has waited as long as its policy says."""
        task.waiting_since = min(task.waiting_since, since)
        task.give_up_at = math.inf if task.wait_s is None else task.waiting_since + task.wait_s

    def _delay(self, task: LiveTask, until: float) -> None:
        task.delayed_until = until
        self._watch(task)

    def _step_aside(self, task: LiveTask, now: float) -> None:
        """Let the task out of its lane, so that it keeps nobody back; it is called, or looks again by itself."""
        self.lanes.remove(task.lane, task.spec.id)
        task.is_aside = True
        self._delay(task, now + LOOK_AGAIN_S)

    def _call(self, called: Called, now: float) -> None:
        """Let somebody try again who was turned away."""
        if called.task:
            task = self.tasks.get(called.task)
            if task is not None and task.is_aside:
                self._wait(task, now)
        elif called.lane is None:
            self.lanes.hope()
        elif called.key is not None:
            self.lanes.unpark(called.lane, called.key)
        else:
            self.lanes.hope([called.lane])

    def _turn_away(self, task: LiveTask, turned: Turned, now: float) -> None:
        """Do what follows for a task that may not begin now."""
        if turned.ends:
            self._fail(task, {"kind": "limit", "message": turned.words}, now)
        elif turned.rejects:
            self._end(task, "rejected", now, data={"error": {"kind": "limit", "message": turned.words}})
        elif turned.alone:
            self._step_aside(task, now)
        elif turned.cancels:
            reason = f"it made room for task {task.spec.id} ({turned.words})"
            self._cancel_asked(e.CancelAsked(task=turned.cancels, by="limit", reason=reason), now)

    def _hedge(self, task: LiveTask, first: Flight, now: float) -> None:
        """Send a second attempt to another agent, if the fleet can spare it; look again later if it cannot now."""
        hedging = task.policy.hedging
        first.hedge_at = now + max(first.late_s, HEDGE_AGAIN_S)
        if task.tries + 1 >= task.spec.max_attempts or task.cancel_asked_at is not None:
            return
        if len(task.flights) > 1 or self._hedged + 1 > hedging.share * self._attempts + 1:
            return
        if self.roster.busy > hedging.busy * self.roster.slots:
            return
        decision = self.assignment.second(task, first, now)
        if decision is None:
            return
        first.hedge_at = math.inf
        self._hedged += 1
        flight = self._fly(task, decision, now)
        data = {"agent": flight.agent, "attempt": flight.attempt, "beside": first.attempt}
        self._record(task, "hedged", now, data=data, decision=decision, flight=flight)
        self._send(task, flight)

    def _launch(self, task: LiveTask, decision: e.DecisionMade, now: float) -> None:
        """Reserve a slot of the chosen agent for the task, and send it there."""
        waited = now - task.waiting_since
        self.lanes.remove(task.lane, task.spec.id)
        flight = self._fly(task, decision, now)
        data = {"agent": flight.agent, "attempt": flight.attempt, "waited_s": round(waited, 6)}
        self._record(task, "assigned", now, data=data, decision=decision, flight=flight)
        self._send(task, flight)

    def _fly(self, task: LiveTask, decision: e.DecisionMade, now: float) -> Flight:
        agent = str(decision.candidates[0]["agent"])
        task.attempt += 1
        task.waited_for, task.waiting_since, task.give_up_at = "", math.inf, math.inf
        self._attempts += 1
        flight = Flight(task.spec.id, task.attempt, agent, now)
        self._predict(task, flight)
        self._occupy(task, flight)
        self.gates.begins(task, flight, now)
        self._lease(task, flight, now, START_LEASE_S)
        return flight

    def _predict(self, task: LiveTask, flight: Flight) -> None:
        """Keep what is expected of the attempt: learning goes on meanwhile, and lateness is against this."""
        flight.predicted_s = self.estimates.predicted_s(flight.agent, task.skill, task.spec.size)
        flight.late_s = flight.predicted_s * self.estimates.p95_ratio(task.skill)

    def _begin(self, task: LiveTask, flight: Flight, worker: str, incarnation: str, now: float) -> None:
        self.roster.begin(flight, worker, incarnation, now)
        task.unstarted = 0
        if task.spec.idempotent and task.policy.hedging.enabled and len(task.flights) == 1:
            flight.hedge_at = now + max(flight.late_s, HEDGE_RATIO * flight.predicted_s) + HEDGE_S
        self._lease(task, flight, now, WORK_LEASE_S)
        data: dict[str, Any] = {"worker": worker, "incarnation": incarnation}
        data |= {} if flight is task.flights[0] else {"hedge": True}
        self._record(task, "working", now, data=data, flight=flight)

    def _completed(self, task: LiveTask, flight: Flight, now: float, *, output: Any) -> None:
        """End the task by this attempt's answer; another one in flight is stopped."""
        self._drop_others(task, flight, now)
        self._end(task, "completed", now, output=output)

    def _drop_others(self, task: LiveTask, flight: Flight, now: float) -> None:
        for other in [f for f in task.flights if f is not flight]:
            self._out.append(e.Stop(task=task.spec.id, attempt=other.attempt, reason="stale"))
            self._drop(task, other, now, outcome="canceled", why=f"{flight.agent} answered first")

    def _asks(self, task: LiveTask, flight: Flight, error: e.Error, now: float) -> None:
        """Let the task wait for an answer, without a slot; it then goes to the agent that asked if that is free."""
        self._drop_others(task, flight, now)
        data = {"message": error.get("message", ""), **({"detail": error["detail"]} if "detail" in error else {})}
        self._record(task, ASKS[error["kind"]], now, data=data, flight=flight)
        self._release(task, flight, now)
        self._out.append(e.Fence(task=task.spec.id, attempt=flight.attempt))
        task.is_asking, task.stays_on = True, flight.agent
        self._delay(task, math.inf)

    def _attempt_failed(self, task: LiveTask, flight: Flight, error: e.Error, now: float) -> None:
        """End the attempt by its fault: another one follows if it is worth it and the limit allows."""
        task.tries += 1
        kind = error.get("kind", "agent")
        self._choose_where(task, flight.agent, kind)
        outcome = "lost" if kind == "lost" else "failed"
        if kind == "lost":
            self._suspect(task, task.losses + 1)
        self._learn_failure(task, flight, kind, now)
        if len(task.flights) > 1:
            self._drop(task, flight, now, outcome=outcome, error=error)
        elif task.cancel_asked_at is not None:
            self._end(task, "canceled", now, data={"error": error})
        elif not error.get("retryable"):
            self._fail(task, error, now)
        else:
            self._try_again(task, flight, error, kind, now)

    def _choose_where(self, task: LiveTask, agent: str, kind: str) -> None:
        """Note which agents are liked less, or more, for the next attempt."""
        where = task.retries.rule(kind).on
        task.stays_on = agent if where == "same" else ""
        if where == "another":
            task.failed_on.add(agent)

    def _try_again(self, task: LiveTask, flight: Flight, error: e.Error, kind: str, now: float) -> None:
        """Let the task wait for another attempt, or fail if it has had its last."""
        retries, most = task.retries, task.spec.max_attempts
        delay_s = next_delay_s(retries, kind, task.tries, task.spec.id, limit=most)
        if delay_s is None:
            most = min(most, retries.rule(kind).attempts or most)
            message = f"{error.get('message', '')} (attempt {task.tries} of {most}, the last)"
            self._fail(task, {**error, "message": message}, now)
            return
        task.owes = kind
        self._requeue(task, flight, error, now, delay_s=delay_s, outcome="lost" if kind == "lost" else "failed")

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
        if task.attempt >= MAX_ASSIGNMENTS:
            message = f"{error.get('message', '')} (given to an agent {task.attempt} times, the most there may be)"
            self._fail(task, {**error, "message": message}, now)
            return
        data = {"error": error, "retry_in_s": delay_s, "outcome": outcome, "tries": task.tries}
        self._record(task, "requeued", now, data=data, call=call, flight=flight)
        self._release(task, flight, now)
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
        self._release(task, flight, now)
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
            self._release(task, flight, now)
            if kind != "completed":
                self._out.append(e.Fence(task=task.spec.id, attempt=flight.attempt))
        elif task.delayed_until is None:
            self.lanes.remove(task.lane, task.spec.id)
        if task.is_aside:
            self.gates.stop_waiting(task)
        self.gates.over(task)
        del self.tasks[task.spec.id]

    # ---- small things -------------------------------------------------------------------------------------------

    def _occupy(self, task: LiveTask, flight: Flight) -> None:
        task.flights.append(flight)
        self.hedges += len(task.flights) > 1
        self.roster.occupy(flight)
        self.assignment.began(task)

    def _release(self, task: LiveTask, flight: Flight, now: float) -> None:
        self.hedges -= len(task.flights) > 1
        task.flights.remove(flight)
        self.roster.release(flight)
        self.gates.breakers.probe_over(flight.agent, task.skill, task.spec.id)
        self.gates.ends(task, flight, now)
        self.assignment.ended(task, flight.agent)

    def _remember_soon(self, now: float) -> None:
        self._remember_at = min(self._remember_at, now + REMEMBER_S)

    def _remember(self) -> None:
        """Keep what was learned since the last time."""
        self._remember_at = math.inf
        learned = self.estimates.snapshot()
        self._out += (e.Remembered(kind="estimate", name=name, data=data) for name, data in learned.items())
        self._out.append(self.gates.account())

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
        if flight is not None and flight.usage and kind in ENDS:
            data = {**data, "usage": dict(flight.usage)}
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


_HANDLERS: dict[type, Any] = {
    e.Submitted: Fleet._submitted,
    e.RegistryChanged: Fleet._registry_changed,
    e.Rated: Fleet._rated,
    e.Beat: Fleet._beat,
    e.WorkerGone: Fleet._worker_gone,
    e.Started: Fleet._started,
    e.Noted: Fleet._noted,
    e.Finished: Fleet._finished,
    e.HandedBack: Fleet._handed_back,
    e.CancelAsked: Fleet._cancel_asked,
    e.Answered: Fleet._answered,
    e.Stalled: Fleet._stalled,
    e.MessagesLost: Fleet._messages_lost,
}
