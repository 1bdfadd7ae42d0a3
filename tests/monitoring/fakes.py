"""A controller for tests of pages: it writes what the real one would, in the same places, and decides nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import redis

from routing.broker import COMMITTED, SNAPSHOT
from routing.models import Attempt, Decision, Task, TaskEvent

STATE_AFTER = {
    "working": "working",
    "progress": "working",
    "log": "working",
    "artifact": "working",
    "cancel_requested": "working",
    "input-required": "input-required",
    "completed": "completed",
    "failed": "failed",
    "canceled": "canceled",
    "rejected": "rejected",
}


def iso(at: datetime) -> str:
    """Return the time as deltas carry it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FakeController:
    """Publishes commits and snapshots. ``fleet``, ``lanes`` and ``workers`` are what a snapshot shows."""

    def __init__(self, url: str, *, seq: int = 0) -> None:
        self.bus = redis.Redis.from_url(url)
        self.seq = seq
        self.is_silent = False
        self.fleet: dict[str, dict[str, Any]] = {}
        self.lanes: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, dict[str, Any]] = {}
        self.counters: dict[str, int] = {"completed": 0, "failed": 0, "waiting": 0, "working": 0}
        self.rates: dict[str, float] = {"completed_per_s": 0.0}
        self.rules: dict[str, list[dict[str, Any]]] = {"limits": [], "budgets": [], "containments": []}

    @contextmanager
    def beating(self) -> Iterator[None]:
        """While inside, write the snapshot twice a second, unless ``is_silent``."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(0.5):
                with suppress(redis.RedisError):
                    if not self.is_silent:
                        self.publish_snapshot()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def agent(
        self, name: str, *, running: int = 0, capacity: int = 4, state: str = "idle", **more: Any
    ) -> dict[str, Any]:
        """Return the agent's row, also for the next snapshot."""
        row = {"agent": name, "tenant": "default", "running": running, "capacity": capacity, "state": state, **more}
        self.fleet[name] = {**self.fleet.get(name, {}), **row}
        return self.fleet[name]

    def lane(
        self, skill: str, waiting: int, *, oldest_at: str | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        """Return the lane's row, also for the next snapshot."""
        row = {"lane": skill, "tenant": "default", "skill": skill, "waiting": waiting, "oldest_at": oldest_at}
        self.lanes[skill] = {**row, "reason": reason}
        if not waiting:
            return {**self.lanes.pop(skill)}
        return self.lanes[skill]

    def worker(self, name: str, *, threads: int = 16, busy: int = 0) -> dict[str, Any]:
        """Return the worker's row, also for the next snapshot."""
        self.workers[name] = {"worker": name, "threads": threads, "busy": busy, "seen_at": iso(datetime.now(UTC))}
        return self.workers[name]

    def commit(self, *events: dict[str, Any], **rows: Any) -> int:
        """Publish one commit and return its number."""
        self.seq += 1
        delta = {"seq": self.seq, "at": iso(datetime.now(UTC)), "events": list(events), **rows}
        self.bus.xadd(COMMITTED, {"d": orjson.dumps(delta)}, id=f"{self.seq}-0")
        return self.seq

    def publish_snapshot(self, *, lives_s: int = 10) -> None:
        """Write the snapshot, as the real one does every second."""
        snapshot = {
            "seq": self.seq,
            "at": iso(datetime.now(UTC)),
            "controller": {"epoch": 3, "holder": "main:4711"},
            "fleet": list(self.fleet.values()),
            "lanes": list(self.lanes.values()),
            "workers": list(self.workers.values()),
            "counters": self.counters,
            "rates": self.rates,
            "rules": self.rules,
            "serves": {},
        }
        self.bus.set(SNAPSHOT, orjson.dumps(snapshot), ex=lives_s)


def record(task: Task, kind: str, *, agent: str = "", attempt: int | None = None, **data: Any) -> dict[str, Any]:
    """Write the event to the ledger, with what it changes in the task's row, and return it as a delta carries it."""
    now = datetime.now(UTC)
    task.seq += 1
    task.state = STATE_AFTER.get(kind, "submitted")
    task.agent = agent or task.agent
    if kind == "working":
        task.started_at = task.started_at or now
    if kind == "progress":
        task.progress = data.get("fraction")
    if task.state in {"completed", "failed", "canceled", "rejected"}:
        task.finished_at = now
        task.error = data.get("error")
    task.save()
    TaskEvent.objects.create(task=task, seq=task.seq, kind=kind, attempt=attempt, at=now, data=data)
    return {
        "task": str(task.id), "seq": task.seq, "kind": kind, "at": iso(now), "attempt": attempt,
        "agent": task.agent or None, "skill": task.skill, "tenant": task.tenant_id, "state": task.state, "data": data,
    }  # fmt: skip


def new_task(skill: str = "echo", *, id: UUID | None = None, age_s: float = 0.0, **fields: Any) -> Task:
    """Return a task as a door inserts it."""
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    values: dict[str, Any] = {
        "input": {"text": "hi"},
        "timeout_s": 60,
        "max_attempts": 3,
        "request_digest": "x",
        **fields,
    }
    if id is not None:
        values["id"] = id
    return Task.objects.create(tenant_id="default", skill=skill, created_at=at, **values)


def new_attempt(task: Task, number: int, agent: str, *, state: str = "working", **fields: Any) -> Attempt:
    """Return an attempt with the decision behind it."""
    now = datetime.now(UTC)
    Decision.objects.create(
        task=task, attempt=number, strategy="balanced", agent=agent, at=now,
        candidates=[
            {"agent": agent, "score": 0.312, "terms": {"service_s": 0.3, "trouble_s": 0.01, "load": 0.25}},
            {"agent": "ruff-slow", "score": 1.94, "terms": {"service_s": 1.9, "trouble_s": 0.0, "load": 0.5}},
        ],
        exclusions={"ruff-steady": "all 2 slots in use"},
    )  # fmt: skip
    return Attempt.objects.create(
        task=task, number=number, agent=agent, state=state, assigned_at=now, started_at=now, worker="w1@main", **fields
    )
