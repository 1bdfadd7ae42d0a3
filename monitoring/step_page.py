"""What the inspector of one step of a run shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordination import queries as run_queries
from coordination import words as run_words
from coordination import workflows
from coordination.graph import Step
from coordination.models import Approval, Run, StepRun, StepTask
from monitoring import task_page
from routing.models import Task

ITEMS_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A task of the step, and what it is for."""

    link: StepTask
    task: Task


def context(run: Run, name: str, task: str = "") -> dict[str, Any] | None:
    """Return everything about the step, None if the run has none of this name.

    ``task`` is the id of the one of its tasks to show; without it, that is the newest one.
    """
    graph = workflows.graph_of(run.definition)
    step = next((each for each in graph.steps if each.name == name), None)
    if step is None:
        return None
    row = StepRun.objects.filter(run_id=run.id, step=name).first()
    links = list(StepTask.objects.filter(run_id=run.id, step=name).order_by("-round", "item", "use")[:ITEMS_SHOWN])
    tasks = {row.pk: row for row in Task.objects.filter(id__in=[link.task for link in links])}
    lines = [Line(link=link, task=tasks[link.task]) for link in links if link.task in tasks]
    shown = next((line for line in lines if str(line.task.pk) == task), _newest(lines))
    return {
        "run": run,
        "is_led": run_queries.is_led(),
        "step": step,
        "row": row,
        "state": row.state if row else "not begun",
        "trouble": run_words.trouble(row.error) if row else "",
        "causes": run_words.causes(row.error) if row else [],
        "output": task_page.shown(row.output) if row and row.output is not None else None,
        "written": task_page.shown(_written(step)),
        "lines": lines,
        "shown": shown,
        "told": task_page.context(shown.task) if shown else None,
        "children": run_queries.children_by_step(run).get(name, []),
        "approvals": Approval.objects.filter(run_id=run.id, step=name).order_by("-asked_at")[:20],
    }


def _newest(lines: list[Line]) -> Line | None:
    """Return what has begun last of the newest round: of a map an item under way rather than one that has ended."""
    newest = [line for line in lines if line.link.round == lines[0].link.round]
    return max(newest, key=lambda line: (line.task.finished_at is None, line.task.created_at), default=None)


def _written(step: Step) -> Any:
    """Return the input of the step as it is written, with its templates."""
    if step.ask is not None:
        return step.ask.call if step.ask.call is not None else step.ask.input
    return step.child.input if step.child is not None else None
