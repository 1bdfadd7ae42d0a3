"""The program ``a2amc``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from a2a_client.command_line import agents, ending, places, remote, runs, serving, settings, showing, tasks
from a2a_client.command_line.options import Chosen

EPILOG = (
    "Exit codes: 0 done, 1 the task or run ended without an output, 2 wrong usage, 3 nobody answers, 4 not allowed, "
    "5 not found, 6 timeout (the task goes on), 7 refused by the server, 130 interrupted. "
    "The server and its key: --server, --url, A2A_URL and A2A_KEY, or what `a2amc config` and `a2amc keys` keep."
)
app = typer.Typer(no_args_is_help=True, epilog=EPILOG, pretty_exceptions_enable=False)
for command in (tasks.submit, tasks.watch, tasks.tail, tasks.tasks, tasks.show, tasks.explain, tasks.cancel,
                tasks.retry, tasks.artifacts, serving.serve):  # fmt: skip
    app.command()(command)
for name, group in (("runs", runs.app), ("agents", agents.app), ("a2a", remote.app),
                    ("config", places.config), ("keys", places.keys)):  # fmt: skip
    app.add_typer(group, name=name)


@app.callback()
def choose(
    server: Annotated[str, typer.Option(help="A server that `a2amc config` knows by this name.")] = "",
    url: Annotated[str | None, typer.Option(help="Where the server is.")] = None,
) -> None:
    """Work with A2A Mission Control from the command line."""
    Chosen.name, Chosen.url = server, url


def main() -> None:
    """Run the program; an error is one line and an exit code."""
    try:
        app()
    except settings.BadSettings as error:
        showing.err.print(str(error), markup=False)
        sys.exit(ending.Exit.USAGE)
    except (Exception, KeyboardInterrupt) as error:
        code = ending.code(error)
        if code is None:
            raise
        if str(error):
            showing.err.print(str(error), markup=False)
        sys.exit(code)


if __name__ == "__main__":
    main()
