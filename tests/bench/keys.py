"""What does a release cost where thousands of concurrency keys wait in one lane? Milliseconds of CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator

from routing import events as e
from routing.fleet import Fleet
from routing.limit_rules import LimitSpec
from tests.bench.figures import Figure

AGENTS, CAPACITY = 1_000, 20
BATCH = 20  # releases measured together: the clock costs time too
SKILL = "crawl"
AIM_MS = "≤ 1"


def measure(*, keys: int, releases: int) -> Iterator[Figure]:
    """Yield the median and the 99th percentile of what the end of an attempt costs, with the assignment that follows.

    Of each key one task runs and two wait, for a limit lets one run; each end lets the next of its key begin.
    """
    costs_ms = sorted(_costs_ms(keys, min(keys, releases)))
    for name, share in (("median", 0.5), ("99 %", 0.99)):
        value = costs_ms[int(share * (len(costs_ms) - 1))]
        yield Figure(name=f"release among {keys:,} keys, {name}", value=value, unit="ms", aim=AIM_MS)


def _costs_ms(keys: int, releases: int) -> Iterator[float]:
    """Yield the milliseconds a release, batch by batch."""
    fleet = Fleet()
    agents = tuple(
        e.AgentSpec(name=f"agent-{n}", tenant="t", skills=frozenset({(SKILL, "1")}), capacity=CAPACITY)
        for n in range(AGENTS)
    )
    limit = LimitSpec(name="one", per="key", max_running=1)
    fleet.apply(e.RegistryChanged(agents=agents, limits=(limit,)), 0.0)
    fleet.apply(e.Beat(worker="w", incarnation="1", threads=AGENTS * CAPACITY), 0.0)
    for place in range(3):
        for key in range(keys):
            spec = e.TaskSpec(id=f"{key}-{place}", tenant="t", skill=SKILL, concurrency_key=f"key-{key}")
            fleet.apply(e.Submitted(task=spec), 0.0)
        fleet.due(0.0)
    together = min(BATCH, releases)
    for first in range(0, releases - together + 1, together):
        began = time.thread_time()
        for key in range(first, first + together):
            fleet.apply(e.Finished(task=f"{key}-0", attempt=1), 1.0)
            fleet.due(1.0)
        yield 1e3 * (time.thread_time() - began) / together
