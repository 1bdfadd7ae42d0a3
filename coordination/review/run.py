"""A review as a Celery canvas: a task that plans, a chord of checks side by side, a task that writes the report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import chain, group
from django.conf import settings

from coordination.review import fleet, snapshot
from coordination.review.intake import Tree, take
from coordination.review.plan import Chunk, plan
from routing import registry
from routing.artifacts import Store
from routing.models import TERMINAL, Skill, Task, TaskState, new_id
from routing.tasks import run_agent_task

PER_CHUNK = ("code.lint", "code.complexity", "code.security")
WHOLE = ("code.inventory", "code.duplication", "deps.audit", "tests.map")


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
class Progress:
    """How far a review is."""

    ended: int
    steps: int
    working: Mapping[str, int]  # agent → its tasks at work, only those at work
    waiting: int
    failure: str = ""  # the first task that failed, in words
    is_done: bool = False


def ensure_fleet() -> None:
    """Register the demonstration fleet's skills and agents where they are missing."""
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
            options=agent.options,
            description=agent.description,
            capacity=agent.capacity,
            labels=agent.labels,
            cost_usd=agent.cost_usd,
        )


def start(source: Path) -> Run:
    """Return a review of the project at ``source``, submitted. Raises ``snapshot.Refused``."""
    context = new_id()
    tree = take(source, directory(context))
    try:
        if not tree.python_files:
            raise snapshot.NoPython(source=source)
        checks = list(_checks(tree, plan(tree.python_files), context))
        result = _canvas(tree, checks, context).apply_async()
    except BaseException:
        shutil.rmtree(tree.root, ignore_errors=True)
        raise
    return Run(context=context, tree=tree, checks=len(checks), report=UUID(result.id))


def directory(context: UUID) -> Path:
    """Return where the snapshot of a review is kept until it ends."""
    return Path(settings.A2A_HOME) / "reviews" / str(context)


def _canvas(tree: Tree, checks: list[Any], context: UUID) -> Any:
    root = {"root": str(tree.root)}
    first = run_agent_task.si(skill="code.plan", input=root, context=str(context))
    last = run_agent_task.s(skill="report.compose", input={**root, "title": tree.name}, context=str(context))
    return chain(first, group(checks), last)


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
    rows = Task.objects.filter(context=run.context).values_list("id", "state", "agent", "skill", "error")
    working: dict[str, int] = {}
    ended = waiting = 0
    failure, is_done = "", False
    for task, state, agent, skill, error in rows:
        ended += state in TERMINAL
        if state == TaskState.WORKING:
            working[agent] = working.get(agent, 0) + 1
        waiting += state == TaskState.SUBMITTED
        if state in TERMINAL and state != TaskState.COMPLETED and not failure:
            failure = f"{skill} {state}: {(error or {}).get('message', 'no reason given')} (task {task})"
        is_done |= task == run.report and state == TaskState.COMPLETED
    return Progress(ended=ended, steps=run.steps, working=working, waiting=waiting, failure=failure, is_done=is_done)


def report(run: Run) -> bytes:
    """Return ``review.md`` of a finished review."""
    output: Any = Task.objects.values_list("output", flat=True).get(id=run.report)
    with Store(settings.A2A_ARTIFACTS_DIR).open(output["markdown_sha256"]) as file:
        return file.read()


def clean_up(run: Run) -> None:
    """Delete the snapshot."""
    shutil.rmtree(run.tree.root, ignore_errors=True)
