"""How many runs of one workflow may be active at once, and what becomes of one more.  Pure.

Sub-runs do not count: they run in their parent's place, and could otherwise wait for their own parents for ever.
"""

from __future__ import annotations

import heapq

from coordination.runs_state import LiveRun

Key = tuple[str, str]  # tenant, workflow


class Turns:
    """Who is active, and who waits for it."""

    def __init__(self) -> None:
        self._active: dict[Key, dict[str, LiveRun]] = {}
        self._waiting: dict[Key, list[tuple[int, float, str, LiveRun]]] = {}

    def has_room(self, run: LiveRun) -> bool:
        """Return True if the run may begin."""
        most = run.plan.graph.max_active_runs
        return bool(run.spec.parent) or most is None or len(self._active.get(_key(run), ())) < most

    def enter(self, run: LiveRun) -> None:
        """Count the run as active."""
        if not run.spec.parent:
            self._active.setdefault(_key(run), {})[run.id] = run

    def wait(self, run: LiveRun) -> None:
        """Let the run wait for its turn: by priority, then by age."""
        entry = (-run.spec.priority, run.spec.created_at, run.id, run)
        heapq.heappush(self._waiting.setdefault(_key(run), []), entry)

    def leave(self, run: LiveRun) -> None:
        """Count the run as active no more."""
        active = self._active.get(_key(run))
        if active is not None and active.pop(run.id, None) is not None and not active:
            del self._active[_key(run)]

    def next_of(self, run: LiveRun) -> LiveRun | None:
        """Return the run that may begin now that ``run`` has ended, None if there is none."""
        waiting = self._waiting.get(_key(run), [])
        while waiting and waiting[0][3].state != "pending":
            heapq.heappop(waiting)
        if not waiting:
            self._waiting.pop(_key(run), None)
            return None
        return heapq.heappop(waiting)[3] if self.has_room(waiting[0][3]) else None

    def in_the_way_of(self, run: LiveRun) -> list[LiveRun]:
        """Return the runs that have to end so that ``run`` may begin: all that wait, and the oldest active ones."""
        waiting = [entry[3] for entry in self._waiting.get(_key(run), ()) if entry[3].state == "pending"]
        active = [other for other in self._active.get(_key(run), {}).values() if not other.closing]
        most = run.plan.graph.max_active_runs or 1
        oldest = sorted(active, key=lambda other: (other.started_at or 0.0, other.spec.created_at, other.id))
        return waiting + oldest[: max(0, len(active) - most + 1)]


def _key(run: LiveRun) -> Key:
    return run.spec.tenant, run.spec.workflow
