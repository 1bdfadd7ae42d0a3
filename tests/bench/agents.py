"""The agents that are measured. What they do is what the bare Celery tasks do."""

from typing import Any

from routing.executors import handler
from tests.bench.body import note_start


@handler("bench.noop")
def noop(input: Any) -> Any:
    """Do nothing."""
    return None


@handler("bench.stamp")
def stamp(input: Any) -> Any:
    """Note how long ago the task was submitted."""
    note_start(input["sent"])
