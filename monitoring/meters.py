"""What the leading controller counts of tasks, and the thread beside it that measures every 5 seconds and writes it."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import DatabaseError, connection

from monitoring import figures, rulebook, samplers, store
from monitoring.conditions import Condition
from monitoring.metrics import Sample
from monitoring.samplers import Sampler
from monitoring.sketches import Distribution
from routing import events as e
from routing.ledger import TERMINAL_KINDS
from routing.reducers import Wish

log = logging.getLogger(__name__)

TICK_S = 5.0
FIRST_S = 1.0  # after the start
PATIENCE_S = 1.0  # a sampler that takes longer is not waited for
ROLL_S = 60.0  # how often full ten minutes are looked for
MOST_ASSIGNED = 100_000


class Meter:
    """A ``routing.reducers.Reducer`` that wishes nothing: it counts what the fleet records."""

    def __init__(self) -> None:
        global _meter
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._observed: dict[tuple[str, tuple[tuple[str, str], ...]], Distribution] = {}
        self._assigned: dict[tuple[str, int | None], float] = {}
        _meter = self

    def hear(self, recorded: Sequence[e.Recorded], now: float) -> Sequence[Wish]:
        """Count."""
        with self._lock:
            for r in recorded:
                self._count(r)
        return ()

    def _count(self, r: e.Recorded) -> None:
        skill, one = ("skill", r.skill), self._counts
        if r.kind == "submitted":
            one["a2a_tasks_submitted_total", (skill,)] += 1
        elif r.kind == "assigned":
            self._assigned[r.task, r.attempt] = r.at
            if len(self._assigned) > MOST_ASSIGNED:  # the oldest: of attempts that ended in ways not counted here
                del self._assigned[next(iter(self._assigned))]
            if (waited_s := r.data.get("waited_s")) is not None:
                self._observe("a2a_task_wait_seconds", skill, float(waited_s))
        elif r.kind == "requeued":
            one["a2a_tasks_retried_total", (skill,)] += 1
            self._assigned.pop((r.task, r.attempt), None)
        elif r.kind in TERMINAL_KINDS:
            one["a2a_tasks_ended_total", (skill, ("state", r.kind))] += 1
            begun = self._assigned.pop((r.task, r.attempt), None)
            if r.agent:
                one["a2a_agent_ended_total", (("agent", r.agent), ("state", r.kind))] += 1
                if begun is not None:
                    self._observe("a2a_attempt_seconds", ("agent", r.agent), r.at - begun)

    def _observe(self, name: str, label: tuple[str, str], value: float) -> None:
        self._observed.setdefault((name, (label,)), Distribution()).add(max(0.0, value))

    def take(self) -> list[Sample]:
        """Return the counters as they stand, and what was observed since the last call."""
        with self._lock:
            observed, self._observed = self._observed, {}
            counts = list(self._counts.items())
        found = [Sample(name=name, value=float(count), labels=dict(labels)) for (name, labels), count in counts]
        return found + [Sample(name=name, value=each, labels=dict(labels)) for (name, labels), each in observed.items()]

    def restore(self, now: float) -> Sequence[Wish]:
        """Begin at 0."""
        return ()

    def look(self, now: float) -> Sequence[Wish]:
        """Nobody asks a meter for anything."""
        return ()

    def awaits(self, task: str) -> bool:
        """Return False: nothing begins here."""
        return False

    def due(self, now: float) -> Sequence[Wish]:
        """Time alone changes nothing."""
        return ()

    def next_due(self) -> float | None:
        """Return None: nothing is scheduled."""
        return None

    def has_news(self) -> bool:
        """Return False: the thread writes, not the controller's commit."""
        return False

    def write(self) -> None:
        """Nothing."""

    def committed(self) -> None:
        """Nothing."""


_meter: Meter | None = None
_holding: list[Condition] = []  # as the rules have said at the last tick


def holding() -> list[Condition]:
    """Return what the alert rules found at the last tick of this process's reign."""
    return _holding


class Apart:
    """A sampler in a thread of its own: one that hangs is left hanging, and the others go on."""

    def __init__(self, name: str, take: Sampler) -> None:
        self.name = name
        self.failures = 0
        self._take = take
        self._thread: threading.Thread | None = None
        self._brought: list[Sample] | None = None
        self._took_s = 0.0

    def start(self, snapshot: Mapping[str, Any]) -> None:
        """Begin to measure, unless the last time is still under way."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._brought = None
        self._thread = threading.Thread(target=self._run, args=(snapshot,), name=f"sampler-{self.name}", daemon=True)
        self._thread.start()

    def _run(self, snapshot: Mapping[str, Any]) -> None:
        begin = time.perf_counter()
        try:
            found = list(self._take(snapshot))
        except Exception as error:
            log.warning("the sampler %s failed: %s: %s", self.name, type(error).__name__, error)
            return
        self._took_s, self._brought = time.perf_counter() - begin, found

    def result(self, until: float) -> Iterator[Sample]:
        """Yield what was measured until then (``time.monotonic``), and how the sampler fared."""
        labels = {"sampler": self.name}
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
        hangs = self._thread is not None and self._thread.is_alive()
        brought = None if hangs else self._brought
        if brought is None:
            self.failures += 1
        else:
            yield from brought
            yield Sample(name="a2a_sampler_seconds", value=self._took_s, labels=labels)
        yield Sample(name="a2a_sampler_up", value=float(brought is not None), labels=labels)
        yield Sample(name="a2a_sampler_failures_total", value=self.failures, labels=labels)


class Ticker:
    """Observes the controller's snapshots; its thread measures and writes from ``begin`` until ``close``."""

    def __init__(self) -> None:
        store.forget()
        self._tell([])
        self._rules = rulebook.Evaluator()
        self._snapshot: Mapping[str, Any] | None = None
        self._ended = threading.Event()
        self._apart = [Apart(name, take) for name, take in samplers.APART.items()]
        self._rolled_at = time.monotonic()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start the thread: the reign begins."""
        self._thread = threading.Thread(target=self._run, name="meters", daemon=True)
        self._thread.start()

    def __call__(self, snapshot: Mapping[str, Any]) -> None:
        """Keep the snapshot for the next tick."""
        self._snapshot = snapshot

    def close(self) -> None:
        """End the thread; it writes what it is at."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_S + 1.0)
        self._tell([])

    def _tell(self, found: list[Condition]) -> None:
        global _holding
        _holding = found

    def _run(self) -> None:
        wait_s = FIRST_S
        while not self._ended.wait(wait_s):
            begin = time.monotonic()
            try:
                self.tick(dt.datetime.now(dt.UTC))
            except DatabaseError as error:
                log.warning("metrics cannot be written (%s); this tick is missing", error)
                connection.close()
            except Exception:
                log.exception("a tick of the metrics failed")
            wait_s = max(0.5, TICK_S - (time.monotonic() - begin))
        connection.close()

    def tick(self, at: dt.datetime) -> None:
        """Measure once and write it. Raises ``DatabaseError``."""
        snapshot = self._snapshot or {}
        until = time.monotonic() + PATIENCE_S
        for sampler in self._apart:
            sampler.start(snapshot)
        samples = list(self._own(snapshot, at))
        for sampler in self._apart:
            samples += sampler.result(until)
        samples.append(Sample(name="a2a_series", value=len(samples)))
        store.write(samples, at)
        self._tell(self._rules.look(samples, at))
        if time.monotonic() - self._rolled_at > ROLL_S:
            self._rolled_at = time.monotonic()
            store.roll_up(at)

    def _own(self, snapshot: Mapping[str, Any], at: dt.datetime) -> Iterable[Sample]:
        if snapshot:
            yield from figures.of_snapshot(snapshot, at.timestamp())
        if _meter is not None:
            yield from _meter.take()
        yield from samplers.database(snapshot)
        for name, count in list(store.left_out.items()):
            yield Sample(name="a2a_samples_left_out_total", value=count, labels={"metric": name})
