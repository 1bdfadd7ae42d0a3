"""`manage.py simulate`: a trace of arrivals through the shipped fleet, in virtual time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError, CommandParser

from routing import strategies, traces
from routing.report import Report, compare
from routing.simulated import BadFleet, SimulatedFleet, described
from routing.simulator import simulate


class Command(BaseCommand):
    help = "Say what a fleet would make of a trace: times, failures, cost. Nothing runs, nothing is written."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("trace", type=Path, help="CSV: time,size[,skill,tenant,priority,deadline,work]")
        parser.add_argument("fleet", type=Path, help="YAML that describes the agents; see docs/operations.md")
        parser.add_argument("--strategy", default=strategies.DEFAULT_STRATEGY, help="default: %(default)s")
        parser.add_argument("--against", help="a second strategy, to compare with")
        parser.add_argument("--seed", type=int, default=0, help="of noise and failures (default: %(default)s)")
        parser.add_argument("--json", action="store_true", help="one JSON object for each strategy")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a report for each strategy, and how they differ."""
        names = [options["strategy"], *([options["against"]] if options["against"] else [])]
        for name in names:
            if name not in strategies.STRATEGIES:
                raise CommandError(
                    f"No strategy is called {name!r}. Known: {', '.join(sorted(strategies.STRATEGIES))}."
                )
        trace, fleet = _trace(options["trace"]), _fleet(options["fleet"])
        reports = [simulate(trace, fleet, strategy=name, seed=options["seed"]) for name in names]
        for name, report in zip(names, reports, strict=True):
            self.stdout.write(_as_json(name, report) if options["json"] else _in_words(name, report))
        if len(reports) == 2 and not options["json"]:
            lines = compare(reports[0], reports[1]) or ["no difference"]
            self.stdout.write("\n".join([f"{names[0]} → {names[1]}", *(f"  {line}" for line in lines)]))


def _trace(path: Path) -> list[traces.Job]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return traces.read(file)
    except (OSError, UnicodeDecodeError, traces.BadTrace) as error:
        raise CommandError(f"{path}: {error}") from None


def _fleet(path: Path) -> SimulatedFleet:
    try:
        return described(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, BadFleet) as error:
        raise CommandError(f"{path}: {error}") from None


def _as_json(strategy: str, report: Report) -> str:
    return json.dumps({"strategy": strategy, **report.as_dict()}, ensure_ascii=False)


def _in_words(strategy: str, report: Report) -> str:
    total, wait = report.total, report.wait
    lines = [
        strategy,
        (
            f"  {report.completed:,} of {report.tasks:,} tasks completed, {report.failed:,} failed, "
            f"{report.unfinished:,} never ended, {report.late:,} late; {report.retries:,} retries"
        ),
        f"  in system  mean {total.mean:.2f} s  p50 {total.p50:.2f}  p95 {total.p95:.2f}  p99 {total.p99:.2f}",
        f"  waiting    mean {wait.mean:.2f} s  p50 {wait.p50:.2f}  p95 {wait.p95:.2f}  p99 {wait.p99:.2f}",
        f"  goodput {report.goodput_per_s:.3g}/s  cost ${report.cost_usd:,.4g}",
        *(f"  {agent:<30} {share:>6.1%} of the attempts" for agent, share in _largest_first(report)),
    ]
    return "\n".join(lines) + "\n"


def _largest_first(report: Report) -> list[tuple[str, float]]:
    return sorted(report.shares.items(), key=lambda entry: -entry[1])
