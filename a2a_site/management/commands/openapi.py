"""`manage.py openapi`: writes docs/openapi.json, which a test compares with what the server says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Write the OpenAPI document of the REST API."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the file."""
        place = Path(settings.BASE_DIR) / "docs" / "openapi.json"
        parser.add_argument("--output", type=Path, default=place, help="the file to write (%(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the file."""
        options["output"].write_text(text())
        self.stdout.write(f"wrote {options['output']}")


def text() -> str:
    """Return the document as it is committed."""
    from a2a_site.api_docs import document

    return json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"
