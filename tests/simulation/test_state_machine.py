"""Whatever the fleet is told, in whatever order, its books balance."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from routing import events as e
from routing.budget_rules import BudgetSpec
from routing.containment import Containment
from routing.fleet import Fleet
from routing.limit_rules import LimitKey, LimitSpec, key_of
from routing.matching import Match
from routing.policies import Hedging, PolicySpec
from tests.simulation.processes import Row

AGENTS = tuple(
    e.AgentSpec(
        name=name, tenant=tenant, skills=frozenset({(skill, "1")}), capacity=capacity, labels=labels, cost_usd=usd
    )
    for name, tenant, skill, capacity, labels, usd in (
        ("a", "t", "lint", 1, (), 0.1),
        ("b", "t", "lint", 3, (("gpu", "yes"),), 0.3),
        ("c", "t", "test", 2, (), 0.1),
        ("d", "u", "lint", 2, (), 0.1),
    )
)
LIMITS = (
    LimitSpec(name="all", max_running=3),
    LimitSpec(name="keys", per="key", max_running=1),
    LimitSpec(name="oldest", per="key", max_running=1, on_full="cancel_oldest"),
    LimitSpec(name="crowd", match=Match(skill="test"), max_running=1, on_full="cancel_oldest"),
    LimitSpec(name="pace", rate_per_s=0.5, burst=2),
    LimitSpec(name="both", match=Match(agent="?"), per="tenant", max_running=2),
    LimitSpec(name="on-b", match=Match(agent="b"), per="key", max_running=1),
    LimitSpec(name="urgent", match=Match(low=8), max_running=1),
    LimitSpec(name="refuse", match=Match(skill="test"), max_running=1, on_full="reject"),
)
BUDGETS = (
    BudgetSpec(name="few", unit="attempts", amount=4, period_s=10.0),
    BudgetSpec(name="run", unit="attempts", amount=2, scope="run"),
    BudgetSpec(name="money", unit="usd", amount=0.5, scope="tenant", period_s=20.0),
    BudgetSpec(name="sparse", unit="attempts", amount=2, scope="agent", period_s=5.0),
    BudgetSpec(name="purse", unit="usd", amount=1.5),
)
SWITCHES: tuple[dict[str, Any], ...] = (
    {"name": "a", "scope": "agent", "value": "a", "mode": "enforce"},
    {"name": "test", "scope": "skill", "value": "te*", "mode": "enforce", "cancel_running": True},
    {"name": "u", "scope": "tenant", "value": "u", "mode": "enforce"},
    {"name": "everything", "scope": "everything", "mode": "observe"},
)
POLICIES = (
    PolicySpec(
        name="lint", match=Match(skill="lint"), strategy="least_loaded", hedging=Hedging(enabled=True, share=0.5)
    ),
    PolicySpec(name="test", match=Match(skill="test"), strategy="adaptive"),
)
WORKERS = st.sampled_from(("w1", "w2"))
PICK = st.integers(0, 99)  # which of the attempts in flight
BEHIND = st.sampled_from((0, 0, 0, 1))  # how far behind the current attempt: stale reports are common
KINDS = st.sampled_from(("agent", "bad_input", "timeout", "canceled"))
ERRORS = st.builds(e.Error, kind=KINDS, message=st.just("no"), retryable=st.booleans())


class FleetMachine(RuleBasedStateMachine):
    """Drives one fleet, and keeps the rows that a ledger would keep."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.now = 1000.0
        self.rows: dict[str, Row] = {}
        self.fences: set[tuple[str, int]] = set()
        self.lives = {"w1": 0, "w2": 0}
        self.registry: tuple[e.AgentSpec, ...] = ()
        self.regime: dict[str, Any] = {}
        self.memory: dict[tuple[str, str], Any] = {}
        self.sent_at: dict[tuple[str, int], float] = {}  # (task, attempt)

    # ---- what happens -------------------------------------------------------------------------------------------

    @initialize(target=tasks, priorities=st.lists(st.integers(0, 9), min_size=3, max_size=8), data=st.data())
    def begin(self, priorities: list[int], data: st.DataObject) -> MultipleResults[str]:
        self.registry = AGENTS
        self.edit_rules(data)
        for worker in self.lives:
            self.tell(e.Beat(worker=worker, incarnation="0", threads=3))
        keys = st.sampled_from(("", "k", "l"))
        return multiple(*[self.accept(skill="lint", priority=p, concurrency_key=data.draw(keys)) for p in priorities])

    @rule(target=tasks, priority=st.integers(0, 9))
    def submit_plain(self, priority: int) -> str:
        return self.accept(skill="lint", priority=priority)

    @rule(
        target=tasks,
        tenant=st.sampled_from(("t", "t", "u")),
        skill=st.sampled_from(("lint", "test", "unheard-of")),
        concurrency_key=st.sampled_from(("", "", "k", "l")),
        context=st.sampled_from(("", "r", "s")),
        priority=st.integers(0, 9),
        labels=st.sampled_from(((), (("gpu", "yes"),))),
        pinned=st.sampled_from(("", "", "a", "b")),
        excluded=st.sampled_from(((), ("a",))),
        wait_s=st.sampled_from((None, None, 5.0)),
        deadline_s=st.sampled_from((None, None, -1.0, 8.0)),
        max_attempts=st.integers(1, 3),
    )
    def submit(self, wait_s: float | None, deadline_s: float | None, **wishes: Any) -> str:
        return self.accept(
            not_before=None if wait_s is None else self.now + wait_s,
            deadline=None if deadline_s is None else self.now + deadline_s,
            **wishes,
        )

    def accept(self, **wishes: Any) -> str:
        task = f"task-{len(self.rows)}"
        wishes = {"tenant": "t", **wishes}
        spec = e.TaskSpec(id=task, created_at=self.now, timeout_s=20.0, idempotent=True, **wishes)
        self.rows[task] = Row(spec)
        self.tell(e.Submitted(task=spec))
        return task

    @rule(task=tasks)
    def ring_twice(self, task: str) -> None:
        if not self.rows[task].ended:
            self.tell(e.Submitted(task=self.rows[task].spec))

    @rule(pick=PICK, behind=BEHIND, worker=WORKERS)
    def started(self, pick: int, behind: int, worker: str) -> None:
        task, attempt = self.pick(pick, behind)
        self.report(e.Started(task=task, attempt=attempt, worker=worker))

    @rule(pick=PICK, behind=BEHIND)
    def noted(self, pick: int, behind: int) -> None:
        task, attempt = self.pick(pick, behind)
        self.report(e.Noted(task=task, attempt=attempt, kind="log", data={"message": "hm"}))

    @rule(pick=PICK, behind=BEHIND, error=st.none() | ERRORS, again=st.sampled_from((None, None, 0.0, 3.0)))
    def finished(self, pick: int, behind: int, error: e.Error | None, again: float | None) -> None:
        task, attempt = self.pick(pick, behind)
        again_in_s = again if error else None
        self.report(e.Finished(task=task, attempt=attempt, output=attempt, error=error, retry_in_s=again_in_s))

    @rule(pick=PICK, behind=BEHIND)
    def handed_back(self, pick: int, behind: int) -> None:
        task, attempt = self.pick(pick, behind)
        self.report(e.HandedBack(task=task, attempt=attempt))

    @rule(task=tasks)
    def cancel(self, task: str) -> None:
        self.tell(e.CancelAsked(task=task, by="somebody"))

    @rule(worker=WORKERS, threads=st.integers(0, 4), draining=st.booleans(), data=st.data())
    def beat(self, worker: str, threads: int, draining: bool, data: st.DataObject) -> None:
        known = [(task, row.attempt) for task, row in self.rows.items() if row.attempt]
        attempts = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        self.tell(
            e.Beat(
                worker=worker,
                incarnation=str(self.lives[worker]),
                threads=threads,
                attempts=tuple(attempts),
                draining=draining,
                serves=data.draw(st.sampled_from((None, None, frozenset({"a", "c"})))),
            )
        )

    @rule(worker=WORKERS, said=st.booleans())
    def worker_ends(self, worker: str, said: bool) -> None:
        if said:
            self.tell(e.WorkerGone(worker=worker, incarnation=str(self.lives[worker])))
        self.lives[worker] += 1

    @rule(data=st.data())
    def edit_agents(self, data: st.DataObject) -> None:
        kept = data.draw(st.lists(st.sampled_from(AGENTS), unique=True))
        self.change_agents(
            tuple(
                replace(agent, capacity=data.draw(st.integers(1, 3)), draining=data.draw(st.booleans()))
                for agent in kept
            )
        )

    @rule(data=st.data())
    def edit_rules(self, data: st.DataObject) -> None:
        switches = data.draw(st.lists(st.sampled_from(SWITCHES), max_size=1))
        release_at = self.now + data.draw(st.sampled_from((3.0, 30.0)))
        self.regime = {
            "limits": tuple(data.draw(st.lists(st.sampled_from(LIMITS), min_size=1, max_size=3, unique=True))),
            "budgets": tuple(data.draw(st.lists(st.sampled_from(BUDGETS), max_size=1, unique=True))),
            "containments": tuple(
                Containment(**switch, reason="it lies", by="me", since=self.now, release_at=release_at)
                for switch in switches
            ),
            "weights": {"t": 2.0},
        }
        self.change_agents(self.registry)

    @rule(seconds=st.floats(0.5, 20))
    def stalled(self, seconds: float) -> None:
        self.tell(e.Stalled(seconds=seconds))

    @rule()
    def messages_lost(self) -> None:
        self.tell(e.MessagesLost())

    @rule(seconds=st.sampled_from((0.0, 0.5, 3.0, 11.0, 40.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.fleet.due(self.now))

    @rule()
    def restart(self) -> None:
        self.fleet = Fleet()
        self.take(self.fleet.apply(self.registered(), self.now))
        self.fleet.recall([(kind, name, data) for (kind, name), data in self.memory.items() if data is not None])
        for row in self.rows.values():
            if row.accepted and not row.ended:
                self.take(self.fleet.restore(row.restored(), self.now))
        self.take(self.fleet.due(self.now))

    # ---- what follows -------------------------------------------------------------------------------------------

    def change_agents(self, agents: tuple[e.AgentSpec, ...]) -> None:
        self.registry = agents
        self.tell(self.registered())

    def registered(self) -> e.RegistryChanged:
        return e.RegistryChanged(agents=self.registry, policies=POLICIES, **self.regime)

    def pick(self, pick: int, behind: int) -> tuple[str, int]:
        """Return (task, attempt) of something in flight, or of anything if nothing is."""
        names = [task for task, row in self.rows.items() if self.is_in_flight(row)] or [*self.rows]
        task = names[pick % len(names)]
        return task, self.rows[task].attempt - behind

    def is_in_flight(self, row: Row) -> bool:
        return bool(row.flights)

    def report(self, fact: e.Started | e.Noted | e.Finished | e.HandedBack) -> None:
        """Tell what a worker says of an attempt. If that is not the current one, nothing may come of it."""
        row = self.rows[fact.task]
        is_stale = fact.attempt not in row.flights
        effects = self.fleet.apply(fact, self.now)
        assert not is_stale or not any(isinstance(effect, e.Recorded) for effect in effects)
        self.take(effects)
        self.take(self.fleet.due(self.now))

    def tell(self, fact: e.Fact) -> None:
        """Do as the controller does: a batch of one."""
        self.take(self.fleet.apply(fact, self.now))
        self.take(self.fleet.due(self.now))

    def take(self, effects: list[e.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, e.Recorded):
                self.check_line(effect)
                self.rows[effect.task].write(effect)
            elif isinstance(effect, e.Remembered):
                self.memory[effect.kind, effect.name] = effect.data
            elif isinstance(effect, e.Fence):
                self.fences.add((effect.task, effect.attempt))
            elif isinstance(effect, e.Dispatch):
                assert (effect.task, effect.attempt) not in self.fences
                assert effect.attempt in self.rows[effect.task].flights

    def check_line(self, r: e.Recorded) -> None:
        row = self.rows[r.task]
        assert not row.ended, f"{r.kind} after the end"
        assert r.seq == row.seq + 1
        assert not (row.cancel_asked and r.kind in ("assigned", "failed")), f"{r.kind} after a cancel"
        flight = row.flights.get(r.attempt or 0)
        assert r.kind != "working" or (flight is not None and flight.phase == "assigned")
        if r.kind in ("requeued", "dropped"):
            assert flight is not None
            assert len(row.flights) == 1 + (r.kind == "dropped")
            is_try = flight.phase == "working" and r.data["outcome"] in ("failed", "lost")
            assert r.data["tries"] == row.tries + is_try < row.spec.max_attempts
        if r.kind in ("assigned", "hedged"):
            assert len(row.flights) == (r.kind == "hedged")
            assert r.attempt == row.attempt + 1
            assert r.decision is not None
            assert r.decision.candidates[0]["agent"] == r.agent
            self.sent_at[r.task, r.attempt] = self.now
            self.check_rules(row.spec, r.agent)
            if r.kind == "hedged":
                [first] = row.flights.values()
                assert first.phase == "working"
                assert first.agent != r.agent
            capacity = {agent.name: agent.capacity for agent in self.registry}[r.agent]
            assert sum(f.agent == r.agent for other in self.rows.values() for f in other.flights.values()) < capacity

    def check_rules(self, spec: e.TaskSpec, agent: str) -> None:
        """Assert that limits, budgets and switches let the task begin on the agent now, by what the rows hold."""
        flights = [(row.spec, f.agent) for row in self.rows.values() for f in row.flights.values()]
        for limit in self.regime.get("limits", ()):
            key = limit_key(limit, spec, agent)
            held = sum(limit_key(limit, other, on) == key for other, on in flights)
            assert key is None or limit.max_running is None or held < limit.max_running, limit.name
        for switch in self.regime.get("containments", ()):
            values = {"agent": agent, "tenant": spec.tenant, "skill": spec.skill, "everything": ""}
            is_held = fnmatch.fnmatchcase(values[switch.scope], switch.value) and switch.is_in_force(self.now)
            assert switch.mode == "observe" or not is_held, switch.name

    @invariant()
    def hard_budgets_are_not_overspent(self) -> None:
        budgets = self.fleet.gates.budgets
        for budget in self.regime.get("budgets", ()):
            for row in budgets.snapshot() if budget.name == "run" else ():
                assert row.spent <= budget.amount

    @invariant()
    def a_breaker_lets_one_probe_through(self) -> None:
        """Of the skill ``test`` only c is able, so what its breaker says is never ignored."""
        row = next((r for r in self.fleet.gates.breakers.snapshot() if (r["agent"], r["skill"]) == ("c", "test")), None)
        if row is None or row["until"] is None:
            return
        since = [
            task
            for task, live in self.rows.items()
            for attempt, flight in live.flights.items()
            if flight.agent == "c" and self.sent_at[task, attempt] >= row["until"]
        ]
        assert len(since) <= 1, since

    @invariant()
    def whoever_could_begin_does(self) -> None:
        """After ``due`` nobody waits in a lane who could be served, whatever woke it or did not."""
        fleet = self.fleet
        if fleet.roster.room() <= 0:
            return
        for key in fleet.lanes.waiting:
            lane = fleet.lanes.all[key]
            for name in lane.tasks():
                task = fleet.tasks[name]
                free = fleet.assignment._free(lane, fleet.roster.served())
                admitted = fleet.gates.admit(task, lane, free, self.now).admitted
                refused = fleet.gates.refusals(task, admitted, self.now)
                is_shut = key.alone or not admitted.difference(refused)
                assert is_shut or fleet.gates.objection(task, self.now) is not None, f"{name} could begin in {key}"

    @invariant()
    def books_balance(self) -> None:
        live = {task: row for task, row in self.rows.items() if not row.ended}
        in_flight = sorted((task, attempt, f.agent) for task, row in live.items() for attempt, f in row.flights.items())
        held = [(f.task, f.attempt, f.agent) for f in self.fleet.roster.flights()]

        assert self.fleet.tasks.keys() == live.keys()
        assert sorted(held) == in_flight
        assert self.fleet.roster.busy == len(in_flight)
        assert self.fleet.hedges == sum(len(row.flights) > 1 for row in live.values())
        assert all((row.seq, row.tries) == (known.seq, known.tries) for task, row in live.items()
                   for known in [self.fleet.tasks[task]])  # fmt: skip

    @invariant()
    def who_waits_stands_in_one_lane(self) -> None:
        waiting = sum(task.phase == "waiting" for task in self.fleet.tasks.values())

        assert sum(len(lane) for lane in self.fleet.lanes.all.values()) == waiting == len(self.fleet.lanes)

    @invariant()
    def whatever_is_timed_will_be_looked_at(self) -> None:
        timed = [task for task in self.fleet.tasks.values() if task.phase in ("delayed", "assigned", "working")]

        assert not timed or self.fleet.next_due() is not None

    def teardown(self) -> None:
        """Once nothing more goes wrong every task ends, except where no agent can ever do it."""
        self.regime["containments"] = ()
        self.change_agents(AGENTS)
        for _ in range(2000):
            self.calm_second()
            if all(row.ended or row.spec.skill == "unheard-of" or impossible(row.spec) for row in self.rows.values()):
                return
        raise AssertionError({task: row for task, row in self.rows.items() if not row.ended})

    def calm_second(self) -> None:
        self.now += 1.0
        for worker, life in self.lives.items():
            self.tell(e.Beat(worker=worker, incarnation=f"calm {life}", threads=3))
        self.take(self.fleet.due(self.now))
        for task, row in self.rows.items():
            for attempt in list(row.flights):
                self.tell(e.Finished(task=task, attempt=attempt, output="done"))


def limit_key(limit: LimitSpec, spec: e.TaskSpec, agent: str) -> LimitKey | None:
    """Return where the task would count in the limit, None if it does not."""
    return key_of(limit, spec, agent) if limit.match.matches(spec) and limit.match.includes(agent) else None


def impossible(spec: e.TaskSpec) -> bool:
    """Return whether no agent of ``AGENTS`` could ever take the task."""
    return not any(
        (spec.tenant, (spec.skill, "1")) in [(agent.tenant, skill) for skill in agent.skills]
        and spec.pinned in ("", agent.name)
        and agent.name not in spec.excluded
        and set(spec.labels) <= set(agent.labels)
        for agent in AGENTS
    )


FleetMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestFleet = FleetMachine.TestCase
