"""Who is there, and what is held against whom, as watchers are told of it.  Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from routing.containment import Containment
from routing.fleet import Fleet

TOLD = 20  # agents that a worker's row names

Reach = frozenset[str] | None  # agents, None is all


class Presence:
    """Tells of agents and workers. An agent's row is made anew only if something of it changed."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._crew: dict[str, Reach] = {}  # workers that take work → the agents they serve
        self._reach: Reach = frozenset()
        self._named_ones: frozenset[str] = frozenset()  # agents that workers name
        self._named: dict[str, tuple[Reach, list[str] | None]] = {}  # worker → what it serves, and its first names

    def look(self) -> None:
        """Follow the workers: agents that one serves now and none did before, or the other way round, are touched."""
        roster = self._fleet.roster
        crew = {name: worker.serves for name, worker in roster.workers.items() if not worker.draining}
        if crew == self._crew:  # nearly always; the sets are mostly the same objects
            return
        before, named_before, self._crew = self._reach, self._named_ones, crew
        self._reach = reach_of(crew.values())
        self._named_ones = frozenset[str]().union(*(names for names in crew.values() if names is not None))
        self._named = {name: known for name, known in self._named.items() if name in roster.workers}
        roster.touched.update(
            name
            for name in roster.agents
            if self._is_served(name, before, named_before) != self._is_served(name, self._reach, self._named_ones)
        )

    def _is_served(self, agent: str, reach: Reach, named: frozenset[str]) -> bool:
        """Return whether a worker serves the agent; a pull agent is served by one that names it alone."""
        return agent in named if self._fleet.roster.agents[agent].spec.is_pull else is_in(agent, reach)

    def touched(self) -> set[str]:
        """Return the agents of which something changed since the last call."""
        roster, breakers = self._fleet.roster, self._fleet.gates.breakers
        found = (roster.touched | breakers.touched) & roster.agents.keys()
        roster.touched, breakers.touched = set(), set()
        return found

    # ---- rows ---------------------------------------------------------------------------------------------------

    def agent(self, name: str, now: float) -> dict[str, Any]:
        """Return the agent's row. ``breaker`` and ``contained`` are None where nothing is held against it."""
        seat = self._fleet.roster.agents[name]
        spec, running, served = seat.spec, len(seat.running), self._is_served(name, self._reach, self._named_ones)
        state = "draining" if spec.draining else "silent" if not served else "busy" if running else "idle"
        state = "disabled" if not spec.enabled else state
        skills = sorted({skill for skill, _ in spec.skills})
        return {
            "agent": name,
            "tenant": spec.tenant,
            "running": running,
            "capacity": spec.capacity,
            "state": state,
            "served": served,
            "breaker": self._breaker(name, now),
            "contained": self._contained(name, spec.tenant, skills, now),
            "skills": skills,
        }

    def worker(self, name: str) -> dict[str, Any]:
        """Return the worker's row; ``serves`` None is all agents, else some of the ``serves_count``."""
        worker = self._fleet.roster.workers[name]
        return {
            "worker": name,
            "threads": worker.threads,
            "busy": self._fleet.roster.busy_on(name),
            "draining": worker.draining,
            "serves": self._names(name, worker.serves),
            "serves_count": None if worker.serves is None else len(worker.serves),
            "seen_at": iso(worker.seen_at),
        }

    def serves(self) -> dict[str, list[str]]:
        """Return all agents of each worker that does not serve all."""
        workers = self._fleet.roster.workers.items()
        return {name: sorted(worker.serves) for name, worker in workers if worker.serves is not None}

    def _names(self, worker: str, serves: Reach) -> list[str] | None:
        known = self._named.get(worker)
        if known is None or known[0] is not serves:
            known = self._named[worker] = (serves, None if serves is None else sorted(serves)[:TOLD])
        return known[1]

    def _breaker(self, name: str, now: float) -> dict[str, Any] | None:
        """Return the gravest breaker that is not closed, and how many more there are."""
        troubles = self._fleet.gates.breakers.troubles(name)
        if not troubles:
            return None
        skill, breaker = min(troubles, key=lambda pair: not pair[1].is_open(now))
        return {
            "state": breaker.state(now),
            "skill": skill[0],  # "" is the agent as a whole
            "text": breaker.tells(now),
            "until": iso(breaker.until or 0.0),
            "more": len(troubles) - 1,
        }

    def _contained(self, name: str, tenant: str, skills: Iterable[str], now: float) -> dict[str, Any] | None:
        """Return the gravest switch that concerns the agent, and how many more there are."""
        switches = self._fleet.gates.containments.over(name, tenant, skills, now)
        if not switches:
            return None
        return _told(switches[0], len(switches) - 1)


@lru_cache(maxsize=1_000)
def _told(switch: Containment, more: int) -> dict[str, Any]:
    """Return what a row says of the switch: always the same object, for it may be asked of every agent at once."""
    word = "contained" if switch.mode == "enforce" else "only observed"
    is_told = switch.mode == "enforce" or switch.scope in {"agent", "skill"}  # else every row would say the same
    return {
        "state": switch.mode,
        "switch": switch.name,
        "brief": f"{word} by {switch.name}" if is_told else "",
        "since": iso(switch.since),
        "more": more,
    }


def reach_of(serving: Iterable[Reach]) -> Reach:
    """Return the agents that any of the workers serves."""
    found: set[str] = set()
    for names in serving:
        if names is None:
            return None
        found |= names
    return frozenset(found)


def is_in(agent: str, reach: Reach) -> bool:
    """Return whether the agent is among those reached."""
    return reach is None or agent in reach


def iso(at: float) -> str:
    """Return seconds since the epoch as watchers are told of times."""
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
