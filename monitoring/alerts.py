"""Alerts: opened once, acknowledged by people, resolved when it is over. The only writer of ``Alert``."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Mapping
from itertools import chain
from typing import Any

from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from monitoring import conditions, meters
from monitoring.conditions import Condition, Watch
from monitoring.models import Alert, AlertState, Rule
from routing.errors import RoutingError

log = logging.getLogger(__name__)

LOOK_S = 1.0


class NoSuchAlert(RoutingError):
    """There is no alert {id}."""

    kind, status = "no-such-alert", 404


class AlertOver(RoutingError):
    """The alert is resolved: there is nothing left to acknowledge."""

    kind, status = "alert-over", 409


class Watcher:
    """Looks at every snapshot of the controller that leads, in its process: it needs no worker to be alive."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._looked_at = float("-inf")

    def __call__(self, snapshot: Mapping[str, Any]) -> None:
        """Open and resolve alerts. While the database is away nothing is forgotten: the next look does it."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        try:
            watch = self._watch or self._taken_up(now)
            raised, ended = watch.look(chain(conditions.found(snapshot), meters.holding()), now)
            self._watch = None  # until it is written
            for condition in raised:
                opened(condition)
            for kind, key in ended:
                resolve(kind, key)
            self._watch = watch
        except DatabaseError as error:
            log.warning("alerts cannot be written (%s); trying again", error)

    def _taken_up(self, now: float) -> Watch:
        watch = Watch()
        for kind, key in Alert.objects.exclude(state=AlertState.RESOLVED).values_list("kind", "key"):
            watch.adopt((kind, key), now)
        return watch


def opened(condition: Condition) -> Alert:
    """Return the open alert that tells of the condition, made if there is none; its words are those of now."""
    key = condition.key[:300]
    known = Alert.objects.filter(kind=condition.kind, key=key).exclude(state=AlertState.RESOLVED)
    alert = known.first()
    if alert is None:
        try:
            with transaction.atomic():
                made = Alert.objects.create(
                    kind=condition.kind, key=key, severity=condition.severity, title=condition.title[:300]
                )
            log.warning("alert: %s", condition.title)
            return made
        except IntegrityError:  # another leader was first
            alert = known.get()
    if alert.title != condition.title[:300]:
        Alert.objects.filter(pk=alert.pk).update(title=condition.title[:300], severity=condition.severity)
    return alert


def resolve(kind: str, key: str) -> bool:
    """Return True if an alert was open and is resolved now."""
    rows = Alert.objects.filter(kind=kind, key=key[:300]).exclude(state=AlertState.RESOLVED)
    return rows.update(state=AlertState.RESOLVED, resolved_at=timezone.now()) == 1


def acknowledge(alert: Alert, *, by: str, note: str = "") -> Alert:
    """Note that somebody looks after it; whoever was first stays. Raises ``AlertOver``."""
    rows = Alert.objects.filter(pk=alert.pk)
    told = {"acknowledged_at": timezone.now(), "acknowledged_by": by[:150], "note": note[:300]}
    rows.filter(state=AlertState.OPEN).update(state=AlertState.ACKNOWLEDGED, **told)
    alert.refresh_from_db()
    if alert.state == AlertState.RESOLVED:
        raise AlertOver()
    return alert


def find(pk: int) -> Alert:
    """Return the alert. Raises ``NoSuchAlert``."""
    alert = Alert.objects.filter(pk=pk).first()
    if alert is None:
        raise NoSuchAlert(id=pk)
    return alert


def runbook(alert: Alert) -> str:
    """Return where it is written what to do: the rule's own address, else the page in our documentation."""
    own = Rule.objects.filter(name=alert.kind).values_list("runbook", flat=True).first()
    return own or f"docs/operations/{alert.kind}.md"


def count_open() -> int:
    """Return how many alerts nobody has acknowledged."""
    return Alert.objects.filter(state=AlertState.OPEN).count()


def delete_old(border: dt.datetime) -> int:
    """Delete alerts that were resolved before ``border``, and return how many that were."""
    return Alert.objects.filter(resolved_at__lt=border).delete()[0]
