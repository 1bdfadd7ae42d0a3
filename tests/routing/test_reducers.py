"""A reducer beside the fleet decides in the same commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import redis
from django.db import DatabaseError

from routing import broker, ledger, lifecycle, reducers
from routing import events as e
from routing.models import Task, TaskEvent, TaskState
from tests.private_redis import wait_until
from tests.routing.test_controller import Worker, running, state, submit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("echo", "bus")]


class Sequel:
    """Submits one more task when a first one completes, and has the others of its kind canceled."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.failures = 1  # writes that fail before one succeeds
        self.written = 0

    def restore(self, now: float) -> Sequence[reducers.Wish]:
        return ()

    def look(self, now: float) -> Sequence[reducers.Wish]:
        return ()

    def hear(self, recorded: Sequence[e.Recorded], now: float) -> Sequence[reducers.Wish]:
        wishes: list[reducers.Wish] = []
        for r in recorded:
            if r.kind == "completed" and r.output == "first":
                task = lifecycle.prepare(lifecycle.Request(skill="any", input=2, origin="sequel"))
                self.tasks.append(task)
                wishes.append(reducers.Submission(task=ledger.spec_of(task), input=task.input))
                others = Task.objects.filter(state=TaskState.SUBMITTED)
                wishes += [e.CancelAsked(task=str(other.id), by="sequel") for other in others]
        return wishes

    def due(self, now: float) -> Sequence[reducers.Wish]:
        return ()

    def next_due(self) -> float | None:
        return None

    def awaits(self, task: str) -> bool:
        return True

    def has_news(self) -> bool:
        return bool(self.tasks)

    def write(self) -> None:
        self.written += bool(self.tasks)
        if self.tasks and self.failures:
            self.failures -= 1
            raise DatabaseError("full")
        for task in self.tasks:
            task.save(force_insert=True)

    def committed(self) -> None:
        self.tasks = []


@pytest.fixture
def sequel(bus: redis.Redis) -> Iterator[Sequel]:
    """Yield the reducer of a controller that leads."""
    made = Sequel()
    reducers.register("sequel", lambda: made)
    try:
        with running():
            wait_until(lambda: bus.exists(broker.SNAPSHOT), "a leader")
            yield made
    finally:
        reducers.unregister("sequel")


class TestReducer:
    def test_has_a_task_sent_in_the_commit_in_which_it_decided(self, sequel: Sequel, bus: redis.Redis) -> None:
        worker = Worker(bus)
        worker.beat()
        first = submit(agent="any-1")
        wait_until(worker.messages, "the attempt's message")
        waiting = submit(labels={"gpu": "yes"})
        worker.start(first)
        worker.finish(first, o="first")

        wait_until(lambda: Task.objects.filter(origin="sequel", attempt=1).exists(), "the sequel's attempt")

        second = Task.objects.get(origin="sequel")
        assert (state(first), state(waiting)) == ("completed", "canceled")
        assert list(TaskEvent.objects.filter(task=second).order_by("seq").values_list("kind", flat=True)) == [
            "submitted",
            "assigned",
        ]
        wait_until(lambda: not sequel.tasks, "the commit")
        assert sequel.written == 2, "a write that failed is made again"
