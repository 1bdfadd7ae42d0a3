"""What the controller's snapshot says in numbers.  Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from monitoring.metrics import Sample


def of_snapshot(snapshot: Mapping[str, Any], now: float) -> Iterator[Sample]:
    """Yield tasks, lanes, agents, workers and the controller in numbers; ``now`` in seconds since the epoch."""
    for state in ("waiting", "working", "delayed"):
        yield Sample(name="a2a_tasks", value=snapshot["counters"][state], labels={"state": state})
    yield Sample(name="a2a_tasks_stuck", value=snapshot.get("stuck", {}).get("tasks", 0))
    yield Sample(name="a2a_controller_silence_seconds", value=_age(snapshot["at"], now))
    yield Sample(name="a2a_controller_epoch", value=snapshot["controller"]["epoch"])
    yield from _lanes(snapshot, now)
    yield from _agents(snapshot)
    yield from _workers(snapshot, now)


def _lanes(snapshot: Mapping[str, Any], now: float) -> Iterator[Sample]:
    """Yield depth and age by skill: lanes come and go, skills stay. A skill of no lane now has nothing waiting."""
    skills = {skill for agent in snapshot["fleet"] for skill in agent.get("skills", ())}
    waiting = dict.fromkeys(skills, 0)
    oldest = dict.fromkeys(skills, 0.0)
    for lane in snapshot["lanes"]:
        skill = lane["skill"]
        waiting[skill] = waiting.get(skill, 0) + lane["waiting"]
        if lane["oldest_at"] is not None:
            oldest[skill] = max(oldest.get(skill, 0.0), _age(lane["oldest_at"], now))
    for skill, count in waiting.items():
        yield Sample(name="a2a_lane_waiting", value=count, labels={"skill": skill})
        yield Sample(name="a2a_lane_oldest_seconds", value=oldest.get(skill, 0.0), labels={"skill": skill})


def _agents(snapshot: Mapping[str, Any]) -> Iterator[Sample]:
    running = capacity = 0
    for row in snapshot["fleet"]:
        labels = {"agent": row["agent"]}
        yield Sample(name="a2a_agent_running", value=row["running"], labels=labels)
        yield Sample(name="a2a_agent_capacity", value=row["capacity"], labels=labels)
        share = row["running"] / row["capacity"] if row["capacity"] else 0.0
        yield Sample(name="a2a_agent_utilisation_ratio", value=share, labels=labels)
        yield Sample(name="a2a_agent_served", value=float(bool(row.get("served"))), labels=labels)
        shut = (row.get("breaker") or {}).get("state") in ("open", "ejected")
        yield Sample(name="a2a_agent_breaker_open", value=float(shut), labels=labels)
        if row["state"] in ("idle", "busy"):
            running, capacity = running + row["running"], capacity + row["capacity"]
    yield Sample(name="a2a_fleet_utilisation_ratio", value=running / capacity if capacity else 0.0)


def _workers(snapshot: Mapping[str, Any], now: float) -> Iterator[Sample]:
    yield Sample(name="a2a_workers", value=len(snapshot["workers"]))
    for row in snapshot["workers"]:
        labels = {"worker": row["worker"]}
        yield Sample(name="a2a_worker_threads", value=row["threads"], labels=labels)
        yield Sample(name="a2a_worker_busy", value=row["busy"], labels=labels)
        yield Sample(name="a2a_worker_silence_seconds", value=_age(row["seen_at"], now), labels=labels)


def _age(at: str, now: float) -> float:
    return max(0.0, now - dt.datetime.fromisoformat(at).timestamp())
