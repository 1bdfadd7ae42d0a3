"""`manage.py restore FILE`."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from a2a_site import backup
from a2a_site.management.commands.backup import place


class Command(BaseCommand):
    """Puts a backup's files in place; the site must not run."""

    help = "Restore what `backup` wrote. What was there is kept in A2A_HOME/before-restore-…"
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where from."""
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        """Restore."""
        where = place()
        connections.close_all()
        try:
            before = backup.restore(where, options["file"])
        except (backup.BadArchive, OSError) as error:
            raise CommandError(f"Not restored. {error}") from error
        self.stdout.write(f"Restored. What was there is in {before}. Start with: python3 manage.py up")
