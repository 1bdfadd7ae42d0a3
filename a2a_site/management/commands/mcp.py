"""`manage.py mcp`: Mission Control as tools of an assistant, over standard input and output."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Speak the Model Context Protocol with the assistant that started this process."""

    help = (
        "Speak the Model Context Protocol on standard input and output. What the key (A2A_KEY, from `manage.py keys "
        "create assistant --scope tasks:read --scope agents:read`) may do is what the assistant may do."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where the server is."""
        parser.add_argument("--url", help="where Mission Control runs (A2A_URL, else http://127.0.0.1:8000)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until the input ends."""
        from a2a_client.mcp_server import server  # it takes long to import

        try:
            made = server(options["url"], None)
        except ValueError as error:
            raise CommandError(str(error)) from None
        made.run("stdio")
