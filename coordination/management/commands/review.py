"""`manage.py review PATH`: the demonstration fleet reviews a Python project."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from coordination.review import run as review
from coordination.review.snapshot import Refused
from routing import broker

LOOK_S = 0.25
PATIENCE_S = 3600.0


class Command(BaseCommand):
    help = "Have the demonstration fleet review a Python project: a directory, a git repository or a .zip file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", type=Path, help="directory, git repository (bare or not), or .zip file")
        parser.add_argument("--output", type=Path, default=Path("review.md"), help="where the report goes (review.md)")
        parser.add_argument("--timeout", type=float, default=PATIENCE_S, help="seconds to wait at most (3600)")
        parser.add_argument("--first-look", action="store_true", help="quietly, into the state directory")

    def handle(self, *args: Any, **options: Any) -> None:
        output = settings.A2A_HOME / "review.md" if options["first_look"] else options["output"].expanduser()
        if output.is_dir() or not output.parent.exists():
            raise CommandError(f"The report cannot be written to {output}. Give the name of a file with --output.")
        self._look_for_the_fleet()
        review.ensure_fleet()
        try:
            run = review.start(options["source"].expanduser())
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        try:
            self._wait(run, quiet=options["first_look"], timeout_s=options["timeout"])
            output.write_bytes(review.report(run))
        finally:
            review.clean_up(run)
        self.stdout.write(self._summary(run, output))

    def _look_for_the_fleet(self) -> None:
        """Say what to do where nothing runs that could do the work."""
        try:
            runs = broker.client().exists(broker.SNAPSHOT)
        except redis.RedisError:
            runs = 0
        if not runs:
            raise CommandError("Nothing is running that could do the work. Start it first: python3 manage.py up")

    def _wait(self, run: review.Run, *, quiet: bool, timeout_s: float) -> None:
        give_up = time.monotonic() + timeout_s
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bar(*columns, TextColumn("{task.fields[agents]}"), console=Console(stderr=True), disable=quiet) as bar:
            shown = bar.add_task(f"Reviewing {run.tree.name}", total=run.steps, agents="")
            while True:
                state = review.progress(run)
                bar.update(shown, completed=state.ended, agents=_at_work(state))
                if state.is_done:
                    return
                if state.failure:
                    raise CommandError(f"The review failed: {state.failure}")
                if time.monotonic() > give_up:
                    raise CommandError(f"The review did not end within {timeout_s:g} s. It goes on; see the dashboard.")
                time.sleep(LOOK_S)

    def _summary(self, run: review.Run, output: Path) -> str:
        return f"{len(run.tree.python_files)} Python files, {run.steps} tasks. The report is in {output}"


def _at_work(state: review.Progress) -> str:
    names = [f"{agent}×{count}" if count > 1 else agent for agent, count in sorted(state.working.items())]
    return " ".join(names) if names else f"{state.waiting} waiting"
