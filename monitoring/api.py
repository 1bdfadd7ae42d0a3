"""REST for alerts. Every view validates, makes one call, and returns."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from django.http import HttpRequest
from ninja import Body, Field, Router, Schema
from pydantic import ConfigDict, StrictStr

from monitoring import alerts, changes, event_api, metric_api, rule_api, slo_api
from monitoring.models import Alert, AlertState, Severity
from routing.access import Needs, caller
from routing.models import Scope
from routing.schemas import Problem

router = Router()
router.add_router("", event_api.router)
router.add_router("", metric_api.router)
router.add_router("", rule_api.router)
router.add_router("", slo_api.router)
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


class ChangeOut(Schema):
    """Something that changed shortly before, and may be the cause."""

    at: datetime
    what: str
    by: str


class AlertMore(AlertOut):
    """An alert with where to look."""

    runbook: str = Field(description="Where it is written what to do.")
    link: str = Field(description="The page that shows it.")
    changes: list[ChangeOut] = Field(description="What changed in the 15 minutes before, newest first.")


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


@router.get("/alerts/{int:alert_id}", auth=reads, response={200: AlertMore, **REFUSALS})
def get_alert(request: HttpRequest, alert_id: int) -> AlertMore:
    """Return one alert, with its runbook and what changed in the 15 minutes before."""
    row = alerts.find(alert_id)
    found = [ChangeOut(at=each.at, what=each.what, by=each.by) for each in changes.before(row.opened_at)]
    link = request.build_absolute_uri(f"/alerts#alert-{row.pk}")
    return AlertMore(**shape(row).dict(), runbook=alerts.runbook(row), link=link, changes=found)


@router.post("/alerts/{int:alert_id}:acknowledge", auth=writes, response={200: AlertOut, **REFUSALS})
def acknowledge_alert(request: HttpRequest, alert_id: int, said: Body[NoteIn] = NO_NOTE) -> AlertOut:
    """Say that somebody looks after it."""
    return shape(alerts.acknowledge(alerts.find(alert_id), by=caller(request).name, note=said.note))


def shape(row: Alert) -> AlertOut:
    """Return the alert as the API shows it."""
    return AlertOut(**{name: getattr(row, name) for name in AlertOut.model_fields})
