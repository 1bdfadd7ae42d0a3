"""Celery's results and chords on the ledger: counted once, joined once, told once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from celery import chain, chord, group, states
from celery.app.task import Context
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult, GroupResult
from django.utils import timezone

from a2a_site.celery import app
from routing import backend
from routing.backend import AgentTaskFailed
from routing.models import CeleryState, ChordPart, Command, Task, TaskState
from routing.tasks import run_agent_task

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]

task: Any = run_agent_task  # its stubs lack signatures with keywords
keeper: Any = app.backend


def step(value: Any = 1) -> Any:
    """Return the signature of one step; with None as its input it takes what the step before returned."""
    return task.s(skill="any", input=value)


def submitted() -> list[Task]:
    """Return all tasks, oldest first."""
    return list(Task.objects.order_by("created_at", "id"))


def finish(row: Task, result: Any = None, *, state: str = states.SUCCESS) -> None:
    """Do what Celery's tracer does when an attempt of the task has returned: count it for its chord."""
    assert row.call is not None
    args, kwargs, embed = row.call["body"]
    request: Any = Context(row.call["headers"], args=args, kwargs=kwargs, **embed)
    if embed.get("chord"):
        keeper.on_chord_part_return(request, state, result)


def end(row: Task, state: TaskState, **fields: Any) -> None:
    """Write what the controller writes at a task's end."""
    Task.objects.filter(id=row.id).update(state=state, finished_at=timezone.now(), **fields)


class TestResult:
    @pytest.mark.parametrize(
        ("state", "celery_state"),
        [
            (TaskState.SUBMITTED, states.PENDING),
            (TaskState.WORKING, states.STARTED),
            (TaskState.INPUT_REQUIRED, states.STARTED),
            (TaskState.AUTH_REQUIRED, states.STARTED),
            (TaskState.COMPLETED, states.SUCCESS),
            (TaskState.FAILED, states.FAILURE),
            (TaskState.CANCELED, states.REVOKED),
            (TaskState.REJECTED, states.FAILURE),
        ],
    )
    def test_says_the_tasks_state_in_celerys_words(self, state: TaskState, celery_state: str) -> None:
        result = task.delay(skill="any")
        finished = {"finished_at": timezone.now()} if celery_state in states.READY_STATES else {}
        Task.objects.update(state=state, **finished)

        assert result.state == celery_state

    def test_is_the_output(self) -> None:
        result = task.delay(skill="any")
        end(submitted()[0], TaskState.COMPLETED, output={"a": [1]})

        assert result.get(timeout=5) == {"a": [1]}

    def test_of_a_failed_task_raises_its_message(self) -> None:
        result = task.delay(skill="any")
        end(submitted()[0], TaskState.FAILED, error={"kind": "agent", "message": "out of paper"})

        with pytest.raises(AgentTaskFailed, match="out of paper"):
            result.get(timeout=5)

    def test_of_a_canceled_task_raises_revoked(self) -> None:
        result = task.delay(skill="any")
        end(submitted()[0], TaskState.CANCELED)

        with pytest.raises(TaskRevokedError):
            result.get(timeout=5)

    def test_is_found_by_an_id_that_is_no_uuid(self) -> None:
        task.apply_async(kwargs={"skill": "any"}, task_id="order-5")
        end(submitted()[0], TaskState.COMPLETED, output=7)

        assert AsyncResult("order-5", app=app).get(timeout=5) == 7

    def test_of_an_unknown_id_is_pending(self) -> None:
        assert AsyncResult(str(uuid4()), app=app).state == states.PENDING


class TestOwnTasks:
    """A project's own Celery tasks use the same backend."""

    def test_are_kept(self) -> None:
        keeper.store_result("mine", {"a": 1}, states.SUCCESS)

        assert AsyncResult("mine", app=app).get(timeout=5) == {"a": 1}

    def test_are_forgotten_on_request(self) -> None:
        keeper.store_result("mine", 1, states.SUCCESS)

        AsyncResult("mine", app=app).forget()

        assert not CeleryState.objects.exists()

    def test_are_not_kept_where_the_ledger_has_them(self) -> None:
        keeper.store_result("routed", 1, states.SUCCESS, request=Context(a2a={"task": "routed"}))

        assert not CeleryState.objects.exists()


class TestChord:
    def test_goes_on_when_all_members_have_returned_in_the_order_of_the_header(self) -> None:
        result = chord([step(n) for n in range(3)], step(None)).apply_async()
        first, second, third = submitted()

        for row, output in ((third, "c"), (first, "a")):
            finish(row, output)
        assert len(submitted()) == 3
        finish(second, "b")

        body = Task.objects.get(id=result.id)
        assert body.input == ["a", "b", "c"]

    def test_counts_a_member_that_ran_twice_once(self) -> None:
        chord([step(1), step(2)], step(None)).apply_async()
        first, second = submitted()

        finish(first, "a")
        finish(first, "another a")
        assert len(submitted()) == 2

        finish(second, "b")
        assert Task.objects.latest("created_at").input == ["a", "b"]

    def test_starts_its_body_once_however_often_the_last_member_returns(self) -> None:
        chord([step(1), step(2)], step(None)).apply_async()

        for row in submitted() * 3:
            finish(row, row.input)

        assert len(submitted()) == 3

    def test_keeps_results_that_are_null(self) -> None:
        chord([step(1), step(2)], step({})).apply_async()

        for row in submitted():
            finish(row, None)

        assert Task.objects.latest("created_at").input == {"previous": [None, None]}

    def test_unrolls_a_group_that_is_a_member_as_celery_does(self) -> None:
        result = chord([step(1), group(step(2), step(3))], step(None)).apply_async()

        for row in submitted():
            finish(row, row.input)

        joined: Any = Task.objects.get(id=result.id).input
        assert sorted(joined) == [1, 2, 3]

    def test_nests_the_results_of_a_group_that_ends_a_chain(self) -> None:
        inner: Any = GroupResult("inner", [AsyncResult("b"), AsyncResult("c")])
        shape = GroupResult("header", [AsyncResult("a"), inner])
        parts = [ChordPart(task_id=name, result=name.upper()) for name in "cba"]

        assert backend._header_results(parts, shape.as_tuple()) == ["A", ["B", "C"]]

    def test_of_chains_counts_their_last_steps(self) -> None:
        chord([chain(step(1), step(None)), step(2)], step(None)).apply_async()

        assert [bool((row.call or {})["body"][2]["chord"]) for row in submitted()] == [False, True]

    def test_after_a_step_is_chained(self) -> None:
        chain(step(1), group(step(2), step(3)), step(None)).apply_async()

        [first] = submitted()
        assert len((first.call or {})["body"][2]["chain"]) == 1

    def test_forgives_an_attempt_of_a_member_that_broke_while_it_was_counted(self) -> None:
        chord([step(1), step(2)], step(None)).apply_async()
        first, second = submitted()
        assert first.call is not None
        args, kwargs, embed = first.call["body"]
        facts = {"task": str(first.id), "attempt": 1}
        request: Any = Context({**first.call["headers"], "a2a": facts}, args=args, kwargs=kwargs, **embed)

        keeper.mark_as_failure(request.id, OSError("the database went away"), request=request)
        finish(first, 1)
        finish(second, 2)

        assert len(submitted()) == 3

    def test_tells_its_body_when_a_member_failed(self) -> None:
        result = chord([step(1), step(2)], step(None)).apply_async()

        finish(submitted()[0], AgentTaskFailed("out of paper"), state=states.FAILURE)

        with pytest.raises(ChordError, match="out of paper"):
            AsyncResult(result.id, app=app).get(timeout=5)
        assert len(submitted()) == 2

    def test_does_not_go_on_after_a_member_failed(self) -> None:
        chord([step(1), step(2)], step(None)).apply_async()
        first, second = submitted()

        finish(first, AgentTaskFailed("no"), state=states.FAILURE)
        finish(second, 2)
        finish(first, 1)

        assert len(submitted()) == 2
        assert ChordPart.objects.get(task_id=first.id).ok is False


class TestSettle:
    def failed(self, canvas: Any) -> tuple[Any, Command]:
        """Return the canvas's result and the request to settle its first step, which has failed."""
        result = canvas.apply_async()
        row = submitted()[0]
        end(row, TaskState.FAILED, error={"kind": "agent", "message": "out of paper"})
        return result, Command.objects.create(tenant_id="default", kind="settle", task=row, by="controller")

    def test_fails_the_chord_of_a_member(self) -> None:
        result, command = self.failed(chord([step(1), step(2)], step(None)))

        backend.settle(str(command.id))

        with pytest.raises(ChordError, match="out of paper"):
            AsyncResult(result.id, app=app).get(timeout=5)

    def test_fails_the_rest_of_a_chain(self) -> None:
        result, command = self.failed(chain(step(1), step(None), step(None)))

        backend.settle(str(command.id))

        assert result.state == result.parent.state == states.FAILURE
        with pytest.raises(AgentTaskFailed, match="out of paper"):
            AsyncResult(result.id, app=app).get(timeout=5)
        assert len(submitted()) == 1

    def test_calls_the_error_links(self) -> None:
        _, command = self.failed(step(1).on_error(task.si(skill="any", input={"what": "clean up"})))

        backend.settle(str(command.id))

        assert submitted()[1].input == {"what": "clean up"}

    def test_is_done_once(self) -> None:
        _, command = self.failed(step(1).on_error(task.si(skill="any", input={"what": "clean up"})))

        for _ in range(3):
            backend.settle(str(command.id))

        command.refresh_from_db()
        assert command.done_at is not None
        assert len(submitted()) == 2

    def test_of_nothing_known_does_nothing(self) -> None:
        backend.settle(str(uuid4()))
