"""A review as a durable run: a step that plans, checks side by side, a step that writes the report."""

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

from django.conf import settings

from coordination import runs, steps
from coordination.graph import Graph
from coordination.review import fleet
from coordination.review.intake import Tree, snapshots, take
from coordination.review.plan import Chunk, plan
from routing import registry
from routing.artifacts import Store
from routing.errors import RoutingError
from routing.models import DEFAULT_TENANT, TERMINAL, Skill, Task, TaskState, new_id

PER_CHUNK = ("code.lint", "code.complexity", "code.security")
WHOLE = ("code.inventory", "code.duplication", "deps.audit", "tests.map")
PLAN, REPORT = "code.plan", "report.compose"
UNSTARTED_S = 3600.0  # a snapshot that has no task for so long was left by a process that was killed
CANCEL_S = 15.0  # tasks that are asked to stop have so long before nobody waits for them any more
LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A review under way. Its tasks share the context, which is the id of its run, too."""

    context: UUID
    tree: Tree
    checks: int  # tasks side by side

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
    """Return a review of the project at ``source``, begun. Raises ``intake.Refused`` with nothing left behind."""
    context = new_id()
    tree = take(source, directory(context))
    try:
        checks = list(_checks(tree, plan(tree.python_files)))
        runs.start(runs.Request(graph=_graph(tree, checks), id=context, context=context, by="manage.py review"))
    except BaseException:
        shutil.rmtree(directory(context), ignore_errors=True)
        raise
    return Run(context=context, tree=tree, checks=len(checks))


def directory(context: UUID) -> Path:
    """Return where the snapshot of a review is kept until it ends."""
    return snapshots() / str(context)


def _graph(tree: Tree, checks: Sequence[tuple[str, str, dict[str, Any]]]) -> Graph:
    """Return plan, checks and report. A check that fails is named in the report instead of ending the run."""
    first = steps.task("plan", PLAN, input={"root": str(tree.root)})
    beside = [steps.task(name, skill, input=given, after="plan", on_error="continue") for name, skill, given in checks]
    results = [
        {"skill": skill, "what": _what(given)}
        | {part: f'{{{{ steps["{name}"].{part} }}}}' for part in ("output", "error")}
        for name, skill, given in checks
    ]
    given = {"root": str(tree.root), "title": tree.name, "results": results}
    last = steps.task("report", REPORT, input=given, after=[name for name, _, _ in checks])
    return steps.from_steps("review", [first, *beside, last], output='{{ steps["report"].output }}')


def _what(given: Mapping[str, Any]) -> str:
    """Return which files a check is about."""
    files: Sequence[str] = given.get("files") or ()
    return f"{len(files)} files from {files[0]} to {files[-1]}" if len(files) > 1 else "".join(files) or "every file"


def _checks(tree: Tree, chunks: tuple[Chunk, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield step, skill and input of every check."""
    for skill in WHOLE:
        yield skill, skill, {"root": str(tree.root), "name": tree.name}
    for number, chunk in enumerate(chunks, 1):
        for skill in PER_CHUNK:
            yield f"{skill} {number}", skill, {"root": str(tree.root), "files": list(chunk.files)}


def progress(run: Run) -> Progress:
    """Return how far the review is, from the ledger."""
    rows = Task.objects.filter(context=run.context).only("id", "state", "agent", "skill", "error")
    tasks = {task.id: task for task in rows}
    states = Counter(task.state for task in tasks.values())
    bad = [_failure(task) for task in tasks.values() if task.state in TERMINAL and task.state != TaskState.COMPLETED]
    return Progress(
        ended=sum(states[state] for state in TERMINAL),
        steps=run.steps,
        working=Counter(task.agent for task in tasks.values() if task.state == TaskState.WORKING),
        waiting=states[TaskState.SUBMITTED],
        failures=tuple(failure for failure in bad if failure.skill not in (PLAN, REPORT)),
        failure=next((failure for failure in bad if failure.skill in (PLAN, REPORT)), None),
        is_done=any(task.skill == REPORT and task.state == TaskState.COMPLETED for task in tasks.values()),
    )


def _failure(task: Task) -> Failure:
    why = (task.error or {}).get("message") or "no reason given"
    return Failure(task=task.id, skill=task.skill, state=task.state, why=why)


def report(run: Run) -> bytes:
    """Return ``review.md`` of a finished review."""
    output: Any = Task.objects.values_list("output", flat=True).get(
        context=run.context, skill=REPORT, state=TaskState.COMPLETED
    )
    with Store(settings.A2A_ARTIFACTS_DIR).open(output["markdown_sha256"]) as file:
        return file.read()


def cancel(context: UUID, *, patience_s: float = CANCEL_S) -> int:
    """Return how many tasks of the review were cancelled, after they have stopped or the patience is at its end."""
    rows = Task.objects.filter(context=context)
    live = set(rows.exclude(state__in=TERMINAL).values_list("id", flat=True))
    with suppress(RoutingError):  # it has ended
        runs.ask(runs.find(DEFAULT_TENANT, context), runs.Kind.CANCEL, by="manage.py review", reason="it was given up")
    give_up = time.monotonic() + patience_s
    while rows.exclude(state__in=TERMINAL).exists() and time.monotonic() < give_up:
        time.sleep(LOOK_S)
    late = set(rows.filter(cancel_requested_at__isnull=False).values_list("id", flat=True))
    return rows.filter(id__in=live | late).exclude(state=TaskState.COMPLETED).count()


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
