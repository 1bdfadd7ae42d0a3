"""`manage.py test`: everything is checked and tested."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management.base import BaseCommand

APPS = ("a2a_site", "analytics", "monitoring", "coordination", "routing")
SOURCES = ("manage.py", *APPS, "a2a_client", "tools", "tests")
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest")
WAITS = "journey or fault or browser"  # marks of the tests that mostly wait for other processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command whose exit code counts."""

    name: str
    command: tuple[str, ...]


QUICK = (
    Step(name="ruff check", command=(PYTHON, "-m", "ruff", "check", ".")),
    Step(name="ruff format", command=(PYTHON, "-m", "ruff", "format", "--check", ".")),
    Step(name="makemigrations --check", command=(PYTHON, "manage.py", "makemigrations", "--check", "--dry-run")),
)
MYPY = Step(name="mypy --strict", command=(PYTHON, "-m", "mypy", *SOURCES))
ROUTING = Step(name="pytest: routing", command=(*PYTEST, "tests/routing", "-m", f"not ({WAITS})"))
REST = Step(name="pytest: the rest", command=(*PYTEST, "--ignore=tests/routing", "-m", f"not ({WAITS})"))
JOURNEYS = Step(name="pytest: journey", command=(*PYTEST, "-m", "journey"))
FAULTS = Step(name="pytest: fault or browser", command=(*PYTEST, "-m", "fault or browser"))
# What depends on the database, once more on a PostgreSQL of its own; where there is none, it says so.
TWICE = ("tests/routing", "tests/coordination", "tests/journeys/test_canvas.py")
POSTGRES = Step(
    name="pytest on PostgreSQL",
    command=(PYTHON, "-m", "tests.postgres", *PYTEST, *TWICE, "-m", "database or journey"),
)
TRACKS = ((ROUTING, POSTGRES), (MYPY, REST), (JOURNEYS,), (FAULTS,))  # side by side; the last two hardly need a core
HELP = """usage: manage.py test [pytest's arguments]

Without arguments: ruff, mypy --strict, makemigrations --check, then every test, and what depends on the database
once more on PostgreSQL where that is installed. Four tracks run side by side; what all but the first say comes at
the end.
With arguments: pytest alone, with those arguments, e.g. manage.py test tests/routing -k lease
"""


class Command(BaseCommand):
    """Runs the checks and pytest in a state directory of their own."""

    help = "Check and test everything; with arguments, run pytest with them."
    requires_system_checks = []

    def run_from_argv(self, argv: list[str]) -> None:
        """Take all arguments as they are: they are pytest's."""
        arguments = argv[2:]
        if arguments in (["--help"], ["-h"]):
            self.stdout.write(HELP)
            return
        sys.exit(self.run_all(arguments))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run everything, for `call_command`."""
        sys.exit(self.run_all([]))

    def run_all(self, arguments: Sequence[str]) -> int:
        """Return the exit code of the first step that fails, else 0."""
        with tempfile.TemporaryDirectory(prefix="a2a-test-") as home:
            if arguments:
                return self._run([Step(name="pytest", command=(*PYTEST, *arguments))], Path(home))
            return self._run(QUICK, Path(home)) or self.run_side_by_side(TRACKS, Path(home))

    def run_side_by_side(self, tracks: Sequence[Sequence[Step]], home: Path) -> int:
        """Run every track to its end. The first one is seen at once, the others when all have ended."""
        shown, *hidden = tracks
        with ThreadPoolExecutor(len(tracks)) as pool, contextlib.ExitStack() as stack:
            outputs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in hidden]
            running = [pool.submit(self._run, *each) for each in zip(hidden, itertools.repeat(home), outputs)]
            codes = [self._run(shown, home), *(track.result() for track in running)]
            for output in outputs:
                output.seek(0)
                shutil.copyfileobj(output, sys.stdout)
        return next((code for code in codes if code), 0)

    def _run(self, steps: Sequence[Step], home: Path, output: IO[str] | None = None) -> int:
        """Return the exit code of the first step that fails, else 0; what follows it is not run."""
        told = output or sys.stdout
        for number, step in enumerate(steps):
            print(f"── {step.name}", file=told, flush=True)
            started = time.monotonic()
            own = Path(tempfile.mkdtemp(dir=home))
            code = subprocess.call(
                step.command, cwd=settings.BASE_DIR, env=environment(own), stdout=output, stderr=output
            )
            verdict = "passed" if code == 0 else "FAILED"
            print(f"── {step.name}: {verdict} in {time.monotonic() - started:.1f} s", file=told, flush=True)
            if code != 0:
                left = ", ".join(step.name for step in steps[number + 1 :])
                print(f"── Not run: {left}" if left else "", file=told, flush=True)
                return code
        return 0


def environment(home: Path) -> dict[str, str]:
    """Return ours without what would lead the tests to somebody's real state."""
    ours = ("A2A_", "REDIS_URL", "BROKER_URL", "DATABASE_URL", "DJANGO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "A2A_HOME": str(home)}
