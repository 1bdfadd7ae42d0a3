"""`manage.py agents apply FILE.yaml` and `manage.py agents export`: the registry and the rules as a file."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from routing import manifest


class Command(BaseCommand):
    help = "Apply agents, skills and rules from a YAML file, or write them out as one."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the two verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        apply = verbs.add_parser("apply", help="make rows what the file says: all of it or nothing")
        apply.add_argument("file", type=Path, help="YAML; - is standard input. See docs/agents.md")
        apply.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
        export = verbs.add_parser("export", help="write everything as YAML that `apply` takes")
        export.add_argument("--output", type=Path, help="a file instead of standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the verb says."""
        if options["verb"] == "apply":
            self._apply(options["file"], dry_run=options["dry_run"])
        else:
            self._export(options["output"])

    def _apply(self, path: Path, *, dry_run: bool) -> None:
        try:
            text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
            changes = manifest.apply(text, by=f"{getpass.getuser()} by file", dry_run=dry_run)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}") from None
        except manifest.BadManifest as error:
            lines = "\n".join(f"{path}:{flaw.line}: {flaw.words}" for flaw in error.flaws)
            raise CommandError(f"Nothing was changed.\n{lines}") from None
        for change in changes:
            self.stdout.write(f"{change.noun} {change.name}: {'new' if change.is_new else 'changed'}")
        self.stdout.write(_summary(len(changes), dry_run=dry_run))

    def _export(self, output: Path | None) -> None:
        text = manifest.export()
        if output is None:
            self.stdout.write(text, ending="")
            return
        try:
            output.touch(mode=0o600)  # options may hold secrets
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error}") from None


def _summary(count: int, *, dry_run: bool) -> str:
    if not count:
        return "Everything is as the file says already."
    return "Nothing was changed: this was a dry run." if dry_run else f"{count} applied."
