"""Waits for the lead: for a leader that gives it up, falls silent, or was stopped with the database locked."""

from __future__ import annotations

import logging
import threading
import time

from django.db import DatabaseError, close_old_connections, connection

from routing import ledger
from routing.models import Controller as Row
from routing.write_lock import Watch

log = logging.getLogger(__name__)

TAKE_OVER_S = 2.0  # a leader whose beat stands still so long has lost the lead
LOOK_S = 0.25


class Standby:
    """A controller while it does not lead."""

    def __init__(self, name: str, stopping: threading.Event) -> None:
        self._name = name
        self._stopping = stopping
        self._seen: Row | None = None
        self._since = time.monotonic()  # when the leader's beat was seen to move last
        self._watch = Watch()
        self._said = False

    def wait(self) -> int | None:
        """Return the epoch that this process leads in from now on, or None when it should stop."""
        while not self._stopping.is_set():
            try:
                close_old_connections()
                epoch = self._try()
                if epoch is not None:
                    return epoch
            except DatabaseError as error:
                self._be_kept_out(error)
            self._stopping.wait(LOOK_S)
        return None

    def _try(self) -> int | None:
        """Return the new epoch if the lead was to be had."""
        row, before = ledger.controller_row(), self._seen
        if before is None or (row.epoch, row.beat) != (before.epoch, before.beat):
            self._seen, self._since = row, time.monotonic()
        self._watch.look()
        if not row.holder or self._silent_s > TAKE_OVER_S:
            return ledger.take_lead(row, self._name)
        if not self._said:
            log.info("controller: standing by; %s leads", row.holder)
            self._said = True
        return None

    @property
    def _silent_s(self) -> float:
        return time.monotonic() - self._since

    def _be_kept_out(self, error: DatabaseError) -> None:
        """Find out whether somebody stands still with the database locked, and end that."""
        connection.close()
        leader = self._seen.holder if self._seen is not None else ""
        self._watch.look()
        if not self._watch.end(leader, after_s=TAKE_OVER_S):
            log.warning("controller: the lead cannot be taken (%s)", error)
