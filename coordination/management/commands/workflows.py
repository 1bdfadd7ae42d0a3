"""`manage.py workflows apply FILE…`: make versions of workflows from files."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from coordination import workflows
from routing.errors import RoutingError
from routing.models import DEFAULT_TENANT

MAX_BYTES = 4_000_000


class Command(BaseCommand):
    help = "Make the next version of each workflow from its file, YAML or JSON, unless it says the same already."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        apply = verbs.add_parser("apply", help="save the files' workflows; nothing of a file that has a problem")
        apply.add_argument("files", nargs="+", type=Path, metavar="FILE")
        apply.add_argument("--tenant", default=DEFAULT_TENANT)
        apply.add_argument("--note", default="", help="what is new")

    def handle(self, *args: Any, **options: Any) -> None:
        refused = [file for file in options["files"] if not self._apply(file, options["tenant"], options["note"])]
        if refused:
            raise CommandError(f"Not saved: {', '.join(map(str, refused))}. Mend it and apply again.")

    def _apply(self, file: Path, tenant: str, note: str) -> bool:
        """Return True if the file's workflow is saved; else say why not, by line."""
        try:
            with file.open(encoding="utf-8") as source:
                version = workflows.save(source.read(MAX_BYTES), tenant=tenant, author="manage.py", note=note)
        except (RoutingError, OSError, UnicodeDecodeError) as error:
            self.stderr.write(f"{file}: {error}")
            return False
        self.stdout.write(f"{file}: {version}")
        return True
