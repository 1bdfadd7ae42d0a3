"""What happened, in words.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routing.quantities import duration, number, percent, several

__all__ = ["TITLES", "detail", "duration", "number", "percent", "several", "size", "title"]

TITLES = {
    "submitted": "Submitted",
    "assigned": "Assigned",
    "hedged": "Second attempt beside it",
    "working": "Started",
    "progress": "Progress",
    "log": "Log line",
    "artifact": "Artifact",
    "attempt_failed": "Attempt failed",
    "requeued": "Waiting for another attempt",
    "dropped": "Attempt given up",
    "input-required": "Asks for an answer",
    "auth-required": "Asks for access",
    "answered": "Answered",
    "cancel_requested": "Cancel asked for",
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    "rejected": "Rejected",
}


def title(kind: str) -> str:
    """Return the name of a kind of event; an unknown kind is its own name."""
    return TITLES.get(kind, kind.replace("_", " ").capitalize())


def detail(kind: str, data: Mapping[str, Any], *, agent: str = "", attempt: int | None = None) -> str:
    """Return one line about an event, "" where its title says all."""
    match kind:
        case "submitted":
            return str(data.get("detail", ""))
        case "assigned" | "hedged":
            return _assigned(data, agent, attempt)
        case "working":
            return f"on {data['worker']}" if data.get("worker") else ""
        case "progress":
            return " · ".join(part for part in (percent(data.get("fraction")), str(data.get("message") or "")) if part)
        case "answered":
            return f"by {data['by']}" if data.get("by") else ""
        case "log" | "input-required" | "auth-required":
            return str(data.get("message", ""))
        case "artifact":
            return f"{data.get('name', '')}, {size(data.get('size', 0))}"
        case "dropped":
            return " · ".join(part for part in (str(data.get("detail") or ""), _trouble(data)) if part)
        case "attempt_failed" | "requeued" | "failed" | "rejected":
            return _trouble(data)
        case "cancel_requested" | "canceled":
            by = f"by {data['by']}" if data.get("by") else ""
            return ": ".join(part for part in (by, str(data.get("reason") or "")) if part)
    return ""


def _assigned(data: Mapping[str, Any], agent: str, attempt: int | None) -> str:
    to = data.get("agent") or agent
    text = (f"to {to}, " if to else "") + f"attempt {data.get('attempt') or attempt}"
    waited = data.get("waited_s")
    return f"{text}, after waiting {duration(waited)}" if waited is not None else text


def _trouble(data: Mapping[str, Any]) -> str:
    error = data.get("error") or {}
    parts = [str(error.get("message") or ""), _retry(data.get("retry_in_s"))]
    return " · ".join(part for part in parts if part)


def _retry(retry_in_s: float | None) -> str:
    if retry_in_s is None:
        return ""
    return f"trying again in {duration(retry_in_s)}" if retry_in_s > 0 else "trying again at once"


def size(count: int) -> str:
    """Return bytes as a person would say them: ``812 bytes``, ``1.4 KiB``."""
    if count < 1024:
        return "1 byte" if count == 1 else f"{count} bytes"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
