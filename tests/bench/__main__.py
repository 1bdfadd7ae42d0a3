"""One bench, in a process of its own: `python -m tests.bench durable`. `manage.py bench` calls this."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import django

from tests.bench.figures import Figure, Printer


def main() -> int:
    """Return 0 when the bench was run or could not be run here; its figures are printed as they come."""
    options = arguments().parse_args()
    django.setup()
    printer = Printer(bench=options.bench, as_json=options.json)
    printer.begin()
    from tests.bench.site import CannotStart  # needs Django

    try:
        for figure in measure(options):
            printer.show(figure)
    except CannotStart as error:
        printer.skip(str(error))
    return 0


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the figures of the bench that was asked for."""
    from tests.bench import a2a, chain, decisions, durable, latency, learning, routing, site, workflows

    tasks, rounds = options.tasks or 1000, options.rounds or 7
    steps = {"chain": min(50, tasks), "chord": min(100, tasks)}
    benches: dict[str, Callable[[], Iterator[Figure]]] = {
        "durable": lambda: durable.measure(tasks=tasks, rounds=rounds),
        "latency": lambda: latency.measure(seconds=options.seconds),
        "chain": lambda: chain.measure(steps=steps, rounds=rounds),
        "workflows": lambda: workflows.measure(
            scale=min(1.0, (options.tasks or 1000) / 1000), rounds=options.rounds or 5
        ),
        "a2a": lambda: a2a.measure(calls=min(200, tasks)),
        "routing": lambda: routing.measure(
            tasks=options.tasks or 6000, rounds=options.rounds or 1, trace=options.trace
        ),
        "decisions": lambda: decisions.measure(tasks=options.tasks or 5000, most_waiting=options.waiting),
        "learning": lambda: learning.measure(seeds=options.rounds or 5, tasks=options.tasks or 2000),
        "memory": site.memory,
        "start": site.start,
    }
    return benches[options.bench]()


def arguments() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument(
        "bench",
        choices=[
            "durable",
            "latency",
            "chain",
            "workflows",
            "a2a",
            "memory",
            "start",
            "routing",
            "decisions",
            "learning",
        ],
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    return parser


if __name__ == "__main__":
    sys.exit(main())
