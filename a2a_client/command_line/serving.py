"""The command that works as a pull agent."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from a2a_client.command_line import settings
from a2a_client.command_line.options import Chosen, pairs
from a2a_client.serving import serve as work
from a2a_client.working import Handler


def serve(
    module: Annotated[str, typer.Argument(help="A Python module, or a file ending in .py, with @handler functions.")],
    name: Annotated[str, typer.Option("--name", help="The agent's name; else the module's.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Attempts at once.")] = 4,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that what runs may take after SIGTERM.")] = 30.0,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, again for more: words to choose by.")] = None,
) -> None:
    """Run a module's handlers as an agent that fetches its tasks, until SIGTERM; then finish what runs."""
    server = settings.read().server(Chosen.name)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    handlers = found(load(module))
    if not handlers:
        raise typer.BadParameter(f"{module} has no function under @handler from a2a_client.")
    agent = name or Path(module).stem.rpartition(".")[2].replace("_", "-")
    url, key = Chosen.url or server.url or None, server.key or None
    work(agent, *handlers, url=url, key=key, concurrency=concurrency, drain_s=drain, labels=pairs(label))


def load(module: str) -> ModuleType:
    """Return the module, by its name or as a file. Raises ``BadParameter``."""
    path = Path(module)
    folder, name = (path.parent, path.stem) if path.suffix == ".py" else (Path(), module)
    sys.path.insert(0, str(folder.resolve()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise
        raise typer.BadParameter(f"There is no module {module}.") from None


def found(module: ModuleType) -> list[Handler]:
    """Return the module's handlers, each once."""
    return list({id(each): each for each in vars(module).values() if isinstance(each, Handler)}.values())
