"""What happened to a run, in words.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

BRIEF = 200  # characters

TITLES = {
    "pending": "Waiting for its turn",
    "running": "Started",
    "copied": "Took over what an earlier run had done",
    "rerun": "Run again from a step",
    "retried": "Failed steps tried again",
    "failing": "Ending, because a step failed",
    "canceling": "Cancel asked for",
    "unconfirmed": "Some tasks did not confirm that they had stopped",
    "signal": "Signal received",
    "step_waiting": "Waits again",
    "step_fallback": "Went over to the fallback",
    "step_undo_failed": "Could not be undone",
    "step_undoing": "Being undone",
    "step_reminded": "Reminder sent",
}


def title(kind: str) -> str:
    """Return the name of a kind of event; an unknown kind is its own name."""
    return TITLES.get(kind) or kind.removeprefix("step_").replace("_", " ").capitalize()


def detail(data: Mapping[str, Any]) -> str:
    """Return one line about an event, "" where its title says all."""
    parts = [
        f"by {data['by']}" if data.get("by") else "",
        str(data.get("name") or ""),
        str(data.get("reason") or ""),
        f"with {data['skill']}" if data.get("skill") else "",
        trouble(data.get("error")),
    ]
    return " · ".join(part for part in parts if part)


def trouble(error: Any) -> str:
    """Return an error in one sentence: the step, the agent, the attempt, and what it said; "" for none."""
    if not isinstance(error, Mapping):
        return "" if error is None else str(error)
    where = [
        f"step {error['step']}" if error.get("step") else "",
        f"agent {error['agent']}" if error.get("agent") else "",
        f"attempt {error['attempt']}" if error.get("attempt") else "",
    ]
    place = ", ".join(part for part in where if part)
    said = str(error.get("message") or error.get("kind") or "no reason was given")
    return f"{place}: {said}" if place else said


def causes(error: Any, most: int = 10) -> list[str]:
    """Return what lies behind an error, one sentence a level, the nearest first."""
    found: list[str] = []
    waiting = _behind(error)
    while waiting and len(found) < most:
        cause = waiting.pop(0)
        found.append(trouble(cause))
        waiting += _behind(cause)
    return found


def brief(value: Any) -> str:
    """Return a JSON value on one short line; yes and no for true and false."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= BRIEF else text[: BRIEF - 1] + "…"


def _behind(error: Any) -> list[Any]:
    """Return the errors directly behind this one, without those that only say the same again."""
    cause = error.get("cause") if isinstance(error, Mapping) else None
    errors = cause if isinstance(cause, list) else [cause]
    said = error.get("message") if isinstance(error, Mapping) else None
    return [one for one in errors if isinstance(one, Mapping) and one.get("message") not in (None, said)]
