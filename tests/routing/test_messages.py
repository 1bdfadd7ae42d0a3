"""What is said to tasks that ask."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from routing import errors, events, ledger, messages
from routing.models import Attempt, Command, Task, TaskEvent, TaskMessage
from tests.routing.desk import Desk

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]


@pytest.fixture
def desk(echo: None) -> Desk:
    """Return a fleet and its ledger."""
    return Desk()


def ask(desk: Desk, *, kind: str = "input_required", schema: Any = None) -> Task:
    """Return a task whose agent asks for a city."""
    task = desk.submit()
    detail = {"detail": {"schema": schema}} if schema else {}
    error: Any = {"kind": kind, "message": "Which city?", "retryable": False, **detail}
    desk.tell(desk.started(task))
    desk.tell(desk.finished(task, error=error))
    return Task.objects.get(id=task.id)


def say(task: Task, input: Any = "Rome", **more: Any) -> tuple[TaskMessage, bool]:
    return messages.answer(task.id, tenant="default", by="ann", input=input, **more)


class TestAnswer:
    @pytest.mark.parametrize(
        ("kind", "state"), [("input_required", "input-required"), ("auth_required", "auth-required")]
    )
    def test_a_task_that_asks_waits_without_an_agent(self, desk: Desk, kind: str, state: str) -> None:
        task = ask(desk, kind=kind)

        attempt = Attempt.objects.get(task=task)
        assert (task.state, task.agent, task.detail, task.finished_at) == (state, "", "Which city?", None)
        assert (attempt.state, attempt.finished_at is not None, task.tries) == ("returned", True, 0)
        assert desk.fleet.roster.busy == 0

    def test_lets_the_task_go_on(self, desk: Desk) -> None:
        task = ask(desk)

        row, created = say(task)
        [command] = ledger.open_commands()
        desk.tell(events.Answered(task=str(command.task_id), by=command.by))

        task.refresh_from_db()
        kinds = list(TaskEvent.objects.filter(task=task).order_by("seq").values_list("kind", flat=True))
        assert (row.number, row.seq, created, command.kind) == (1, 4, True, "answer")
        assert kinds == ["submitted", "assigned", "working", "input-required", "answered", "assigned"]
        assert (task.state, task.attempt, task.agent) == ("submitted", 2, "any-1")
        assert messages.answers(str(task.id)) == ["Rome"]

    def test_counts_once_for_each_message_id(self, desk: Desk) -> None:
        task = ask(desk)

        first, _ = say(task, message_id="m")
        again, created = say(task, "Paris", message_id="m")

        assert (again.pk, again.input, created) == (first.pk, "Rome", False)
        assert Command.objects.filter(kind="answer").count() == 1

    def test_refuses_what_is_not_of_the_form_that_was_asked_for(self, desk: Desk) -> None:
        task = ask(desk, schema={"type": "object", "properties": {"n": {"type": "integer"}}})

        with pytest.raises(errors.AnswerMisfits, match="at /n") as caught:
            say(task, {"n": "three"})

        assert caught.value.pointer == "/input/n"
        assert not TaskMessage.objects.exists()

    def test_refuses_a_task_that_does_not_ask(self, desk: Desk) -> None:
        task = desk.submit()

        with pytest.raises(errors.NothingAsked, match="it is submitted"):
            say(task)
        row, _ = say(task, must_ask=False)

        assert row.number == 1

    def test_refuses_a_task_that_has_ended(self, desk: Desk) -> None:
        task = ask(desk)
        desk.tell(events.CancelAsked(task=str(task.id), by="me"))

        with pytest.raises(errors.NothingAsked, match="it is canceled"):
            say(task, must_ask=False)

    def test_knows_no_task_of_another_tenant(self, desk: Desk) -> None:
        task = ask(desk)

        with pytest.raises(errors.NoSuchTask):
            messages.answer(task.id, tenant="other", by="eve", input=1)
        with pytest.raises(errors.NoSuchTask):
            messages.answer(uuid4(), tenant="default", by="eve", input=1)

    def test_a_task_that_asks_is_taken_up_by_the_next_controller(self, desk: Desk) -> None:
        task = ask(desk)

        [restored] = ledger.live()

        assert (restored.is_asking, restored.flights, restored.seq) == (True, (), task.seq)

    def test_is_deleted_with_its_task(self, desk: Desk) -> None:
        task = ask(desk)
        say(task)
        desk.tell(events.CancelAsked(task=str(task.id), by="me"))
        Task.objects.update(finished_at="2020-01-01T00:00:00Z")

        ledger.delete_old()

        assert not TaskMessage.objects.exists()
