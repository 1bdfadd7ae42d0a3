"""What the page of limits, budgets and containments says, from the controller's snapshot.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.words import several
from routing.amounts import MICRO, Unit, figure
from routing.limit_rules import rate_words

NEARLY = 0.8  # of a limit or budget in use
NOUNS: dict[str, str] = {"usd": "", "tokens": " tokens", "wall_s": " s", "attempts": " attempts"}
WHOM = {"key": "concurrency key", "all": "all together"}
WHEN_FULL = {
    "queue": "tasks without room wait",
    "reject": "tasks without room are rejected",
    "cancel_oldest": "the oldest that runs is cancelled",
}


def context(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of the page."""
    rules = snapshot.get("rules", {})
    return {
        "containments": [containment(row) for row in rules.get("containments", [])],
        "limits": [line for row in rules.get("limits", []) for line in limit(row)],
        "budgets": [line for row in rules.get("budgets", []) for line in budget(row)],
    }


def limit(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line for each value of the limit that is told of, the fullest first."""
    lines = [_limit_line(row, value) for value in row["values"]]
    if not lines:
        return [_line(row["limit"], f"for each {WHOM.get(row['per'], row['per'])}: nothing runs", "idle", "not in use")]
    lines[-1]["more"] = row["more"]
    return lines


def _limit_line(row: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    most, running = row["max_running"], value["running"]
    is_full = (most is not None and running >= most) or (value["tokens"] is not None and value["tokens"] < 1)
    is_near = most is not None and running >= NEARLY * most
    state, word = ("warn", "full") if is_full else ("busy", "nearly full") if is_near else ("good", "room")
    line = _line(row["limit"], _whom(row["per"], value["value"]), state, word)
    line |= {"used": running, "most": most, "full": WHEN_FULL.get(row["on_full"], row["on_full"])}
    if row["rate_per_s"] is not None:
        line |= {"rate": rate_words(row["rate_per_s"]), "ready": f"{int(value['tokens'])} of {row['burst']} at once"}
    return line


def budget(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line for each value of the budget that is told of, the one with most spent first."""
    lines = [_budget_line(row, value) for value in row["values"]]
    if not lines:
        whom = f"for each {WHOM.get(row['scope'], row['scope'])}: nothing spent"
        lines = [_line(row["budget"], whom, "idle", "not in use")]
    lines[-1]["more"] = row["more"]
    return [line | {"until": row["until"], "hard": row["hard"]} for line in lines]


def _budget_line(row: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    unit, amount = row["unit"], row["amount"]
    used = value["spent"] + value["reserved"]
    state, word = ("busy", "nearly used up") if used >= NEARLY * amount else ("good", "room")
    if value["overshoot"] > 0:
        state, word = "bad", "overspent"
    elif value["left"] <= 0:
        state, word = "warn", "used up"
    line = _line(row["budget"], _whom(row["scope"], value["value"]), state, word)
    return line | {
        "spent": amount_words(value["spent"], unit),
        "reserved": amount_words(value["reserved"], unit),
        "left": amount_words(value["left"], unit, up=False),
        "amount": amount_words(amount, unit) + NOUNS.get(unit, f" {unit}"),
        "used": used,
        "most": amount,
    }


def containment(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of one switch."""
    is_held = row["mode"] == "enforce"
    return {
        **row,
        "name": row["containment"],
        "state": row["mode"],
        "word": "holds" if is_held else "only observed",
        "effect": _effect(row["tasks"], is_held=is_held),
    }


def _effect(tasks: int | None, *, is_held: bool) -> str:
    if tasks is None:
        return "gets nothing new"
    return f"holds {several(tasks, 'waiting task')}" if is_held else f"would have held {several(tasks, 'task')}"


def amount_words(amount: float, unit: Unit, *, up: bool = True) -> str:
    """Return "$0.40", "1,200" or "2.5"."""
    return figure(round(amount * MICRO), unit, up=up)


def _whom(per: str, value: str) -> str:
    return f"{WHOM.get(per, per)} {value}" if value else WHOM["all"]


def _line(name: str, whom: str, state: str, word: str) -> dict[str, Any]:
    return {"name": name, "whom": whom, "state": state, "word": word, "more": 0}
