"""What the commands print: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from a2a_client.models import Agent, Event, Run, Task

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
LOOKS = {  # a sign beside every word, for those who see no colour
    "completed": ("✓", "green"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "rejected": ("✗", "red"),
    "canceled": ("⊘", "yellow"),
    "working": ("▶", "cyan"),
    "running": ("▶", "cyan"),
    "input-required": ("?", "magenta"),
    "auth-required": ("?", "magenta"),
}


def state(name: str) -> Text:
    """Return a state as sign and word."""
    sign, colour = LOOKS.get(name, ("·", ""))
    return Text(f"{sign} {name}", style=colour)


def plain(value: Any) -> Any:
    """Return the value as JSON takes it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def as_json(value: Any) -> None:
    """Print one JSON document on one line."""
    print(json.dumps(plain(value), ensure_ascii=False), flush=True)


def when(at: datetime | None) -> str:
    """Return a time as it is written everywhere here, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else ""


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under their headings, or what to do when there are none."""
    listed = list(rows)
    if not listed:
        err.print(empty)
        return
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column == "ID")
    for row in listed:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    out.print(made)


def tasks(found: Iterable[Task]) -> None:
    """Print a list of tasks."""
    rows = ([each.id, state(each.state), each.skill, each.agent, when(each.created_at), each.why] for each in found)
    columns = ("ID", "STATE", "SKILL", "AGENT", "SUBMITTED", "WHY")
    table(columns, rows, empty='No task is like that. `a2amc submit echo \'{"text": "hello"}\'` makes one.')


def runs(found: Iterable[Run]) -> None:
    """Print a list of runs."""
    rows = ([each.id, state(each.state), each.workflow or "(own graph)", each.by, when(each.created_at), each.why]
            for each in found)  # fmt: skip
    table(("ID", "STATE", "WORKFLOW", "BY", "STARTED", "WHY"), rows, empty="No run is like that.")


def agents(found: Iterable[Agent]) -> None:
    """Print a list of agents."""
    rows = ([each.name, mood(each), each.capacity, each.executor, ", ".join(s["name"] for s in each.skills)]
            for each in found)  # fmt: skip
    table(("AGENT", "STATE", "SLOTS", "EXECUTOR", "SKILLS"), rows, empty="No agent is registered.")


def mood(agent: Agent) -> str:
    """Return whether an agent takes work."""
    if not agent.enabled:
        return "disabled"
    return "draining" if agent.draining else "enabled"


def task(found: Task) -> None:
    """Print one task with its attempts and artifacts."""
    out.print(Text.assemble("Task ", (str(found.id), "bold"), "  ", state(found.state)))
    facts = {"skill": found.skill, "agent": found.agent, "submitted": when(found.created_at),
             "ended": when(found.finished_at), "why": found.why}  # fmt: skip
    for name, fact in facts.items():
        if fact:
            out.print(Text(f"  {name:<10} {fact}"))
    for attempt in found.attempts:
        why = (attempt.error or {}).get("message", "")
        out.print(Text.assemble(f"  attempt {attempt.number} on {attempt.agent} ", state(attempt.state), f" {why}"))
    for kept in found.artifacts:
        out.print(Text(f"  artifact {kept.seq} {kept.name} ({kept.size} bytes)"))
    if found.output is not None:
        out.print_json(json.dumps(found.output))


def run(found: Run) -> None:
    """Print one run with its steps."""
    out.print(Text.assemble("Run ", (str(found.id), "bold"), f" of {found.workflow or 'its own graph'}  "),
              state(found.state), found.why)  # fmt: skip
    rows = ([each.step, state(each.state), each.agent, each.attempt or "", len(each.tasks)] for each in found.steps)
    table(("STEP", "STATE", "AGENT", "ATTEMPT", "TASKS"), rows, empty="No step has begun.")
    if found.output is not None:
        out.print_json(json.dumps(found.output))


def event(found: Event) -> None:
    """Print one event on one line."""
    words = found.data.get("message") or found.data.get("detail") or found.data.get("name") or ""
    if found.kind == "progress" and found.data.get("fraction") is not None:
        words = f"{found.data['fraction']:.0%} {words}"
    agent = found.data.get("agent", "")
    told = " ".join(str(word) for word in (agent, found.step, words) if word)
    out.print(Text.assemble((found.at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3] + "Z ", "dim"),
                            state(found.kind), f" {told}"))  # fmt: skip
