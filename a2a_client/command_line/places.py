"""Commands about the servers that are known by name, and their keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from a2a_client import errors
from a2a_client.command_line import settings, showing
from a2a_client.command_line.options import Json, client
from a2a_client.wire import DEFAULT_URL, Place

config = typer.Typer(no_args_is_help=True, help="Name servers, and choose the one that is meant.")
keys = typer.Typer(no_args_is_help=True, help="Keep, try and forget the keys for servers.")
Name = Annotated[str, typer.Argument(help="The server's name here.")]


@config.command("list")
def list_(json: Json = False) -> None:
    """List the servers, without their keys."""
    known = settings.read()
    found = [
        {"name": name, "url": server.url or DEFAULT_URL, "key": bool(server.key), "used": name == known.used}
        for name, server in known.servers.items()
    ]
    if json:
        showing.as_json(found)
        return
    rows = ([("* " if each["used"] else "  ") + str(each["name"]), each["url"], "set" if each["key"] else "none"]
            for each in found)  # fmt: skip
    showing.table(("  NAME", "URL", "KEY"), rows, empty=f"None. `a2amc config set default {DEFAULT_URL}` names one.")


@config.command("set")
def set_(name: Name, url: Annotated[str, typer.Argument(help=f"Such as {DEFAULT_URL}.")]) -> None:
    """Name a server, or change where it is. Its key, if it has one, is kept for the same address only."""
    try:
        place = Place.of(url, "")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    known = settings.read()
    old = known.servers.get(name, settings.Server())
    key = old.key if old.url in ("", place.url) else ""
    settings.write(known.having(name, settings.Server(url=place.url, key=key)))


@config.command()
def use(name: Name) -> None:
    """Mean this server when none is named."""
    known = settings.read()
    _must_know(known, name)
    settings.write(replace(known, used=name))


@config.command()
def remove(name: Name) -> None:
    """Forget a server and its key."""
    known = settings.read()
    _must_know(known, name)
    settings.write(known.without(name))


@config.command()
def path() -> None:
    """Print the file that holds the servers."""
    showing.out.print(str(settings.path()), markup=False)


@keys.command("set")
def set_key(name: Annotated[str, typer.Argument(help="The server's name here.")] = "default") -> None:
    """Keep the key for a server. It is asked for, or read from standard input, never taken from the command line."""
    key = typer.prompt("Key", hide_input=True).strip()
    known = settings.read()
    settings.write(known.having(name, replace(known.servers.get(name, settings.Server()), key=key)))


@keys.command("remove")
def remove_key(name: Name) -> None:
    """Forget the key for a server. It stays valid until an admin revokes it."""
    known = settings.read()
    _must_know(known, name)
    settings.write(known.having(name, replace(known.servers[name], key="")))


@keys.command()
def check(json: Json = False) -> None:
    """Try the key: which of the things one can do here does it allow?"""
    with client() as server:
        may = {what: _may(call) for what, call in (("tasks", server.tasks), ("agents", server.agents))}
    if json:
        showing.as_json({f"{what}:read": allowed for what, allowed in may.items()})
        return
    for what, allowed in may.items():
        showing.out.print(f"{'✓' if allowed else '✗'} read {what}")


def _may(call: object) -> bool:
    try:
        call()  # type: ignore[operator]
    except errors.NotAllowed:
        return False
    return True


def _must_know(known: settings.Settings, name: str) -> None:
    if name not in known.servers:
        names = ", ".join(known.servers) or "none"
        raise typer.BadParameter(f"No server is called {name!r}. Known: {names}.")
