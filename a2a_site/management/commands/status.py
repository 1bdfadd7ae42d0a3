"""`manage.py status`: what runs."""

import json
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from a2a_site import run_state

NOT_RUNNING = 3  # exit code, as systemctl has it


class Command(BaseCommand):
    """Prints every process with its state, age, restarts and memory."""

    help = "Show what runs. Exit code 3: nothing does."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the table or the object."""
        home: Path = settings.A2A_HOME
        record = run_state.running(home)
        if options["json"]:
            self.stdout.write(json.dumps(as_dict(record)))
        elif record is None:
            self.stdout.write(f"Nothing runs in {home}. Start it with: manage.py up")
        else:
            for line in table(record):
                self.stdout.write(line)
        if record is None:
            sys.exit(NOT_RUNNING)


def as_dict(record: run_state.Record | None) -> dict[str, Any]:
    """Return the state for programs; ``memory_bytes`` is the resident size, null when the process is not there."""
    if record is None:
        return {"running": False}
    children = {name: {**child, "memory_bytes": memory_bytes(child)} for name, child in record["children"].items()}
    return {"running": True, **record, "children": children}


def table(record: run_state.Record) -> list[str]:
    """Return the state for people."""
    rows = [("process", "pid", "state", "since", "restarts", "memory")]
    started = datetime.fromisoformat(record["started_at"]).timestamp()
    state = "ready" if record["ready"] else "starting"
    own = psutil.Process(record["pid"]).memory_info().rss
    rows.append(("supervisor", str(record["pid"]), state, age(started), "0", megabytes(own)))
    rows.extend(row(name, child) for name, child in record["children"].items())
    return [*aligned(rows), "", f"{record['url']}/"]


def row(name: str, child: run_state.ChildRecord) -> tuple[str, str, str, str, str, str]:
    """Return one process's line of the table."""
    pid = str(child["pid"] or "-")
    return name, pid, child["state"], age(child["since"]), str(child["restarts"]), megabytes(memory_bytes(child))


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return the rows as lines whose columns line up."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip() for each in rows]


def memory_bytes(child: run_state.ChildRecord) -> int | None:
    """Return the resident size of the process; None if it is not there."""
    process = run_state.process(child["pid"], child["created_at"])
    try:
        return process.memory_info().rss if process else None
    except psutil.NoSuchProcess:
        return None


def megabytes(size: int | None) -> str:
    """Return a size in MiB for people."""
    return "-" if size is None else f"{size / 1024**2:.0f} MiB"


def age(since: float) -> str:
    """Return how long ago a UNIX time was: "42 s", "3 min", "5 h", "2 d"."""
    seconds = max(time.time() - since, 0)
    for unit_s, unit, until_s in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172_800)):
        if seconds < until_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
