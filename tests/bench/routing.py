"""How close do strategies come to a scheduler that knows the future? Mean time in system, under twelve conditions.

Every decider gets the same tasks, agents, luck and event loop (``routing.simulator``), and knows the same of a task
beforehand: its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean

from routing.fleet import Fleet
from routing.report import Report
from routing.simulator import Decider, simulate, true_work
from tests.bench.clairvoyant import Clairvoyant
from tests.bench.conditions import CUT, Condition, conditions, recorded
from tests.bench.figures import Figure
from tests.bench.late_binding import LateBinding
from tests.bench.rivals import PUSHES, LeastLoaded

SHIPPED = "balanced (shipped)"
AIM_MEAN, AIM_WORST = "≤ 1.12", "≤ 1.15"


def measure(*, tasks: int, rounds: int, trace: Path | None = None) -> Iterator[Figure]:
    """Yield the ratio to the clairvoyant of each decider under each condition, then means and worst cases.

    Each condition has ``tasks`` tasks; each round deals out speeds and faults anew. Only completed tasks have a time in
    system, so who fails many has less to do: a ratio counts only together with the failures beside it.
    """
    requests = list(islice(recorded(trace or CUT), tasks))
    ratios: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    for seed in range(rounds):
        for condition in conditions(requests, seed):
            best = _run(condition, _clairvoyant(condition))
            yield _figure(condition, "clairvoyant", best, 1.0)
            for name, make in deciders(condition).items():
                report = _run(condition, make())
                ratio = report.total.mean / best.total.mean
                ratios.setdefault(name, []).append(ratio)
                failed[name] += report.failed + report.unfinished
                yield _figure(condition, name, report, ratio)
    yield from _summary(ratios, failed)


def _summary(ratios: Mapping[str, list[float]], failed: Mapping[str, int]) -> Iterator[Figure]:
    for name in sorted(ratios, key=lambda name: fmean(ratios[name])):
        detail = {"worst": max(ratios[name]), "failed": failed[name]}
        yield Figure(name=f"mean, {name}", value=fmean(ratios[name]), unit="×", detail=detail)
    ours = ratios[SHIPPED]
    yield Figure(name=f"worst, {SHIPPED}", value=max(ours), unit="×", aim=AIM_WORST)
    yield Figure(name=f"mean, {SHIPPED} ÷ clairvoyant", value=fmean(ours), unit="×", aim=AIM_MEAN, is_ratio=True)


def deciders(condition: Condition) -> dict[str, Callable[[], Decider]]:
    """Return everyone who is compared, by name."""
    sizes = {job.id: job.size for job in condition.trace}
    rivals = {**PUSHES, "least loaded, late": LeastLoaded, "late binding, plain": LateBinding}
    return {
        SHIPPED: Fleet,
        **{name: partial(rival, sizes=sizes, seed=condition.seed) for name, rival in rivals.items()},
    }


def _clairvoyant(condition: Condition) -> Decider:
    work = true_work(condition.trace, condition.fleet, condition.seed)
    return Clairvoyant(work=work, fleet=condition.fleet, origin=condition.trace[0].at)


def _run(condition: Condition, decider: Decider) -> Report:
    return simulate(condition.trace, condition.fleet, seed=condition.seed, decider=decider)


def _figure(condition: Condition, name: str, report: Report, ratio: float) -> Figure:
    total = report.total
    detail = {
        "mean_s": total.mean,
        "p50_s": total.p50,
        "p95_s": total.p95,
        "p99_s": total.p99,
        "goodput_per_s": report.goodput_per_s,
        "failed": report.failed + report.unfinished,
        "retries": report.retries,
    }
    return Figure(name=f"{condition}, {name}", value=ratio, unit="×", detail=detail)
