"""`manage.py rehearse --policy draft.yaml --since 24h`: the past under other rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from routing import drafts, manifest, past
from routing import events as e
from routing.rehearsal import MOST_TASKS, NotEnough, Rehearsal, Row

UNITS = {"s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400}
MOST_S = 7 * 86_400


class Command(BaseCommand):
    help = "Say what a draft of the rules would have made of the tasks that came. Nothing runs, nothing is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--policy",
            type=Path,
            required=True,
            metavar="FILE",
            help="YAML as for `agents apply`, such as policies: […]",
        )
        parser.add_argument("--since", default="24h", help="90s, 30min, 24h, 7d (default: %(default)s; at most 7d)")
        parser.add_argument("--most", type=int, default=MOST_TASKS, help="the newest tasks (default: %(default)s)")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what would have been."""
        until, since_s = timezone.now(), _seconds(options["since"])
        if not 1 <= options["most"] <= MOST_TASKS:
            raise CommandError(f"--most is a number from 1 to {MOST_TASKS:,}, not {options['most']}.")
        draft = _draft(options["policy"])
        try:
            found = past.rehearsed(past.read(until - timedelta(seconds=since_s), until, most=options["most"]), draft)
        except NotEnough as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps(found.as_dict(), ensure_ascii=False))
            return
        for line in _lines(found):
            self.stdout.write(line)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d)\s*", text)
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= MOST_S:
        raise CommandError(f"--since is a time such as 90s, 30min, 24h or 7d, above 0 and at most 7d, not {text!r}.")
    return seconds


def _draft(path: Path) -> e.RegistryChanged:
    try:
        return drafts.of_file(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None
    except manifest.BadManifest as error:
        raise CommandError("\n".join(f"{path}:{flaw.line}: {flaw.words}" for flaw in error.flaws)) from None


def _lines(found: Rehearsal) -> Iterator[str]:
    yield found.summary()
    yield f"Replayed: {found.span()}"
    yield f"Calibration: {found.calibration()}"
    yield ""
    yield from _table("", found.figures())
    yield ""
    yield from _table("tasks completed by", found.agents())


def _table(title: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"{title:<34}{'as they are':>14}{'draft':>14}"
    for row in rows:
        yield f"  {row.label:<32}{row.before:>14}{row.after:>14}{'  *' if row.differs else ''}"
