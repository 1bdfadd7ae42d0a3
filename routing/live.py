"""What watchers are told: one delta a commit, and a snapshot of the whole, both of committed facts only."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
import redis

from routing import broker, ledger, standings
from routing import events as e
from routing.fleet import Fleet
from routing.lanes import Lane
from routing.line import Line
from routing.presence import Presence, iso

log = logging.getLogger(__name__)

KEPT_DELTAS = 20_000
SNAPSHOT_EVERY_S = 0.25
SNAPSHOT_LIVES_S = 10
RULES_EVERY_S = 1.0
RATE_WINDOW_S = 10.0
STUCK_AFTER_S = 60.0  # a lane that nobody can serve, and whose oldest task waits for longer
TOLD_STUCK = 5  # reasons told, those of most tasks first


Observer = Callable[[Mapping[str, Any]], None]
_OBSERVERS: dict[str, Callable[[], Observer]] = {}


def observe(name: str, factory: Callable[[], Observer]) -> None:
    """Have the leading controller show each snapshot to an observer, made anew for each reign. It has to be quick."""
    _OBSERVERS[name] = factory


class Live:
    """Turns the fleet's state into deltas and snapshots."""

    def __init__(self, fleet: Fleet, *, epoch: int, holder: str, seq: int) -> None:
        self.seq = seq  # of the last commit
        self.revision = -1
        self._fleet = fleet
        self._epoch = epoch
        self._holder = holder
        self._told_revision = -1
        self._counts: Counter[str] = Counter(ledger.counts())
        self._retried = 0
        self._ends: deque[tuple[float, str]] = deque()
        self._snapshot_at = 0.0
        self._workers: dict[str, Any] = {}
        self._presence = Presence(fleet)
        self._rules_at = 0.0
        self._rules: dict[str, Any] = {}
        self._observers = {name: factory() for name, factory in _OBSERVERS.items()}

    def revision_is_new(self) -> bool:
        """Return True once after each change of the registry."""
        is_new = self._told_revision != self.revision
        self._told_revision = self.revision
        return is_new

    def is_due(self) -> bool:
        """Return True when the snapshot should be written although nothing was committed."""
        return time.monotonic() - self._snapshot_at > 1.0

    def publish(self, line: Line | None, recorded: list[e.Recorded], *, reset: bool) -> None:
        """Tell watchers of a commit. With ``line`` None it is only counted: they will see a gap in the numbers."""
        now = time.time()
        for r in recorded:
            self._count(r)
        if line is None:
            return
        self._presence.look()
        commands: list[tuple[Any, ...]] = []
        delta = self._delta(recorded, now, reset=reset)
        if recorded or reset:
            # The id is the commit's number: a second delta for the same commit is refused, and a gap is seen.
            limit = ("MAXLEN", "~", KEPT_DELTAS)
            commands.append(("XADD", broker.COMMITTED, *limit, f"{self.seq}-0", "d", orjson.dumps(delta)))
        if time.monotonic() - self._snapshot_at > SNAPSHOT_EVERY_S:
            self._snapshot_at = time.monotonic()
            snapshot = self.snapshot(now)
            self._show(snapshot)
            commands.append(("SET", broker.SNAPSHOT, orjson.dumps(snapshot), "EX", SNAPSHOT_LIVES_S))
        if commands:
            with suppress(redis.ResponseError):
                line.ask_all(commands)

    def _show(self, snapshot: Mapping[str, Any]) -> None:
        """Let observers look. One that breaks is left out from now on: the fleet does not end with it."""
        for name, observer in list(self._observers.items()):
            try:
                observer(snapshot)
            except Exception:
                log.exception("the observer %s is left out until another controller leads", name)
                del self._observers[name]

    def begin(self) -> None:
        """Begin with the reign: observers that have a ``begin`` are told."""
        self._tell("begin")

    def close(self) -> None:
        """End with the reign: observers that have a ``close`` are told."""
        self._tell("close")

    def _tell(self, what: str) -> None:
        for observer in self._observers.values():
            if (told := getattr(observer, what, None)) is not None:
                told()

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return the whole live state. How the rules stand, and who serves whom, is at most a second old."""
        fleet = self._fleet
        self._presence.look()
        if time.monotonic() - self._rules_at > RULES_EVERY_S:
            self._rules_at = time.monotonic()
            self._rules = {"rules": standings.rules(fleet, now), "serves": self._presence.serves()}
        return {
            "seq": self.seq,
            "at": iso(now),
            "revision": self.revision,
            "controller": {"epoch": self._epoch, "holder": self._holder},
            "fleet": [self._presence.agent(name, now) for name in sorted(fleet.roster.agents)],
            "lanes": [self._lane(key) for key, lane in fleet.lanes.all.items() if len(lane)],
            "stuck": self._stuck(now),
            "workers": [self._presence.worker(name) for name in sorted(fleet.roster.workers)],
            "counters": self._counters(),
            "rates": {"completed_per_s": round(self._rate("completed", now), 2),
                      "failed_per_s": round(self._rate("failed", now), 2)},
            **self._rules,
        }  # fmt: skip

    def _delta(self, recorded: list[e.Recorded], now: float, *, reset: bool) -> dict[str, Any]:
        fleet = self._fleet
        lanes, fleet.lanes.touched = fleet.lanes.touched, set()
        moments = {at: iso(at) for at in {r.at for r in recorded}}  # a commit's events have few
        delta: dict[str, Any] = {
            "seq": self.seq,
            "at": iso(now),
            "events": [self._event(r, moments) for r in recorded],
            "fleet": [self._presence.agent(name, now) for name in sorted(self._presence.touched())],
            "lanes": [self._lane(key) for key in lanes],
            "workers": self._changed_workers(),
            "counters": self._counters(),
        }
        if reset:
            delta["reset"] = True
        return delta

    def _event(self, r: e.Recorded, moments: Mapping[float, str]) -> dict[str, Any]:
        return {
            "task": r.task,
            "seq": r.seq,
            "kind": r.kind,
            "at": moments[r.at],
            "attempt": r.attempt,
            "agent": r.agent or None,
            "skill": r.skill,
            "tenant": r.tenant,
            "state": STATES.get(r.kind, "working"),
            "data": r.data,
        }

    def _lane(self, key: Any) -> dict[str, Any]:
        lane = self._fleet.lanes.all.get(key)
        oldest = lane.oldest() if lane is not None else None
        return {
            "lane": str(key),
            "tenant": key.tenant,
            "skill": key.skill,
            "waiting": len(lane) if lane is not None else 0,
            "oldest_at": iso(oldest) if oldest is not None else None,
            "held": (lane.held or None) if lane is not None else None,
            "reason": (lane.reason or lane.held or None) if lane is not None else None,
        }

    def _stuck(self, now: float) -> dict[str, Any]:
        """Return how many lanes and tasks wait in vain since a while, and why."""
        lanes = self._fleet.lanes
        stuck = [lane for key in lanes.waiting if (lane := lanes.all[key]).reason and _is_old(lane, now)]
        by_reason: Counter[str] = Counter()
        for lane in stuck:
            by_reason[lane.reason] += len(lane)
        reasons = [{"reason": reason, "tasks": count} for reason, count in by_reason.most_common(TOLD_STUCK)]
        return {"lanes": len(stuck), "tasks": by_reason.total(), "reasons": reasons}

    def _changed_workers(self) -> list[dict[str, Any]]:
        present = {name: self._presence.worker(name) for name in self._fleet.roster.workers}
        changed = [worker for name, worker in present.items() if self._workers.get(name) != worker]
        changed += [{"worker": name, "threads": 0, "busy": 0, "gone": True} for name in self._workers.keys() - present]
        self._workers = present
        return changed

    def _counters(self) -> dict[str, int]:
        waiting = len(self._fleet.lanes)
        ended = {state: self._counts[state] for state in ("completed", "failed", "canceled", "rejected")}
        live = len(self._fleet.tasks)
        flying = self._fleet.roster.busy - self._fleet.hedges
        return {"submitted": sum(ended.values()) + live, **ended, "working": flying, "waiting": waiting,
                "delayed": live - waiting - flying, "retried": self._retried}  # fmt: skip

    def _count(self, r: e.Recorded) -> None:
        if r.kind == "requeued":
            self._retried += 1
        elif r.kind in ledger.TERMINAL_KINDS:
            self._counts[r.kind] += 1
            self._ends.append((r.at, r.kind))

    def _rate(self, kind: str, now: float) -> float:
        while self._ends and self._ends[0][0] < now - RATE_WINDOW_S:
            self._ends.popleft()
        return sum(1 for _, k in self._ends if k == kind) / RATE_WINDOW_S


STATES = {
    "submitted": "submitted",
    "assigned": "submitted",
    "requeued": "submitted",
    "answered": "submitted",
    "input-required": "input-required",
    "auth-required": "auth-required",
    "completed": "completed",
    "failed": "failed",
    "canceled": "canceled",
    "rejected": "rejected",
}


def _is_old(lane: Lane, now: float) -> bool:
    oldest = lane.oldest()
    return oldest is not None and now - oldest > STUCK_AFTER_S
