"""`manage.py controller`: run the controller, or stand by until it is needed."""

from __future__ import annotations

import gc
import signal
from typing import Any

from django.core.management.base import BaseCommand
from django.db.backends.signals import connection_created

from routing import ledger
from routing.controller import Controller


class Command(BaseCommand):
    help = "Run the controller: leads if no other one does, else stands by."

    def handle(self, *args: Any, **options: Any) -> None:
        connection_created.connect(ledger.limit_idleness)
        controller = Controller()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: controller.stop())
        gc.collect()
        gc.freeze()  # what was loaded stays: a full collection of it would take tens of milliseconds, under load
        controller.run()
