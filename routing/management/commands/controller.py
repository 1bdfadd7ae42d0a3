"""`manage.py controller`: run the controller, or stand by until it is needed."""

from __future__ import annotations

import gc
import signal
from typing import Any

from django.core.management.base import BaseCommand

from routing.controller import Controller


class Command(BaseCommand):
    help = "Run the controller: leads if no other one does, else stands by."

    def handle(self, *args: Any, **options: Any) -> None:
        controller = Controller()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: controller.stop())
        gc.collect()
        gc.freeze()  # what was loaded stays: a full collection of it would take tens of milliseconds, under load
        controller.run()
