"""What the page of one run shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from coordination import drawing, forms, gantt, queries, verb_forms, words, workflows
from coordination.graph import Graph, Step
from coordination.models import ENDED, Approval, Run, RunCommand, RunEvent, StepRun

SHOWN_STEPS = 500
DRAWN_STEPS = 400  # a picture of more is neither quick nor legible
SHOWN_EVENTS = 300
FEW_TASKS = 6  # of one step; more of them are one bar
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
        "signals": verb_forms.signals(graph),
        "trouble": words.trouble(run.error),
        "causes": words.causes(run.error),
        "picture": picture(graph, {name: row.state for name, row in rows.items()}, run=run),
        "gantt": times(run, rows),
        "is_led": queries.is_led(),
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


def picture(graph: Graph, states: Mapping[str, str] | None = None, *, run: Run | None = None) -> SafeString | None:
    """Return the graph as SVG, None where it is too large; its steps lead to what became of them in ``run``."""
    if len(graph.steps) > DRAWN_STEPS:
        return None
    return mark_safe(drawing.svg(graph, states, href=_inspector(run) if run else None))  # it escapes its texts


def _inspector(run: Run) -> Callable[[str], str]:
    """Return what gives the address of a step's inspector, which is a page of the app above."""
    return lambda name: reverse("step", args=[run.id, name])


def times(run: Run, rows: Mapping[str, StepRun]) -> SafeString | None:
    """Return when the steps waited and worked as SVG, the first to begin on top; None if none has begun."""
    begun = sorted((row for row in rows.values() if row.started_at), key=lambda row: (row.started_at, row.order))
    begun = begun[:DRAWN_STEPS]
    bars = _bars(queries.work_by_step(run, [row.step for row in begun]))
    lines = [gantt.Line(name=row.step, state=row.state, bars=bars.get(row.step) or [_own_bar(row)]) for row in begun]
    drawn = gantt.svg(lines, now=timezone.now().timestamp(), href=_inspector(run))
    return None if drawn is None else mark_safe(drawn)  # it escapes its texts


def _own_bar(row: StepRun) -> gantt.Bar:
    """Return the bar of a step that asks no agent: it waits for people, for time, or for a sub-run."""
    assert row.started_at is not None
    ended = None if row.ended_at is None else row.ended_at.timestamp()
    kind: Any = "wait" if row.state in ("running", "waiting") else "work"
    return gantt.Bar(kind=kind, begin=row.started_at.timestamp(), end=ended, state=row.state, words=row.state)


def _bars(work: Mapping[str, list[queries.Work]]) -> dict[str, list[gantt.Bar]]:
    """Return the bars of each step: for a single task its waits and attempts, for a map's items one of both."""
    return {
        step: _together(tasks) if len(tasks) > FEW_TASKS else [bar for task in tasks for bar in _of_task(task)]
        for step, tasks in work.items()
    }


def _together(tasks: list[queries.Work]) -> list[gantt.Bar]:
    ends = [task.end for task in tasks]
    begin, end = min(task.begin for task in tasks), None if None in ends else max(end for end in ends if end)
    ended = sum(end is not None for end in ends)
    words = f"{ended} of {len(tasks)} items ended"
    return [gantt.Bar(kind="work", begin=begin, end=end, state="working" if end is None else "completed", words=words)]


def _of_task(task: queries.Work) -> Iterator[gantt.Bar]:
    free = task.begin
    for number, agent, state, began, ended in task.attempts:
        if began > free:
            yield gantt.Bar(kind="wait", begin=free, end=began, state="waiting", words="waited")
        words = f"attempt {number} on {agent}, {state}"
        yield gantt.Bar(kind="work", begin=began, end=ended, state=state, words=words)
        free = ended or began
    if not task.attempts or (task.end is None and task.attempts[-1][4] is not None):
        yield gantt.Bar(kind="wait", begin=free, end=task.end, state="waiting", words="waits")


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
