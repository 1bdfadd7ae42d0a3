"""The loop itself, in a thread, on a real Redis and a real database. The tests play the workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson
import pytest
import redis
from django.db import connections, transaction

from routing import broker, ledger, lifecycle, registry
from routing.broker import FACTS
from routing.controller import Controller
from routing.models import Agent, Attempt, Command, Task, TaskEvent, TaskState
from routing.models import Controller as Row
from tests.private_redis import PrivateRedis, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("echo", "bus")]

FINAL = {"kind": "agent", "message": "no", "retryable": False}
CALL = {"body": [[], {"skill": "any", "input": 1}, {}], "headers": {"id": "x"}}


@contextmanager
def running(**options: Any) -> Iterator[Controller]:
    """While inside, a controller runs in a thread, and leads if nobody else does."""
    controller = Controller(**options)

    def run() -> None:
        try:
            controller.run()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield controller
    finally:
        controller.stop()
        broker.ring()  # it need not wait for its next look
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def leader(bus: redis.Redis) -> Iterator[Controller]:
    """Yield a controller that leads."""
    with running() as controller:
        wait_until(lambda: bus.exists(broker.SNAPSHOT), "a leader")
        yield controller


class Worker:
    """What a worker does to the bus."""

    def __init__(self, bus: redis.Redis) -> None:
        self.bus = bus

    def say(self, *facts: dict[str, Any]) -> None:
        self.bus.xadd(FACTS, {"e": orjson.dumps(facts)})

    def beat(self, *attempts: tuple[Task, int]) -> None:
        flights = [[str(task.id), attempt] for task, attempt in attempts]
        self.say({"k": "beat", "w": "w", "i": "1", "n": 8, "f": flights, "d": False})

    def start(self, task: Task, attempt: int = 1) -> None:
        self.say({"k": "started", "t": str(task.id), "a": attempt, "w": "w"})

    def finish(self, task: Task, attempt: int = 1, **end: Any) -> None:
        self.say({"k": "finished", "t": str(task.id), "a": attempt, **end})

    def messages(self, queue: str = "agent.any-1") -> list[Any]:
        """Return the messages in a queue, the newest first."""
        found: Any = self.bus.lrange(queue, 0, -1)
        return [orjson.loads(message) for message in found]


@pytest.fixture
def worker(bus: redis.Redis) -> Worker:
    return Worker(bus)


def submit(**fields: Any) -> Task:
    request: dict[str, Any] = {"skill": "any", "input": 1} | fields
    return lifecycle.submit(lifecycle.Request(**request)).task


def state(task: Task) -> str:
    return Task.objects.values_list("state", flat=True).get(id=task.id)


def is_accepted(task: Task) -> bool:
    return not ledger.is_unaccepted(task.id)


class TestTurn:
    def test_takes_a_task_through_its_life(self, leader: Controller, worker: Worker) -> None:
        worker.beat()
        task = submit(input={"n": 1})
        wait_until(worker.messages, "the attempt's message")

        [message] = worker.messages()
        worker.start(task)
        wait_until(lambda: state(task) == TaskState.WORKING, "the start")
        worker.finish(task, o={"n": 2})

        wait_until(lambda: state(task) == TaskState.COMPLETED, "the end")
        assert message["headers"]["a2a"]["attempt"] == 1
        assert Task.objects.get().output == {"n": 2}
        assert list(TaskEvent.objects.values_list("kind", flat=True).order_by("seq")) == [
            "submitted", "assigned", "working", "completed",
        ]  # fmt: skip

    def test_finds_tasks_that_nobody_rang_for(self, leader: Controller) -> None:
        task = Task.objects.create(tenant_id="default", skill="any", input=1, timeout_s=1, max_attempts=1)

        wait_until(lambda: is_accepted(task), "a look into the ledger", patience_s=10)

    def test_accepts_while_redis_is_away(self, leader: Controller, private_redis: PrivateRedis) -> None:
        private_redis.kill()

        task = submit()

        wait_until(lambda: is_accepted(task), "a look into the ledger", patience_s=10)

    def test_goes_on_when_redis_is_back(self, leader: Controller, private_redis: PrivateRedis, worker: Worker) -> None:
        private_redis.kill()
        task = submit()
        wait_until(lambda: is_accepted(task), "a look into the ledger")
        private_redis.start()

        worker.beat()

        wait_until(worker.messages, "the attempt's message")

    def test_skips_what_it_does_not_understand(self, leader: Controller, worker: Worker, bus: redis.Redis) -> None:
        for entry in (b"", b"garbage", b"[[[", b'[{"k": "started", "t": 5, "a": "x", "w": []}]', b'{"k": "ring"}'):
            bus.xadd(FACTS, {"e": entry})
        bus.xadd(FACTS, {"other": "field"})
        worker.say({"k": "artifact", "t": "x", "a": 1, "d": {}}, {"k": "unheard-of"})
        worker.beat()

        submit()

        wait_until(worker.messages, "the attempt's message")
        assert ledger.controller_row().epoch == 1  # it has not begun anew

    def test_hears_of_an_agent_that_changed(self, leader: Controller, worker: Worker) -> None:
        registry.set_state(Agent.objects.get(name="any-1"), draining=True)
        worker.beat()
        task = submit()
        wait_until(lambda: is_accepted(task), "its acceptance")
        assert Task.objects.get().detail == "no able agent (any-1: draining)"

        registry.set_state(Agent.objects.get(name="any-1"), draining=False)

        wait_until(worker.messages, "the attempt's message", patience_s=10)

    def test_cancels_on_request(self, leader: Controller) -> None:
        task = submit()

        lifecycle.cancel(task.id, tenant="default", by="ann")

        wait_until(lambda: state(task) == TaskState.CANCELED, "the end")
        wait_until(lambda: not Command.objects.filter(done_at__isnull=True).exists(), "the request to be done")

    def test_has_a_failed_canvas_settled(self, leader: Controller, worker: Worker) -> None:
        worker.beat()
        task = submit(call=CALL)
        wait_until(worker.messages, "the attempt's message")
        worker.start(task)

        worker.finish(task, e=FINAL)

        wait_until(lambda: worker.messages("control"), "the request to settle")
        assert worker.messages("control")[0]["headers"]["task"] == "routing.settle_call"

    def test_fences_an_attempt_that_is_over(self, leader: Controller, worker: Worker, bus: redis.Redis) -> None:
        worker.beat()
        task = submit()
        wait_until(worker.messages, "the attempt's message")

        worker.say({"k": "returned", "t": str(task.id), "a": 1})

        wait_until(lambda: len(worker.messages()) == 2, "the second attempt")
        assert bus.get(broker.claim_key(str(task.id), 1)) == broker.FENCED
        assert bus.get(broker.claim_key(str(task.id), 2)) is None

    def test_tells_watchers_each_commit_once_in_order(
        self, leader: Controller, worker: Worker, bus: redis.Redis
    ) -> None:
        for _ in range(5):
            task = submit()
            wait_until(partial(is_accepted, task), "its acceptance")

        entries: Any = bus.xrange(broker.COMMITTED)
        deltas = [orjson.loads(fields[b"d"]) for _, fields in entries]
        assert [delta["seq"] for delta in deltas] == list(range(1, len(deltas) + 1))
        assert deltas[0]["reset"] is True
        assert sum(event["kind"] == "submitted" for delta in deltas for event in delta["events"]) == 5


class TestFinish:
    def test_publishes_nothing_before_it_is_committed(self, leader: Controller, worker: Worker) -> None:
        task = submit()
        wait_until(lambda: is_accepted(task), "its acceptance")

        with transaction.atomic():
            Row.objects.select_for_update().get()  # SQLite locks the whole database
            worker.beat()
            time.sleep(1.0)
            assert worker.messages() == []

        wait_until(worker.messages, "the attempt's message")
        assert Attempt.objects.get().agent == "any-1"


class TestLossOfRedis:
    def test_that_was_emptied_has_everything_sent_again(
        self, leader: Controller, worker: Worker, bus: redis.Redis
    ) -> None:
        worker.beat()
        tasks = {str(submit().id) for _ in range(2)}
        wait_until(lambda: len(worker.messages()) == 2, "the messages")

        bus.flushall()

        wait_until(lambda: len(worker.messages()) == 2, "the messages again")
        assert {message["headers"]["a2a"]["task"] for message in worker.messages()} == tasks

    def test_that_was_emptied_leaves_what_has_begun_alone(
        self, leader: Controller, worker: Worker, bus: redis.Redis
    ) -> None:
        worker.beat()
        task = submit()
        wait_until(worker.messages, "the message")
        worker.start(task)
        wait_until(lambda: state(task) == TaskState.WORKING, "the start")

        bus.flushall()
        wait_until(lambda: bus.exists(broker.MARKER), "the controller to notice")
        worker.finish(task, o=1)

        wait_until(lambda: state(task) == TaskState.COMPLETED, "the end")
        assert worker.messages() == []


class TestTakeover:
    def test_happens_when_the_leaders_beat_stops(self, bus: redis.Redis) -> None:
        ledger.take_lead(ledger.controller_row(), "somebody who died")
        began = time.monotonic()

        with running() as standby:
            wait_until(lambda: ledger.controller_row().holder == standby.name, "the standby to lead")

        assert 1.9 < time.monotonic() - began < 10

    def test_happens_at_once_when_the_leader_gives_up(self, leader: Controller) -> None:
        with running(name="standby"):
            time.sleep(0.5)
            assert ledger.controller_row().holder == leader.name

            leader.stop()

            wait_until(lambda: ledger.controller_row().holder == "standby", "the standby to lead", patience_s=5)

    def test_makes_the_old_leader_stand_by(self, leader: Controller, worker: Worker) -> None:
        other = ledger.take_lead(ledger.controller_row(), "another")
        while other is None:  # it beats meanwhile
            other = ledger.take_lead(ledger.controller_row(), "another")
        beat_until = time.monotonic() + 3

        task = submit()
        while time.monotonic() < beat_until:
            ledger.commit([], epoch=other, position="0-0", commit_seq=0)
            time.sleep(0.2)

        assert not is_accepted(task)
        wait_until(lambda: is_accepted(task), "the old leader to lead again")
        assert ledger.controller_row().epoch == other + 1

    def test_goes_on_where_the_last_leader_was(self, bus: redis.Redis, worker: Worker) -> None:
        with running():
            worker.beat()
            begun, waiting = submit(), submit()
            wait_until(lambda: len(worker.messages()) == 2, "the messages")
            worker.start(begun)
            wait_until(lambda: state(begun) == TaskState.WORKING, "the start")
        worker.finish(begun, o="while nobody led")
        bus.delete("agent.any-1")

        with running():
            wait_until(lambda: state(begun) == TaskState.COMPLETED, "the end")
            wait_until(worker.messages, "what was not begun, again")

        assert [message["headers"]["a2a"]["task"] for message in worker.messages()] == [str(waiting.id)]
        assert Attempt.objects.count() == 2

    def test_does_nothing_twice_when_facts_are_read_again(self, worker: Worker) -> None:
        with running():
            worker.beat()
            task = submit()
            wait_until(worker.messages, "the message")
            worker.start(task)
            worker.finish(task, o=1)
            wait_until(lambda: state(task) == TaskState.COMPLETED, "the end")
        events = TaskEvent.objects.count()
        Row.objects.update(position="0-0")

        with running() as again:
            wait_until(lambda: ledger.controller_row().position != "0-0", "the log to be read again")
            assert again.name == ledger.controller_row().holder

        assert TaskEvent.objects.count() == events
