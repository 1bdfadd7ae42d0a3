"""Milliseconds a step of durable runs, beside bare Celery's own canvas with Redis as its result backend."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from celery import chain, chord, group
from django.conf import settings

from coordination import runs, steps
from coordination.graph import Graph
from coordination.models import ENDED, Run, RunEvent
from coordination.steps import Draft
from routing.models import Task
from tests.bench import bare
from tests.bench.figures import Figure, spread
from tests.bench.load import wait
from tests.bench.plant import running

SKILL = "bench.noop"
AIM = "≤ 1.5"
LARGE = 1_000  # steps of the run whose start is timed, and items of the map
SHORT_RUNS = 100  # of three steps, at once

Shape = tuple[Callable[[int], Graph], Callable[[int], Any], int]  # ours, bare Celery's, size


def measure(*, scale: float = 1.0, rounds: int = 5) -> Iterator[Figure]:
    """Yield the figures of ``rounds`` runs of each shape and side; ``scale`` makes the shapes smaller, 0..1."""
    os.environ[bare.RESULTS] = str(settings.A2A_BROKER_URL)  # for the worker
    bare.app.conf.update(result_backend=settings.A2A_BROKER_URL, task_ignore_result=False)
    ratios: list[float] = []
    with running():
        for name, (ours, theirs, size) in SHAPES.items():
            count = max(2, round(size * scale))
            figures = list(_compared(name, ours, theirs, count, rounds))
            ratios.append(figures[-1].value)
            yield from figures
        yield _short_runs(max(2, round(SHORT_RUNS * scale)))
        yield _start(max(2, round(LARGE * scale)), rounds)
    yield Figure(name="a step, ours ÷ bare, mean of shapes", value=statistics.fmean(ratios), unit="×", aim=AIM,
                 is_ratio=True)  # fmt: skip


def _compared(
    name: str, ours: Callable[[int], Graph], theirs: Callable[[int], Any], size: int, rounds: int
) -> Iterator[Figure]:
    graph, found = ours(size), dict[str, list[float]](ours=[], bare=[])
    for number in range(rounds + 1):
        mine, count = _run(graph)
        other = _bare(theirs, size) / count
        if number:  # the first one warms up
            found["ours"].append(mine / count)
            found["bare"].append(other)
    middle = {side: statistics.median(values) for side, values in found.items()}
    for side, values in found.items():
        yield Figure(name=f"{name}, {side}", value=middle[side], unit="ms/step", note=spread(values, 1))
    yield Figure(name=f"{name}, ours ÷ bare", value=middle["ours"] / middle["bare"], unit="×", aim=AIM)


def _run(graph: Graph) -> tuple[float, int]:
    """Return the milliseconds of one run, and how many tasks it was."""
    began = time.perf_counter()
    run = runs.start(runs.Request(graph=graph)).run
    wait(lambda: Run.objects.filter(pk=run.pk, state__in=ENDED).exists())
    took = (time.perf_counter() - began) * 1000
    assert Run.objects.get(pk=run.pk).state == "completed"
    return took, Task.objects.filter(context=run.pk).count()


def _bare(canvas: Callable[[int], Any], size: int) -> float:
    began = time.perf_counter()
    result = canvas(size)
    wait(result.ready)
    return (time.perf_counter() - began) * 1000


def _short_runs(count: int) -> Figure:
    graph = _line(3)
    began = time.perf_counter()
    ids = [runs.start(runs.Request(graph=graph)).run.pk for _ in range(count)]
    wait(lambda: Run.objects.filter(pk__in=ids, state__in=ENDED).count() == count)
    return Figure(name=f"runs of 3 steps, {count} at once", value=count / (time.perf_counter() - began), unit="runs/s")


def _start(size: int, rounds: int) -> Figure:
    """Return the time from the call to the first step's being submitted, for a run of many steps."""
    graph, found = _wide(size), []
    for _ in range(rounds):
        began = time.time()
        run = runs.start(runs.Request(graph=graph)).run
        wait(lambda run=run: Run.objects.filter(pk=run.pk, state__in=ENDED).exists())  # type: ignore[misc]
        found.append((_first_step(run.pk) - began) * 1000)
    return Figure(name=f"start of a run of {size} steps", value=statistics.median(found), unit="ms",
                  note=spread(found, 0))  # fmt: skip


def _first_step(run: UUID) -> float:
    event = RunEvent.objects.filter(run_id=run).exclude(step="").order_by("seq").first()
    assert event is not None
    return event.at.timestamp()


# ---- the shapes ---------------------------------------------------------------------------------------------------


def _task(name: str, *after: str) -> Draft:
    return steps.task(name, SKILL, input={}, after=after) if after else steps.task(name, SKILL, input={})


def _line(size: int) -> Graph:
    return steps.from_steps("line", [_task(f"s{n}", *([f"s{n - 1}"] if n else [])) for n in range(size)])


def _wide(size: int) -> Graph:
    return steps.from_steps("wide", [_task(f"s{n}") for n in range(size)])


def _fan(size: int) -> Graph:
    header = [_task(f"s{n}") for n in range(size)]
    return steps.from_steps("fan", [*header, _task("join", *(f"s{n}" for n in range(size)))])


def _diamonds(size: int) -> Graph:
    drafts: list[Draft] = []
    for n in range(size):
        drafts.append(_task(f"top{n}", *([f"end{n - 1}"] if n else [])))
        drafts += [
            _task(f"left{n}", f"top{n}"),
            _task(f"right{n}", f"top{n}"),
            _task(f"end{n}", f"left{n}", f"right{n}"),
        ]
    return steps.from_steps("diamonds", drafts)


def _map(size: int) -> Graph:
    return steps.from_steps("map", [steps.each("each", list(range(size)), SKILL, input={})])


def _bare_line(size: int) -> Any:
    return chain(*(bare.step.s() for _ in range(size))).apply_async()


def _bare_fan(size: int) -> Any:
    return chord([bare.step.s() for _ in range(size)])(bare.step.s())


def _bare_diamonds(size: int) -> Any:
    parts = [part for _ in range(size) for part in (bare.step.s(), group(bare.step.s(), bare.step.s()), bare.step.s())]
    return chain(*parts).apply_async()


def _bare_map(size: int) -> Any:
    return group(bare.step.s() for _ in range(size)).apply_async()


SHAPES: dict[str, Shape] = {
    "chain of 50": (_line, _bare_line, 50),
    "fan-out 100 with join": (_fan, _bare_fan, 100),
    "diamond × 20": (_diamonds, _bare_diamonds, 20),
    "map of 1,000": (_map, _bare_map, 1_000),
}
