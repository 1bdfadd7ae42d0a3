"""`manage.py up`: starts everything."""

import os
import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from a2a_site import detached, env, ports, processes, redis_server, run_state
from a2a_site.console import Console
from a2a_site.processes import Site
from a2a_site.up import Up

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Command(BaseCommand):
    """Starts everything and keeps it running until Ctrl-C."""

    help = "Start everything: Redis, controller, workers, web server, Flower. Ctrl-C stops it."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--port", type=int, help="port of the web server (default: A2A_PORT or 8000)")
        parser.add_argument("--host", default=settings.A2A_HOST, help="address to listen on (default: %(default)s)")
        parser.add_argument("--workers", type=int, default=settings.A2A_WORKERS, help="worker processes")
        parser.add_argument(
            "--bare", action="store_true", help="leave out the demonstration fleet and its first review"
        )
        parser.add_argument("--detach", action="store_true", help="return when everything is ready")
        parser.add_argument("--json-logs", action="store_true", help="one JSON object a line instead of coloured text")
        parser.add_argument("--no-flower", action="store_true", help="leave out Flower")
        parser.add_argument(
            "--grpc", action="store_true", help="serve A2A over gRPC too, on A2A_GRPC_PORT or the port after the web's"
        )
        parser.add_argument("--standby", action="store_true", help="start a second controller that takes over")
        parser.add_argument("--detached", action="store_true", help=SUPPRESS)  # what --detach starts

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until the stop; the exit code tells how it ended."""
        home: Path = settings.A2A_HOME
        record = run_state.running(home)
        if record is not None:
            raise CommandError(already_runs(home))
        if options["workers"] < 1:
            raise CommandError("--workers must be at least 1.")
        if options["detach"]:
            detached.start(home, sys.argv, self.stdout)
            return
        site = self._site(home, options)
        console = Console(home / "logs", colour=wants_colour(), as_json=options["json_logs"])
        up = Up(site, console, bare=options["bare"], announce=not options["detached"])
        try:
            code = up.run()
        except run_state.AlreadyRunning:
            raise CommandError(already_runs(home)) from None
        except redis_server.NoRedis as error:
            raise CommandError(str(error)) from None
        sys.exit(code)

    def _site(self, home: Path, options: dict[str, Any]) -> Site:
        host = options["host"]
        if host not in LOOPBACK:
            self.stderr.write(
                f"Listening on {host}: other machines can reach this server, without encryption. Put a TLS proxy in "
                "front of it, and set A2A_ALLOWED_HOSTS to the names it is reached by."
            )
        if settings.A2A_CONFORMANCE and host not in LOOPBACK:
            raise CommandError(f"A2A_CONFORMANCE=1 lets anybody in: it is for {' or '.join(sorted(LOOPBACK))} alone.")
        port = self._port(host, options["port"])
        if os.geteuid() == 0:
            self.stderr.write("Running as root: so will the agents' commands. A user of its own is safer.")
        return Site(
            root=settings.BASE_DIR,
            home=home,
            host=host,
            port=port,
            workers=options["workers"],
            standby=options["standby"],
            grpc_port=self._grpc_port(host, port) if options["grpc"] or settings.A2A_GRPC_PORT else None,
            flower_port=None if options["no_flower"] else processes.choose_flower_port(),
        )

    def _grpc_port(self, host: str, port: int) -> int:
        asked = settings.A2A_GRPC_PORT
        if asked and not ports.is_free(host, asked):
            raise CommandError(f"A2A_GRPC_PORT {asked} on {host} is taken by {ports.owner(asked)}.")
        return asked or ports.next_free(host, port + 1)

    def _port(self, host: str, asked: int | None) -> int:
        port = asked or settings.A2A_PORT
        if not 1 <= port <= 65535:
            raise CommandError(f"--port {port} is outside 1 to 65535.")
        if ports.is_free(host, port):
            return port
        if asked or env.text("A2A_PORT"):
            raise CommandError(f"Port {port} on {host} is taken by {ports.owner(port)}. Choose another with --port.")
        free = ports.next_free(host, port + 1)
        self.stderr.write(f"Port {port} is taken by {ports.owner(port)}: using {free}.")
        return free


def already_runs(home: Path) -> str:
    """Return who runs in ``home``, in words."""
    record = run_state.running(home)
    if record is None:
        return f"Another start in {home} is just beginning. `manage.py status` shows it."
    return f"It already runs: {record['url']}/ (process {record['pid']}). Stop it with: manage.py down"


def wants_colour() -> bool:
    """Return True if a person looks at a terminal and has not asked for plain text (no-color.org)."""
    return sys.stdout.isatty() and not env.text("NO_COLOR")
