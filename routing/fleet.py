"""Who is doing what, and what happens next?  Pure.

The fleet is a reducer. ``apply`` takes one fact, ``due`` lets time pass and gives waiting tasks to free agents; both
return what follows from it. It reads no clock and calls nobody, so the same code runs in production, in the simulator
and under property tests.

The life of a task in here::

    waiting ──assign──▶ assigned ──started──▶ working ──finished──▶ (ended, forgotten)
       ▲  ▲                │                     │
       │  └── lease ends ──┘                     │ lost, handed back, or failed and worth another try
       └── delayed ◀─────────────────────────────┘
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from routing import events as e
from routing import policy
from routing.estimates import Estimates
from routing.lanes import Lane, LaneKey, Order

START_LEASE_S = 10.0  # an assigned attempt has to begin within
WORK_LEASE_S = 10.0  # a working attempt has to be heard of within
RESUMED_LEASE_S = 6.0  # likewise after a take-over, which took some time already: two beats
WORKER_SILENT_S = 10.0
TIMEOUT_GRACE_S = 5.0  # the worker ends an attempt at its time-out; this is for when it does not
CANCEL_GRACE_S = 30.0  # likewise for an attempt that was asked to stop
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
P95_RATIO = 3.0  # an attempt is overdue beyond so many times its predicted seconds
MAX_ASSIGNMENTS = 1_000  # of one task: retries it asks for, hand-backs and starts that never happen have an end
SUSPECT_AFTER = 2  # a task lost so often runs alone, so that what kills its worker takes no other task with it
KEPT_LANES = 2_000  # empty lanes are kept for the next task of their kind, up to so many
KEPT_LOOKS = 1_000  # outdated entries of the timer heap are kept up to so many, and as many again as tasks live
BLAMELESS = frozenset({"bad_input", "canceled", "deadline"})  # errors that say nothing about the agent

Phase = Literal["waiting", "delayed", "assigned", "working"]


@dataclass(slots=True)
class _Task:
    spec: e.TaskSpec
    skill: tuple[str, str]
    lane: LaneKey
    seq: int = 0
    attempt: int = 0  # the fence
    tries: int = 0  # attempts that began and did not succeed
    unstarted: int = 0  # assignments in a row that never began
    phase: Phase = "waiting"
    agent: str = ""
    worker: str = ""
    incarnation: str = ""  # of the worker; "" is not known
    began_at: float = 0.0  # when the present phase of the attempt began
    lease_until: float = 0.0
    delayed_until: float = 0.0
    look_at: float = math.inf  # when ``due`` looks at it next
    losses: int = 0  # attempts that were lost with their worker
    cancel_asked_at: float | None = None
    failed_on: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Agent:
    spec: e.AgentSpec
    running: dict[str, None] = field(default_factory=dict)  # tasks in flight, in order: replays must not differ
    gone: bool = False  # no longer registered; kept until its last attempt ends


@dataclass(slots=True)
class _Worker:
    incarnation: str
    threads: int
    serves: frozenset[str] | None
    draining: bool
    seen_at: float
    attempts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A task that was live when the last controller ended, as the ledger tells it."""

    spec: e.TaskSpec
    seq: int
    attempt: int = 0
    tries: int = 0
    phase: Phase = "waiting"
    agent: str = ""
    worker: str = ""
    incarnation: str = ""
    began_at: float = 0.0
    cancel_asked: bool = False


class Fleet:
    """The state of everything in flight. All changes go through ``apply``, ``due`` and ``restore``."""

    def __init__(self) -> None:
        self.tasks: dict[str, _Task] = {}
        self.agents: dict[str, _Agent] = {}
        self.workers: dict[str, _Worker] = {}
        self.lanes: dict[LaneKey, Lane] = {}
        self.estimates = Estimates()
        self.stale = 0  # reports that came from attempts no longer current
        self.touched_agents: set[str] = set()  # since somebody last cleared it, for live pages
        self.touched_lanes: set[LaneKey] = set()
        self._strategies: Mapping[tuple[str, str], str] = {}
        self._timers: list[tuple[float, str]] = []  # (when to look, task); outdated ones are skipped
        self._waiting: set[LaneKey] = set()  # lanes where somebody waits
        self._hopeful: set[LaneKey] = set()  # of those, where an assignment may have become possible
        self._lanes_of: dict[str, set[LaneKey]] = {}  # agent → lanes it is able for
        self._free: set[str] = set()  # agents with a free slot
        self._rated: dict[str, dict[tuple[str, str], policy.Ranked]] = {}  # agent → skill → its score at this instant
        self._alone: set[str] = set()  # suspects in flight: at most one, but for those restored
        self._assigned = 0  # attempts sent and not begun
        self._working: Counter[str] = Counter()  # worker → attempts it works on
        self._out: list[e.Effect] = []

    # ---- the reducer's three doors ------------------------------------------------------------------------------

    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        """Return what follows from ``fact`` at ``now``. A fact about something unknown or stale follows in nothing."""
        handler = _HANDLERS[type(fact)]
        handler(self, fact, now)
        return self._drain()

    def due(self, now: float) -> list[e.Effect]:
        """Return what is to be done at ``now``: leases and delays that ended, and every assignment now possible."""
        self._forget_silent_workers(now)
        while self._timers and self._timers[0][0] <= now:
            at, task_id = heapq.heappop(self._timers)
            task = self.tasks.get(task_id)
            if task is not None and task.look_at == at:
                task.look_at = math.inf
                self._task_due(task, now)
                self._watch(task)
        self._assign(now)
        return self._drain()

    def next_due(self) -> float | None:
        """Return when ``due`` should be called at the latest, or None if nothing is scheduled."""
        return self._timers[0][0] if self._timers else None

    def restore(self, restored: Restored, now: float) -> list[e.Effect]:
        """Take up a task where the ledger left it. What was sent and not begun is sent again."""
        spec = restored.spec
        task = _Task(
            spec,
            (spec.skill, spec.version),
            LaneKey.of(spec),
            seq=restored.seq,
            attempt=restored.attempt,
            tries=restored.tries,
            cancel_asked_at=now if restored.cancel_asked else None,
        )
        self.tasks[spec.id] = task
        self._suspect(task, restored.tries)
        if restored.phase in ("waiting", "delayed"):
            self._wait(task, now)
            return self._drain()
        task.phase, task.agent, task.worker = restored.phase, restored.agent, restored.worker
        task.incarnation = restored.incarnation
        task.began_at = restored.began_at
        self._occupy(task)
        self._lease(task, now, START_LEASE_S if task.phase == "assigned" else RESUMED_LEASE_S)
        if task.phase == "assigned":
            self._send(task)
        return self._drain()

    # ---- facts --------------------------------------------------------------------------------------------------

    def _submitted(self, fact: e.Submitted, now: float) -> None:
        spec = fact.task
        if spec.id in self.tasks:
            return
        task = _Task(spec, (spec.skill, spec.version), LaneKey.of(spec))
        self.tasks[spec.id] = task
        lane = self._lane(task.lane)
        self._record(task, "submitted", now, data={"detail": lane.reason} if lane.reason else {})
        self._wait(task, now)

    def _agents_changed(self, fact: e.AgentsChanged, now: float) -> None:
        self._strategies = {key: name for key, name in fact.strategies.items() if name in policy.STRATEGIES}
        present = {spec.name: spec for spec in fact.agents}
        for name, spec in present.items():
            agent = self.agents.setdefault(name, _Agent(spec))
            agent.spec, agent.gone = spec, False
            self._count_slots(agent)
        for name in [n for n in self.agents if n not in present]:
            self.agents[name].gone = True
            self._count_slots(self.agents[name])
            self._forget_if_gone(name)
        self.touched_agents.update(self.agents)
        for lane in self.lanes.values():
            self._match(lane)
            self.touched_lanes.add(lane.key)
        self._hopeful.update(self._waiting)

    def _beat(self, fact: e.Beat, now: float) -> None:
        known = self.workers.get(fact.worker)
        if known is not None and known.incarnation != fact.incarnation:
            self._worker_ended(fact.worker, now)
            known = None
        if known is None:
            self._take_from_predecessors(fact, now)
        if known is None or known.threads < fact.threads or known.draining or known.serves != fact.serves:
            self._hopeful.update(self._waiting)
        self.workers[fact.worker] = _Worker(
            fact.incarnation, fact.threads, fact.serves, fact.draining, now, fact.attempts
        )
        for task_id, attempt in fact.attempts:
            task = self._current(task_id, attempt)
            if task is None:
                self._out.append(e.Stop(task=task_id, attempt=attempt, reason="stale"))
                continue
            if task.phase == "assigned":
                self._begin(task, fact.worker, fact.incarnation, now)
            elif (task.worker, task.incarnation) != (fact.worker, fact.incarnation):
                self._works_on(task, fact.worker, fact.incarnation)
            task.lease_until = now + WORK_LEASE_S
            if task.cancel_asked_at is not None:
                self._out.append(e.Stop(task=task_id, attempt=attempt, reason="canceled"))

    def _worker_gone(self, fact: e.WorkerGone, now: float) -> None:
        known = self.workers.get(fact.worker)
        if known is not None and known.incarnation == fact.incarnation:
            self._worker_ended(fact.worker, now)

    def _started(self, fact: e.Started, now: float) -> None:
        task = self._current(fact.task, fact.attempt)
        if task is None:
            self.stale += 1
            self._out.append(e.Stop(task=fact.task, attempt=fact.attempt, reason="stale"))
        elif task.phase == "assigned":
            self._begin(task, fact.worker, fact.incarnation, now)

    def _noted(self, fact: e.Noted, now: float) -> None:
        task = self._current(fact.task, fact.attempt)
        if task is None:
            self.stale += 1
            return
        if task.phase == "assigned":
            self._begin(task, "", "", now)
        self._record(task, fact.kind, now, data=fact.data)

    def _finished(self, fact: e.Finished, now: float) -> None:
        task = self._current(fact.task, fact.attempt)
        if task is None:
            self.stale += 1
            return
        if task.phase == "working" and fact.error is None:
            self.estimates.succeeded(task.agent, task.skill, now - task.began_at)
        if task.phase == "assigned":  # its start was never heard of: nothing to learn from the time it took
            self._begin(task, "", "", now)
        if fact.error is None:
            self._end(task, "completed", now, output=fact.output)
        elif fact.retry_in_s is not None:
            self._requeue(task, fact.error, now, delay_s=fact.retry_in_s, outcome="returned", call=fact.call)
        elif fact.error.get("kind") == "canceled" and task.cancel_asked_at is None:
            self._lost(task, now)  # nobody asked for it, so it does not count as the task's end
        else:
            self._attempt_failed(task, fact.error, now)

    def _handed_back(self, fact: e.HandedBack, now: float) -> None:
        task = self._current(fact.task, fact.attempt)
        if task is None:
            self.stale += 1
            return
        error: e.Error = {"kind": "lost", "message": "its worker stopped and gave it back", "retryable": True}
        self._requeue(task, error, now, delay_s=0.0, outcome="returned")

    def _cancel_asked(self, fact: e.CancelAsked, now: float) -> None:
        task = self.tasks.get(fact.task)
        if task is None or task.cancel_asked_at is not None:
            return
        task.cancel_asked_at = now
        self._record(task, "cancel_requested", now, data={"by": fact.by, "reason": fact.reason})
        if task.phase == "working":
            self._out.append(e.Stop(task=task.spec.id, attempt=task.attempt, reason="canceled"))
            self._watch(task)
        else:
            self._end(task, "canceled", now)

    def _stalled(self, fact: e.Stalled, now: float) -> None:
        for task in self._in_flight():
            task.lease_until += fact.seconds  # its timer finds that out when it comes up
        for worker in self.workers.values():
            worker.seen_at += fact.seconds

    def _messages_lost(self, fact: e.MessagesLost, now: float) -> None:
        for task in self._in_flight():
            if task.phase == "assigned":
                self._lease(task, now, START_LEASE_S)
                self._send(task)

    # ---- time ---------------------------------------------------------------------------------------------------

    def _task_due(self, task: _Task, now: float) -> None:
        if task.phase in ("waiting", "delayed"):
            self._waiting_due(task, now)
        elif task.phase == "working" and now >= self._cancel_until(task):
            self._end(task, "canceled", now, data={"detail": "its agent did not confirm that it stopped"})
        elif task.phase == "working" and now >= self._work_until(task):
            message = f"did not end within {task.spec.timeout_s:g} s"
            self._attempt_failed(task, {"kind": "timeout", "message": message, "retryable": True}, now)
        elif task.lease_until <= now:
            if task.phase == "assigned":
                self._never_began(task, now)
            else:
                self._lost(task, now)

    def _waiting_due(self, task: _Task, now: float) -> None:
        if task.spec.deadline is not None and task.spec.deadline <= now:
            self._fail(task, {"kind": "deadline", "message": "its deadline passed while it waited"}, now)
        elif task.phase == "delayed" and task.delayed_until <= now:
            self._wait(task, now)

    def _next_look(self, task: _Task) -> float:
        """Return when the next thing about the task may be due, infinity if nothing is."""
        if task.phase == "assigned":
            return task.lease_until
        if task.phase == "working":
            return min(task.lease_until, self._work_until(task), self._cancel_until(task))
        deadline = math.inf if task.spec.deadline is None else task.spec.deadline
        return min(deadline, task.delayed_until) if task.phase == "delayed" else deadline

    def _work_until(self, task: _Task) -> float:
        return task.began_at + task.spec.timeout_s + TIMEOUT_GRACE_S

    def _cancel_until(self, task: _Task) -> float:
        return math.inf if task.cancel_asked_at is None else task.cancel_asked_at + CANCEL_GRACE_S

    def _never_began(self, task: _Task, now: float) -> None:
        error: e.Error = {"kind": "unavailable", "message": f"no worker began it on {task.agent}", "retryable": True}
        task.unstarted += 1
        delay = _backoff(task.unstarted - 1) if task.unstarted > 1 else 0.0
        self._requeue(task, error, now, delay_s=delay, outcome="lost")

    def _lost(self, task: _Task, now: float) -> None:
        error: e.Error = {
            "kind": "lost",
            "message": f"nothing more was heard of it from {task.worker or 'its worker'}",
            "retryable": True,
        }
        self._attempt_failed(task, error, now)

    def _forget_silent_workers(self, now: float) -> None:
        for name in [n for n, w in self.workers.items() if w.seen_at + WORKER_SILENT_S <= now]:
            del self.workers[name]  # its attempts end by their own leases

    def _worker_ended(self, name: str, now: float) -> None:
        del self.workers[name]
        for task in [t for t in self._in_flight() if t.phase == "working" and t.worker == name]:
            self._lost(task, now)
        for task in self._in_flight():
            if task.phase == "assigned":  # its message may have been in that worker's hands: a second one does no harm
                self._send(task)

    def _take_from_predecessors(self, fact: e.Beat, now: float) -> None:
        """Give up what a worker of this name began before it was started anew, while another controller led."""
        listed = set(fact.attempts)
        for task in [t for t in self._in_flight() if t.phase == "working" and t.worker == fact.worker]:
            if task.incarnation not in ("", fact.incarnation) and (task.spec.id, task.attempt) not in listed:
                self._lost(task, now)

    # ---- from one phase to the next -----------------------------------------------------------------------------

    def _wait(self, task: _Task, now: float) -> None:
        """Let the task wait: until its ``not_before``, or in its lane."""
        not_before = task.spec.not_before
        if not_before is not None and not_before > now:
            self._delay(task, not_before)
            return
        task.phase = "waiting"
        self._lane(task.lane).add(task.spec, now)
        self._waiting.add(task.lane)
        self._hopeful.add(task.lane)
        self.touched_lanes.add(task.lane)
        self._watch(task)

    def _delay(self, task: _Task, until: float) -> None:
        task.phase, task.delayed_until = "delayed", until
        self._watch(task)

    def _begin(self, task: _Task, worker: str, incarnation: str, now: float) -> None:
        self._assigned -= 1
        self._working[worker] += 1
        task.phase, task.worker, task.incarnation = "working", worker, incarnation
        task.began_at, task.unstarted = now, 0
        self._lease(task, now, WORK_LEASE_S)
        self._record(task, "working", now, data={"worker": worker, "incarnation": incarnation})

    def _attempt_failed(self, task: _Task, error: e.Error, now: float) -> None:
        """End the attempt by its fault: another one follows if it is worth it and the limit allows."""
        task.tries += 1
        task.failed_on.add(task.agent)
        kind = error.get("kind", "agent")
        if kind == "lost":
            self._suspect(task, task.losses + 1)
        if kind not in BLAMELESS:
            self.estimates.failed(task.agent)
        if task.cancel_asked_at is not None:
            self._end(task, "canceled", now, data={"error": error})
        elif not error.get("retryable"):
            self._fail(task, error, now)
        elif task.tries >= task.spec.max_attempts:
            message = f"{error.get('message', '')} (attempt {task.tries} of {task.spec.max_attempts}, the last)"
            self._fail(task, {**error, "message": message}, now)
        else:
            outcome = "lost" if kind == "lost" else "failed"
            self._requeue(task, error, now, delay_s=0.0 if kind == "lost" else _backoff(task.tries), outcome=outcome)

    def _requeue(
        self,
        task: _Task,
        error: e.Error,
        now: float,
        *,
        delay_s: float,
        outcome: str,
        call: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the task from its agent and let it wait again. ``outcome`` is the attempt's last state."""
        if task.cancel_asked_at is not None:
            self._end(task, "canceled", now, data={"error": error})
            return
        if task.attempt >= MAX_ASSIGNMENTS:
            message = f"{error.get('message', '')} (given to an agent {task.attempt} times, the most there may be)"
            self._fail(task, {**error, "message": message}, now)
            return
        data = {"error": error, "retry_in_s": delay_s, "outcome": outcome, "tries": task.tries}
        self._record(task, "requeued", now, data=data, call=call)
        self._release(task)
        self._out.append(e.Fence(task=task.spec.id, attempt=task.attempt))
        if delay_s > 0:
            self._delay(task, now + delay_s)
        else:
            self._wait(task, now)

    def _fail(self, task: _Task, error: e.Error, now: float) -> None:
        self._end(task, "failed", now, data={"error": error})

    def _end(
        self, task: _Task, kind: str, now: float, *, data: Mapping[str, Any] | None = None, output: Any = None
    ) -> None:
        """Record the one terminal event of the task, free what it holds, and forget it."""
        self._record(task, kind, now, data=data or {}, output=output)
        if task.phase == "waiting":
            self._leave_lane(task)
        elif task.phase in ("assigned", "working"):
            self._release(task)
            if kind != "completed":
                self._out.append(e.Fence(task=task.spec.id, attempt=task.attempt))
        del self.tasks[task.spec.id]

    # ---- assignment ---------------------------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        """Give waiting tasks to free agents, the most urgent first, until nothing more fits."""
        room = self.room()
        if not self._hopeful or room <= 0:
            return
        heads = self._hopeful_heads()
        served = self._served()
        self._rated.clear()
        while heads and room > 0 and self._free:
            _, task_id, key = heapq.heappop(heads)
            if key.alone and self._alone:
                continue  # its end gives this lane new hope
            lane = self.lanes[key]
            if not self._assign_one(self.tasks[task_id], lane, served, now):
                continue
            room -= 1
            head = lane.head()
            if head is not None:
                heapq.heappush(heads, (*head, key))
        if self._free:  # the workers are full: try again when one frees. Agents that free name their lanes themselves
            self._hopeful.update(key for _, _, key in heads)
        self._drop_lanes()

    def _hopeful_heads(self) -> list[tuple[Order, str, LaneKey]]:
        """Return a heap with the first task of each lane worth a try, which is none any more after that."""
        heads: list[tuple[Order, str, LaneKey]] = []
        for key in self._hopeful:
            lane = self.lanes.get(key)
            head = lane.head() if lane is not None else None
            if head is not None:
                heads.append((*head, key))
        self._hopeful.clear()
        heapq.heapify(heads)
        return heads

    def _assign_one(self, task: _Task, lane: Lane, served: frozenset[str] | None, now: float) -> bool:
        """Reserve a slot of the best agent for the task and send it there, or return False if none is free."""
        able = self._free & lane.able
        names = able if served is None else able & served
        if not names:
            return False
        spec = task.spec
        strategy = self._strategies.get((spec.tenant, spec.skill), policy.DEFAULT_STRATEGY)
        ranked = policy.in_order([self._rate(name, task, strategy, now) for name in names])
        decision = self._decision(strategy, ranked, lane)
        waited = now - lane.since(spec.id)
        self._leave_lane(task)
        task.phase, task.agent, task.worker, task.began_at = "assigned", ranked[0].candidate.agent, "", now
        task.attempt += 1
        self._occupy(task)
        self._rated.pop(task.agent, None)
        self._lease(task, now, START_LEASE_S)
        data = {"agent": task.agent, "attempt": task.attempt, "waited_s": round(waited, 6)}
        self._record(task, "assigned", now, data=data, decision=decision)
        self._send(task)
        return True

    def _decision(self, strategy: str, ranked: list[policy.Ranked], lane: Lane) -> e.DecisionMade:
        return e.DecisionMade(
            strategy=strategy,
            candidates=tuple(
                {"agent": r.candidate.agent, "score": round(r.score, 6), "terms": r.terms}
                for r in ranked[: policy.KEPT_CANDIDATES]
            ),
            exclusions=self._exclusions(lane, {r.candidate.agent for r in ranked}),
        )

    def _rate(self, name: str, task: _Task, strategy: str, now: float) -> policy.Ranked:
        """Return the agent with its score for the task, reckoned once as long as the agent gets nothing more."""
        if name in task.failed_on:
            return self._rate_anew(name, task, strategy, now)
        rated = self._rated.setdefault(name, {})
        if task.skill not in rated:
            rated[task.skill] = self._rate_anew(name, task, strategy, now)
        return rated[task.skill]

    def _rate_anew(self, name: str, task: _Task, strategy: str, now: float) -> policy.Ranked:
        agent = self.agents[name]
        record = self.estimates.agents.get(name)
        candidate = policy.Candidate(
            agent=name,
            running=len(agent.running),
            capacity=agent.spec.capacity,
            predicted_s=self.estimates.predicted_s(name, task.skill),
            error=record.error if record else 0.0,
            lateness=self._lateness(agent, now),
            failed_before=name in task.failed_on,
        )
        return policy.rate(candidate, strategy=strategy, usual_s=self.estimates.usual_s(task.skill))

    def _lateness(self, agent: _Agent, now: float) -> float:
        worst = 1.0
        for task_id in agent.running:
            task = self.tasks[task_id]
            if task.phase == "working":
                expected = self.estimates.predicted_s(agent.spec.name, task.skill)
                worst = max(worst, (now - task.began_at) / (P95_RATIO * expected))
        return worst

    def _exclusions(self, lane: Lane, candidates: set[str]) -> dict[str, str]:
        """Return why each skilled agent that was no candidate was none."""
        out = dict(lane.excluded)
        for name in sorted(lane.able - candidates):
            full = name not in self._free
            out[name] = f"all {self.agents[name].spec.capacity} slots in use" if full else "no living worker serves it"
        return out

    def _served(self) -> frozenset[str] | None:
        """Return the agents that a living worker serves, None for all."""
        serves = [w.serves for w in self.workers.values() if not w.draining]
        return None if None in serves else frozenset().union(*(names for names in serves if names is not None))

    def threads(self) -> int:
        """Return how many attempts the living workers can run at once."""
        return sum(w.threads for w in self.workers.values() if not w.draining)

    def room(self) -> int:
        """Return how many more attempts the living workers could begin now; below 0 if too many were sent."""
        living = [(name, w.threads) for name, w in self.workers.items() if not w.draining]
        return sum(max(0, threads - self._working[name]) for name, threads in living) - self._assigned

    @property
    def is_pressed(self) -> bool:
        """Return True if somebody waits who could be served: then it matters at once that a slot is free again."""
        return any(self.lanes[key].able for key in self._waiting)

    def busy_on(self, worker: str) -> int:
        """Return how many attempts the worker works on."""
        return self._working[worker]

    @property
    def busy(self) -> int:
        """Return how many attempts are in flight."""
        return self._assigned + self._working.total()

    # ---- small things -------------------------------------------------------------------------------------------

    def _in_flight(self) -> Iterator[_Task]:
        return (self.tasks[task] for agent in self.agents.values() for task in agent.running)

    def _occupy(self, task: _Task) -> None:
        agent = self.agents.get(task.agent)
        if agent is None:  # restored, and its agent was deleted meanwhile
            spec = e.AgentSpec(name=task.agent, tenant="", skills=frozenset(), capacity=1, enabled=False)
            agent = self.agents[task.agent] = _Agent(spec, gone=True)
        agent.running[task.spec.id] = None
        if task.lane.alone:
            self._alone.add(task.spec.id)
        self._count_slots(agent)
        if task.phase == "assigned":
            self._assigned += 1
        else:
            self._working[task.worker] += 1
        self.touched_agents.add(task.agent)

    def _release(self, task: _Task) -> None:
        agent = self.agents[task.agent]
        del agent.running[task.spec.id]
        if task.spec.id in self._alone:
            self._alone.discard(task.spec.id)
            self._hopeful.update(key for key in self._waiting if key.alone)
        self._count_slots(agent)
        if task.phase == "assigned":
            self._assigned -= 1
        else:
            self._works_no_more(task)
        self.touched_agents.add(task.agent)
        self._hopeful.update(self._lanes_of.get(task.agent, set()) & self._waiting)
        self._forget_if_gone(task.agent)

    def _suspect(self, task: _Task, losses: int) -> None:
        """Count a loss; a task that was lost too often waits in a lane whose tasks run one at a time."""
        task.losses = losses
        if losses >= SUSPECT_AFTER:
            task.lane = replace(task.lane, alone=True)

    def _count_slots(self, agent: _Agent) -> None:
        if len(agent.running) < agent.spec.capacity and not agent.gone:
            self._free.add(agent.spec.name)
        else:
            self._free.discard(agent.spec.name)

    def _works_on(self, task: _Task, worker: str, incarnation: str) -> None:
        self._works_no_more(task)
        self._working[worker] += 1
        task.worker, task.incarnation = worker, incarnation

    def _works_no_more(self, task: _Task) -> None:
        self._working[task.worker] -= 1
        if not self._working[task.worker]:
            del self._working[task.worker]

    def _forget_if_gone(self, name: str) -> None:
        agent = self.agents[name]
        if agent.gone and not agent.running:
            del self.agents[name]

    def _lane(self, key: LaneKey) -> Lane:
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane(key)
            self._match(lane)
        return lane

    def _match(self, lane: Lane) -> None:
        """Find anew who could serve the lane."""
        key = lane.key
        probe = e.TaskSpec(
            id="", tenant=key.tenant, skill=key.skill, version=key.version,
            labels=key.labels, pinned=key.pinned, excluded=key.excluded,
        )  # fmt: skip
        specs = [agent.spec for agent in self.agents.values() if not agent.gone]
        reasons = {spec.name: policy.exclusion(spec, probe) for spec in specs if policy.is_skilled(spec, probe)}
        for name in lane.able:
            self._lanes_of[name].discard(key)
        lane.able = frozenset(name for name, reason in reasons.items() if reason is None)
        lane.excluded = {name: reason for name, reason in reasons.items() if reason is not None}
        lane.reason = "" if lane.able else policy.why_none(specs, probe)
        for name in lane.able:
            self._lanes_of.setdefault(name, set()).add(key)

    def _leave_lane(self, task: _Task) -> None:
        lane = self.lanes[task.lane]
        lane.remove(task.spec.id)
        if not len(lane):
            self._waiting.discard(task.lane)
        self.touched_lanes.add(task.lane)

    def _drop_lanes(self) -> None:
        """Forget the empty lanes when there are too many of them."""
        if len(self.lanes) - len(self._waiting) <= KEPT_LANES:
            return
        for key in [key for key in self.lanes if key not in self._waiting]:
            for name in self.lanes.pop(key).able:
                self._lanes_of[name].discard(key)

    def _current(self, task_id: str, attempt: int) -> _Task | None:
        task = self.tasks.get(task_id)
        if task is None or task.attempt != attempt or task.phase not in ("assigned", "working"):
            return None
        return task

    def _lease(self, task: _Task, start: float, seconds: float) -> None:
        task.lease_until = start + seconds
        self._watch(task)

    def _watch(self, task: _Task) -> None:
        """See to it that ``due`` looks at the task in time. At most one entry of the heap counts for each task."""
        at = self._next_look(task)
        if at < task.look_at and task.spec.id in self.tasks:
            task.look_at = at
            heapq.heappush(self._timers, (at, task.spec.id))
            if len(self._timers) > 2 * len(self.tasks) + KEPT_LOOKS:
                self._timers = [(t.look_at, t.spec.id) for t in self.tasks.values() if t.look_at < math.inf]
                heapq.heapify(self._timers)

    def _send(self, task: _Task) -> None:
        self._out.append(
            e.Dispatch(task=task.spec.id, attempt=task.attempt, agent=task.agent, timeout_s=task.spec.timeout_s)
        )

    def _record(
        self,
        task: _Task,
        kind: str,
        now: float,
        *,
        data: Mapping[str, Any],
        output: Any = None,
        call: Mapping[str, Any] | None = None,
        decision: e.DecisionMade | None = None,
    ) -> None:
        task.seq += 1
        self._out.append(
            e.Recorded(
                task=task.spec.id,
                tenant=task.spec.tenant,
                skill=task.spec.skill,
                seq=task.seq,
                kind=kind,
                at=now,
                attempt=task.attempt or None,
                agent=task.agent if task.phase in ("assigned", "working") else "",
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
