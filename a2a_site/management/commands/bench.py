"""`manage.py bench`: how fast the product is, beside bare Celery on the same machine in the same run."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from a2a_site.management.commands.test import environment

BENCHES = ("durable", "latency", "chain", "memory", "start")


class Command(BaseCommand):
    """Measures in a state directory of its own; the measuring is in tests/bench."""

    help = "Measure throughput, latency, canvases, memory and start; ratios are to bare Celery in the same run."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("bench", nargs="?", default="all", choices=[*BENCHES, "all"])
        parser.add_argument("--json", action="store_true", help="one JSON object a figure; the last has the ratio")
        parser.add_argument("--tasks", type=int, default=1000, help="tasks of a round (default: %(default)s)")
        parser.add_argument("--rounds", type=int, default=7, help="rounds of each side (default: %(default)s)")
        parser.add_argument("--seconds", type=float, default=20, help="of latency, each side (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the benches one after the other; exit with 1 if one of them broke."""
        names = BENCHES if options["bench"] == "all" else (options["bench"],)
        sizes = [f"--{name}={options[name]}" for name in ("tasks", "rounds", "seconds")]
        codes = [run(name, [*sizes, *(["--json"] if options["json"] else [])]) for name in names]
        if any(codes):
            sys.exit(1)


def run(bench: str, arguments: list[str]) -> int:
    """Return the exit code of one bench, run in a process and a state directory of its own."""
    with tempfile.TemporaryDirectory(prefix="a2a-bench-") as home:
        ours = {"A2A_AGENT_MODULES": "tests.bench.agents", "DJANGO_SETTINGS_MODULE": "a2a_site.settings"}
        return subprocess.call(
            [sys.executable, "-m", "tests.bench", bench, *arguments],
            cwd=settings.BASE_DIR,
            env=environment(Path(home)) | ours,
        )
