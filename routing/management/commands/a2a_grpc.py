"""`manage.py a2a_grpc`: serve A2A over gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Serves until it is stopped."""

    help = "Serve the A2A protocol over gRPC, without TLS: put a proxy in front of it for other machines."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--host", default=settings.A2A_HOST, help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=settings.A2A_GRPC_PORT or 50051, help="(default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve; exit with words where the port cannot be had."""
        from routing.a2a import rpc  # gRPC is loaded by nobody else

        try:
            asyncio.run(rpc.serve(options["host"], options["port"]))
        except OSError as error:
            raise CommandError(str(error)) from None
