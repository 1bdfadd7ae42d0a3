"""Canvases that hypothesis makes up come to the same as in Celery's eager mode, with a worker killed in each."""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

from a2a_site.chaos import faults
from a2a_site.chaos.stack import Stack
from a2a_site.chaos.verdict import Fault
from coordination import canvas, definition
from coordination.live_canvas import as_json
from tests.coordination.canvases import FUNCTIONS, app, canvases, has_task
from tests.coordination.test_canvas_oracle import eagerly
from tests.faults.trial import Trial

COUNT = int(os.environ.get("KILLED_CANVASES", "12"))  # 500 take some 20 minutes
AT_ONCE = 12
ENDED = ("completed", "failed", "canceled")
PATIENCE_S = 120.0
PATIENCE = 4  # so many runs of each canvas on average, until a kill has hit it


@pytest.fixture(autouse=True)
def _current_app() -> Iterator[None]:
    """Signatures within signatures belong to the current app."""
    before: Any = celery.current_app._get_current_object()  # type: ignore[attr-defined]
    app.set_current()
    yield
    before.set_current()


def made_up() -> list[tuple[Any, Any]]:
    """Return canvases in their JSON form, each with what it comes to in eager mode."""
    found: list[tuple[Any, Any]] = []

    @settings(
        max_examples=20 * COUNT, derandomize=True, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), database=None,
    )  # fmt: skip
    @given(canvases(may_fail=True, is_linked=False))
    def gather(made: Any) -> None:
        written = as_json(made)
        assume(has_task(written) and len(str(written)) > 600)  # with something to be hurt in
        found.append((written, eagerly(made)[0]))
        if len(found) == COUNT:
            raise Enough

    with contextlib.suppress(Enough):
        gather()
    return found


class Enough(BaseException):
    """There are as many canvases as wanted."""


def kill_workers(stack: Stack) -> list[Fault]:
    for part in stack.workers:
        part.kill()
    at = time.time()
    return [Fault(name="kill worker", at=at, over_at=at, worker=faults.node(part)) for part in stack.workers]


class TestCanvases:
    def test_come_to_the_same_with_a_worker_killed_in_each(self, trial: Trial) -> None:
        stack, customer = trial.stack, trial.stack.customer
        left, rounds, runs = made_up(), 0, 0
        count = len(left)
        while left and rounds < PATIENCE * count / AT_ONCE:
            some, left, rounds = left[:AT_ONCE], left[AT_ONCE:], rounds + 1
            runs += len(some)
            graphs = [canvas.compile(written, name="oracle", known=FUNCTIONS) for written, _ in some]
            ids = [customer.begin_graph(definition.as_json(graph)) for graph in graphs]
            stack.until(lambda ids=ids: begun(stack, ids) >= len(ids) * 2 / 3, "most are at work")  # type: ignore[misc]
            trial.faults += kill_workers(stack)
            stack.until(lambda ids=ids: all(is_over(stack, id) for id in ids), "all end", timeout_s=PATIENCE_S)  # type: ignore[misc]

            for (written, expected), id in zip(some, ids, strict=True):
                assert outcome(stack, id, written) == compared(expected, written)
            left += [each for each, id in zip(some, ids, strict=True) if not is_hit(stack, id)]  # again, until it is
        trial.figures |= {"canvases": count, "runs": runs, "kills": len(trial.faults)}
        assert left == []


def begun(stack: Stack, ids: list[str]) -> int:
    """Return how many of the runs are at work, or were."""
    return sum(run["working"] > 0 or run["state"] in ENDED for run in map(stack.customer.run, ids))


def is_hit(stack: Stack, run: str) -> bool:
    """Return whether a task of the run was at work on a worker that was killed, or the run came to no task at all."""
    found = stack.customer.run(run)
    return bool(found["lost_attempts"]) or not found["done"]


def is_over(stack: Stack, run: str) -> bool:
    return stack.customer.run(run)["state"] in ENDED


def outcome(stack: Stack, run: str, written: Any) -> tuple[str, Any]:
    found = stack.customer.run(run)
    if found["state"] == "completed":
        return "completed", found["output"]
    return compared((found["state"], found["error"]["cause"]["message"].partition(": ")[2]), written)


def compared(outcome: tuple[str, Any], written: Any) -> tuple[str, Any]:
    """Return what has to be the same: of several failures beside one another, any may be the first."""
    state, words = outcome
    return (state, words[:4]) if state == "failed" and str(written).count("oracle.fail'") > 1 else outcome
