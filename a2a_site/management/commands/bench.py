"""`manage.py bench`: how fast the product is, beside bare Celery on the same machine in the same run."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from a2a_site.management.commands.test import environment

SIZES = ("tasks", "rounds", "seconds", "trace", "waiting")  # options that are passed on
BENCHES = ("durable", "latency", "chain", "workflows", "a2a", "memory", "start", "routing", "decisions", "learning")


class Command(BaseCommand):
    """Measures in a state directory of its own; the measuring is in tests/bench."""

    help = (
        "Measure throughput, latency, canvases, workflows, memory and start, with ratios to bare Celery in one run; "
        "how close routing comes to a scheduler that knows the future; and what a decision costs."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("bench", nargs="?", default="all", choices=[*BENCHES, "all"])
        parser.add_argument("--json", action="store_true", help="one JSON object a figure; the last has the ratio")
        parser.add_argument(
            "--tasks", type=int, help="tasks of a round (default: 1000; routing 6000, decisions 5000, learning 2000)"
        )
        parser.add_argument("--rounds", type=int, help="rounds of each side (default: 7; routing 1, learning 5)")
        parser.add_argument("--seconds", type=float, default=20, help="of latency, each side (default: %(default)s)")
        parser.add_argument(
            "--trace", type=_absolute, help="of routing: an Azure LLM inference trace in place of our cut"
        )
        parser.add_argument("--waiting", type=int, default=1_000_000, help="of decisions: at most so many tasks wait")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the benches one after the other; exit with 1 if one of them broke."""
        names = BENCHES if options["bench"] == "all" else (options["bench"],)
        given = {name: options[name] for name in SIZES if options[name] is not None}
        sizes = [f"--{name}={value}" for name, value in given.items()]
        codes = [run(name, [*sizes, *(["--json"] if options["json"] else [])]) for name in names]
        if any(codes):
            sys.exit(1)


def _absolute(path: str) -> Path:
    """Return the path as the process that measures finds it, which starts elsewhere."""
    return Path(path).absolute()


def run(bench: str, arguments: list[str]) -> int:
    """Return the exit code of one bench, run in a process and a state directory of its own."""
    with tempfile.TemporaryDirectory(prefix="a2a-bench-") as home:
        ours = {"A2A_MAX_THREADS": str(settings.A2A_THREADS)}  # as many as bare Celery has
        ours |= {"A2A_AGENT_MODULES": "tests.bench.agents", "DJANGO_SETTINGS_MODULE": "a2a_site.settings"}
        return subprocess.call(
            [sys.executable, "-m", "tests.bench", bench, *arguments],
            cwd=settings.BASE_DIR,
            env=environment(Path(home)) | ours,
        )
