"""What happened, in words.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {
    "submitted": "Submitted",
    "assigned": "Assigned",
    "working": "Started",
    "progress": "Progress",
    "log": "Log line",
    "artifact": "Artifact",
    "attempt_failed": "Attempt failed",
    "requeued": "Waiting for another attempt",
    "cancel_requested": "Cancel asked for",
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    "rejected": "Rejected",
}
TERM_WORDS = {
    "service_s": ("expected time to a good answer", "s"),
    "trouble_s": ("charge for recent failures", "s"),
    "load": ("slots in use", "%"),
}


def title(kind: str) -> str:
    """Return the name of a kind of event; an unknown kind is its own name."""
    return TITLES.get(kind, kind.replace("_", " ").capitalize())


def detail(kind: str, data: Mapping[str, Any], *, agent: str = "", attempt: int | None = None) -> str:
    """Return one line about an event, "" where its title says all."""
    match kind:
        case "submitted":
            return str(data.get("detail", ""))
        case "assigned":
            return _assigned(data, agent, attempt)
        case "working":
            return f"on {data['worker']}" if data.get("worker") else ""
        case "progress":
            return " · ".join(part for part in (percent(data.get("fraction")), str(data.get("message") or "")) if part)
        case "log":
            return str(data.get("message", ""))
        case "artifact":
            return f"{data.get('name', '')}, {size(data.get('size', 0))}"
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


def decision(agent: str, candidates: Sequence[Mapping[str, Any]], exclusions: Mapping[str, str]) -> str:
    """Return in a sentence or two why ``agent`` got the attempt. Lower scores are better."""
    scores = {str(c.get("agent")): float(c.get("score", 0.0)) for c in candidates}
    if agent not in scores:
        return f"{agent} was chosen."
    if len(scores) == 1:
        text = f"{agent} was the only able agent with a free slot"
    else:
        text = f"{agent} had the lowest score, {number(scores[agent])}, of {len(scores)} able agents with a free slot"
    left_out = "; ".join(f"{name}: {reason}" for name, reason in list(exclusions.items())[:3])
    more = f"; and {len(exclusions) - 3} more" if len(exclusions) > 3 else ""
    return f"{text}. Left out: {left_out}{more}." if left_out else f"{text}."


def terms(candidate: Mapping[str, Any]) -> str:
    """Return the terms of a candidate's score in words."""
    return ", ".join(_term(name, value) for name, value in (candidate.get("terms") or {}).items())


def _term(name: str, value: Any) -> str:
    words, unit = TERM_WORDS.get(name, (name.replace("_", " "), ""))
    if not isinstance(value, int | float):
        return f"{words} {value}"
    if unit == "%":
        return f"{words} {value:.0%}".replace("%", " %")
    return f"{words} {duration(value) if unit == 's' else number(value)}"


def number(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", " ")


def percent(fraction: float | None) -> str:
    """Return 0..1 as per cent, "" for None."""
    return "" if fraction is None else f"{fraction * 100:.0f} %"


def duration(seconds: float | None) -> str:
    """Return seconds as a person would say them: ``240 ms``, ``3.2 s``, ``4 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit_s, unit, part_s, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit} {rest} {part}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


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


def several(count: int, one: str, many: str = "") -> str:
    """Return ``1 agent`` or ``3 agents``; ``many`` where an s does not do."""
    return f"{count} {one if count == 1 else many or one + 's'}"
