"""What a simulation came to, and how two of them differ, in words.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SAME = 0.005  # relative differences below this are not worth a word
TOLD_SHARE = 0.01  # nor are changes of an agent's share below this
TOLD_AGENTS = 10


@dataclass(slots=True)
class Course:
    """How one task fared."""

    arrived_at: float
    deadline: float | None = None
    began_at: float | None = None  # its first attempt
    ended_at: float | None = None
    outcome: str = ""  # completed failed canceled rejected; "" until it ends
    agent: str = ""  # of its last attempt
    attempts: int = 0  # that began

    @property
    def is_good(self) -> bool:
        """Return whether it completed, and in time if there was a deadline."""
        in_time = self.deadline is None or (self.ended_at is not None and self.ended_at <= self.deadline)
        return self.outcome == "completed" and in_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution of seconds; all 0 of an empty one."""

    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the mean and the nearest-rank percentiles."""
        ranked = sorted(values)
        if not ranked:
            return cls()
        p50, p95, p99 = (ranked[min(len(ranked) - 1, int(share * len(ranked)))] for share in (0.5, 0.95, 0.99))
        return cls(mean=sum(ranked) / len(ranked), p50=p50, p95=p95, p99=p99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a trace under one policy."""

    tasks: int
    completed: int
    failed: int  # ended without success, for whatever reason
    unfinished: int  # waited or ran when nothing more could happen
    late: int  # completed after their deadline
    missed: int  # had a deadline and did not complete before it, for whatever reason
    total: Spread  # seconds from arrival to end, of completed tasks
    wait: Spread  # seconds from arrival to the first attempt's start, of tasks that began
    goodput_per_s: float  # tasks completed in time per second, from the first arrival to the last end
    attempts: int
    retries: int  # attempts that were not a task's first
    cost_usd: float
    shares: Mapping[str, float]  # agent → its share of all attempts, 0..1
    given: Mapping[str, str] = field(repr=False)  # completed task → the agent that did it

    def as_dict(self) -> dict[str, Any]:
        """Return everything but who got what, for JSON."""
        spreads = {
            f"{name}_{part}_s": round(getattr(spread, part), 4)
            for name, spread in (("total", self.total), ("wait", self.wait))
            for part in ("mean", "p50", "p95", "p99")
        }
        plain = ("tasks", "completed", "failed", "unfinished", "late", "missed", "attempts", "retries")
        return {
            **{name: getattr(self, name) for name in plain},
            **spreads,
            "goodput_per_s": round(self.goodput_per_s, 4),
            "cost_usd": round(self.cost_usd, 6),
            "shares": {agent: round(share, 4) for agent, share in self.shares.items()},
        }


def summed_up(courses: Mapping[str, Course], *, attempts: Counter[str], costs_usd: Mapping[str, float]) -> Report:
    """Return the report of finished courses. ``attempts`` counts them by agent; ``costs_usd`` is of one attempt."""
    done = [course for course in courses.values() if course.outcome == "completed"]
    ends = [course.ended_at for course in courses.values() if course.ended_at is not None]
    seconds = max(ends) - min(course.arrived_at for course in courses.values()) if ends else 0.0
    begun = attempts.total()
    good = sum(course.is_good for course in done)
    return Report(
        tasks=len(courses),
        completed=len(done),
        failed=sum(course.outcome not in ("", "completed") for course in courses.values()),
        unfinished=sum(not course.outcome for course in courses.values()),
        late=len(done) - good,
        missed=sum(course.deadline is not None and not course.is_good for course in courses.values()),
        total=Spread.of(c.ended_at - c.arrived_at for c in done if c.ended_at is not None),
        wait=Spread.of(c.began_at - c.arrived_at for c in courses.values() if c.began_at is not None),
        goodput_per_s=good / seconds if seconds else 0.0,
        attempts=begun,
        retries=begun - sum(course.attempts > 0 for course in courses.values()),
        cost_usd=sum(costs_usd[agent] * count for agent, count in attempts.items()),
        shares={agent: attempts[agent] / begun if begun else 0.0 for agent in costs_usd},
        given={task: course.agent for task, course in courses.items() if course.outcome == "completed"},
    )


# ---- two of them ------------------------------------------------------------------------------------------------


def compare(before: Report, after: Report) -> list[str]:
    """Return the differences in words, a line each, of two reports on the same trace; empty if there are none."""
    lines = [
        *_seconds("mean time in system", before.total.mean, after.total.mean),
        *_seconds("time in system, 99th percentile", before.total.p99, after.total.p99),
        *_seconds("mean wait", before.wait.mean, after.wait.mean),
        *_seconds("wait, 99th percentile", before.wait.p99, after.wait.p99),
        *_counts("failed tasks", before.failed, after.failed),
        *_counts("unfinished tasks", before.unfinished, after.unfinished),
        *_counts("completed after their deadline", before.late, after.late),
        *_counts("retries", before.retries, after.retries),
        *_cost(before.cost_usd, after.cost_usd),
        *_shares(before.shares, after.shares),
    ]
    moved = sum(agent != after.given[task] for task, agent in before.given.items() if task in after.given)
    if moved:
        lines.append(f"{moved:,} of {before.tasks:,} tasks went to another agent")
    return lines


def _seconds(what: str, before: float, after: float) -> list[str]:
    if abs(after - before) <= max(SAME * before, 1e-6):
        return []
    return [f"{what}: {before:.2f} s → {after:.2f} s{_change(before, after)}"]


def _counts(what: str, before: int, after: int) -> list[str]:
    return [f"{what}: {before:,} → {after:,}"] if before != after else []


def _cost(before: float, after: float) -> list[str]:
    if abs(after - before) <= max(SAME * before, 1e-9):
        return []
    return [f"cost: ${before:,.4g} → ${after:,.4g}{_change(before, after)}"]


def _change(before: float, after: float) -> str:
    if not before:
        return ""
    ratio = after / before
    return (
        f" ({ratio:.1f} times as much)" if ratio >= 2 else f" ({abs(ratio - 1):.0%} {'more' if ratio > 1 else 'less'})"
    )


def _shares(before: Mapping[str, float], after: Mapping[str, float]) -> Sequence[str]:
    names = sorted({*before, *after}, key=lambda name: -abs(after.get(name, 0.0) - before.get(name, 0.0)))
    return [
        f"{name}: {before.get(name, 0.0):.0%} → {after.get(name, 0.0):.0%} of the attempts"
        for name in names[:TOLD_AGENTS]
        if abs(after.get(name, 0.0) - before.get(name, 0.0)) >= TOLD_SHARE
    ]
