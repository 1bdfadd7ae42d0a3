"""Commands about agents."""

from __future__ import annotations

from typing import Annotated

import typer

from a2a_client.command_line import showing
from a2a_client.command_line.options import Json, client
from a2a_client.models import Agent

app = typer.Typer(no_args_is_help=True, help="See the fleet, and turn agents on and off.")
Name = Annotated[str, typer.Argument(help="The agent's name.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the agents."""
    with client() as server:
        found = server.agents()
    if json:
        for agent in found:
            showing.as_json(agent)
    else:
        showing.agents(found)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show one agent."""
    with client() as server:
        _shown(server.agent(name), json=json)


@app.command()
def drain(name: Name, json: Json = False) -> None:
    """Let an agent take nothing new and finish what it has."""
    with client() as server:
        _shown(server.drain(name), json=json)


@app.command()
def resume(name: Name, json: Json = False) -> None:
    """Let an agent take tasks again."""
    with client() as server:
        _shown(server.resume_agent(name), json=json)


@app.command()
def skills(json: Json = False) -> None:
    """List the skills and who has them."""
    with client() as server:
        found = server.skills()
    if json:
        showing.as_json(found)
        return
    rows = ([each.name, each.version, ", ".join(each.agents), each.description] for each in found)
    showing.table(("SKILL", "VERSION", "AGENTS", "WHAT"), rows, empty="No skill is registered.")


def _shown(agent: Agent, *, json: bool) -> None:
    showing.as_json(agent) if json else showing.agents([agent])
