"""A review as a Celery canvas: a task that plans, a chord of checks side by side, a task that writes the report."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import chain, group
from django.conf import settings

from coordination.review import fleet
from coordination.review.intake import Tree, snapshots, take
from coordination.review.plan import Chunk, plan
from routing import lifecycle, registry
from routing.artifacts import Store
from routing.errors import AlreadyEnded
from routing.models import DEFAULT_TENANT, TERMINAL, Skill, Task, TaskState, new_id
from routing.tasks import run_agent_task

PER_CHUNK = ("code.lint", "code.complexity", "code.security")
WHOLE = ("code.inventory", "code.duplication", "deps.audit", "tests.map")
PLAN, REPORT = "code.plan", "report.compose"
UNSTARTED_S = 3600.0  # a snapshot that has no task for so long was left by a process that was killed
CANCEL_S = 15.0  # tasks that are asked to stop have so long before nobody waits for them any more
LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A review under way. Its tasks share the context."""

    context: UUID
    tree: Tree
    checks: int  # tasks side by side
    report: UUID  # the last task

    @property
    def steps(self) -> int:
        """Return how many tasks the review consists of."""
        return self.checks + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A task of the review that ended without an output."""

    task: UUID
    skill: str
    state: str
    why: str

    def __str__(self) -> str:
        return f"{self.skill} {self.state}: {self.why.rstrip('.')}. See /tasks/{self.task} on the dashboard."


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a review is."""

    ended: int
    steps: int
    working: Mapping[str, int]  # agent → its tasks at work, only those at work
    waiting: int
    failures: tuple[Failure, ...] = ()  # of checks: the report says what is not covered
    failure: Failure | None = None  # without this one there can be no report
    is_chord_broken: bool = False  # every check has ended, not all of them well
    is_done: bool = False


def ensure_fleet() -> None:
    """Register the demonstration fleet's skills and agents where they are missing; mend what is out of date."""
    skills: dict[str, Skill] = {}
    for skill in fleet.SKILLS:
        skills[skill.name] = registry.ensure_skill(
            skill.name,
            description=skill.description,
            input_schema=skill.input_schema,
            output_schema=skill.output_schema,
            timeout_s=skill.timeout_s,
            idempotent=skill.idempotent,
        )
    for agent in fleet.AGENTS:
        registry.ensure_agent(
            agent.name,
            skills=[skills[name] for name in agent.skills],
            executor=agent.executor,
            options=fleet.confined(agent, snapshots()).options,
            description=agent.description,
            capacity=agent.capacity,
            labels=agent.labels,
            cost_usd=agent.cost_usd,
        )


def start(source: Path) -> Run:
    """Return a review of the project at ``source``, submitted. Raises ``intake.Refused`` with nothing left behind."""
    context = new_id()
    tree = take(source, directory(context))
    try:
        checks = list(_checks(tree, plan(tree.python_files), context))
        result = _canvas(tree, checks, context).apply_async()
    except BaseException:
        cancel(context, patience_s=0)
        shutil.rmtree(directory(context), ignore_errors=True)
        raise
    return Run(context=context, tree=tree, checks=len(checks), report=UUID(result.id))


def directory(context: UUID) -> Path:
    """Return where the snapshot of a review is kept until it ends."""
    return snapshots() / str(context)


def _canvas(tree: Tree, checks: list[Any], context: UUID) -> Any:
    first = run_agent_task.si(skill=PLAN, input={"root": str(tree.root)}, context=str(context))
    last = run_agent_task.s(skill=REPORT, input=_heading(tree), context=str(context))
    return chain(first, group(checks), last)


def _heading(tree: Tree) -> dict[str, Any]:
    return {"root": str(tree.root), "title": tree.name}


def _checks(tree: Tree, chunks: tuple[Chunk, ...], context: UUID) -> Iterator[Any]:
    for skill in WHOLE:
        given = {"root": str(tree.root), "name": tree.name}
        yield run_agent_task.si(skill=skill, input=given, context=str(context))
    for chunk in chunks:
        for skill in PER_CHUNK:
            piece = {"root": str(tree.root), "files": list(chunk.files)}
            yield run_agent_task.si(skill=skill, input=piece, context=str(context))


def progress(run: Run) -> Progress:
    """Return how far the review is, from the ledger."""
    rows = Task.objects.filter(context=run.context).only("id", "state", "agent", "skill", "error")
    tasks = {task.id: task for task in rows}
    states = Counter(task.state for task in tasks.values())
    bad = [_failure(task) for task in tasks.values() if task.state in TERMINAL and task.state != TaskState.COMPLETED]
    checks = [task for task in tasks.values() if task.skill not in (PLAN, REPORT)]
    ended = len(checks) == run.checks and all(task.state in TERMINAL for task in checks)
    return Progress(
        ended=sum(states[state] for state in TERMINAL),
        steps=run.steps,
        working=Counter(task.agent for task in tasks.values() if task.state == TaskState.WORKING),
        waiting=states[TaskState.SUBMITTED],
        failures=tuple(failure for failure in bad if failure.skill not in (PLAN, REPORT)),
        failure=next((failure for failure in bad if failure.skill in (PLAN, REPORT)), None),
        is_chord_broken=ended and any(f.skill not in (PLAN, REPORT) for f in bad) and run.report not in tasks,
        is_done=run.report in tasks and tasks[run.report].state == TaskState.COMPLETED,
    )


def _failure(task: Task) -> Failure:
    why = (task.error or {}).get("message") or "no reason given"
    return Failure(task=task.id, skill=task.skill, state=task.state, why=why)


def compose_anyway(run: Run) -> None:
    """Submit the report of a review whose chord is broken: what failed is named in it. Asked again it does nothing."""
    rows = Task.objects.filter(context=run.context).exclude(skill__in=(PLAN, REPORT)).order_by("id")
    results = [task.output if task.state == TaskState.COMPLETED else _gap(task) for task in rows]
    lifecycle.submit(
        lifecycle.Request(
            id=run.report,
            context=run.context,
            skill=REPORT,
            input={**_heading(run.tree), "results": results},
            origin="review",
        )
    )


def _gap(task: Task) -> dict[str, Any]:
    """Return what the composer is told of a check that has no output."""
    files: Sequence[str] = (task.input or {}).get("files") or ()
    what = f"{len(files)} files from {files[0]} to {files[-1]}" if len(files) > 1 else "".join(files) or "every file"
    why = str(_failure(task).why).rstrip(".")
    return {"skill": task.skill, "error": {"message": f"{why} ({what}; task {task.id} {task.state})"}}


def report(run: Run) -> bytes:
    """Return ``review.md`` of a finished review."""
    output: Any = Task.objects.values_list("output", flat=True).get(id=run.report)
    with Store(settings.A2A_ARTIFACTS_DIR).open(output["markdown_sha256"]) as file:
        return file.read()


def cancel(context: UUID, *, patience_s: float = CANCEL_S) -> int:
    """Return how many tasks of the review were cancelled, after they have stopped or the patience is at its end."""
    asked: set[UUID] = set()
    give_up = time.monotonic() + patience_s
    while True:
        rows = Task.objects.filter(context=context).exclude(state__in=TERMINAL)
        live = set(rows.values_list("id", flat=True))
        for task in live - asked:
            with suppress(AlreadyEnded):
                lifecycle.cancel(task, tenant=DEFAULT_TENANT, by="manage.py review", reason="the review was given up")
        asked |= live
        if not live or time.monotonic() >= give_up:
            return Task.objects.filter(id__in=asked).exclude(state=TaskState.COMPLETED).count()
        time.sleep(LOOK_S)


def clean_up(run: Run) -> None:
    """Delete the snapshot."""
    shutil.rmtree(directory(run.context), ignore_errors=True)


def sweep() -> None:
    """Delete the snapshots of reviews that nobody works on: their commands were killed before they could."""
    for folder in snapshots().glob("*-*-*-*-*"):
        tasks = Task.objects.filter(context=UUID(folder.name))
        if tasks.exists():
            is_over = not tasks.exclude(state__in=TERMINAL).exists()
        else:
            is_over = folder.exists() and time.time() - folder.stat().st_mtime > UNSTARTED_S
        if is_over:
            shutil.rmtree(folder, ignore_errors=True)
