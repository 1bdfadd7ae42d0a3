"""REST for alerts. Every view validates, makes one call, and returns."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from django.http import HttpRequest
from ninja import Body, Field, Router, Schema
from pydantic import ConfigDict, StrictStr

from monitoring import alerts, event_api
from monitoring.models import Alert, AlertState, Severity
from routing.access import Needs, caller
from routing.models import Scope
from routing.schemas import Problem

router = Router()
router.add_router("", event_api.router)
REFUSALS = {frozenset({400, 401, 403, 404, 409, 413, 415, 422, 503}): Problem}
MOST = 200
reads, writes = Needs(Scope.AGENTS_READ), Needs(Scope.AGENTS_WRITE)


class AlertOut(Schema):
    """Something that needs somebody, or did."""

    id: int
    kind: str
    key: str = Field(description="What tells it from others of its kind.")
    severity: Severity
    title: str
    state: AlertState
    opened_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str
    resolved_at: datetime | None
    note: str


class AlertList(Schema):
    """Alerts, newest first, at most 200."""

    alerts: list[AlertOut]


class NoteIn(Schema):
    """What somebody says of an alert."""

    model_config = ConfigDict(extra="forbid")

    note: Annotated[StrictStr, Field(max_length=300)] = ""


NO_NOTE = NoteIn()


@router.get("/alerts", auth=reads, response={200: AlertList, **REFUSALS})
def list_alerts(request: HttpRequest, state: AlertState | None = None) -> AlertList:
    """List alerts of the whole site, newest first."""
    rows = Alert.objects.order_by("-opened_at", "-id")
    return AlertList(alerts=[shape(row) for row in (rows.filter(state=state) if state else rows)[:MOST]])


@router.post("/alerts/{int:alert_id}:acknowledge", auth=writes, response={200: AlertOut, **REFUSALS})
def acknowledge_alert(request: HttpRequest, alert_id: int, said: Body[NoteIn] = NO_NOTE) -> AlertOut:
    """Say that somebody looks after it."""
    return shape(alerts.acknowledge(alerts.find(alert_id), by=caller(request).name, note=said.note))


def shape(row: Alert) -> AlertOut:
    """Return the alert as the API shows it."""
    return AlertOut(**{name: getattr(row, name) for name in AlertOut.model_fields})
