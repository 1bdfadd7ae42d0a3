"""Which agents are left alone for a while, because they failed?  Pure.

There is one breaker per agent and skill, and one per agent for failures that span its skills. Whoever begins an attempt
calls ``probing``; whoever ends one calls exactly one of ``succeeded``, ``failed`` and ``probe_over``. A half-open
breaker has one attempt at a time as its probe, and only the end of that decides; a breaker that is not closed hears
nothing else, for what began before it opened is old news.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Container, Iterable
from dataclasses import dataclass

from routing.breaker import WHOLE, Breaker, BreakerRule, Cause, Row, Skill

KEPT_SKILLS = 1_000  # breakers of one agent; closed ones that heard nothing for longest are forgotten first
KEPT_ANSWERS = 2_000  # as many as lanes are kept
KEPT_LOOKS = 100  # outdated timers are kept up to so many, and as many again as breakers are not closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who of the able agents may be used now."""

    admitted: frozenset[str]
    excluded: dict[str, str]  # the others → why
    ignored: bool = False  # what breakers say is, because fewer than half of the agents would remain

    @property
    def is_shut(self) -> bool:
        """Return whether agents are able and breakers exclude them all: then tasks wait for a probe, or fail."""
        return not self.admitted and bool(self.excluded)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    admission: Admission
    holds_from: float
    holds_until: float  # unless a breaker changes before


class Breakers:
    """All breakers of the fleet."""

    def __init__(self, rule: BreakerRule | None = None) -> None:
        self.rule = rule or BreakerRule()
        self.touched: set[str] = set()  # agents, since somebody last cleared it, for live pages
        self._breakers: dict[str, dict[Skill, Breaker]] = {}  # agent → skill, or WHOLE → breaker
        self._troubled: dict[str, int] = {}  # agent → how many of its breakers are not closed
        self._not_closed = 0
        self._timers: list[tuple[float, str, Skill]] = []  # (half-open at, agent, skill); outdated ones are skipped
        self._changed: dict[tuple[str, Skill], None] = {}
        self._answers: dict[tuple[Skill, frozenset[str]], _Answer] = {}  # since the last change

    # ---- what happens -------------------------------------------------------------------------------------------

    def probing(self, agent: str, skill: Skill, task: str, now: float) -> bool:
        """Note down that an attempt of ``task`` begins. Return whether it is the probe of a half-open breaker."""
        is_probe = False
        for key, breaker in self._between(agent, skill):
            if breaker.is_half_open(now) and not breaker.probe:
                self._set_probe(agent, key, breaker, task)
                is_probe = True
        return is_probe

    def probe_over(self, agent: str, skill: Skill, task: str) -> bool:
        """Note down that the attempt ended and told nothing. Return whether another one may try in its place."""
        was_probe = False
        for key, breaker in self._between(agent, skill):
            if breaker.is_probe(task):
                self._set_probe(agent, key, breaker, "")
                was_probe = True
        return was_probe

    def succeeded(self, agent: str, skill: Skill, now: float, *, task: str) -> bool:
        """Note down that the attempt succeeded. Return whether a breaker closed by it."""
        has_closed = False
        for key in (WHOLE, skill):
            breaker = self._breaker(agent, key)
            if breaker.is_closed:
                breaker.count(self.rule.gain, None)
            elif breaker.is_probe(task):
                self._close(agent, key, breaker, now)
                has_closed = True
        return has_closed

    def failed(self, agent: str, skill: Skill, now: float, kind: str, *, task: str) -> bool:
        """Note down that the attempt failed. Return whether a breaker opened by it; then others may be admitted.

        ``kind`` is that of the error; one that says nothing about the agent only frees the probe's place.
        """
        if kind in self.rule.blameless:
            self.probe_over(agent, skill, task)
            return False
        has_opened = False
        for key in (WHOLE, skill):
            breaker, why = self._breaker(agent, key), ""
            if breaker.is_closed:
                breaker.count(self.rule.gain, skill)
                why = breaker.why_open(self.rule, key)
            elif breaker.is_probe(task):
                why = f"its probe failed ({kind})"
            if why:
                self._open(agent, key, breaker, now, cause="failures", why=why)
                has_opened = True
        return has_opened

    def eject(self, agent: str, skill: Skill, now: float, why: str) -> bool:
        """Open the breaker of an agent that is far worse than its peers. Return False if it is not closed anyway."""
        breaker = self._breaker(agent, skill)
        if breaker.is_closed:
            self._open(agent, skill, breaker, now, cause="outlier", why=why)
            return True
        return False

    def keep(self, agents: Container[str]) -> None:
        """Forget all other agents: they are registered no more."""
        for agent in [name for name in self._breakers if name not in agents]:
            for key in list(self._breakers[agent]):
                self._forget(agent, key)
            del self._breakers[agent]

    def keep_probes(self, in_flight: Container[str]) -> None:
        """Free the places of probes that are no tasks in flight: after a restart some may not have come back."""
        for agent in self._troubled:
            for key, breaker in self._breakers[agent].items():
                if breaker.probe and breaker.probe not in in_flight:
                    self._set_probe(agent, key, breaker, "")

    # ---- what is asked ------------------------------------------------------------------------------------------

    def verdict(self, agent: str, skill: Skill, now: float) -> str | None:
        """Return in words why the agent must not be given the skill's task now, or None if it may be."""
        if agent not in self._troubled:
            return None
        return next((words for _, breaker in self._between(agent, skill) if (words := breaker.words(now))), None)

    def opens_until(self, agent: str, skill: Skill, now: float) -> float | None:
        """Return until when the agent is not used for the skill, None if no breaker is open."""
        between = self._between(agent, skill)
        return max((b.until for _, b in between if b.until is not None and b.until > now), default=None)

    def is_closed(self, agent: str, skill: Skill) -> bool:
        """Return whether nothing is held against the agent at this skill."""
        return agent not in self._troubled or all(b.is_closed for _, b in self._between(agent, skill))

    def troubles(self, agent: str) -> list[tuple[Skill, Breaker]]:
        """Return the breakers of the agent that are not closed, that of the whole agent first."""
        if agent not in self._troubled:
            return []
        found = [(key, breaker) for key, breaker in self._breakers[agent].items() if not breaker.is_closed]
        return sorted(found, key=lambda pair: pair[0])

    def admitted(self, able: frozenset[str], skill: Skill, now: float) -> Admission:
        """Return who of ``able`` may be given the skill's task now; the answer is kept until something changes.

        Breakers are ignored while fewer than half would remain, for the rest would drown; but only while one agent is
        healthy. If none is, tasks wait for the probe of one that is half-open, or fail where the policy says so
        (``Admission.is_shut``). An agent whose probe is under way counts as remaining: it may be back in a moment.
        """
        if not self._troubled:
            return Admission(admitted=able, excluded={})
        answer = self._answers.get((skill, able))
        if answer is None or not answer.holds_from <= now < answer.holds_until:
            if len(self._answers) >= KEPT_ANSWERS:
                self._answers.clear()
            answer = self._answers[skill, able] = self._answer(able, skill, now)
        return answer.admission

    def _answer(self, able: frozenset[str], skill: Skill, now: float) -> _Answer:
        excluded: dict[str, str] = {}
        remain = healthy = len(able)
        until = math.inf
        for agent in sorted(name for name in self._troubled if name in able):
            between = [breaker for _, breaker in self._between(agent, skill) if not breaker.is_closed]
            healthy -= bool(between)
            if words := next((words for breaker in between if (words := breaker.words(now))), ""):
                excluded[agent] = words
            if ends := [b.until for b in between if b.until is not None and b.until > now]:
                remain -= 1
                until = min(until, *ends)
        if excluded and healthy and 2 * remain < len(able):
            admission = Admission(admitted=able, excluded={}, ignored=True)
        else:
            admission = Admission(admitted=able - excluded.keys(), excluded=excluded)
        return _Answer(admission=admission, holds_from=now, holds_until=until)

    # ---- time ---------------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return when the next breaker becomes half-open, None if none is open."""
        while self._timers and not self._is_current(*self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def due(self, now: float) -> set[str]:
        """Return the agents of which a breaker became half-open since the last call: who waits may try again."""
        ready = set()
        while (at := self.next_due()) is not None and at <= now:
            ready.add(heapq.heappop(self._timers)[1])
        self.touched |= ready
        return ready

    # ---- keeping ------------------------------------------------------------------------------------------------

    def changed(self) -> list[Row]:
        """Return the breakers that opened, closed, or got or lost a probe since the last call, as they are now.

        A row that is closed without openings can be deleted.
        """
        rows = [(self._breakers.get(agent, {}).get(key) or Breaker()).row(agent, key) for agent, key in self._changed]
        self._changed.clear()
        return rows

    def snapshot(self) -> list[Row]:
        """Return everything, also what closed breakers have counted."""
        return [breaker.row(agent, key) for agent, known in self._breakers.items() for key, breaker in known.items()]

    def restore(self, rows: Iterable[Row]) -> None:
        """Take over what ``snapshot`` or ``changed`` returned, into breakers that know nothing yet."""
        for row in rows:
            breaker = Breaker.of(row)
            self._breakers.setdefault(row["agent"], {})[row["skill"], row["version"]] = breaker
            if not breaker.is_closed:
                self._count_trouble(row["agent"], 1)
        self._answers.clear()
        self._set_timers()

    # ---- from one state to the next -----------------------------------------------------------------------------

    def _open(self, agent: str, key: Skill, breaker: Breaker, now: float, *, cause: Cause, why: str) -> None:
        if breaker.is_closed:
            self._count_trouble(agent, 1)
        breaker.open(self.rule, now, cause=cause, why=why, name=(agent, *key))
        self._note_change(agent, key)
        if breaker.until is not None:
            heapq.heappush(self._timers, (breaker.until, agent, key))
        if len(self._timers) > 2 * self._not_closed + KEPT_LOOKS:
            self._set_timers()

    def _close(self, agent: str, key: Skill, breaker: Breaker, now: float) -> None:
        breaker.close(now)
        self._count_trouble(agent, -1)
        self._note_change(agent, key)

    def _set_probe(self, agent: str, key: Skill, breaker: Breaker, task: str) -> None:
        breaker.probe = task
        self._note_change(agent, key)

    def _note_change(self, agent: str, key: Skill) -> None:
        self._changed[agent, key] = None
        self.touched.add(agent)
        self._answers.clear()

    # ---- small things -------------------------------------------------------------------------------------------

    def _between(self, agent: str, skill: Skill) -> list[tuple[Skill, Breaker]]:
        """Return the breakers that stand between the agent and the skill: its own, and that for the skill."""
        known = self._breakers.get(agent)
        return [(key, known[key]) for key in (WHOLE, skill) if key in known] if known else []

    def _breaker(self, agent: str, key: Skill) -> Breaker:
        """Return the breaker, a new one if need be; the one that was heard of last stands last."""
        known = self._breakers.setdefault(agent, {})
        breaker = known[key] = known.pop(key) if key in known else Breaker()
        if len(known) > KEPT_SKILLS:
            closed = (old for old, b in known.items() if b.is_closed and old not in (WHOLE, key))
            if (oldest := next(closed, None)) is not None:
                self._forget(agent, oldest)
        return breaker

    def _forget(self, agent: str, key: Skill) -> None:
        breaker = self._breakers[agent].pop(key)
        if breaker.opens:
            self._note_change(agent, key)
        if not breaker.is_closed:
            self._count_trouble(agent, -1)

    def _count_trouble(self, agent: str, change: int) -> None:
        self._not_closed += change
        self._troubled[agent] = self._troubled.get(agent, 0) + change
        if not self._troubled[agent]:
            del self._troubled[agent]

    def _is_current(self, at: float, agent: str, key: Skill) -> bool:
        breaker = self._breakers.get(agent, {}).get(key)
        return breaker is not None and breaker.until == at

    def _set_timers(self) -> None:
        self._timers = [
            (breaker.until, agent, key)
            for agent in self._troubled
            for key, breaker in self._breakers[agent].items()
            if breaker.until is not None
        ]
        heapq.heapify(self._timers)
