"""`manage.py down`: stops what `up` started."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from a2a_site import redis_server, run_state, up

SPARE_S = 30  # beside the grace each stage of processes has


class Command(BaseCommand):
    """Asks the running supervisor to stop and waits for it."""

    help = "Stop what `manage.py up` started."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Return when nothing runs any more, else raise ``CommandError``."""
        home: Path = settings.A2A_HOME
        record = run_state.running(home)
        if record is None:
            self._clear(home)
            return
        supervisor = psutil.Process(record["pid"])
        os.kill(record["pid"], signal.SIGTERM)
        self.stdout.write(f"Asked process {record['pid']} to stop. Workers finish or hand back their tasks first.")
        self._await_end(supervisor)
        self.stdout.write("Stopped.")

    def _clear(self, home: Path) -> None:
        record = run_state.read(home)
        names = run_state.kill_leftovers(record) if record else []
        run_state.remove(home)
        redis_server.clean_up(home)
        self.stdout.write(f"Nothing was running in {home}.")
        if names:
            self.stdout.write(f"Killed what a killed supervisor had left: {', '.join(names)}.")

    def _await_end(self, supervisor: psutil.Process) -> None:
        patience_s = 4 * up.grace_s() + SPARE_S
        try:
            supervisor.wait(timeout=patience_s)
        except psutil.TimeoutExpired:
            advice = f"kill -9 {supervisor.pid} ends it; what it started ends with it."
            raise CommandError(f"It did not stop within {patience_s} s. {advice}") from None
