"""An agent that runs beside the site and fetches its tasks: `a2amc serve tests/journeys/pull_agent.py`."""

import asyncio
import time
from pathlib import Path
from typing import Any

from a2a_client import Canceled, Context, HandlerError, handler


@handler("pull-say", timeout_s=60, max_attempts=2)
def say(value: Any, ctx: Context) -> Any:
    """Tell how it goes, leave a file, and return the input."""
    ctx.log("on it")
    ctx.artifact("said.txt", f"{value}\n", "text/plain")
    return {"said": value}


@handler("pull-wait", timeout_s=60, max_attempts=3)
def wait(value: Any, ctx: Context) -> Any:
    """Wait until the file ``gate`` is there; once cancelled, write the file ``seen`` and end."""
    while not Path(value["gate"]).exists():
        if ctx.cancelled:
            Path(value["seen"]).write_text(ctx.stop_reason)
            raise Canceled
        time.sleep(0.02)
    return {"attempt": ctx.attempt}


@handler("pull-nap", timeout_s=60)
async def nap(value: Any, ctx: Context) -> Any:
    """Sleep, then refuse."""
    await asyncio.sleep(0.1)
    raise HandlerError("I would rather not.", kind="bad_input")


@handler("pull-odd", timeout_s=60, max_attempts=1, output_schema={"type": "string"})
def odd(value: Any, ctx: Context) -> Any:
    """Return what the schema does not take."""
    return 7
