"""What the live page says, from the controller's snapshot and the registry.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from monitoring.words import several

COUNTERS = (
    ("waiting", "Waiting"),
    ("delayed", "Delayed"),
    ("working", "Working"),
    ("completed", "Completed"),
    ("failed", "Failed"),
    ("retried", "Retried"),
    ("canceled", "Canceled"),
    ("rejected", "Rejected"),
)
SILENT = (
    "No controller is reporting, so nothing new is assigned and the figures would be old. "
    "Start everything with “python3 manage.py up”; if it runs, “python3 manage.py doctor” says what is wrong."
)
MOST_AGENTS = 200  # rows of the fleet's table
NO_REDIS = (
    "Redis cannot be reached, so nothing new can be seen. Tasks are still accepted and none is lost. Trying again…"
)


class Health(TypedDict):
    """How things stand: ``level`` is good, warn or bad; ``text`` one sentence; ``more`` what needs attention."""

    level: str
    text: str
    more: list[str]


class Known(TypedDict):
    """What the registry knows of an agent and the snapshot does not."""

    tenant: str
    skills: list[str]
    capacity: int
    state: str  # as far as the registry knows it


def health(snapshot: Mapping[str, Any] | None) -> Health:
    """Return how things stand, worst first. None means that no controller reports."""
    if snapshot is None:
        return {"level": "bad", "text": SILENT, "more": []}
    fleet, workers = snapshot.get("fleet", []), snapshot.get("workers", [])
    if not workers:
        text = "No worker is running, so no task can begin. Start one with “python3 manage.py up”."
        return {"level": "bad", "text": text, "more": _stuck(snapshot) + _blocked(snapshot)}
    more = _stuck(snapshot) + _silent(fleet) + _shut(fleet) + _contained(fleet) + _blocked(snapshot)
    if more:
        return {"level": "warn", "text": more[0], "more": more[1:]}
    crew = f"{several(len(fleet), 'agent')} on {several(len(workers), 'worker')}"
    waiting = sum(lane.get("waiting", 0) for lane in snapshot.get("lanes", []))
    queue = f"{several(waiting, 'task')} waiting" if waiting else "nothing waits"
    return {"level": "good", "text": f"All well: {crew}, {queue}.", "more": []}


def no_redis() -> Health:
    """Return how things stand when Redis cannot be reached."""
    return {"level": "bad", "text": NO_REDIS, "more": []}


def _silent(fleet: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted(agent["agent"] for agent in fleet if agent.get("state") == "silent")
    if not names:
        return []
    return [f"No worker serves {several(len(names), 'agent')}: {_listed(names)}."]


def _shut(fleet: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted(row["agent"] for row in fleet if (row.get("breaker") or {}).get("state") in {"open", "ejected"})
    if not names:
        return []
    return [f"{several(len(names), 'agent')} left alone for a while after failures: {_listed(names)}."]


def _contained(fleet: Sequence[Mapping[str, Any]]) -> list[str]:
    held: dict[str, int] = {}
    for row in fleet:
        contained = row.get("contained") or {}
        if contained.get("state") == "enforce":
            held[contained["switch"]] = held.get(contained["switch"], 0) + 1
    return [f"The containment {switch} holds work back from {several(n, 'agent')}." for switch, n in held.items()][:5]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _stuck(snapshot: Mapping[str, Any]) -> list[str]:
    """Return what waits in vain since a while, a line for each reason."""
    stuck = snapshot.get("stuck", {})
    lines = [f"{_waits(row['tasks'])} that nobody can serve: {row['reason']}." for row in stuck.get("reasons", ())]
    left = stuck.get("tasks", 0) - sum(row["tasks"] for row in stuck.get("reasons", ()))
    return [*lines, f"{_waits(left)} in vain for other reasons."] if left else lines


def _waits(count: int) -> str:
    return f"{several(count, 'task')} {'waits' if count == 1 else 'wait'}"


def _blocked(snapshot: Mapping[str, Any]) -> list[str]:
    told = {row["reason"] for row in snapshot.get("stuck", {}).get("reasons", ())}
    lanes = [lane for lane in snapshot.get("lanes", []) if lane.get("reason") and lane.get("waiting")]
    lanes = [lane for lane in lanes if lane["reason"] not in told]
    lanes.sort(key=lambda lane: -lane["waiting"])
    return [f"{several(lane['waiting'], 'task')} for {lane['skill']}: {lane['reason']}." for lane in lanes[:5]]


def vitals(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the snapshot that no delta carries: counters, rates, who leads, and how things stand."""
    return {
        "at": snapshot.get("at"),
        "controller": snapshot.get("controller", {}),
        "counters": snapshot.get("counters", {}),
        "rates": snapshot.get("rates", {}),
        "health": health(snapshot),
    }


def fleet_rows(known: Mapping[str, Known], snapshot: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return one row an agent, by name: the registry's knowledge under the snapshot's.

    Of more than 200 agents those that need somebody's attention, and then the first.
    """
    live = {row["agent"]: row for row in (snapshot or {}).get("fleet", [])}
    rows = []
    for name in sorted(known.keys() | live.keys()):
        registered = known.get(name, {"tenant": "", "skills": [], "capacity": 0, "state": "silent"})
        rows.append({"agent": name, "running": 0, **registered, **live.get(name, {})})
    if len(rows) > MOST_AGENTS:
        rows = sorted(sorted(rows, key=is_quiet)[:MOST_AGENTS], key=lambda row: str(row["agent"]))
    return rows


def is_quiet(row: Mapping[str, Any]) -> bool:
    """Return whether nothing about the agent needs anybody's attention."""
    is_told = bool((row.get("contained") or {}).get("brief"))
    return row["state"] in {"idle", "busy"} and not row.get("breaker") and not is_told
