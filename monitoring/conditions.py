"""What in the controller's snapshot needs somebody.  Pure.

A condition that holds long enough becomes an alert, and one that has not held for a while is over: what flickers in
between is one alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from monitoring.words import several

OVER_AFTER_S = 30.0  # it is over when it has not been seen for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that holds now. ``hold_s``: it is an alert once it has held for so long."""

    kind: str
    key: str
    severity: str  # of ``models.Severity``
    title: str
    hold_s: float = 0.0


KINDS = ("task-nobody-can-do", "no-worker", "agent-unserved", "agent-breaker-open")


def found(snapshot: Mapping[str, Any]) -> Iterator[Condition]:
    """Yield what holds, the same thing under the same kind and key each time."""
    for row in snapshot.get("stuck", {}).get("reasons", ()):  # they have waited for a minute already
        waits = f"{several(row['tasks'], 'task')} {'waits' if row['tasks'] == 1 else 'wait'}"
        title = f"{waits} that nobody can do: {row['reason']}."
        yield Condition(kind="task-nobody-can-do", key=row["reason"], severity="critical", title=title)
    workers = [worker for worker in snapshot.get("workers", ()) if not worker.get("gone")]
    if not workers:
        yield Condition(kind="no-worker", key="", severity="critical", title="No worker is at work.", hold_s=15.0)
    for agent in snapshot.get("fleet", ()) if workers else ():
        if agent.get("state") == "silent":
            title = f"No worker serves the agent {agent['agent']}."
            yield Condition(kind="agent-unserved", key=agent["agent"], severity="warning", title=title, hold_s=60.0)
    for agent in snapshot.get("fleet", ()):
        if (agent.get("breaker") or {}).get("state") in ("open", "ejected"):
            title = f"The agent {agent['agent']} is left alone after failures."
            yield Condition(kind="agent-breaker-open", key=agent["agent"], severity="warning", title=title, hold_s=5.0)


@dataclass(slots=True)
class Watch:
    """Which conditions have held since when, and which are alerts."""

    since: dict[tuple[str, str], float] = field(default_factory=dict)
    seen: dict[tuple[str, str], float] = field(default_factory=dict)
    titles: dict[tuple[str, str], str] = field(default_factory=dict)  # of those that are alerts

    def look(self, holding: Iterable[Condition], now: float) -> tuple[list[Condition], list[tuple[str, str]]]:
        """Return what is an alert and was none, or reads differently now, and what is over; ``now`` in seconds."""
        raised: list[Condition] = []
        for condition in holding:
            name = (condition.kind, condition.key)
            self.seen[name] = now
            began = self.since.setdefault(name, now)
            if now - began >= condition.hold_s and self.titles.get(name) != condition.title:
                self.titles[name] = condition.title
                raised.append(condition)
        over = [name for name, at in self.seen.items() if now - at > OVER_AFTER_S]
        ended = [name for name in over if name in self.titles]
        for name in over:
            for known in (self.since, self.seen, self.titles):
                known.pop(name, None)
        return raised, ended

    def adopt(self, name: tuple[str, str], now: float) -> None:
        """Take over an alert that an earlier watch has opened, so that it ends when its condition does."""
        self.since.setdefault(name, now)
        self.seen.setdefault(name, now)
        self.titles.setdefault(name, "")
