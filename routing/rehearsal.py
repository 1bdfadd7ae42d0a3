"""What would other rules have made of the tasks that came?  Pure.

The tasks of the past arrive again when they came, with the sizes, priorities, labels and deadlines that they had, at
the fleet as it is shipped: once under the rules as they are, once under the draft. An attempt takes the seconds that
the task really took on its agent; on an agent that did not have it, those seconds times how much slower that one is
known to be. What failed there fails again; elsewhere an attempt fails as often as the agent's attempts at the skill.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from routing import events as e
from routing import jitter
from routing.estimates import Estimates, Skill
from routing.fleet import BLAMELESS, Fleet
from routing.policies import Policies
from routing.quantities import duration, percent
from routing.report import Report, Spread
from routing.simulated import SimulatedAgent, SimulatedFleet
from routing.simulator import Outcome, simulate
from routing.strategy_words import usd
from routing.traces import Job

LEAST_TASKS = 20
MOST_TASKS = 20_000
SHORTEST_S = 1e-4
FAR_OFF = 0.25  # a rehearsal of the rules as they are that is off by more is not to be trusted in figures
Kept = Sequence[tuple[str, str, Any]]  # (kind, name, data), as controllers remember it


class NotEnough(ValueError):
    """Too few tasks came to rehearse anything; the message says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One attempt that ended by itself."""

    agent: str
    seconds: float  # that it worked
    error: e.Error | None = None
    cost_usd: float | None = None  # as the agent said


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTask:
    """A task that has ended, and its attempts in order."""

    spec: e.TaskSpec
    ended_at: float
    completed: bool
    agent: str  # that did it; "" if none did
    tries: tuple[Try, ...] = ()

    @property
    def skill(self) -> Skill:
        """Return the skill as estimates know it."""
        return self.spec.skill, self.spec.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What came in a stretch of time, in the order of arrival."""

    tasks: Sequence[PastTask]
    since: float
    until: float
    left_out: Mapping[str, int]  # why → tasks that are not replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure under both rules."""

    label: str
    before: str
    after: str

    @property
    def differs(self) -> bool:
        """Return whether the draft changes it."""
        return self.before != self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """The same tasks under the rules as they are, and under the draft."""

    past: Past
    before: Report
    after: Report

    @property
    def moved(self) -> int:
        """Return how many tasks that complete under both would go to another agent."""
        after = self.after.given
        return sum(agent != after[task] for task, agent in self.before.given.items() if task in after)

    def summary(self) -> str:
        """Return "312 of 4,010 tasks would go to another agent."."""
        if not self.moved:
            return f"None of {len(self.past.tasks):,} tasks would go to another agent."
        return f"{self.moved:,} of {len(self.past.tasks):,} tasks would go to another agent."

    def span(self) -> str:
        """Return which tasks were replayed, and which were not."""
        out = ", ".join(f"{count:,} {why}" for why, count in self.past.left_out.items() if count)
        told = f"{len(self.past.tasks):,} tasks of the last {duration(self.past.until - self.past.since)}"
        return f"{told}; not replayed: {out}." if out else f"{told}."

    def figures(self) -> list[Row]:
        """Return what it came to."""
        return list(_figures(self.before, self.after))

    def agents(self) -> list[Row]:
        """Return how many tasks each agent does, those first whose number changes most."""
        before, after = Counter(self.before.given.values()), Counter(self.after.given.values())
        names = sorted({*before, *after}, key=lambda name: (-abs(after[name] - before[name]), name))
        return [Row(label=name, before=f"{before[name]:,}", after=f"{after[name]:,}") for name in names]

    def calibration(self) -> str:
        """Return how near the rehearsal of the rules as they are comes to what really happened."""
        return _calibration(self.past, self.before)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "tasks": len(self.past.tasks),
            "left_out": dict(self.past.left_out),
            "moved": self.moved,
            "calibration": {"words": self.calibration(), **_really(self.past)},
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "agents": {row.label: [row.before, row.after] for row in self.agents()},
        }


def rehearse(past: Past, now: e.RegistryChanged, draft: e.RegistryChanged, kept: Kept = ()) -> Rehearsal:
    """Return what becomes of the past under the rules ``now`` and under the ``draft``.

    ``kept`` is what controllers remember: the fleet begins with what it has learned. Raises ``NotEnough``.
    """
    if len(past.tasks) < LEAST_TASKS:
        count = len(past.tasks)
        raise NotEnough(f"Not enough history: {count} tasks ended in this time, and {LEAST_TASKS} are needed at least.")
    for rules in (now, draft):
        if not rules.agents:
            raise NotEnough("There are no agents, so nobody could do anything.")
    learned = [row for row in kept if row[0] == "estimate"]
    return Rehearsal(past=past, before=_run(past, now, now, learned), after=_run(past, draft, now, learned))


def _run(past: Past, rules: e.RegistryChanged, now: e.RegistryChanged, learned: Kept) -> Report:
    decider = Fleet()
    decider.recall(learned)
    known = Estimates()
    known.restore({name: data for _, name, data in learned})
    trace = [_job(task.spec, Policies(now.policies), Policies(rules.policies)) for task in past.tasks]
    return simulate(trace, _fleet(past, rules), decider=decider, rules=rules, outcomes=Replayed(past.tasks, known))


def _job(spec: e.TaskSpec, now: Policies, draft: Policies) -> Job:
    """Return the task as it would arrive: what its policy says of time-outs and attempts counts from the door on."""
    before, after = now.of(spec), draft.of(spec)
    if after.timeout_s is not None and after.timeout_s != before.timeout_s:
        spec = replace(spec, timeout_s=after.timeout_s)
    if after.max_attempts is not None and after.max_attempts != before.max_attempts:
        spec = replace(spec, max_attempts=after.max_attempts)
    return Job(id=spec.id, at=spec.created_at, size=max(spec.size, SHORTEST_S), task=spec)


def _fleet(past: Past, rules: e.RegistryChanged) -> SimulatedFleet:
    """Return the registry's agents, each at the price that its attempts really had."""
    prices: defaultdict[str, list[float]] = defaultdict(list)
    for task in past.tasks:
        for each in task.tries:
            if each.cost_usd is not None:
                prices[each.agent].append(each.cost_usd)
    return SimulatedFleet(
        agents=tuple(
            SimulatedAgent(
                name=spec.name,
                tenant=spec.tenant,
                skills=frozenset(name for name, _ in spec.skills),
                capacity=min(max(spec.capacity, 1), 10_000),
                cost_usd=sum(paid) / len(paid) if (paid := prices.get(spec.name)) else spec.cost_usd,
            )
            for spec in rules.agents
        )
    )


class Replayed:
    """What attempts come to, as they did."""

    def __init__(self, tasks: Iterable[PastTask], estimates: Estimates) -> None:
        self._tasks = {task.spec.id: task for task in tasks}
        self._estimates = estimates
        self._shares = _failure_shares(self._tasks.values())
        self._made: Counter[tuple[str, str]] = Counter()  # (task, agent) → attempts so far

    def next(self, task: str, agent: str) -> Outcome:
        """Return what the task's next attempt on the agent comes to."""
        past = self._tasks[task]
        recorded = [each for each in past.tries if each.agent == agent]
        number = self._made[task, agent]
        self._made[task, agent] += 1
        if number < len(recorded):
            return Outcome(recorded[number].seconds, recorded[number].error)
        return Outcome(self._seconds(past, agent), self._error(past, agent, number))

    def _seconds(self, past: PastTask, agent: str) -> float:
        """Return how long the agent would have needed."""
        slowness = self._estimates.slowness(agent, past.skill)
        good = next((each for each in reversed(past.tries) if each.error is None), None)
        if good is None:
            return max(SHORTEST_S, self._estimates.usual_s(past.skill, past.spec.size) * slowness)
        ratio = 1.0 if good.agent == agent else slowness / self._estimates.slowness(good.agent, past.skill)
        return max(SHORTEST_S, good.seconds * ratio)

    def _error(self, past: PastTask, agent: str, number: int) -> e.Error | None:
        """Return what goes wrong with an attempt that nobody made, None if nothing does."""
        last = past.tries[-1].error if past.tries else None
        if last is not None and not last.get("retryable"):
            return last  # the task's own fault
        share = self._shares.get((agent, past.skill), 0.0)
        if jitter.share(past.spec.id, agent, number) < share:
            return {"kind": "agent", "message": "failed, as its attempts at the skill do", "retryable": True}
        return None


def _failure_shares(tasks: Iterable[PastTask]) -> dict[tuple[str, Skill], float]:
    """Return which share of an agent's attempts at a skill failed by its fault."""
    all_, failed = Counter[tuple[str, Skill]](), Counter[tuple[str, Skill]]()
    for task in tasks:
        for each in task.tries:
            all_[each.agent, task.skill] += 1
            failed[each.agent, task.skill] += each.error is not None and each.error.get("kind") not in BLAMELESS
    return {key: failed[key] / count for key, count in all_.items()}


# ---- in words ---------------------------------------------------------------------------------------------------


def _figures(before: Report, after: Report) -> Iterator[Row]:
    for label, part in (("mean", "mean"), ("median", "p50"), ("95 % within", "p95"), ("99 % within", "p99")):
        pair = (duration(getattr(report.total, part)) for report in (before, after))
        yield Row(label=f"time in system, {label}", before=next(pair), after=next(pair))
    yield Row(label="mean wait", before=duration(before.wait.mean), after=duration(after.wait.mean))
    for label, name in (
        ("completed", "completed"),
        ("failed", "failed"),
        ("never ended", "unfinished"),
        ("deadlines missed", "missed"),
        ("attempts", "attempts"),
        ("retries", "retries"),
    ):
        yield Row(label=label, before=f"{getattr(before, name):,}", after=f"{getattr(after, name):,}")
    yield Row(label="cost", before=usd(before.cost_usd), after=usd(after.cost_usd))


def _really(past: Past) -> dict[str, float]:
    """Return what really passed, in seconds, of completed tasks."""
    spread = _spread(past)
    return {"mean_s": round(spread.mean, 4), "p50_s": round(spread.p50, 4), "p95_s": round(spread.p95, 4)}


def _spread(past: Past) -> Spread:
    return Spread.of(task.ended_at - task.spec.created_at for task in past.tasks if task.completed)


def _calibration(past: Past, rehearsed: Report) -> str:
    """Return "With the rules as they are it comes to a mean of 3.2 s where 3.4 s really passed, …"."""
    really = _spread(past)
    done = {task.spec.id: task.agent for task in past.tasks if task.completed}
    same = sum(rehearsed.given.get(task) == agent for task, agent in done.items())
    share = same / len(done) if done else 0.0
    text = (
        f"With the rules as they are it comes to a mean of {duration(rehearsed.total.mean)} where "
        f"{duration(really.mean)} really passed, and {percent(share)} of the tasks go to the agent that did them."
    )
    off = abs(rehearsed.total.mean - really.mean) / really.mean if really.mean else 0.0
    missing = abs(rehearsed.completed - len(done)) / len(past.tasks)
    if off <= FAR_OFF and missing <= FAR_OFF:
        return text
    why = "agents, rules or load were others then, or tasks waited for workers"
    return f"{text} That is far off ({why}): trust the direction, not the figures."
