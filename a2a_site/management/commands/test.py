"""`manage.py test`: everything is checked and tested."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

SOURCES = ("manage.py", "a2a_site", "analytics", "monitoring", "coordination", "routing", "tests")
PYTHON = sys.executable
CHECKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ruff check", (PYTHON, "-m", "ruff", "check", ".")),
    ("ruff format", (PYTHON, "-m", "ruff", "format", "--check", ".")),
    ("mypy --strict", (PYTHON, "-m", "mypy", *SOURCES)),
    ("makemigrations --check", (PYTHON, "manage.py", "makemigrations", "--check", "--dry-run")),
)
# What depends on the database, once more on a PostgreSQL of its own; where there is none, it says so.
ON_POSTGRES = (
    *(PYTHON, "-m", "tests.postgres", PYTHON, "-m", "pytest", "tests/routing", "tests/journeys/test_canvas.py"),
    *(f"--ignore=tests/routing/test_{name}.py" for name in ("broker", "decode", "fleet", "payloads", "policy", "pool")),
    "--ignore-glob=*/test_executors_*.py",
)
HELP = """usage: manage.py test [pytest's arguments]

Without arguments: ruff, mypy --strict, makemigrations --check, then every test, and what depends on the database
once more on PostgreSQL where that is installed.
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
        pytest = ("pytest", (PYTHON, "-m", "pytest", *arguments))
        steps = (pytest,) if arguments else (*CHECKS, pytest, ("pytest on PostgreSQL", ON_POSTGRES))
        with tempfile.TemporaryDirectory(prefix="a2a-test-") as home:
            return self._run_steps(steps, environment(Path(home)))

    def _run_steps(self, steps: Sequence[tuple[str, tuple[str, ...]]], environment: Mapping[str, str]) -> int:
        for number, (name, command) in enumerate(steps):
            self.stdout.write(f"── {name}")
            self.stdout.flush()
            started = time.monotonic()
            code = subprocess.call(command, cwd=settings.BASE_DIR, env=environment)
            self.stdout.write(f"── {name}: {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - started:.1f} s")
            if code != 0:
                left = ", ".join(name for name, _ in steps[number + 1 :])
                self.stdout.write(f"── Not run: {left}" if left else "")
                return code
        return 0


def environment(home: Path) -> dict[str, str]:
    """Return ours without what would lead the tests to somebody's real state."""
    ours = ("A2A_", "REDIS_URL", "BROKER_URL", "DATABASE_URL", "DJANGO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "A2A_HOME": str(home)}
