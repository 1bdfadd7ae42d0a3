"""The twelve conditions under which strategies are compared: four kinds of trouble, each at three loads.

Arrivals and sizes are those of a recording, stretched in time until the load is right: the load is the work that
arrives, as a share of what the twelve agents could do in that time if nothing went wrong. The agents' speeds go from
half to twice the usual one and are dealt out anew by each seed, so that no order of names helps anybody.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from routing.simulated import SimulatedAgent, SimulatedFleet
from routing.traces import Job

CUT = Path(__file__).resolve().parents[1] / "data" / "azure_llm_inference_2023_conv" / "cut.csv"
KINDS = ("no fault", "slow-downs", "black hole", "freezes")
LOADS = (0.5, 0.7, 0.85)
AGENTS = 12
SPEEDS = tuple(0.5 * 4 ** (n / (AGENTS - 1)) for n in range(AGENTS))
CAPACITIES = (2, 4, 3) * (AGENTS // 3)
NOISE = 0.25  # of ln(duration), which nobody knows beforehand but the clairvoyant
CONTEXT_S, GENERATED_S = 0.0005, 0.02  # seconds of work for each token
SLOW_FACTOR, SLOW_S, SLOW_EVERY_S = 4.0, (20.0, 60.0), 480.0  # about one agent of the twelve is slow at any time
FREEZE_S, FREEZE_EVERY_S = 8.0, 200.0
HOLE = (0.25, 0.75)  # of the time, one agent fails whatever it is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One trace on one fleet."""

    kind: str
    load: float
    seed: int
    trace: Sequence[Job]
    fleet: SimulatedFleet

    def __str__(self) -> str:
        return f"{self.kind} {self.load:.2f}"


def recorded(path: Path = CUT) -> list[tuple[float, float]]:
    """Return (seconds, seconds of work) for each request of an Azure LLM inference trace, as cut here or published."""
    with path.open(newline="") as file:
        return sorted(_request(row) for row in csv.DictReader(file))


def _request(row: Mapping[str, str]) -> tuple[float, float]:
    if "TIMESTAMP" in row:
        at = datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
        return at, _work_s(row["ContextTokens"], row["GeneratedTokens"])
    return float(row["time"]), _work_s(row["context_tokens"], row["generated_tokens"])


def _work_s(context: str, generated: str) -> float:
    return CONTEXT_S * int(context) + GENERATED_S * max(1, int(generated))


def conditions(requests: Sequence[tuple[float, float]], seed: int) -> Iterator[Condition]:
    """Yield the twelve, on the given arrivals."""
    speeds = random.Random(f"speeds {seed}").sample(SPEEDS, AGENTS)
    power = sum(speed * capacity for speed, capacity in zip(speeds, CAPACITIES, strict=True))
    work_s = sum(size for _, size in requests) * math.exp(NOISE**2 / 2)
    for kind in KINDS:
        for load in LOADS:
            first, last = requests[0][0], requests[-1][0]
            stretch = work_s / (power * load) / max(last - first, 1e-9)
            trace = [
                Job(id=f"t{number}", at=(at - first) * stretch, size=size)
                for number, (at, size) in enumerate(requests, 1)
            ]
            fleet = _fleet(kind, speeds, trace[-1].at, seed)
            yield Condition(kind=kind, load=load, seed=seed, trace=trace, fleet=fleet)


def _fleet(kind: str, speeds: Sequence[float], end: float, seed: int) -> SimulatedFleet:
    """Return the twelve agents with their troubles until ``end``. Who is the black hole is the seed's choice."""
    hole = random.Random(f"hole {seed}").randrange(AGENTS)
    agents = []
    for number, (speed, capacity) in enumerate(zip(speeds, CAPACITIES, strict=True)):
        trouble: dict[str, Any] = {}
        rng = random.Random(f"{kind} {number} {seed}")
        if kind == "slow-downs":
            windows = _windows(rng, end, lasts=SLOW_S, every=SLOW_EVERY_S)
            trouble["slow"] = [{**window, "factor": SLOW_FACTOR} for window in windows]
        elif kind == "freezes":
            trouble["freezes"] = list(_windows(rng, end, lasts=(FREEZE_S, FREEZE_S), every=FREEZE_EVERY_S))
        elif kind == "black hole" and number == hole and end:
            trouble["black_holes"] = [{"from": HOLE[0] * end, "to": HOLE[1] * end}]
        agents.append(SimulatedAgent(name=f"agent-{number}", capacity=capacity, speed=speed, **trouble))
    return SimulatedFleet(agents=tuple(agents), noise=NOISE)


def _windows(rng: random.Random, end: float, *, lasts: tuple[float, float], every: float) -> Iterator[dict[str, float]]:
    """Yield windows that begin about ``every`` so many seconds."""
    at = rng.uniform(0, every)
    while at < end:
        until = at + rng.uniform(*lasts)
        yield {"from": at, "to": until}
        at = until + rng.expovariate(1 / (every - lasts[1]))
