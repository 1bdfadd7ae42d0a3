"""A fleet with a clock that the tests turn, and all it has said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from routing import events as e
from routing.fleet import Fleet
from routing.flights import Flight, Phase, Restored
from routing.policies import PolicySpec


def agent(name: str = "a", **changes: Any) -> e.AgentSpec:
    """Return an agent with the skill ``lint`` and two slots."""
    return replace(e.AgentSpec(name=name, tenant="t", skills=frozenset({("lint", "1")}), capacity=2), **changes)


def task(name: str = "x", **changes: Any) -> e.TaskSpec:
    """Return a task that asks for ``lint``."""
    return replace(e.TaskSpec(id=name, tenant="t", skill="lint", timeout_s=60.0), **changes)


class World:
    """A fleet with a clock, and all it has said."""

    def __init__(
        self, *agents: e.AgentSpec, threads: int = 8, policies: Sequence[PolicySpec] = (), **rules: Any
    ) -> None:
        self.fleet = Fleet()
        self.now = 0.0
        self.said: list[e.Effect] = []
        self.register(*(agents or (agent(),)), policies=policies, **rules)
        self.threads = threads
        if threads:
            self.beat(threads=threads)

    def tell(self, fact: e.Fact) -> list[e.Effect]:
        return self._keep(self.fleet.apply(fact, self.now))

    def due(self, at: float | None = None) -> list[e.Effect]:
        """Let it be ``at``."""
        self.now = self.now if at is None else at
        return self._keep(self.fleet.due(self.now))

    def restore(self, phase: Phase = "waiting", attempt: int = 0, **fields: Any) -> list[e.Effect]:
        place = {name: fields.pop(name) for name in ("worker", "incarnation") if name in fields}
        agent, began_at = fields.pop("agent", ""), fields.pop("began_at", 0.0)
        flights = (Flight("x", attempt, agent, began_at, phase=phase, **place),) if agent else ()
        restored = Restored(**{"spec": task(), "seq": 2, "attempt": attempt, "flights": flights, **fields})
        return self._keep(self.fleet.restore(restored, self.now))

    def register(self, *agents: e.AgentSpec, policies: Sequence[PolicySpec] = (), **rules: Any) -> None:
        self.registry = e.RegistryChanged(agents=agents, policies=tuple(policies), **rules)
        self.tell(self.registry)

    def submit(self, name: str = "x", **changes: Any) -> list[e.Effect]:
        """Submit a task, and assign it if that is possible."""
        return self.tell(e.Submitted(task=task(name, **changes))) + self.due()

    def beat(self, *attempts: tuple[str, int], worker: str = "w", **changes: Any) -> list[e.Effect]:
        fields: dict[str, Any] = {"incarnation": "1", "threads": 8} | changes
        return self.tell(e.Beat(worker=worker, attempts=attempts, **fields))

    def start(self, name: str = "x", attempt: int = 1, worker: str = "w") -> list[e.Effect]:
        return self.tell(e.Started(task=name, attempt=attempt, worker=worker))

    def finish(self, name: str = "x", attempt: int = 1, **fields: Any) -> list[e.Effect]:
        return self.tell(e.Finished(task=name, attempt=attempt, **fields)) + self.due()

    def cancel(self, name: str = "x") -> list[e.Effect]:
        return self.tell(e.CancelAsked(task=name, by="me", reason="enough"))

    def fail(self, name: str = "x", attempt: int = 1, kind: str = "agent", **fields: Any) -> list[e.Effect]:
        error: e.Error = {"kind": kind, "message": "no", "retryable": True}
        return self.finish(name, attempt, error=error, **fields)

    def run(self, name: str, seconds: float, attempt: int = 1, **fields: Any) -> list[e.Effect]:
        """Let an attempt that was sent begin, and succeed after so long."""
        self.start(name, attempt)
        self.now += seconds
        self.beat((name, attempt), threads=self.threads)
        return self.finish(name, attempt, **fields)

    def restart(self) -> None:
        """Let another controller take over, with what this one said it should know."""
        kept = {(r.kind, r.name): r.data for r in self.said if isinstance(r, e.Remembered)}
        before, self.fleet = self.fleet, Fleet()
        self.tell(self.registry)
        self.fleet.recall([(kind, name, data) for (kind, name), data in kept.items() if data is not None])
        for live in before.tasks.values():
            flights = tuple(replace(flight) for flight in live.flights)
            restored = Restored(spec=live.spec, seq=live.seq, attempt=live.attempt, tries=live.tries, flights=flights)
            self._keep(self.fleet.restore(restored, self.now))
        self.beat(threads=self.threads)

    def waits(self, name: str = "x") -> str:
        """Return what the task waits for, in words."""
        return self.fleet.tasks[name].waited_for

    def order(self) -> list[str]:
        """Return the tasks in the order in which they were given to agents."""
        return [r.task for r in self.said if isinstance(r, e.Recorded) and r.kind == "assigned"]

    def kinds(self, name: str = "x") -> list[str]:
        """Return the kinds of all that was recorded of a task."""
        return [r.kind for r in self.said if isinstance(r, e.Recorded) and r.task == name]

    def agent_of(self, name: str = "x") -> str:
        """Return who has the task now, "" if nobody."""
        live = self.fleet.tasks[name]
        return live.agent if live.phase in ("assigned", "working") else ""

    def _keep(self, effects: list[e.Effect]) -> list[e.Effect]:
        self.said += effects
        return effects


def dispatched(effects: Sequence[e.Effect]) -> list[tuple[str, int]]:
    """Return (task, attempt) of all that was sent."""
    return [(x.task, x.attempt) for x in effects if isinstance(x, e.Dispatch)]


def recorded(effects: Sequence[e.Effect], kind: str) -> e.Recorded:
    """Return the only record of its kind."""
    [record] = [x for x in effects if isinstance(x, e.Recorded) and x.kind == kind]
    return record
