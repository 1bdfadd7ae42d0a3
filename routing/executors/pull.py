"""The ``pull`` executor: the agent runs somewhere else and fetches its attempts over REST; no worker runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routing.executors import options as checks
from routing.executors.contract import Context, Job, Unavailable, executor

NAME = "pull"


@executor(NAME)
class Pull:
    """Stands for what runs elsewhere. It has no options."""

    name: str

    def problems(self, options: Mapping[str, Any]) -> list[str]:
        """Return in words what is wrong."""
        return checks.unknown(options, ())

    def run(self, job: Job, context: Context) -> Any:
        """Raise Unavailable: an attempt came to a worker while the agent was changed to fetch its own."""
        raise Unavailable(f"{job.agent} fetches its attempts itself; this worker does not run it.")
