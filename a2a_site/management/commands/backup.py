"""`manage.py backup FILE`."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from a2a_site import backup


class Command(BaseCommand):
    """Writes one archive; the site may run meanwhile."""

    help = "Write the database (SQLite), the artifacts and the keys into one archive, while everything runs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where to."""
        parser.add_argument(
            "file", type=Path, help="a .tar.gz; one that is there is replaced when the new one is whole"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Back up."""
        try:
            count = backup.write(place(), options["file"].absolute())
        except OSError as error:
            raise CommandError(f"The backup could not be written: {error}") from error
        self.stdout.write(f"Wrote {count} files into {options['file']}. It holds the secret key: keep it safe.")
        if connection.vendor != "sqlite":
            self.stdout.write(f"The database is not in it: back up {connection.vendor} with its own tools.")


def place() -> backup.Place:
    """Return where this site keeps what is backed up."""
    database = Path(str(connection.settings_dict["NAME"])) if connection.vendor == "sqlite" else None
    return backup.Place(home=settings.A2A_HOME, database=database, artifacts=settings.A2A_ARTIFACTS_DIR)
