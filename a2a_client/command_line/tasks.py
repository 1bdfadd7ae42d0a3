"""Commands about tasks."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from a2a_client import errors, wire
from a2a_client.calls import Options, TaskFilters
from a2a_client.client import Client
from a2a_client.command_line import showing
from a2a_client.command_line.options import Json, Reason, Timeout, client, pairs, value
from a2a_client.models import Task

Id = Annotated[str, typer.Argument(help="The task's id.")]


def submit(
    skill: Annotated[str, typer.Argument(help="The skill that is wanted.")],
    input: Annotated[str | None, typer.Argument(help="JSON, @FILE, or - for standard input.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended; exit 1 if it failed.")] = False,
    timeout: Timeout = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="Higher goes first.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE that the agent must carry.")] = None,
    requires: Annotated[str | None, typer.Option(help="A label selector, such as 'gpu, !spot'.")] = None,
    agent: Annotated[str | None, typer.Option(help="The only agent that may get it.")] = None,
    deadline: Annotated[str | None, typer.Option(help="Such as 2026-01-31T12:00:00Z.")] = None,
    key: Annotated[str, typer.Option(help="Idempotency key: the same one gives the same task.")] = "",
    json: Json = False,
) -> None:
    """Submit a task."""
    options: Options = {}
    if priority is not None:
        options["priority"] = priority
    if label:
        options["labels"] = pairs(label)
    for name, given in (("requires", requires), ("agent", agent), ("deadline", deadline)):
        if given is not None:
            options[name] = given  # type: ignore[literal-required]
    with client() as server:
        task = server.submit(skill, value(input), idempotency_key=key, **options)
        if wait:
            _follow(server, task, timeout, json=json)
        elif json:
            showing.as_json(task)
        else:
            showing.out.print(str(task.id))


def watch(id: Id, timeout: Timeout = None, json: Json = False) -> None:
    """Follow a task to its end, with its progress; exit 1 if it failed."""
    with client() as server:
        _follow(server, server.task(id), timeout, json=json)


def tail(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f/-F", help="Go on until it has ended.")] = True,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Print a task's events as they come."""
    with client() as server:
        show = showing.as_json if json else showing.event
        found = server.events(id, timeout_s=timeout) if follow else iter(server.task(id).events)
        for event in found:
            show(event)


def tasks(
    state: Annotated[str | None, typer.Option(help="Such as working or failed.")] = None,
    skill: Annotated[str | None, typer.Option()] = None,
    agent: Annotated[str | None, typer.Option()] = None,
    since: Annotated[str | None, typer.Option(help="Submitted at or after, such as 2026-01-31T12:00:00Z.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    json: Json = False,
) -> None:
    """List tasks, newest first."""
    filters: TaskFilters = {"limit": min(limit, 200)}
    for name, given in (("state", state), ("skill", skill), ("agent", agent), ("since", since)):
        if given is not None:
            filters[name] = given  # type: ignore[literal-required]
    with client() as server:
        found = list(islice(server.each_task(**filters), limit))
    if json:
        for task in found:
            showing.as_json(task)
    else:
        showing.tasks(found)


def show(id: Id, json: Json = False) -> None:
    """Show one task whole."""
    with client() as server:
        found = server.task(id)
    showing.as_json(found) if json else showing.task(found)


def explain(id: Id, json: Json = False) -> None:
    """Say why each attempt went to its agent."""
    with client() as server:
        found = server.decision(id)
    if json:
        showing.as_json(found)
        return
    for attempt in found:
        showing.out.print(f"Attempt {attempt.number} on {attempt.agent}:", style="bold")
        for sentence in attempt.explanation:
            showing.out.print(f"  {sentence}", markup=False)
    if not found:
        showing.out.print("It has not been given to an agent yet.")


def cancel(
    ids: Annotated[list[str], typer.Argument(help="The ids of the tasks.")], reason: Reason = "", json: Json = False
) -> None:
    """Cancel tasks: waiting ones at once, running ones as soon as they stop."""
    with client() as server:
        for id in ids:
            task = server.cancel(id, reason=reason)
            showing.as_json(task) if json else showing.out.print(f"{task.id} ", showing.state(task.state))


def retry(
    id: Id,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended; exit 1 if it failed.")] = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Submit a task that has ended once more, as a new task with the same input."""
    with client() as server:
        old = server.task(id)
        if not old.has_ended:
            raise errors.MissionControlError(f"Task {id} is {old.state}: it has not ended, so there is no retrying it.")
        new = server.submit(old.skill, old.input, priority=old.priority, labels=old.labels)
        if wait:
            _follow(server, new, timeout, json=json)
        else:
            showing.as_json(new) if json else showing.out.print(str(new.id))


def artifacts(
    id: Id,
    to: Annotated[Path | None, typer.Option("--to", help="Download all into this folder.")] = None,
    json: Json = False,
) -> None:
    """List a task's artifacts, or download them."""
    with client() as server:
        found = server.task(id).artifacts
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
            for kept in found:
                written = server.download(kept, to)
                showing.as_json({"file": str(written)}) if json else showing.out.print(str(written), markup=False)
            return
    if json:
        showing.as_json(found)
        return
    rows = ([kept.seq, kept.name, kept.size, kept.media_type] for kept in found)
    showing.table(("SEQ", "NAME", "BYTES", "MEDIA TYPE"), rows, empty="It has no artifacts.")


def _follow(server: Client, task: Task, timeout: float | None, *, json: bool) -> None:
    """Show how the task goes on, and its end. Raises ``TaskFailed`` or ``TaskTimeout``."""
    with _bar() as bar:
        line = bar.add_task(task.skill, total=1.0, state=task.state)
        for event in server.events(task.id, timeout_s=timeout):
            fraction = event.data.get("fraction") if event.kind == "progress" else None
            bar.update(line, completed=fraction)
            if event.kind not in ("progress", "log", "artifact"):
                bar.update(line, state=event.kind)
    ended = server.task(task.id)
    showing.as_json(ended) if json else showing.task(ended)
    wire.checked(ended)


def _bar() -> Progress:
    words = TextColumn("{task.description} {task.fields[state]}")
    return Progress(words, BarColumn(), TimeElapsedColumn(), console=showing.err, transient=True)
