"""Options that several commands share, and the client they lead to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from a2a_client.client import Client
from a2a_client.command_line import settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with what happens.")]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0.0, help="Seconds to wait; else as long as it takes.")]


class Chosen:
    """Which server the options before the command name."""

    name = ""
    url: str | None = None


def client() -> Client:
    """Return a client for the chosen server. Raises ``BadParameter`` for an address that is none."""
    server = settings.read().server(Chosen.name)
    try:
        return Client(Chosen.url or server.url or None, server.key or None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def value(text: str | None) -> Any:
    """Return the JSON value of an argument: written out, ``@FILE``, or ``-`` for standard input.

    Raises ``BadParameter``.
    """
    if text is None:
        return None
    try:
        return json.loads(_text(text), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        told = f'The input is not JSON: {error}. Quote it for the shell, such as \'{{"text": "hello"}}\'.'
        raise typer.BadParameter(told) from None


def _text(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{text[1:]} cannot be read: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def pairs(given: list[str] | None) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a mapping. Raises ``BadParameter``."""
    found: dict[str, str] = {}
    for text in given or []:
        name, sign, word = text.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"{text!r} has to look like NAME=VALUE.")
        found[name] = word
    return found
