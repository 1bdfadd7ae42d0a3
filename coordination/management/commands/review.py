"""`manage.py review PATH`: the demonstration fleet reviews a Python project."""

from __future__ import annotations

import os
import signal
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from coordination.review import run as review
from coordination.review.intake import Refused
from routing import broker

LOOK_S = 0.25
PATIENCE_S = 3600.0
ABSENCE_S = 60.0  # a site that is away for so long has been stopped; a restart is faster
INTERRUPTED = 130  # the exit code shells give a program that Ctrl-C ended
NOTHING_RUNS = "Nothing is running that could do the work. Start it first: python3 manage.py up"


class Command(BaseCommand):
    help = "Have the demonstration fleet review a Python project: a directory, a git repository or a .zip file."
    epilog = "Exit code: 0 when everything was checked, 1 when the report lacks a part or there is none, 130 on Ctrl-C."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Return the parser, with the exit codes at its end."""
        return super().create_parser(prog_name, subcommand, epilog=self.epilog, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", type=Path, help="directory, git repository (bare or not), or .zip file")
        parser.add_argument("--output", type=Path, default=Path("review.md"), help="where the report goes (review.md)")
        parser.add_argument("--timeout", type=float, default=PATIENCE_S, help="seconds to wait at most (3600)")
        parser.add_argument("--first-look", action="store_true", help="quietly, into the state directory")

    def handle(self, *args: Any, **options: Any) -> None:
        output = settings.A2A_HOME / "review.md" if options["first_look"] else options["output"].expanduser()
        _check_place(output)
        if not _site_is_there():
            raise CommandError(NOTHING_RUNS)
        with interruptible():
            self._review(output, options)

    def _review(self, output: Path, options: dict[str, Any]) -> None:
        review.sweep()
        review.ensure_fleet()
        run = self._start(options["source"].expanduser())
        try:
            state = self._finish(run, quiet=options["first_look"], timeout_s=options["timeout"])
            self._write(run, output)
        finally:
            review.clean_up(run)
        self.stdout.write(f"{len(run.tree.python_files)} Python files, {run.steps} tasks. The report is in {output}")
        if state.failures:
            raise CommandError(_incomplete(run, state))

    def _start(self, source: Path) -> review.Run:
        try:
            return review.start(source)
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        except OSError as error:
            raise CommandError(f"{source} could not be read, or not be copied: {error}.") from None

    def _finish(self, run: review.Run, *, quiet: bool, timeout_s: float) -> review.Progress:
        """Return how the review stood when its report was there. Whatever ends the wait before cancels its tasks."""
        try:
            with shown(run, quiet=quiet) as show:
                return _wait(run, show, timeout_s=timeout_s)
        except GaveUp as why:
            count = review.cancel(run.context, patience_s=review.CANCEL_S if _site_is_there() else 0)
            raise CommandError(f"{why} {_cancelled(count)}") from None
        except KeyboardInterrupt:
            self.stderr.write("Stopping: the remaining tasks are being cancelled. (Ctrl-C again does not wait for it.)")
            count = review.cancel(run.context)
            raise CommandError(f"Stopped. {_cancelled(count)}", returncode=INTERRUPTED) from None

    def _write(self, run: review.Run, output: Path) -> None:
        try:
            output.write_bytes(review.report(run))
        except OSError as error:
            raise CommandError(
                f"The report could not be written to {output} ({error.strerror}). "
                f"It is kept with its run: /runs/{run.context} on the dashboard."
            ) from None


class GaveUp(Exception):
    """Why there will be no report, in words."""


class Screen:
    """What the terminal shows while the fleet works: a bar, and below it who is at work."""

    def __init__(self, run: review.Run) -> None:
        self._bar = Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._shown = self._bar.add_task(f"Reviewing {run.tree.name}", total=run.steps)
        self._line = Text("", style="dim")
        self.content = Group(self._bar, self._line)

    def show(self, state: review.Progress, note: str = "") -> None:
        """Draw how it stands."""
        self._bar.update(self._shown, completed=state.ended)
        failed = f"{len(state.failures)} failed; " if state.failures else ""
        self._line.plain = f"{failed}{note or at_work(state)}"


@contextmanager
def shown(run: review.Run, *, quiet: bool) -> Iterator[Screen]:
    """While inside, the terminal shows the screen; where there is none, one line says what has begun."""
    console, screen = Console(stderr=True), Screen(run)
    if quiet or not console.is_terminal:
        if not quiet:
            console.print(f"Reviewing {run.tree.name}: {run.steps} tasks.", highlight=False, markup=False)
        yield screen
        return
    with Live(screen.content, console=console, refresh_per_second=4, transient=True):
        yield screen


@contextmanager
def interruptible() -> Iterator[None]:
    """While inside, SIGTERM and a closed terminal are like Ctrl-C, so that nothing is left behind.

    Ctrl-C itself ends the command with one word instead of a traceback.
    """
    ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise CommandError("Stopped.", returncode=INTERRUPTED) from None
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def at_work(state: review.Progress) -> str:
    """Return the agents at work, and how many tasks wait."""
    names = [f"{agent}×{count}" if count > 1 else agent for agent, count in sorted(state.working.items())]
    waiting = [f"{state.waiting} waiting"] if state.waiting else []
    return " · ".join([*waiting, *names])


def _wait(run: review.Run, screen: Screen, *, timeout_s: float) -> review.Progress:
    """Return when the report is there. Raises ``GaveUp``."""
    give_up = time.monotonic() + timeout_s
    seen = time.monotonic()
    while True:
        state = _look(run)
        if _site_is_there() and state is not None:
            seen = time.monotonic()
        if state is not None:
            screen.show(state, "" if time.monotonic() - seen < 5 else "the site does not answer; waiting for it")
            if state.is_done:
                return state
            if state.failure:
                raise GaveUp(f"The review failed: {state.failure}")
        if time.monotonic() - seen > ABSENCE_S:
            raise GaveUp(f"The site has not answered for {ABSENCE_S:g} s. See: python3 manage.py status")
        if time.monotonic() > give_up:
            raise GaveUp(f"The review did not end within {timeout_s:g} s. Give it more time with --timeout.")
        time.sleep(LOOK_S)


def _look(run: review.Run) -> review.Progress | None:
    """Return how far the review is, None while the database is away."""
    try:
        return review.progress(run)
    except DatabaseError:
        connection.close()  # a broken one does not mend itself
        return None


def _site_is_there() -> bool:
    """Return True if a controller has been heard of within the last ten seconds."""
    try:
        return bool(_bus().exists(broker.SNAPSHOT))
    except redis.RedisError:
        return False


@cache
def _bus() -> redis.Redis:
    return broker.client()


def _check_place(output: Path) -> None:
    """Raise ``CommandError`` where the report cannot go, before any work is done."""
    place = output if output.exists() else output.parent
    if output.is_dir() or not output.parent.is_dir() or not os.access(place, os.W_OK):
        raise CommandError(f"The report cannot be written to {output}. Give the name of a file with --output.")


def _cancelled(count: int) -> str:
    if not count:
        return "No task was left to cancel."
    return "Its last task was cancelled." if count == 1 else f"Its {count} remaining tasks were cancelled."


def _incomplete(run: review.Run, state: review.Progress) -> str:
    failures = [f"  {failure}" for failure in state.failures]
    head = f'{len(failures)} of {run.steps} tasks failed. The report lists what they left out under "Not covered".'
    return "\n".join([head, *failures])
