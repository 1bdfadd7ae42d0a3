"""What the page of one run shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from coordination import drawing, forms, queries, words, workflows
from coordination.graph import Graph, Step
from coordination.models import ENDED, Approval, Run, RunCommand, RunEvent, StepRun

SHOWN_STEPS = 500
DRAWN_STEPS = 400  # a picture of more is neither quick nor legible
SHOWN_EVENTS = 300
SHOWN_COMMANDS = 20
SHOWN_JSON = 64 * 1024  # characters
OPEN_JSON = 2_000  # characters; longer ones are folded


def context(run: Run) -> dict[str, Any]:
    """Return everything the page shows, read from the ledger."""
    graph = workflows.graph_of(run.definition)
    rows = {row.step: row for row in StepRun.objects.filter(run_id=run.id)}
    return {
        "run": run,
        "workflow_address": queries.address(run.tenant_id, run.workflow) if run.version else "",
        "ended": run.state in ENDED,
        "can_retry": run.state == "failed" or any(row.state == "failed" for row in rows.values()),
        "signals": sorted({step.pause.signal for step in graph.steps if step.pause and step.pause.signal}),
        "trouble": words.trouble(run.error),
        "causes": words.causes(run.error),
        "picture": picture(graph, {name: row.state for name, row in rows.items()}, is_linked=True),
        "steps": steps(run, graph, rows)[:SHOWN_STEPS],
        "names": [step.name for step in graph.steps],
        "total": len(graph.steps),
        "done": sum(row.ended_at is not None for row in rows.values()),
        "events": events(run),
        "asked": RunCommand.objects.filter(run_id=run.id).order_by("-created_at")[:SHOWN_COMMANDS],
        "questions": questions(queries.approvals(is_open=True, only=[run.id])),
        "children": Run.objects.filter(forked_from=run.id).only("id").order_by("created_at")[:20],
        "input": shown(run.input),
        "output": shown(run.output),
        "source": workflows.source_of(run.definition),
    }


def picture(graph: Graph, states: Mapping[str, str] | None = None, *, is_linked: bool = False) -> SafeString | None:
    """Return the graph as SVG, None where it is too large; ``is_linked`` leads from its steps to the table's rows."""
    if len(graph.steps) > DRAWN_STEPS:
        return None
    rows = {step.name: f"#step-{number}" for number, step in enumerate(graph.steps, 1)}
    return mark_safe(drawing.svg(graph, states, href=rows.__getitem__ if is_linked else None))  # it escapes its texts


def steps(run: Run, graph: Graph, rows: dict[str, StepRun]) -> list[dict[str, Any]]:
    """Return the steps in their written order, each with what has become of it."""
    tasks, items = queries.tasks_by_step(run), queries.items_by_step(run)
    children = queries.children_by_step(run)
    return [
        {
            "step": step,
            "asks": _asks(step),
            "row": (row := rows.get(step.name)),
            "state": row.state if row else "waiting",
            "round": row.round if row else 1,
            "began": row.started_at if row else None,
            "ended": row.ended_at if row else None,
            "trouble": words.trouble(row.error) if row else "",
            "undo_trouble": words.trouble(row.undo_error) if row else "",
            "progress": _progress(row, items.get((step.name, row.round), {})) if row else "",
            "output": shown(row.output) if row and row.output is not None else None,
            "tasks": tasks.get(step.name, []),
            "children": children.get(step.name, []),
        }
        for step in graph.steps
    ]


def _asks(step: Step) -> str:
    """Return what the step is about, in a word or two."""
    if step.ask is not None:
        return step.ask.skill or str((step.ask.call or {}).get("task", ""))
    if step.child is not None:
        return step.child.workflow
    return step.pause.signal if step.pause is not None else ""


def _progress(row: StepRun, counts: dict[str, int]) -> str:
    """Return how far a map is, "" for a step that is none."""
    size = row.facts.get("size") or sum(counts.values())
    if not size:
        return ""
    ended = sum(count for state, count in counts.items() if state != "fallback")
    failed = f", {counts['failed']} failed" if counts.get("failed") else ""
    return f"{ended} of {size} items{failed}"


def events(run: Run) -> list[dict[str, Any]]:
    """Return the last events, the newest first, each with its words."""
    rows = RunEvent.objects.filter(run_id=run.id).order_by("-seq")[:SHOWN_EVENTS]
    return [{"event": row, "title": words.title(row.kind), "detail": words.detail(row.data)} for row in rows]


def questions(rows: list[Approval], typed: dict[Any, dict[str, str]] | None = None) -> list[dict[str, Any]]:
    """Return the approvals with the forms to answer them; ``typed`` is what was filled in, by approval."""
    return [
        {
            "approval": row,
            "form": forms.form(row.schema, (typed or {}).get(row.id)),
            "schema": json.dumps(row.schema, indent=2, ensure_ascii=False),
        }
        for row in rows
    ]


def shown(value: Any) -> dict[str, Any]:
    """Return ``value`` as indented JSON, cut where it is too long to be read on a page."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return {"text": text[:SHOWN_JSON], "is_long": len(text) > OPEN_JSON, "is_cut": len(text) > SHOWN_JSON}
