"""Canvases that hypothesis makes up come to the same as in Celery's eager mode, with a worker killed meanwhile."""

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

COUNT = int(os.environ.get("KILLED_CANVASES", "12"))  # 500 take about half an hour
AT_ONCE = 12
ENDED = ("completed", "failed", "canceled")
PATIENCE_S = 120.0


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


def kill(stack: Stack, number: int) -> Fault:
    part = stack.workers[number % len(stack.workers)]
    part.kill()
    return Fault(name="kill worker", at=time.time(), over_at=time.time(), worker=faults.node(part))


class TestCanvases:
    def test_come_to_the_same_with_a_worker_killed_in_them(self, trial: Trial) -> None:
        stack, customer = trial.stack, trial.stack.customer
        known = made_up()
        hit = 0
        for first in range(0, len(known), AT_ONCE):
            some = known[first : first + AT_ONCE]
            graphs = [canvas.compile(written, name="oracle", known=FUNCTIONS) for written, _ in some]
            ids = [customer.begin_graph(definition.as_json(graph)) for graph in graphs]
            stack.until(lambda ids=ids: working(stack, ids) >= len(ids) // 3, "many are at work")  # type: ignore[misc]
            hit += working(stack, ids)
            trial.faults.append(kill(stack, first // AT_ONCE))
            stack.until(lambda ids=ids: all(is_over(stack, id) for id in ids), "all end", timeout_s=PATIENCE_S)  # type: ignore[misc]

            assert [outcome(stack, id) for id in ids] == [expected for _, expected in some]
        assert hit
        trial.figures |= {"canvases": len(known), "at_work_when_killed": hit}


def working(stack: Stack, ids: list[str]) -> int:
    return sum(customer_run["working"] > 0 for customer_run in map(stack.customer.run, ids))


def is_over(stack: Stack, run: str) -> bool:
    return stack.customer.run(run)["state"] in ENDED


def outcome(stack: Stack, run: str) -> tuple[str, Any]:
    found = stack.customer.run(run)
    if found["state"] == "completed":
        return "completed", found["output"]
    return found["state"], found["error"]["cause"]["message"].partition(": ")[2]
