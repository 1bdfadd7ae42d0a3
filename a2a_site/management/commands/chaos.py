"""`manage.py chaos`: break an installation at random, under load, and judge what became of its tasks."""

import json
import os
import shutil
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from a2a_site.chaos import campaign, faults
from a2a_site.chaos.campaign import Plan, Report
from a2a_site.chaos.verdict import quantile

SHOWN = 20  # violations printed of each seed


class Command(BaseCommand):
    """Runs seeds one after the other, each on a stack of its own in a temporary directory."""

    help = "Cause real faults at random in installations of its own, and check that no task is lost or done twice."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run (default: 1)")
        parser.add_argument("--seed", type=int, default=1, help="the first one (default: 1)")
        parser.add_argument("--seconds", type=float, default=60, help="of faults for each seed (default: 60)")
        parser.add_argument("--rate", type=float, default=30, help="calls submitted a second (default: 30)")
        parser.add_argument("--faults", default="", help=f"only these, separated by commas: {', '.join(faults.FAULTS)}")
        parser.add_argument(
            "--postgres",
            default="",
            metavar="URL",
            help="a PostgreSQL server on which a new database is made for each seed, and dropped",
        )
        parser.add_argument("--json", action="store_true", help="print one line of JSON for each seed and a last one")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run all seeds; ends with exit code 1 if a promise was broken."""
        self._refuse_what_lives()
        try:
            chosen = faults.names([name.strip() for name in options["faults"].split(",") if name.strip()])
        except ValueError as error:
            raise CommandError(str(error)) from None
        reports = []
        for seed in range(options["seed"], options["seed"] + options["seeds"]):
            plan = Plan(seed=seed, seconds=options["seconds"], per_s=options["rate"], faults=chosen)
            with campaign.fresh_database(options["postgres"]) as database:
                report = campaign.run(plan, database_url=database)
            self._say(report, options)
            reports.append(report)
        self._sum_up(reports, as_json=options["json"])
        if not all(report.kept for report in reports):
            raise SystemExit(1)

    def _refuse_what_lives(self) -> None:
        """Stop before anything if the environment names a database that may be somebody's."""
        for name in ("DATABASE_URL", "BROKER_URL"):
            if os.environ.get(name):
                raise CommandError(
                    f"{name} is set, and chaos breaks only what it has made itself. Unset it; to try PostgreSQL name a "
                    "server with --postgres: each seed gets a new database there."
                )

    def _say(self, report: Report, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(figures(report)))
        else:
            self.stdout.write(f"seed {report.plan.seed}: {row([report])}")
        self.stdout.flush()
        if report.kept:
            shutil.rmtree(report.home, ignore_errors=True)
            return
        for words in report.verdict.violations[:SHOWN]:
            self.stderr.write(f"  {words}")
        if not report.settled:
            self.stderr.write(f"  Not every task had ended after {campaign.SETTLE_S:g} s.")
        self.stderr.write(f"  What happened: {', '.join(fault.name for fault in report.faults)}")
        self.stderr.write(f"  Logs: {report.home / 'logs'}")
        self.stderr.write(f"  Again: {repeat(report, options)}")

    def _sum_up(self, reports: list[Report], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"seeds": len(reports), **summary(reports)}))
            return
        self.stdout.write("\nfault              times  tasks hit  recovery p50    p99    max")
        for name, times in by_fault(reports).items():
            count = sum(fault.name == name for report in reports for fault in report.faults)
            shown = "".join(f"{quantile(times, share):7.1f}" for share in (0.5, 0.99, 1))
            self.stdout.write(f"{name:18}{count:6}{len(times):11}         {shown} s")
        self.stdout.write(f"\nall: {row(reports)}")


def by_fault(reports: list[Report]) -> dict[str, list[float]]:
    """Return the recovery times of each kind of fault, sorted."""
    found: dict[str, list[float]] = {fault.name: [] for report in reports for fault in report.faults}
    for report in reports:
        for name, times in report.verdict.recovery.items():
            found[name].extend(times)
    return {name: sorted(times) for name, times in sorted(found.items())}


def summary(reports: list[Report]) -> dict[str, Any]:
    """Return the figures of all reports together."""
    times = sorted(seconds for report in reports for seconds in report.verdict.recovery_s)
    submits = sorted(seconds for report in reports for seconds in report.verdict.submit_s)
    return {
        "faults": sum(len(report.faults) for report in reports),
        "tasks": sum(report.verdict.tasks for report in reports),
        "lost": sum(report.verdict.lost for report in reports),
        "doubled": sum(report.verdict.doubled for report in reports),
        "violations": sum(len(report.verdict.violations) for report in reports),
        "retried": sum(report.verdict.retried for report in reports),
        "recovery_s": {word: round(quantile(times, share), 3) for word, share in SHARES.items()},
        "submit_s": {word: round(quantile(submits, share), 4) for word, share in SHARES.items()},
    }


SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def figures(report: Report) -> dict[str, Any]:
    """Return one seed's figures."""
    return {
        "seed": report.plan.seed,
        "kept": report.kept,
        **summary([report]),
        "ends": dict(report.verdict.ends),
        "sequence": [fault.name for fault in report.faults],
    }


def row(reports: list[Report]) -> str:
    """Return the figures as a line."""
    facts = summary(reports)
    recovery, submit = facts["recovery_s"], facts["submit_s"]
    return (
        f"{facts['faults']} faults, {facts['tasks']} tasks, {facts['lost']} lost, {facts['doubled']} doubled, "
        f"{facts['violations']} violations; recovery p50 {recovery['p50']:.1f} s, p99 {recovery['p99']:.1f} s, "
        f"max {recovery['max']:.1f} s; submit p99 {submit['p99'] * 1000:.0f} ms"
    )


def repeat(report: Report, options: dict[str, Any]) -> str:
    """Return the command that does the same again."""
    command = (
        f"manage.py chaos --seed {report.plan.seed} --seconds {report.plan.seconds:g} --rate {report.plan.per_s:g}"
    )
    command += f' --faults "{options["faults"]}"' if options["faults"] else ""
    return command + (f' --postgres "{options["postgres"]}"' if options["postgres"] else "")
