"""Tasks per second through submit, controller, execution and ledger, beside bare Celery's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping

from tests.bench.figures import Figure, median_ratio, spread
from tests.bench.load import Bare, Batches, Ours, Side
from tests.bench.plant import Plant, running

ROUNDS = 7
AIM = "≥ 0.75"


def measure(*, tasks: int, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Yield the figures of ``rounds`` turns of ``tasks`` tasks for each side."""
    with running() as plant:
        sides: list[Side] = [Ours(), Bare(), Batches()]
        rates: dict[str, list[float]] = {side.name: [] for side in sides}
        costs: dict[str, list[Mapping[str, float]]] = {side.name: [] for side in sides}
        for side in sides:
            _round(plant, side, tasks // 4)
        for _ in range(rounds):
            for side in sides:
                rate, cost = _round(plant, side, tasks)
                rates[side.name].append(rate)
                costs[side.name].append(cost)
    for name, values in rates.items():
        yield Figure(name=name, value=statistics.median(values), unit="tasks/s", note=spread(values))
    for name in rates:
        yield from _cpu(name, costs[name])
    ours, bare, batches = rates.values()
    yield Figure(name="batch door ÷ bare", value=median_ratio(batches, bare), unit="×")
    yield Figure(name="ours ÷ bare", value=median_ratio(ours, bare), unit="×", aim=AIM, is_ratio=True)


def _round(plant: Plant, side: Side, tasks: int) -> tuple[float, dict[str, float]]:
    """Return (tasks per second, CPU milliseconds a task of each process) of one turn."""
    before, began = plant.cpu_s(), time.perf_counter()
    for number in range(tasks):
        side.send("noop", {"number": number})
    sent = time.process_time()
    side.settle()
    seconds = time.perf_counter() - began
    after = plant.cpu_s() | {"producer": sent}  # without the waiting for the end
    return tasks / seconds, {name: (after[name] - before[name]) * 1000 / tasks for name in after}


def _cpu(side: str, costs: list[Mapping[str, float]]) -> Iterator[Figure]:
    """Yield the CPU time of each process that took part."""
    medians = {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}
    for name, value in medians.items():
        if value >= 0.02:
            yield Figure(name=f"CPU of {name}, {side.split(',')[-1].strip()}", value=value, unit="ms/task")
    yield Figure(name=f"CPU in all, {side.split(',')[-1].strip()}", value=sum(medians.values()), unit="ms/task")
