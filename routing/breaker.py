"""One circuit breaker: it opens after failures, tries again with one probe, and closes after a success.  Pure.

::

    closed ──3 failures in a row, or most of late attempts──▶ open ──its time is over──▶ half-open
       ▲                                                       ▲                            │
       │                                                       └────── the probe fails ─────┤
       └───────────────────────────── the probe succeeds ───────────────────────────────────┘

Open times are absolute, so they hold over restarts, and half-open is a matter of the clock alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

from routing import jitter

Skill = tuple[str, str]  # (name, version)
Cause = Literal["failures", "outlier"]
State = Literal["closed", "open", "ejected", "half-open"]

WHOLE: Skill = ("", "")  # in place of a skill: the agent as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRule:
    """When breakers open, and for how long."""

    failures_in_row: int = 3
    error_share: float = 0.5  # 0..1, opens above this share of late attempts failed
    gain: float = 0.1  # 0..1, of the moving average of failures
    least_seen: int = 5  # attempts before the share counts
    open_s: float = 10.0  # the first time; the second time twice as long, and so on
    most_times: int = 6  # … up to so many times as long
    jitter: float = 0.25  # 0..1, open times differ by up to this share in both directions
    eject_s: float = 30.0  # in place of ``open_s`` for an agent that is far worse than its peers
    quiet_s: float = 300.0  # after each so long without opening, one opening is forgotten
    blameless: frozenset[str] = frozenset({"bad_input", "canceled", "deadline", "lost"})  # say nothing about the agent

    def problems(self) -> list[str]:
        """Return in words what is wrong with the rule, empty if nothing is."""
        return [words for is_wrong, words in self._checks() if is_wrong]

    def _checks(self) -> Iterator[tuple[bool, str]]:
        yield self.failures_in_row < 2, "failures_in_row must be at least 2: one failure is no pattern."
        yield not 0 < self.error_share < 1, "error_share must lie between 0 and 1."
        yield not 0 < self.gain < 1, "gain must lie between 0 and 1."
        yield self.least_seen < 2, "least_seen must be at least 2: one failure is no pattern."
        for name in ("open_s", "eject_s", "quiet_s"):
            yield not 0 < getattr(self, name) <= 86_400, f"{name} must be above 0 and at most a day, in seconds."
        yield not 1 <= self.most_times <= 1_000, "most_times must lie between 1 and 1000."
        yield not 0 <= self.jitter < 1, "jitter must be at least 0 and below 1."


class Row(TypedDict):
    """One breaker as it is kept, fit for JSON. One that is closed and has no openings is not worth keeping."""

    agent: str
    skill: str  # "" for the agent as a whole
    version: str
    in_row: int  # failures since the last success
    error: float  # 0..1, moving average
    seen: int  # attempts since it closed
    opens: int  # times it opened, less those forgotten, up to ``most_times``
    ejections: int  # times it opened because its peers did better
    until: float | None  # None is closed; from this moment on it is half-open
    cause: Cause
    why: str  # it opened
    probe: str  # the task that tries it, "" if none
    calm_since: float  # since when openings are forgotten
    failing: list[str]  # the skill that failed last
    failed_at: int  # when, as counted by ``seen``
    other_at: int  # when last another skill than that one failed, 0 is never


@dataclass(slots=True)
class Breaker:
    """The state of one breaker; the fields are told in ``Row``."""

    in_row: int = 0
    error: float = 0.0
    seen: int = 0
    opens: int = 0
    ejections: int = 0
    until: float | None = None
    cause: Cause = "failures"
    why: str = ""
    probe: str = ""
    calm_since: float = 0.0
    failing: Skill = WHOLE
    failed_at: int = 0
    other_at: int = 0

    @classmethod
    def of(cls, row: Row) -> Breaker:
        """Return the breaker that ``row`` tells of."""
        return cls(
            in_row=row["in_row"],
            error=row["error"],
            seen=row["seen"],
            opens=row["opens"],
            ejections=row.get("ejections", 0),  # rows of earlier versions do not tell
            until=row["until"],
            cause=row["cause"],
            why=row["why"],
            probe=row["probe"],
            calm_since=row["calm_since"],
            failing=(row["failing"][0], row["failing"][1]),
            failed_at=row["failed_at"],
            other_at=row["other_at"],
        )

    def row(self, agent: str, skill: Skill) -> Row:
        """Return it as it is kept."""
        return {
            "agent": agent,
            "skill": skill[0],
            "version": skill[1],
            "in_row": self.in_row,
            "error": self.error,
            "seen": self.seen,
            "opens": self.opens,
            "ejections": self.ejections,
            "until": self.until,
            "cause": self.cause,
            "why": self.why,
            "probe": self.probe,
            "calm_since": self.calm_since,
            "failing": list(self.failing),
            "failed_at": self.failed_at,
            "other_at": self.other_at,
        }

    @property
    def is_closed(self) -> bool:
        """Return whether nothing is held against the agent."""
        return self.until is None

    def is_open(self, now: float) -> bool:
        """Return whether nothing may try yet."""
        return self.until is not None and now < self.until

    def is_half_open(self, now: float) -> bool:
        """Return whether one probe may try, or does."""
        return self.until is not None and self.until <= now

    def state(self, now: float) -> State:
        """Return how it stands in a word."""
        if self.until is None:
            return "closed"
        if self.until <= now:
            return "half-open"
        return "ejected" if self.cause == "outlier" else "open"

    def is_probe(self, task: str) -> bool:
        """Return whether an attempt of ``task`` decides about it."""
        return bool(task) and self.probe == task

    def count(self, gain: float, failed: Skill | None) -> None:
        """Count an attempt; ``failed`` is its skill if it did, None if it succeeded."""
        self.seen += 1
        self.error += gain * ((failed is not None) - self.error)
        self.in_row = 0 if failed is None else self.in_row + 1
        if failed is None:
            return
        if failed != self.failing:
            self.failing, self.other_at = failed, self.failed_at
        self.failed_at = self.seen

    def why_open(self, rule: BreakerRule, scope: Skill) -> str:
        """Return why it should open, "" if it should not. One for a whole agent needs failures of several skills."""
        is_whole = scope == WHOLE
        where = " across skills" if is_whole else f" at {scope[0]}"
        if self.in_row >= rule.failures_in_row and (not is_whole or self._spans(self.in_row)):
            return f"{self.in_row} failures in a row{where}"
        is_bad = self.seen >= rule.least_seen and self.error > rule.error_share
        if is_bad and (not is_whole or self._spans(math.ceil(1 / rule.gain))):
            return f"{100 * self.error:.0f} % of late attempts failed{where}"
        return ""

    def _spans(self, last: int) -> bool:
        """Return whether failures among the ``last`` attempts concern more than one skill."""
        return self.other_at > max(0, self.seen - last)

    def open(self, rule: BreakerRule, now: float, *, cause: Cause, why: str, name: tuple[str, ...]) -> None:
        """Open it from ``now`` on, each time for longer; ``name`` spreads the times of different breakers."""
        if self.until is None:
            quiet = math.floor((now - self.calm_since) / rule.quiet_s)
            self.opens = max(0, self.opens - max(0, quiet))
        self.opens = min(self.opens + 1, rule.most_times)
        self.ejections += cause == "outlier"
        base_s = rule.eject_s if cause == "outlier" else rule.open_s
        swing = rule.jitter * (2 * jitter.share(*name, self.opens) - 1)
        self.until = now + base_s * self.opens * (1 + swing)
        self.cause, self.why, self.probe = cause, why, ""
        self.in_row, self.error, self.seen = 0, 0.0, 0
        self.failing, self.failed_at, self.other_at = WHOLE, 0, 0

    def close(self, now: float) -> None:
        """Close it. Its openings are forgotten one by one from ``now`` on."""
        self.until, self.why, self.probe, self.calm_since = None, "", "", now

    def tells(self, now: float) -> str:
        """Return how it stands for a person who watches, "" if it is closed."""
        is_free = self.is_half_open(now) and not self.probe
        return "breaker half-open, the next attempt is its probe" if is_free else self.words(now)

    def words(self, now: float) -> str:
        """Return why nothing more may be given to the agent, "" if something may."""
        if self.until is None or (self.until <= now and not self.probe):
            return ""
        if self.until <= now:
            return "breaker half-open, one probe under way"
        second = int(self.until) % 86_400  # by hand, for decisions tell this of many agents
        until = f"{second // 3_600:02}:{second // 60 % 60:02}:{second % 60:02} UTC"
        if self.cause == "outlier":
            return f"ejected until {until}: {self.why}"
        return f"breaker open until {until} after {self.why}"
