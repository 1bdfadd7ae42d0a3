"""Commands that speak A2A to any agent: its card, a message, a message with a stream of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import ModuleType
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import httpx
import typer

from a2a_client import errors, wire
from a2a_client.command_line import settings, showing
from a2a_client.command_line.options import Chosen, Json

app = typer.Typer(no_args_is_help=True, help="Speak A2A to an agent: Mission Control's own, or any other.")
Url = Annotated[str, typer.Argument(help="Of the agent, such as http://127.0.0.1:8000.")]
Text = Annotated[str, typer.Argument(help="The message.")]
T = TypeVar("T")
MISSING = "This needs the A2A SDK: pip install 'a2a-client[a2a]'"


@app.command()
def card(url: Url, json: Json = False) -> None:
    """Show an agent's card."""
    found = _run(url, _card(url))
    if json:
        showing.as_json(found)
        return
    showing.out.print(f"{found.get('name')} {found.get('version', '')}", style="bold")
    showing.out.print(str(found.get("description", "")), markup=False)
    rows = ([each.get("id"), each.get("name"), each.get("description", "")] for each in found.get("skills", []))
    showing.table(("SKILL", "NAME", "WHAT"), rows, empty="It names no skill.")


@app.command()
def send(url: Url, text: Text, json: Json = False) -> None:
    """Send a message and print the answer."""
    _run(url, _talk(url, text, streaming=False, json=json))


@app.command()
def stream(url: Url, text: Text, json: Json = False) -> None:
    """Send a message and print what comes, as it comes."""
    _run(url, _talk(url, text, streaming=True, json=json))


async def _card(url: str) -> dict[str, Any]:
    async with _http(url) as http:
        found: dict[str, Any] = await _sdk().card(http, url)
    return found


async def _talk(url: str, text: str, *, streaming: bool, json: bool) -> None:
    async with _http(url) as http:
        async for answer in _sdk().answers(http, url, text, streaming=streaming):
            showing.as_json(answer) if json else _told(answer)


def _told(answer: dict[str, Any]) -> None:
    for kind, found in answer.items():
        status = found.get("status", {})
        texts = [part["text"] for part in _parts(found, status) if part.get("text")]
        showing.out.print(f"{kind} {status.get('state', '')}".strip(), style="bold")
        for text in texts:
            showing.out.print(text, markup=False)


def _parts(found: dict[str, Any], status: dict[str, Any]) -> list[dict[str, Any]]:
    artifacts = [found["artifact"]] if "artifact" in found else found.get("artifacts", [])
    holders = [found, status.get("message", {}), *artifacts]
    return [part for holder in holders for part in holder.get("parts", [])]


def _http(url: str) -> httpx.AsyncClient:
    """Return a client that carries the key only to the server it belongs to."""
    server = settings.read().server(Chosen.name)
    own = wire.Place.of(Chosen.url or server.url or None, server.key or None)
    is_own = bool(own.key) and _origin(own.url) == _origin(url)
    return httpx.AsyncClient(headers={"Authorization": f"Bearer {own.key}"} if is_own else {}, timeout=60.0)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _run(url: str, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work gives. Raises ``Unreachable`` for whatever goes wrong at the other end."""
    try:
        return asyncio.run(work)
    except errors.MissionControlError:
        raise
    except Exception as error:
        raise errors.Unreachable(f"{url} does not answer as an A2A agent: {error}") from None


def _sdk() -> ModuleType:
    try:
        from a2a_client.command_line import sdk
    except ImportError:
        raise errors.MissionControlError(MISSING) from None
    return sdk
