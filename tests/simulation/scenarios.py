"""Small worlds in which much goes wrong, made from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import get_args

from routing import events as e
from routing.amounts import window
from routing.budget_rules import BudgetSpec
from routing.budget_rules import key_of as budget_key
from routing.containment import Containment
from routing.limit_rules import LimitKey, LimitSpec, key_of
from routing.matching import Match
from routing.policies import Hedging, PolicySpec
from routing.strategies import STRATEGIES
from tests.checker import Record, violations
from tests.simulation.processes import TERMINAL, History, Line, Point
from tests.simulation.world import Arrival, Fault, FaultKind, Noise, Scenario, SimAgent

SKILLS = ("lint", "test", "write")
TROUBLED_S = 40.0  # faults happen until then
MAX_ATTEMPTS = 4
POINTS: tuple[Point, ...] = get_args(Point)
LIMITS = (
    LimitSpec(name="few", max_running=4),
    LimitSpec(name="keys", per="key", max_running=1),
    LimitSpec(name="latest", per="key", max_running=1, on_full="cancel_oldest"),
    LimitSpec(name="pace", rate_per_s=1.0, burst=2),
    LimitSpec(name="alone", per="agent", max_running=1),
    LimitSpec(name="some", match=Match(agent="a*"), max_running=2),
    LimitSpec(name="urgent", match=Match(low=7), max_running=1),
    LimitSpec(name="refuse", match=Match(skill="write"), max_running=3, on_full="reject"),
)
BUDGETS = (
    BudgetSpec(name="total", unit="attempts", amount=15),
    BudgetSpec(name="run", unit="attempts", amount=5, scope="run"),
    BudgetSpec(name="minute", unit="attempts", amount=8, period_s=60.0),
    BudgetSpec(name="time", unit="wall_s", amount=20.0, scope="tenant", period_s=30.0),
)
CONTROLLER_FAULTS = ("crash_controller", "pause_controller")


def scenario(seed: int) -> Scenario:
    """Return a world with 20 to 40 tasks, 3 to 6 agents, 2 or 3 workers, and all kinds of faults."""
    return ruled(plain_scenario(seed), random.Random(f"rules {seed}"))


def plain_scenario(seed: int) -> Scenario:
    """Return the same world before anybody made rules for it."""
    rng = random.Random(f"scenario {seed}")
    agents = tuple(sim_agents(rng))
    return Scenario(
        seed=seed,
        agents=agents,
        workers=tuple(rng.randint(2, 6) for _ in range(rng.randint(2, 3))),
        arrivals=tuple(arrival(rng, n, agents) for n in range(rng.randint(20, 40))),
        faults=tuple(faults(rng, tuple(agent.spec for agent in agents))),
        noise=Noise(
            until=TROUBLED_S,
            drop=rng.choice((0.0, 0.02, 0.1)),
            duplicate=rng.choice((0.0, 0.1, 1.0)),
            delay=rng.choice((0.0, 0.05, 0.2)),
        ),
        policies=tuple(policy(rng, skill) for skill in SKILLS),
    )


def ruled(world: Scenario, rng: random.Random) -> Scenario:
    """Return the world with a second tenant, and mostly with up to two limits, a budget and a switch."""
    every = frozenset((skill, "1") for skill in SKILLS)
    other = e.AgentSpec(name="u", tenant="u", skills=every, capacity=2, labels=(("gpu", "yes"),))
    edits = tuple(replace(f, agents=(*f.agents, other)) if f.kind == "edit_agents" else f for f in world.faults)
    thrown = Containment(
        name="c", scope=rng.choice(("agent", "tenant")), value="u", mode="enforce", cancel_running=rng.random() < 0.3,
        reason="it lies", by="me", since=0.0, release_at=rng.uniform(5.0, 60.0),
    )  # fmt: skip
    return replace(
        world,
        agents=(*world.agents, SimAgent(spec=other)),
        arrivals=tuple(replace(a, task=wishful(rng, a.task)) for a in world.arrivals),
        faults=edits,
        limits=tuple(rng.sample(LIMITS, rng.randint(0, 2))),
        budgets=tuple(rng.sample(BUDGETS, rng.randint(0, 1))),
        containments=(thrown,) if rng.random() < 0.3 else (),
        weights={"t": 2.0},
    )


def wishful(rng: random.Random, task: e.TaskSpec) -> e.TaskSpec:
    """Return the task as part of something larger, now and then for the other tenant."""
    task = replace(task, concurrency_key=rng.choice(("", "", "k", "l")), context=rng.choice(("", "r", "s")))
    return replace(task, tenant="u") if not task.pinned and rng.random() < 0.2 else task


def policy(rng: random.Random, skill: str) -> PolicySpec:
    """Return how tasks of the skill are routed."""
    strategy = rng.choice(sorted(set(STRATEGIES) - {"ordered"}))
    return PolicySpec(name=skill, match=Match(skill=skill), strategy=strategy, hedging=Hedging(enabled=True, share=0.3))


def sim_agents(rng: random.Random) -> Iterator[SimAgent]:
    """Yield agents; the first has every skill and every label, so that each task can be done."""
    every = frozenset((skill, "1") for skill in SKILLS)
    yield SimAgent(spec=e.AgentSpec(name="all", tenant="t", skills=every, capacity=3, labels=(("gpu", "yes"),)))
    for n in range(rng.randint(2, 5)):
        skills = frozenset((skill, "1") for skill in rng.sample(SKILLS, rng.randint(1, 2)))
        spec = e.AgentSpec(name=f"a{n}", tenant="t", skills=skills, capacity=rng.randint(1, 4))
        yield SimAgent(spec=spec, speed=rng.choice((0.5, 1.0, 1.0, 3.0)))


def arrival(rng: random.Random, n: int, agents: tuple[SimAgent, ...]) -> Arrival:
    """Return one task: most are plain, some are difficult."""
    at = rng.uniform(0, 30)
    idempotent = rng.random() < 0.5
    plain = e.TaskSpec(
        id=f"task-{n}",
        tenant="t",
        skill=rng.choice(SKILLS),
        priority=rng.randint(0, 9),
        created_at=at,
        timeout_s=rng.choice((8.0, 20.0, 60.0)),
        max_attempts=rng.randint(1, MAX_ATTEMPTS),
        size=rng.choice((1.0, 30.0)),
        idempotent=idempotent,
    )
    return Arrival(
        at=at,
        task=difficult(rng, plain, at, agents),
        size_s=rng.choice((0.01, 0.3, 1.0, 4.0, 10.0)) * rng.uniform(0.5, 1.5),
        failures=rng.choice((0, 0, 0, 0, 1, 2, 9)),
        retryable=rng.random() < 0.8,
        again_in_s=rng.choice((None, None, None, 0.5, 5.0)),
        hangs=int(rng.random() < 0.04),
        kills_worker=rng.random() < 0.02,
        deaf=rng.random() < 0.2,
        cancel_at=at + rng.uniform(0, 15) if rng.random() < 0.15 else None,
    )


def difficult(rng: random.Random, task: e.TaskSpec, at: float, agents: tuple[SimAgent, ...]) -> e.TaskSpec:
    """Return the task with wishes of its own, now and then."""
    if rng.random() < 0.1:
        task = replace(task, not_before=at + rng.uniform(0, 20))
    if rng.random() < 0.1:
        task = replace(task, deadline=at + rng.uniform(0, 40))
    wish = rng.random()
    if wish < 0.1:
        return replace(task, labels=(("gpu", "yes"),))
    if wish < 0.2:
        able = [agent.spec.name for agent in agents if (task.skill, "1") in agent.spec.skills]
        return replace(task, pinned=rng.choice(able))
    if wish < 0.3:
        return replace(task, excluded=("a0",), version="1")
    return task


def faults(rng: random.Random, registry: tuple[e.AgentSpec, ...]) -> Iterator[Fault]:
    """Yield up to ten faults of every kind, and the repair of the registry."""
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    for _ in range(rng.randint(0, 10)):
        kind = rng.choice(kinds)
        yield Fault(
            at=rng.uniform(0.0, TROUBLED_S),
            kind=kind,
            target=rng.randrange(3),
            seconds=length_s(rng, kind),
            point=rng.choice(POINTS),
            agents=edited(rng, registry) if kind == "edit_agents" else (),
        )
    yield Fault(at=TROUBLED_S, kind="edit_agents", agents=registry)


def length_s(rng: random.Random, kind: FaultKind) -> float:
    """Return how long the fault lasts."""
    if kind == "freeze_worker":
        return rng.choice((5.0, 12.0, 14.0, 30.0))
    return rng.uniform(0.5, 10.0)


def edited(rng: random.Random, registry: tuple[e.AgentSpec, ...]) -> tuple[e.AgentSpec, ...]:
    """Return the registry after somebody changed it."""
    agents = [agent for agent in registry if rng.random() < 0.8]
    return tuple(
        replace(agent, capacity=rng.randint(1, 4), draining=rng.random() < 0.2, enabled=rng.random() < 0.9)
        for agent in agents
    )


def records(history: History) -> list[Record]:
    """Return what the clients of the simulated world saw."""
    names = [f.name for f in fields(Record)]
    return [Record(**{name: getattr(line, name) for name in names}) for line in history.lines]


def broken_promises(world: Scenario, history: History) -> list[str]:
    """Return the checker's findings about one simulated world."""
    limits = {a.task.id: a.task.max_attempts for a in world.arrivals}
    found = violations(records(history), history.accepted, max_attempts=limits)
    return [*found, *broken_limits(world, history), *broken_budgets(world, history)]


def broken_limits(world: Scenario, history: History) -> Iterator[str]:
    """Yield where more attempts were in flight than a limit lets run, and hedges beside nothing that works."""
    specs = {a.task.id: a.task for a in world.arrivals}
    flights: dict[str, dict[int, Line]] = {task: {} for task in specs}
    for line in history.lines:
        own, attempt = flights[line.task], line.attempt or 0
        if line.kind in ("assigned", "hedged"):
            own[attempt] = line
            for limit in world.limits:
                held = [
                    limit_key(limit, specs[other], flight.agent)
                    for other, flying in flights.items()
                    for flight in flying.values()
                ]
                key = limit_key(limit, specs[line.task], line.agent)
                if key is not None and held.count(key) > (limit.max_running or len(held)):
                    yield f"{line.task}: limit {limit.name} is exceeded by {held.count(key)} attempts in flight"
            if line.kind == "hedged" and not (len(own) == 2 and len({flight.agent for flight in own.values()}) == 2):
                yield f"{line.task}: a hedge flies beside no other agent's attempt"
        elif line.kind in ("requeued", "dropped"):
            own.pop(attempt, None)
        elif line.kind in TERMINAL:
            own.clear()


def limit_key(limit: LimitSpec, task: e.TaskSpec, agent: str) -> LimitKey | None:
    """Return where an attempt of the task counts in the limit, None if it does not."""
    return key_of(limit, task, agent) if limit.match.matches(task) and limit.match.includes(agent) else None


def broken_budgets(world: Scenario, history: History) -> Iterator[str]:
    """Yield the budgets of attempts in which more began than they allow in a period."""
    specs = {a.task.id: a.task for a in world.arrivals}
    sent = {(r.task, r.attempt): r.at for r in history.lines if r.kind in ("assigned", "hedged")}
    for budget in (budget for budget in world.budgets if budget.unit == "attempts"):
        began = Counter(
            (budget_key(budget, specs[r.task], r.agent), window(budget.period_s, sent[r.task, r.attempt]))
            for r in history.lines
            if r.kind == "working"
        )
        for (key, _), count in began.items():
            if key is not None and count > budget.amount:
                yield f"budget {budget.name} is exceeded by {count} attempts that began"
