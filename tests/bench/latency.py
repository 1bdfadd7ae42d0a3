"""Submit to start at a steady rate, beside bare Celery's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from tests.bench import body
from tests.bench.figures import Figure, percentile, spread
from tests.bench.load import Bare, Ours, Side
from tests.bench.plant import Plant, running

PER_S = 100
ROUND_S = 2.0
AIMS = {"p50": "≤ 1.5", "p99": "≤ 2.5"}
SHARES = {"p50": 0.5, "p99": 0.99}


def measure(*, seconds: float) -> Iterator[Figure]:
    """Yield the figures of ``seconds`` for each side, in turns of a few seconds."""
    round_s = min(ROUND_S, seconds)
    with running() as plant:
        sides: list[Side] = [Ours(), Bare()]
        found: dict[str, list[list[float]]] = {side.name: [] for side in sides}
        for side in sides:
            _round(plant, side, min(1.0, seconds))
        for _ in range(max(1, round(seconds / round_s))):
            for side in sides:
                found[side.name].append(_round(plant, side, round_s))
    ratios = {}
    for name, share in SHARES.items():
        medians = []
        for side_name, rounds in found.items():
            values = [percentile(values, share) for values in rounds]
            medians.append(statistics.median(values))
            yield Figure(name=f"{name}, {side_name}", value=medians[-1], unit="ms", note=spread(values, 1))
        ratios[name] = medians[0] / medians[1]
    yield Figure(name="p99, ours ÷ bare", value=ratios["p99"], unit="×", aim=AIMS["p99"])
    yield Figure(name="p50, ours ÷ bare", value=ratios["p50"], unit="×", aim=AIMS["p50"], is_ratio=True)


def _round(plant: Plant, side: Side, seconds: float) -> list[float]:
    """Return the milliseconds from submit to start of each task of one turn.

    The rate does not give way to slow answers: a task that could be sent only late counts from when it was due.
    """
    known, began = len(body.starts(plant.starts)), time.time()
    for number in range(int(seconds * PER_S)):
        due = began + number / PER_S
        time.sleep(max(0.0, due - time.time()))
        side.send("stamp", {"sent": max(due, min(time.time(), due + 0.001))})
    side.settle()
    time.sleep(0.2)  # bare Celery's last task is acknowledged before it runs
    return body.starts(plant.starts)[known:]
