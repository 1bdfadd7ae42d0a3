"""Commands about workflows and their runs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from a2a_client import errors
from a2a_client.calls import RunFilters
from a2a_client.command_line import showing
from a2a_client.command_line.options import Json, Reason, Timeout, client, value
from a2a_client.models import Command, Run

app = typer.Typer(no_args_is_help=True, help="Start workflows, and steer their runs.")
Id = Annotated[str, typer.Argument(help="The run's id.")]
DONE = "completed"


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option()] = None,
    workflow: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    json: Json = False,
) -> None:
    """List runs, newest first."""
    filters: RunFilters = {"limit": min(limit, 200)}
    if state is not None:
        filters["state"] = state
    if workflow is not None:
        filters["workflow"] = workflow
    with client() as server:
        found = list(islice(server.each_run(**filters), limit))
    if json:
        for run in found:
            showing.as_json(run)
    else:
        showing.runs(found)


@app.command()
def workflows(json: Json = False) -> None:
    """List the workflows."""
    with client() as server:
        found = server.workflows()
    if json:
        showing.as_json(found)
        return
    rows = ([each.name, each.version or "", "" if each.enabled else "disabled", each.description] for each in found)
    showing.table(("WORKFLOW", "VERSION", "STATE", "WHAT"), rows, empty="There is no workflow yet.")


@app.command()
def save(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML or JSON.")],
    note: Annotated[str, typer.Option(help="What is new in it.")] = "",
    json: Json = False,
) -> None:
    """Save a workflow's definition as a new version."""
    with client() as server:
        version = server.save_workflow(file.read_text(), note=note)
    showing.as_json({"version": version}) if json else showing.out.print(f"Version {version}.")


@app.command()
def start(
    workflow: Annotated[str, typer.Argument(help="Its name.")],
    input: Annotated[str | None, typer.Argument(help="JSON, @FILE, or - for standard input.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended; exit 1 if it failed.")] = False,
    timeout: Timeout = None,
    key: Annotated[str, typer.Option(help="Idempotency key: the same one gives the same run.")] = "",
    json: Json = False,
) -> None:
    """Start a run."""
    with client() as server:
        run = server.start(workflow, value(input), idempotency_key=key)
        if wait:
            _ended(server.wait_run(run.id, timeout_s=timeout), json=json)
        else:
            showing.as_json(run) if json else showing.out.print(str(run.id))


@app.command()
def watch(id: Id, timeout: Timeout = None, json: Json = False) -> None:
    """Wait until a run has ended; exit 1 if it failed."""
    with client() as server:
        _ended(server.wait_run(id, timeout_s=timeout), json=json)


@app.command()
def show(id: Id, json: Json = False) -> None:
    """Show one run with its steps."""
    with client() as server:
        found = server.run(id)
    showing.as_json(found) if json else showing.run(found)


@app.command()
def pause(id: Id, reason: Reason = "", json: Json = False) -> None:
    """Let nothing new begin in a run."""
    with client() as server:
        _asked(server.pause(id, reason=reason), json=json)


@app.command()
def resume(id: Id, reason: Reason = "", json: Json = False) -> None:
    """Let a paused run go on."""
    with client() as server:
        _asked(server.resume(id, reason=reason), json=json)


@app.command()
def cancel(
    id: Id,
    reason: Reason = "",
    compensate: Annotated[bool, typer.Option("--compensate", help="Undo what is done.")] = False,
    json: Json = False,
) -> None:
    """End a run, with all that runs for it."""
    with client() as server:
        _asked(server.cancel_run(id, reason=reason, compensate=compensate), json=json)


@app.command()
def retry(id: Id, reason: Reason = "", json: Json = False) -> None:
    """Do again what did not succeed."""
    with client() as server:
        _asked(server.retry_run(id, reason=reason), json=json)


@app.command()
def signal(
    id: Id,
    name: Annotated[str, typer.Argument(help="Of the signal.")],
    payload: Annotated[str | None, typer.Argument(help="JSON, @FILE, or -.")] = None,
    json: Json = False,
) -> None:
    """Send a run a signal."""
    with client() as server:
        _asked(server.signal(id, name, value(payload)), json=json)


def _asked(command: Command, *, json: bool) -> None:
    showing.as_json(command) if json else showing.out.print(f"Asked run {command.run}: {command.kind}.")


def _ended(run: Run, *, json: bool) -> None:
    showing.as_json(run) if json else showing.run(run)
    if run.state != DONE:
        raise errors.TaskFailed(f"Run {run.id} {run.state}: {run.why or 'no reason was given'}", run)
