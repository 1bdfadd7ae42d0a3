"""Who is to be told something next? A thread beside the leading controller looks, and has workers tell them.

The SDK is not loaded here: the controller does without.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import celery
from django.db import DatabaseError, connection
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import OperationalError

from routing.models import PushConfig

log = logging.getLogger(__name__)

QUEUE = "push"
ROUND_S = 0.5
AT_ONCE = 50  # rows a round
LEASE = timedelta(seconds=60)  # a worker has so long for a row before it is somebody else's


class Rounds:
    """Observes the controller's snapshots; its thread goes its rounds from ``begin`` until ``close``."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start the thread: the reign begins."""
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    def __call__(self, snapshot: Mapping[str, Any]) -> None:
        """See nothing that matters here."""

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(ROUND_S + 1.0)

    def _run(self) -> None:
        while not self._ended.wait(ROUND_S):
            try:
                go_round()
            except DatabaseError as error:
                log.warning("nobody can be told of updates now (%s)", error)
                connection.close()
            except OperationalError as error:
                log.warning("updates are kept until a worker can be asked to tell them: %s", error)
            except Exception:
                log.exception("a round of push notifications broke; the next one is tried all the same")
        connection.close()


def go_round() -> int:
    """Have workers tell what is to be told, and return of how many rows."""
    now = timezone.now()
    waiting = Q(is_over=False, dead_at__isnull=True, due_at__lte=now)
    rows = PushConfig.objects.filter(waiting, task__seq__gt=F("seen_seq")).order_by("due_at")[:AT_ONCE]
    count = 0
    for row in rows:
        if PushConfig.objects.filter(waiting, pk=row.pk).update(due_at=now + LEASE):
            count += 1
            arguments = (str(row.task_id), row.config_id)
            celery.current_app.send_task(
                "routing.push_updates", arguments, queue=QUEUE, retry=False, ignore_result=True
            )
    return count
