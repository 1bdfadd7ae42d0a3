"""Canvases as Celery's objects."""

from datetime import UTC, datetime
from typing import Any

import celery
import pytest
from celery import chain, group

from coordination import live_canvas
from coordination.signatures import BadCanvas
from routing.tasks import run_agent_task

app = celery.Celery("live", set_as_current=False)


@app.task(name="live.add", shared=False)
def add(x: int, y: int) -> int:
    return x + y


class TestGraph:
    def test_reads_a_live_canvas_of_tasks_that_this_process_knows(self) -> None:
        made = live_canvas.graph(chain(run_agent_task.s(skill="find"), run_agent_task.s(skill="write")), name="w")

        assert [step.name for step in made.steps] == ["find", "write"]

    def test_refuses_tasks_that_it_does_not_know(self) -> None:
        with pytest.raises(BadCanvas, match=r"no task is called 'live\.gone'"):
            live_canvas.graph(celery.signature("live.gone"), name="w")


class TestAsJson:
    def test_gives_plain_json_also_of_generators_and_moments(self) -> None:
        made = live_canvas.as_json(group(add.s(n, datetime(2030, 1, 1, tzinfo=UTC)) for n in range(2)))

        tasks = made["kwargs"]["tasks"]
        assert [type(made), *(task["args"][0] for task in tasks)] == [dict, 0, 1]
        assert tasks[0]["args"][1]["__type__"] == "datetime"

    @pytest.mark.parametrize("value", [None, 3, "add", object()])
    def test_refuses_what_is_no_signature(self, value: Any) -> None:
        with pytest.raises(BadCanvas, match="no canvas"):
            live_canvas.as_json(value)

    def test_refuses_a_task_that_links_to_itself(self) -> None:
        first = add.s(1, 2)
        first.link(first)

        with pytest.raises(BadCanvas, match="links back to itself"):
            live_canvas.as_json(first)

    def test_refuses_arguments_that_are_no_json(self) -> None:
        with pytest.raises(BadCanvas, match="cannot be written as JSON"):
            live_canvas.as_json(add.s(object(), 1))
