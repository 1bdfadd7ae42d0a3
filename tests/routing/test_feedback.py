"""What callers say of a task's output."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from routing import errors, feedback, ledger, lifecycle
from routing.models import Command, Feedback, Task, TaskState

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]


@pytest.fixture
def done(echo: None) -> Task:
    """Return a task that any-1 has completed."""
    task = lifecycle.submit(lifecycle.Request(skill="any")).task
    Task.objects.filter(id=task.id).update(state=TaskState.COMPLETED, finished_at=timezone.now(), agent="any-1")
    return task


def give(task: Task, score: Any, by: str = "ann", **more: Any) -> Feedback:
    return feedback.give(task.id, tenant="default", by=by, score=score, **more)


def told() -> list[tuple[float, float]]:
    """Return (before, score) of what the controller is told, in order."""
    facts = [ledger.rated(command) for command in ledger.open_commands()]
    return [(fact.before, fact.score) for fact in facts]


class TestGive:
    def test_keeps_the_word_and_tells_the_controller(self, done: Task) -> None:
        row = give(done, 0.25, comment="Half of it is wrong.")

        (command,) = Command.objects.filter(kind="rate")
        fact = ledger.rated(command)
        assert (row.score, row.comment, row.by) == (0.25, "Half of it is wrong.", "ann")
        assert (fact.agent, fact.skill, fact.score, fact.before) == ("any-1", ("any", ""), 0.25, 1.0)

    def test_a_later_word_of_the_same_caller_takes_the_place_of_the_first(self, done: Task) -> None:
        give(done, 0.25)
        give(done, 1)

        assert Feedback.objects.get().score == 1
        assert told() == [(1.0, 0.25), (0.25, 1.0)]

    def test_the_task_counts_as_the_mean_of_its_callers(self, done: Task) -> None:
        give(done, 0)
        give(done, 1, by="bob")

        assert Feedback.objects.count() == 2
        assert told() == [(1.0, 0.0), (0.0, 0.5)]

    @pytest.mark.parametrize("score", [7, -0.1, float("nan"), "1", True, None])
    def test_refuses_a_score_that_is_none(self, done: Task, score: Any) -> None:
        with pytest.raises(errors.BadInput, match="A score is a number from 0 to 1") as caught:
            give(done, score)

        assert caught.value.pointer == "/score"
        assert not Feedback.objects.exists()

    def test_refuses_a_task_that_is_not_completed(self) -> None:
        task = lifecycle.submit(lifecycle.Request(skill="any")).task

        with pytest.raises(errors.NotCompleted, match="this one is submitted"):
            give(task, 1)

    def test_does_not_know_the_task_of_another_tenant(self, done: Task) -> None:
        for task_id, tenant in ((done.id, "other"), (uuid4(), "default")):
            with pytest.raises(errors.NoSuchTask):
                feedback.give(task_id, tenant=tenant, by="ann", score=1)
