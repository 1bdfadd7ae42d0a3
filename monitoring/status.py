"""``/status.json``: how the whole is, and why."""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from monitoring import health
from monitoring.models import Alert, AlertState, Severity
from monitoring.words import several


def composite() -> dict[str, Any]:
    """Return ``ok``, ``degraded`` (a critical alert is open) or ``down`` (tasks cannot be done), and each part's why.

    Anybody may see it: it counts alerts and does not name them.
    """
    parts: list[dict[str, Any]] = [
        {"part": part, "ok": is_well, "why": words} for part, (is_well, words) in health.examined().items()
    ]
    ready = all(part["ok"] for part in parts)
    try:
        critical = Alert.objects.filter(severity=Severity.CRITICAL).exclude(state=AlertState.RESOLVED).count()
        why = f"{several(critical, 'critical alert')} open" if critical else "no critical alert is open"
    except DatabaseError:
        critical, why = 0, "cannot be told without the database"
    parts.append({"part": "alerts", "ok": not critical, "why": why})
    status = "down" if not ready else "degraded" if critical else "ok"
    return {"status": status, "why": [part["why"] for part in parts if not part["ok"]], "parts": parts}


@require_safe
@never_cache
def page(request: HttpRequest) -> JsonResponse:
    """Answer 200 whatever the status is: /readyz is for those who look at the code alone."""
    return JsonResponse(composite(), json_dumps_params={"indent": 2, "ensure_ascii": False})
