"""Updates on their way to clients that want to be told (push notifications), sent by a worker.

The configuration's row is its place in the outbox: ``told`` is the generation that arrived last, ``due_at`` when to try
next. So updates go out in their order, one after the other, whatever dies meanwhile.
"""

from __future__ import annotations

import logging
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import orjson
from a2a.utils.proto_utils import to_stream_response
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from google.protobuf.json_format import MessageToDict

from routing import outbound, secrets
from routing.a2a import wire
from routing.a2a.reading import Viewer, story
from routing.a2a.rounds import LEASE
from routing.models import PushConfig, Task

log = logging.getLogger(__name__)

FIRST_S, LONGEST_S = 1.0, 600.0  # back-off after failures
MOST_FAILURES = 12  # in a row: about an hour and a half


def tell(task_id: str, config_id: str) -> int:
    """Tell one client all it has not been told, in order, and return how many updates that were."""
    row = PushConfig.objects.filter(task_id=UUID(task_id), config_id=config_id).select_related("task").first()
    if row is None or row.is_over or row.dead_at is not None:
        return 0
    task: Task = row.task
    viewer = Viewer(tenant=str(task.tenant_id), owner=task.owner, base=settings.A2A_URL)
    told = story(viewer, task)
    news = wire.updates(told)[row.told :]
    for count, (_, update) in enumerate(news):
        wrong = _send(row, MessageToDict(to_stream_response(update)))
        if wrong:
            _failed(row, wrong)
            return count
        if not _arrived(row):
            return count  # it was deleted, or made anew, meanwhile
    is_over = bool(told.events) and told.events[-1].kind in wire.ENDS
    _rows(row).update(seen_seq=task.seq, is_over=is_over, due_at=timezone.now())
    return len(news)


def send_again(row: PushConfig) -> None:
    """Try a row again that was given up."""
    _rows(row).update(dead_at=None, failures=0, due_at=timezone.now(), last_error="")


def _rows(row: PushConfig) -> QuerySet[PushConfig]:
    return PushConfig.objects.filter(pk=row.pk)


def _send(row: PushConfig, update: Any) -> str:
    """Return "" once the client has it, else what went wrong."""
    try:
        headers = {"Content-Type": "application/a2a+json", "A2A-Version": "1.0", **_credentials(row)}
        status = outbound.post(row.url, orjson.dumps(update), headers)
    except (outbound.Refused, secrets.Unreadable) as error:
        return str(error)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {error}"
    return "" if 200 <= status < 300 else f"it answered {status}"


def _credentials(row: PushConfig) -> dict[str, str]:
    found = {}
    if row.token:
        found["X-A2A-Notification-Token"] = secrets.unseal(row.token)
    if row.scheme and row.credentials:
        found["Authorization"] = f"{row.scheme} {secrets.unseal(row.credentials)}"
    return found


def _arrived(row: PushConfig) -> bool:
    """Note that one update arrived; False if the row is not what it was."""
    changed = (
        _rows(row)
        .filter(told=row.told)
        .update(told=row.told + 1, failures=0, last_error="", due_at=timezone.now() + LEASE)
    )
    row.told, row.failures = row.told + 1, 0
    return bool(changed)


def _failed(row: PushConfig, wrong: str) -> None:
    """Try again later, or give up."""
    now, failures = timezone.now(), row.failures + 1
    wait_s = min(LONGEST_S, FIRST_S * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
    is_dead = failures >= MOST_FAILURES
    log.log(logging.WARNING if is_dead else logging.INFO, "an update for %s did not arrive: %s", row, wrong)
    _rows(row).update(
        failures=failures,
        last_error=wrong[:300],
        due_at=now + timedelta(seconds=wait_s),
        dead_at=now if is_dead else None,
    )
