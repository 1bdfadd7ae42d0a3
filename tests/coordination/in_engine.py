"""Runs a compiled canvas through the engine itself, with functions of this process as its workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordination import conditions, templates
from coordination import events as e
from coordination.engine import Engine
from coordination.graph import Graph
from coordination.rows import RUN_ENDS, RunRow, RunSpec
from tests.coordination.sequential import Failed, Functions

ID = "00000000-0000-4000-8000-000000000001"


class Templates:
    """The product's own."""

    def fill(self, value: Any, scope: Mapping[str, Any]) -> Any:
        return templates.fill(value, scope)

    def holds(self, expression: str, scope: Mapping[str, Any]) -> bool:
        return conditions.holds(expression, scope)


def outcome(graph: Graph, functions: Functions) -> tuple[str, Any]:
    """Return ("completed", output) or ("failed", its error); the last task submitted is the first that ends."""
    engine, now = Engine(Templates()), 0.0
    started = RunSpec(id=ID, graph=graph, workflow=graph.name, version=1, tenant="t")
    said, waiting, row = engine.apply(e.RunStarted(run=started), now), [], None
    while row is None or row.state not in RUN_ENDS:
        waiting += [effect for effect in said if isinstance(effect, e.Submit)]
        rows = [effect.row for effect in said if isinstance(effect, e.Keep) and isinstance(effect.row, RunRow)]
        row = rows[-1] if rows else row
        if waiting:
            said = engine.apply(ended(waiting.pop(), functions), now)
        elif (moment := engine.next_due()) is not None:
            now = max(now, moment)
            said = engine.due(now)
        elif row is None or row.state not in RUN_ENDS:
            raise AssertionError("the run hangs")
    return row.state, row.output if row.state == "completed" else row.error


def ended(submit: e.Submit, functions: Functions) -> e.TaskEnded:
    """Return how the task ends."""
    call: Any = submit.call
    args = call["args"]
    if "failed" in call:
        error = next(each for each in call["failed"]["errors"] if each)
        args = [call["failed"], Failed(error["message"]), None, *args]
    try:
        output = functions[call["task"]](*args, **call["kwargs"])
    except Exception as raised:
        return e.TaskEnded(task=submit.task, state="failed", error={"kind": "agent", "message": str(raised)})
    return e.TaskEnded(task=submit.task, state="completed", output=output)
