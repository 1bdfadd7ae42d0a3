"""The switch that holds work back from an agent, a skill, a tenant or everybody.  Pure.

In ``observe`` mode nothing is held: what would have been is counted, so that a switch can be tried before it is thrown.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict, get_args

Scope = Literal["agent", "skill", "tenant", "everything"]
Mode = Literal["observe", "enforce"]

END_OF_TIME = dt.datetime.max.replace(tzinfo=dt.UTC).timestamp()  # words for what comes later cannot be found
KEPT_TASKS = 1_000  # the latest tasks of each switch are known, so that one that asks again counts once
KEPT_SKILLS = 10_000  # skills for which the matching switches are known


class Work(Protocol):
    """A task, or the lane where it waits: what of it matters here."""

    @property
    def tenant(self) -> str: ...
    @property
    def skill(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    """One switch, as somebody threw it."""

    name: str
    scope: Scope
    value: str = ""  # the agent, the tenant, or a pattern of skills with * ? [abc]; "" for everything
    mode: Mode = "observe"
    cancel_running: bool = False  # enforced, it also cancels what runs
    reason: str
    by: str
    since: float
    release_at: float | None = None  # from then on it holds nothing; None is until somebody takes it away

    @property
    def target(self) -> str:
        """Return in words what it holds back."""
        return "all work" if self.scope == "everything" else f"{self.scope} {self.value}"

    def is_in_force(self, now: float) -> bool:
        """Return whether it has not been released by time."""
        return self.release_at is None or now < self.release_at

    def words(self) -> str:
        """Return why a task waits, for a person who waits for it."""
        until = "" if self.release_at is None else f", until {_moment(self.release_at)}"
        return f"{self.target} contained since {_moment(self.since)} by {self.by}{until}: {self.reason}"

    def refusal(self) -> str:
        """Return why new work is not accepted, and what to do, for the one who brings it."""
        then = "when it is released" if self.release_at is None else f"after {_moment(self.release_at)}"
        return f"Not accepted: {self.words().rstrip('.')}. Try again {then}."

    def problems(self, now: float) -> list[str]:
        """Return in words what is wrong with it when it is thrown at ``now``, empty if nothing is."""
        return [words for is_wrong, words in self._checks(now) if is_wrong]

    def _checks(self, now: float) -> Iterator[tuple[bool, str]]:
        is_everything = self.scope == "everything"
        at = self.release_at
        yield not self.name.strip(), "name must not be empty."
        yield self.scope not in get_args(Scope), f"scope must be one of {', '.join(get_args(Scope))}."
        yield self.mode not in get_args(Mode), f"mode must be one of {', '.join(get_args(Mode))}."
        yield is_everything and bool(self.value), "value must be empty when everything is contained."
        yield not is_everything and not self.value.strip(), f"value must say which {self.scope} is contained."
        yield not self.reason.strip(), "reason must not be empty: those who wait read it."
        yield not self.by.strip(), "by must say who contains it."
        yield at is not None and not at < END_OF_TIME, "release_at must be a moment before the year 10000, or left out."
        yield at is not None and at <= now, "release_at lies in the past. Leave it out, or name a later moment."
        yield self.cancel_running and self.mode == "observe", "cancel_running needs the mode enforce."


class Observed(TypedDict):
    """What one switch would have held, fit for JSON."""

    tasks: int
    latest: list[str]  # of these, the latest


@dataclass(slots=True)
class _Observed:
    tasks: int = 0
    latest: dict[str, None] = field(default_factory=dict)

    def add(self, task: str) -> None:
        if task in self.latest:
            return
        self.tasks += 1
        self.latest[task] = None
        if len(self.latest) > KEPT_TASKS:
            del self.latest[next(iter(self.latest))]


class Containments:
    """All switches that are thrown."""

    def __init__(self) -> None:
        self._all: dict[str, Containment] = {}
        self._by_value: dict[tuple[Scope, str], list[Containment]] = {}  # but for skills, whose values are patterns
        self._patterns: list[Containment] = []
        self._of_skill: dict[str, list[Containment]] = {}  # skill → those of the patterns that match it
        self._releases: list[tuple[float, str]] = []
        self._observed: dict[str, _Observed] = {}

    def replace(self, containments: Iterable[Containment]) -> list[Containment]:
        """Take over the whole list, after a change. Return those that are new or changed.

        Lanes of what is no more contained have new hope; for new ones that cancel, ask ``cancels`` of all that runs.
        """
        before = self._all
        self._all = {containment.name: containment for containment in containments}
        self._releases = [(c.release_at, c.name) for c in self._all.values() if c.release_at is not None]
        heapq.heapify(self._releases)
        self._observed = {name: seen for name, seen in self._observed.items() if name in self._all}
        self._sort_in()
        return [c for name, c in self._all.items() if before.get(name) != c]

    # ---- what is asked ------------------------------------------------------------------------------------------

    def denies(self, work: Work, agent: str, now: float) -> Containment | None:
        """Return what holds the work back from the agent, or with ``agent`` "" from everybody; None if nothing does."""
        return next((c for c in self._about(work, agent, now) if c.mode == "enforce"), None)

    def cancels(self, work: Work, agent: str, now: float) -> Containment | None:
        """Return what demands that an attempt of the work, which runs on the agent, be cancelled; None if nothing."""
        return next((c for c in self._about(work, agent, now) if c.mode == "enforce" and c.cancel_running), None)

    def observe(self, work: Work, task: str, agent: str, now: float) -> None:
        """Count a task that is given to the agent, for all switches that are only tried and would have held it."""
        for containment in self._about(work, agent, now):
            if containment.mode == "observe":
                self._observed.setdefault(containment.name, _Observed()).add(task)

    def over(self, agent: str, tenant: str, skills: Iterable[str], now: float) -> list[Containment]:
        """Return all in force that concern the agent, or a skill of its: those that hold first, of these the widest."""
        if not self._all:
            return []
        groups = [
            self._by_value.get(("everything", ""), ()),
            self._by_value.get(("tenant", tenant), ()),
            self._by_value.get(("agent", agent), ()),
            *(self._matching(skill) for skill in skills if self._patterns),
        ]
        found = {c.name: c for group in groups for c in group if c.is_in_force(now)}
        return sorted(found.values(), key=lambda c: c.mode != "enforce")

    def holding(self, work: Work, now: float) -> list[Containment]:
        """Return all that hold the work back from everybody."""
        return [c for c in self._about(work, "", now) if c.mode == "enforce"]

    def in_force(self, now: float) -> list[Containment]:
        """Return all that are thrown and not released by time, by name."""
        return sorted((c for c in self._all.values() if c.is_in_force(now)), key=lambda c: c.name)

    def observed(self, name: str) -> int:
        """Return how many tasks the switch would have held. Of very many, one that comes again later counts again."""
        seen = self._observed.get(name)
        return seen.tasks if seen else 0

    def observed_words(self, name: str) -> str:
        """Return the same for a person."""
        count = self.observed(name)
        return f"would have held {count} task" + ("" if count == 1 else "s")

    # ---- time ---------------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return when the next switch is released, None if none will be by time."""
        return self._releases[0][0] if self._releases else None

    def due(self, now: float) -> list[Containment]:
        """Return those that were released since the last call, and forget them: their lanes have new hope."""
        released = []
        while self._releases and self._releases[0][0] <= now:
            _, name = heapq.heappop(self._releases)
            released.append(self._all.pop(name))
            self._observed.pop(name, None)
        if released:
            self._sort_in()
        return released

    # ---- keeping ------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Observed]:
        """Return what was observed, fit for JSON; the switches themselves are rows that come by ``replace``."""
        return {name: {"tasks": o.tasks, "latest": list(o.latest)} for name, o in self._observed.items()}

    def restore(self, kept: Mapping[str, Observed]) -> None:
        """Take over what ``snapshot`` returned, for those switches that are thrown; so ``replace`` comes first."""
        for name in self._all.keys() & kept.keys():
            self._observed[name] = _Observed(kept[name]["tasks"], dict.fromkeys(kept[name]["latest"]))

    # ---- within -------------------------------------------------------------------------------------------------

    def _sort_in(self) -> None:
        self._by_value, self._patterns, self._of_skill = {}, [], {}
        for containment in self._all.values():
            if containment.scope == "skill":
                self._patterns.append(containment)
            else:
                self._by_value.setdefault((containment.scope, containment.value), []).append(containment)

    def _about(self, work: Work, agent: str, now: float) -> Iterator[Containment]:
        """Yield all in force that concern the work, or the agent if one is named, the widest first."""
        if not self._all:
            return
        groups = [
            self._by_value.get(("everything", ""), ()),
            self._by_value.get(("tenant", work.tenant), ()),
            self._matching(work.skill) if self._patterns else (),
            self._by_value.get(("agent", agent), ()) if agent else (),
        ]
        yield from (c for group in groups for c in group if c.is_in_force(now))

    def _matching(self, skill: str) -> list[Containment]:
        known = self._of_skill.get(skill)
        if known is None:
            known = [c for c in self._patterns if fnmatch.fnmatchcase(skill, c.value)]
            if len(self._of_skill) >= KEPT_SKILLS:
                self._of_skill.clear()
            self._of_skill[skill] = known
        return known


def _moment(at: float) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
