"""Milliseconds a step of a chain and of a chord, beside bare Celery with Redis as its result backend."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery import chain, chord
from celery.result import AsyncResult
from django.conf import settings

from routing.tasks import run_agent_task
from tests.bench import bare
from tests.bench.figures import Figure, spread
from tests.bench.load import wait
from tests.bench.plant import running

STEPS = {"chain": 50, "chord": 100}
ROUNDS = 7
AIM = "≤ 2"

Canvas = Callable[[int], AsyncResult[Any]]


def measure(*, steps: Mapping[str, int] = STEPS, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Yield the figures of ``rounds`` canvases of each shape and side."""
    os.environ[bare.RESULTS] = str(settings.A2A_BROKER_URL)  # for the worker
    bare.app.conf.update(result_backend=settings.A2A_BROKER_URL, task_ignore_result=False)
    found: dict[tuple[str, str], list[float]] = {}
    with running():
        for number in range(rounds + 1):
            for (shape, side), start in CANVASES.items():
                value = _round(start, steps[shape])
                if number:  # the first one warms up
                    found.setdefault((shape, side), []).append(value)
    medians = {key: statistics.median(values) for key, values in found.items()}
    for (shape, side), values in found.items():
        name = f"{shape} of {steps[shape]}, {side}"
        yield Figure(name=name, value=medians[shape, side], unit="ms/step", note=spread(values, 1))
    ratios = {shape: medians[shape, "ours"] / medians[shape, "bare"] for shape in steps}
    yield Figure(name="chord, ours ÷ bare", value=ratios["chord"], unit="×", aim=AIM)
    yield Figure(name="chain, ours ÷ bare", value=ratios["chain"], unit="×", aim=AIM, is_ratio=True)


def _round(start: Canvas, steps: int) -> float:
    began = time.perf_counter()
    result = start(steps)
    wait(result.ready)
    return (time.perf_counter() - began) * 1000 / steps


def _ours() -> Any:
    return run_agent_task.s(skill="bench.noop", input={})


CANVASES: dict[tuple[str, str], Canvas] = {
    ("chain", "ours"): lambda n: chain(*(_ours() for _ in range(n))).apply_async(),
    ("chain", "bare"): lambda n: chain(*(bare.step.s() for _ in range(n))).apply_async(),
    ("chord", "ours"): lambda n: chord([_ours() for _ in range(n)])(_ours()),
    ("chord", "bare"): lambda n: chord([bare.step.s() for _ in range(n)])(bare.step.s()),
}
