"""What is deleted when it is old: the ledger's own rows, and those of the apps above, which register here."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from routing import ledger

log = logging.getLogger(__name__)

_DELETERS: dict[str, Callable[[dt.datetime], int]] = {}


def register(name: str, delete: Callable[[dt.datetime], int]) -> None:
    """Have ``delete(border)`` called now and then: it deletes what ended before, and returns how many that were."""
    _DELETERS[name] = delete


def delete_old(now: dt.datetime | None = None) -> dict[str, int]:
    """Delete what ended more than ``A2A_RETENTION_DAYS`` ago; one app's trouble keeps no other's rows."""
    now = now or timezone.now()
    border = now - dt.timedelta(days=settings.A2A_RETENTION_DAYS)
    deleted = {"tasks": ledger.delete_old(now)}
    for name, delete in _DELETERS.items():
        try:
            deleted[name] = delete(border)
        except DatabaseError:
            log.exception("what is old in %s could not be deleted; it is tried again in an hour", name)
    return deleted
