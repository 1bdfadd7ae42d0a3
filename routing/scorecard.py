"""What an agent has shown at its skills: learned by the fleet, and counted in the ledger.  Pure.

What is learned is told by ``Estimates`` and ``Breaker`` as the router itself asks them; nothing is reckoned anew.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from routing.breaker import WHOLE, Breaker, Row, Skill, State
from routing.estimates import Estimates

ENDED_WELL, FAILED = "completed", frozenset({"failed", "lost"})
IN_FLIGHT = frozenset({"assigned", "working"})


class Tried(NamedTuple):
    """One attempt, as the ledger has it."""

    skill: str
    version: str  # that was asked for; "" is any
    state: str
    error: str | None  # its kind
    usd: float | None  # what the agent says it cost
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the router expects of the next attempt, as of some seconds ago."""

    success: float  # 0..1
    success_sd: float  # standard deviation of what is known about it
    expected_s: float  # > 0
    p95_s: float | None  # seconds of its successful attempts; None before the first
    cost_usd: float  # of one attempt
    samples: int  # attempts that ended; with 0 all is borrowed from the agent's other skills, and from other agents
    learned_at: datetime | None  # when the last of them ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the ledger says of the time since ``Scorecard.since``."""

    attempts: int  # that were sent to the agent
    running: int
    succeeded: int
    failed: Mapping[str, int]  # kind of error → attempts, the most frequent first
    other: int  # canceled, or handed back
    p50_s: float | None  # seconds of successful attempts; None without one
    p95_s: float | None
    cost_usd: float | None  # that the agent told of; None if it told nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerNow:
    """How a breaker stands."""

    state: State
    words: str  # "" while it is closed
    until: datetime | None  # when the next attempt may try it; None while it is closed
    opens: int  # times it opened, less those forgotten in quiet times
    ejections: int  # times it opened because its peers did better, all told


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """What callers said of the outputs."""

    mean: float | None  # 0..1, None without a word
    ratings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One agent at one skill."""

    skill: str
    version: str  # that is asked for; "" is any
    learned: Learned
    counted: Counted
    breaker: BreakerNow
    feedback: Rated


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """One agent at all its skills."""

    agent: str
    at: datetime
    since: datetime  # the attempts sent from then on are counted
    is_cut: bool  # ``since`` is later than it was meant to be, because there were so many
    breaker: BreakerNow  # of the agent as a whole
    cards: tuple[Card, ...]  # by skill and version


def card(
    agent: str,
    skill: Skill,
    *,
    estimates: Estimates,
    listed_usd: float | None,
    breaker: BreakerNow,
    tried: Iterable[Tried],
    feedback: Rated,
) -> Card:
    """Return the card of one skill."""
    return Card(
        skill=skill[0],
        version=skill[1],
        learned=learned(estimates, agent, skill, listed_usd),
        counted=counted(tried),
        breaker=breaker,
        feedback=feedback,
    )


def learned(estimates: Estimates, agent: str, skill: Skill, listed_usd: float | None = None) -> Learned:
    """Return what is expected; ``listed_usd`` is what the agent says an attempt costs, if it does."""
    success, deviation = estimates.success(agent, skill)
    cell = estimates.cells.get((agent, skill))
    return Learned(
        success=success,
        success_sd=deviation,
        expected_s=estimates.expected_s(agent, skill),
        p95_s=cell.latency.quantile(0.95) if cell else None,
        cost_usd=estimates.expected_cost_usd(agent, skill, listed_usd),
        samples=cell.observed if cell else 0,
        learned_at=datetime.fromtimestamp(cell.updated_at, UTC) if cell and cell.updated_at else None,
    )


def counted(tried: Iterable[Tried]) -> Counted:
    """Return the attempts in figures."""
    rows = list(tried)
    states = Counter(row.state for row in rows)
    errors = Counter(row.error or "unknown" for row in rows if row.state in FAILED)
    seconds = sorted(_seconds(row) for row in rows if row.state == ENDED_WELL)
    costs = [row.usd for row in rows if row.usd is not None]
    running = sum(states[state] for state in IN_FLIGHT)
    return Counted(
        attempts=len(rows),
        running=running,
        succeeded=states[ENDED_WELL],
        failed=dict(errors.most_common()),
        other=len(rows) - running - states[ENDED_WELL] - errors.total(),
        p50_s=_quantile(seconds, 0.5),
        p95_s=_quantile(seconds, 0.95),
        cost_usd=math.fsum(costs) if costs else None,
    )


def breaker_now(row: Row | None, now: float) -> BreakerNow:
    """Return how the breaker that ``row`` tells of stands at ``now``; without a row nothing is held against it."""
    breaker = Breaker() if row is None else Breaker.of(row)
    return BreakerNow(
        state=breaker.state(now),
        words=breaker.tells(now),
        until=None if breaker.until is None else datetime.fromtimestamp(breaker.until, UTC),
        opens=breaker.opens,
        ejections=breaker.ejections,
    )


def skills_of(registered: Iterable[str], *seen: Iterable[Skill]) -> list[Skill]:
    """Return the skills that a scorecard tells of: all that were seen, and of the others any version."""
    found = {skill for skills in seen for skill in skills} - {WHOLE}
    names = {name for name, _ in found}
    return sorted(found | {(name, "") for name in registered if name not in names})


def _seconds(row: Tried) -> float:
    if row.started_at is None or row.finished_at is None:
        return 0.0
    return max(0.0, (row.finished_at - row.started_at).total_seconds())


def _quantile(ordered: list[float], share: float) -> float | None:
    """Return the nearest rank."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None


def usd_of(usage: Any) -> float | None:
    """Return what the agent says an attempt cost, None if it does not say."""
    amount = usage.get("usd") if isinstance(usage, dict) else None
    return float(amount) if isinstance(amount, int | float) else None
