"""The inspector of a step."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from coordination import runs, workflows
from coordination.models import Run, StepRun, StepTask
from routing import registry
from routing.models import Attempt, Task, TaskEvent
from tests.monitoring.fakes import new_task

pytestmark = pytest.mark.django_db

SOURCE = """
name: pair
steps:
  first: {task: any, input: "{{ run.input }}"}
  each: {map: "{{ run.input }}", task: any, after: [first]}
"""


@pytest.fixture
def run() -> Run:
    registry.ensure_tenant()
    registry.ensure_skill("any")
    workflows.save(SOURCE)
    return runs.start(runs.Request(workflow="pair", input=[1, 2])).run


def tried(run: Run, step: str, **fields: Any) -> Task:
    """Return a task of the step that an agent has worked on."""
    now = timezone.now()
    task = new_task("any", origin="workflow")
    Task.objects.filter(pk=task.pk).update(
        state="completed", finished_at=now, agent="any-1", input={"a": "<b>"}, output=[7]
    )
    Attempt.objects.create(task=task, number=1, agent="any-1", state="completed", assigned_at=now, started_at=now)
    TaskEvent.objects.create(task=task, seq=9, kind="log", at=now, data={"level": "info", "message": "looked twice"})
    StepTask.objects.create(task=task.pk, run=run, step=step, round=1, use="step", **fields)
    return task


@pytest.fixture
def browser(client: Client) -> Client:
    client.force_login(User.objects.create_user("eve"))
    return client


class TestStep:
    def test_shows_input_output_attempts_and_logs_in_one_place(self, browser: Client, run: Run) -> None:
        tried(run, "first")
        StepRun.objects.create(run=run, step="first", state="completed", round=1, agent="any-1", output={"kept": 7})

        html = browser.get(f"/runs/{run.id}/steps/first").content.decode()

        for told in ("any-1", "#1", "looked twice", "&lt;b&gt;", "&quot;kept&quot;: 7", "{{ run.input }}"):
            assert told in html
        assert "<b>&quot;" not in html

    def test_picks_one_item_of_a_map(self, browser: Client, run: Run) -> None:
        tasks = [tried(run, "each", item=item) for item in range(2)]

        html = browser.get(f"/runs/{run.id}/steps/each?task={tasks[0].pk}").content.decode()

        assert "item 0: completed" in html
        assert f'href="/runs/{run.id}/steps/each?task={tasks[0].pk}" aria-current="true"' in html

    def test_shows_what_has_not_begun(self, browser: Client, run: Run) -> None:
        assert "not begun" in browser.get(f"/runs/{run.id}/steps/first").content.decode()

    def test_answers_404_for_what_is_not_there(self, browser: Client, run: Run) -> None:
        assert browser.get(f"/runs/{run.id}/steps/nobody").status_code == 404
        assert browser.get("/runs/01890a5d-ac96-774b-bcce-b302099a8057/steps/first").status_code == 404

    def test_asks_a_stranger_to_log_in(self, client: Client, run: Run) -> None:
        assert client.get(f"/runs/{run.id}/steps/first").status_code == 302
