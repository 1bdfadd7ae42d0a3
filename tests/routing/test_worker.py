"""One attempt in a worker, through Celery's own tracer, on a real Redis. The tests play the controller."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import celery
import pytest
import redis
from celery import chain, chord, states
from celery.app.trace import build_tracer
from celery.result import AsyncResult

from a2a_site.celery import app as typed_app
from routing import broker, celery_task, registry
from routing.executors import AgentFailed, Context, handler
from routing.models import Agent, Skill, Task
from routing.tasks import run_agent_task
from routing.worker import Flight, Runtime, runtime
from tests.private_redis import PrivateRedis, wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo", "bus")]

app: Any = typed_app  # the stubs of celery lack what is looked at here
task: Any = run_agent_task


class Unforeseen(BaseException):
    """Not an ``Exception``."""


@handler("worker-tests")
def work(value: Any, ctx: Context) -> Any:
    """Do what the input says."""
    do: Callable[[Any, Context], Any] = DOINGS[value["do"]]
    return do(value, ctx)


def _fail(value: Any, ctx: Context) -> Any:
    raise AgentFailed("out of paper", retryable=True)


def _fail_for_now(value: Any, ctx: Context) -> Any:
    raise AgentFailed("come back", retryable=True, retry_in_s=7.5)


def _break(value: Any, ctx: Context) -> Any:
    raise Unforeseen("odd")


def _say(value: Any, ctx: Context) -> Any:
    ctx.progress(0.5, "half")
    ctx.log("a line")
    ctx.usage(usd=0.25, tokens=100)
    ctx.usage(tokens=20)
    ctx.artifact("a.txt", "abc", "text/plain")
    return "said"


def _wait(value: Any, ctx: Context) -> Any:
    stopped = threading.Event()
    ctx.on_cancel(stopped.set)
    assert stopped.wait(20)
    raise AgentFailed("was stopped")


def _retry(value: Any, ctx: Context) -> Any:
    raise celery.current_task.retry(countdown=5)


def _replace(value: Any, ctx: Context) -> Any:
    current: Any = celery.current_task
    return current.replace(task.si(skill="any", input={"do": "echo", "instead": True}))


DOINGS: dict[str, Callable[[Any, Context], Any]] = {
    "echo": lambda value, ctx: value, "fail": _fail,
    "fail_for_now": _fail_for_now, "break": _break, "say": _say, "wait": _wait,
    "retry": _retry, "replace": _replace, "nothing": lambda value, ctx: None, "odd": lambda value, ctx: {1, 2},
}  # fmt: skip


@pytest.fixture
def worker(echo: None, bus: redis.Redis) -> Iterator[Runtime]:
    """Yield the runtime of a worker process that this one plays."""
    Agent.objects.filter(name="any-1").update(options={"handler": "worker-tests"})
    registry.forget()
    runtime.cache_clear()
    yield runtime()
    runtime.cache_clear()


def deliver(row: Task, *, attempt: int = 1, timeout_s: float = 30) -> None:
    """Do what Celery's worker does with an attempt's message."""
    message = celery_task.message(
        task=str(row.id), attempt=attempt, agent="any-1", timeout_s=timeout_s, skill=row.skill, input=row.input,
        call=row.call,
    )  # fmt: skip
    receive(json.loads(json.dumps(message.headers)), json.loads(json.dumps(message.body)))


def receive(headers: dict[str, Any], body: Any) -> None:
    """Do what Celery's worker does with a message."""
    args, kwargs, embed = body
    request = {**headers, **embed, "args": args, "kwargs": kwargs, "delivery_info": {}, "hostname": "w"}
    tracer = build_tracer(celery_task.NAME, app.tasks[celery_task.NAME], app=app)
    tracer(headers["id"], args, kwargs, request)


def submit(do: str = "echo", **options: Any) -> Task:
    """Return a task that does that."""
    task.apply_async(kwargs={"skill": "any", "input": {"do": do}}, **options)
    return Task.objects.latest("created_at")


def told(bus: redis.Redis) -> list[dict[str, Any]]:
    """Return all facts on the stream but rings, beats and goodbyes."""
    entries: Any = bus.xrange(broker.FACTS)
    facts = [fact for _, fields in entries for fact in json.loads(fields[b"e"])]
    return [fact for fact in facts if fact["k"] not in ("ring", "beat", "gone")]


def end(bus: redis.Redis) -> dict[str, Any]:
    """Return the one end that was reported."""
    [fact] = [fact for fact in told(bus) if fact["k"] == "finished"]
    return fact


@pytest.mark.usefixtures("worker")
class TestExecute:
    def test_reports_start_and_end(self, bus: redis.Redis) -> None:
        row = submit()

        deliver(row, attempt=3)

        assert [(fact["k"], fact["t"], fact["a"]) for fact in told(bus)] == [
            ("started", str(row.id), 3),
            ("finished", str(row.id), 3),
        ]
        assert end(bus)["o"] == {"do": "echo"}

    def test_runs_a_message_that_comes_twice_once(self, bus: redis.Redis) -> None:
        row = submit("say")

        deliver(row)
        deliver(row)

        assert [fact["k"] for fact in told(bus)].count("finished") == 1
        assert [fact["k"] for fact in told(bus)].count("log") == 1

    def test_does_not_begin_what_is_fenced(self, bus: redis.Redis) -> None:
        row = submit("say")
        bus.set(broker.claim_key(str(row.id), 1), broker.FENCED)

        deliver(row)

        assert {fact["k"] for fact in told(bus)} <= {"started"}

    def test_does_not_begin_while_redis_cannot_say_whose_it_is(
        self, bus: redis.Redis, private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("routing.worker.CLAIM_PATIENCE_S", 0.3)
        row = submit("say")

        private_redis.kill()
        deliver(row)
        private_redis.start()

        assert [fact["k"] for fact in told(bus)] == []

    def test_reports_what_the_agent_says(self, bus: redis.Redis) -> None:
        deliver(submit("say"))

        said: dict[str, Any] = {fact["k"]: fact.get("d") for fact in told(bus)}
        assert said["progress"] == {"fraction": 0.5, "message": "half"}
        assert said["log"] == {"level": "info", "message": "a line"}
        assert (said["artifact"]["name"], said["artifact"]["size"]) == ("a.txt", 3)

    def test_reports_what_the_attempt_has_used(self, bus: redis.Redis) -> None:
        deliver(submit("say"))

        assert end(bus)["u"] == {"usd": 0.25, "tokens": 120}

    def test_reports_the_agents_own_error(self, bus: redis.Redis) -> None:
        deliver(submit("fail"))

        error = end(bus)["e"]
        assert (error["kind"], error["message"], error["retryable"]) == ("agent", "out of paper", True)

    def test_reports_when_the_agent_wants_to_be_asked_again(self, bus: redis.Redis) -> None:
        deliver(submit("fail_for_now"))

        assert end(bus)["r"] == 7.5

    def test_survives_what_is_no_exception(self, bus: redis.Redis, worker: Runtime) -> None:
        deliver(submit("break"))

        assert end(bus)["e"]["kind"] in ("agent", "unavailable")
        assert worker._flights == {}

    def test_refuses_an_output_that_is_no_json(self, bus: redis.Redis) -> None:
        deliver(submit("odd"))

        assert end(bus)["e"]["kind"] == "bad_output"

    def test_refuses_an_output_that_breaks_the_schema(self, bus: redis.Redis) -> None:
        Skill.objects.filter(name="any").update(output_schema={"type": "object", "required": ["b"]})
        registry.forget()

        deliver(submit())

        error = end(bus)["e"]
        assert error["kind"] == "bad_output"
        assert "'b' is a required property" in error["message"]

    def test_reports_an_agent_that_is_gone(self, bus: redis.Redis) -> None:
        Agent.objects.filter(name="any-1").delete()
        registry.forget()

        deliver(submit())

        error = end(bus)["e"]
        assert (error["kind"], error["retryable"]) == ("unavailable", True)

    def test_keeps_an_output_that_is_null(self, bus: redis.Redis) -> None:
        deliver(submit("nothing"))

        assert "e" not in end(bus)
        assert end(bus)["o"] is None


@pytest.mark.usefixtures("worker")
class TestCanvas:
    def test_submits_the_next_step_before_it_reports_its_end(self, bus: redis.Redis) -> None:
        chain(task.s(skill="any", input={"do": "echo"}), task.s(skill="any", input={"do": "echo"})).apply_async()
        first = Task.objects.get()

        deliver(first)

        second = Task.objects.exclude(id=first.id).get()
        assert second.input == {"do": "echo", "previous": {"do": "echo"}}
        assert end(bus)["t"] == str(first.id)

    def test_does_not_go_on_with_a_result_that_came_too_late(self, bus: redis.Redis, worker: Runtime) -> None:
        chain(task.s(skill="any", input={"do": "wait"}), task.s(skill="any", input={"do": "echo"})).apply_async()
        row = Task.objects.get()
        bus.set(broker.claim_key(str(row.id), 1), broker.FENCED)

        deliver(row)

        assert Task.objects.count() == 1
        assert "finished" not in {fact["k"] for fact in told(bus)}

    def test_fails_when_the_next_step_is_refused(self, bus: redis.Redis) -> None:
        chain(task.s(skill="any", input={"do": "echo"}), task.s(skill="nobody")).apply_async()

        deliver(Task.objects.get())

        error = end(bus)["e"]
        assert "nobody" in error["message"]
        assert Task.objects.count() == 1

    def test_joins_a_chord(self, bus: redis.Redis) -> None:
        result = chord([task.s(skill="any", input={"do": "nothing"})] * 2, task.s(skill="any")).apply_async()

        for row in list(Task.objects.order_by("created_at")):
            deliver(row)

        assert Task.objects.get(id=result.id).input == [None, None]

    def test_asks_for_another_attempt_when_the_agent_retries(self, bus: redis.Redis) -> None:
        row = submit("retry")

        deliver(row)

        fact = end(bus)
        assert 4 < fact["r"] <= 5
        assert fact["c"]["headers"]["retries"] == 1
        assert fact["c"]["headers"]["id"] == str(row.id)
        assert Task.objects.count() == 1

    def test_asks_for_another_attempt_when_the_agent_replaces_itself(self, bus: redis.Redis) -> None:
        row = submit("replace")

        deliver(row)

        fact = end(bus)
        assert fact["c"]["body"][1]["input"] == {"do": "echo", "instead": True}
        assert fact["c"]["headers"]["id"] == str(row.id)
        assert Task.objects.count() == 1


@pytest.mark.usefixtures("worker")
class TestTakeIn:
    """A message that somebody sent by name, without our code."""

    def headers(self, **fields: Any) -> dict[str, Any]:
        plain = {"id": str(uuid4()), "task": celery_task.NAME, "lang": "py", "root_id": None, "parent_id": None}
        return {**plain, **fields}

    def test_submits_it_under_its_own_id(self) -> None:
        headers = self.headers()

        receive(headers, [[], {"skill": "any", "input": 5, "priority": 8}, {}])

        row = Task.objects.get()
        assert (str(row.id), row.input, row.priority, row.origin) == (headers["id"], 5, 8, "intake")

    def test_makes_one_task_of_a_message_that_comes_twice(self) -> None:
        headers = self.headers()

        for _ in range(2):
            receive(headers, [[], {"skill": "any"}, {}])

        assert Task.objects.count() == 1

    def test_keeps_what_follows(self) -> None:
        following = json.loads(json.dumps(task.s(skill="any")))

        receive(self.headers(), [[], {"skill": "any"}, {"chain": [following]}])

        call = Task.objects.get().call or {}
        assert call["body"][2]["chain"][0]["kwargs"] == {"skill": "any"}

    @pytest.mark.parametrize("kwargs", [{"skill": "nobody"}, {"skill": "any", "priority": 11}, {"skil": "any"}, {}])
    def test_tells_whoever_waits_why_it_is_refused(self, kwargs: dict[str, Any]) -> None:
        headers = self.headers()

        receive(headers, [[], kwargs, {}])

        assert not Task.objects.exists()
        assert AsyncResult(headers["id"], app=app).state == states.FAILURE


class TestStop:
    def flown(self, worker: Runtime, row: Task, **options: Any) -> threading.Thread:
        """Return the thread in which the attempt now waits to be stopped."""
        thread = threading.Thread(target=deliver, args=(row,), kwargs=options)
        thread.start()
        wait_until(lambda: worker._flights, "the attempt to run")
        return thread

    @pytest.mark.django_db(transaction=True)
    def test_of_a_canceled_task_is_confirmed(self, worker: Runtime, bus: redis.Redis) -> None:
        row = submit("wait")
        thread = self.flown(worker, row)

        worker._hear({"stop": [[str(row.id), 1, "canceled"]]})

        thread.join(20)
        assert end(bus)["e"]["kind"] == "canceled"

    @pytest.mark.django_db(transaction=True)
    def test_of_a_stale_attempt_is_not_reported(self, worker: Runtime, bus: redis.Redis) -> None:
        row = submit("wait")
        thread = self.flown(worker, row)

        worker._hear({"stop": [[str(row.id), 1, "stale"]]})

        thread.join(20)
        assert "finished" not in {fact["k"] for fact in told(bus)}

    @pytest.mark.django_db(transaction=True)
    def test_leaves_another_attempt_of_the_task_alone(self, worker: Runtime) -> None:
        row = submit("wait")
        thread = self.flown(worker, row)

        worker._hear({"stop": [[str(row.id), 2, "canceled"]]})

        [flight] = worker._flights.values()
        assert not flight.cancelled
        flight.stop("canceled")
        thread.join(20)

    @pytest.mark.django_db(transaction=True)
    def test_comes_by_itself_at_the_time_out(self, worker: Runtime, bus: redis.Redis) -> None:
        row = submit("wait")
        thread = self.flown(worker, row, timeout_s=0.1)
        time.sleep(0.2)

        worker._watch(time.monotonic())

        thread.join(20)
        assert end(bus)["e"] == {"kind": "timeout", "message": "did not end within 0.1 s", "retryable": True}

    @pytest.mark.django_db(transaction=True)
    def test_of_the_worker_hands_attempts_back_without_blame(self, worker: Runtime, bus: redis.Redis) -> None:
        row = submit("wait")
        thread = self.flown(worker, row)

        worker.hand_back()

        thread.join(20)
        assert [fact["k"] for fact in told(bus)] == ["started", "returned"]


class TestBeat:
    @pytest.mark.django_db(transaction=True)
    def test_lists_exactly_the_attempts_in_flight(self, worker: Runtime, bus: redis.Redis) -> None:
        row = submit("wait")
        thread = TestStop().flown(worker, row)

        worker.beat()
        worker.reporter.tell_and_wait({"k": "ring"})

        entries: Any = bus.xrange(broker.FACTS)
        [beat] = [f for _, fields in entries for f in json.loads(fields[b"e"]) if f["k"] == "beat"]
        assert beat["f"] == [[str(row.id), 1]]
        assert beat["i"] == worker.incarnation
        next(iter(worker._flights.values())).stop("canceled")
        thread.join(20)


class TestFlight:
    @pytest.fixture
    def flight(self, worker: Runtime) -> Flight:
        message = celery_task.message(
            task="t", attempt=1, agent="any-1", timeout_s=5, skill="any", input=None, call=None
        )
        return Flight(worker, message.headers["a2a"], None)

    def said(self, flight: Flight, bus: redis.Redis, kind: str) -> list[Any]:
        flight._runtime.reporter.tell_and_wait({"k": "ring"})
        return [fact["d"] for fact in told(bus) if fact["k"] == kind]

    def test_calls_whoever_wants_to_know_of_a_stop_once(self, flight: Flight) -> None:
        heard: list[int] = []
        flight.on_cancel(lambda: heard.append(1))

        flight.stop("canceled")
        flight.stop("timeout")

        assert (heard, flight.stop_reason) == ([1], "canceled")

    def test_calls_at_once_whoever_asks_too_late(self, flight: Flight) -> None:
        heard: list[int] = []
        flight.stop("canceled")

        flight.on_cancel(lambda: heard.append(1))

        assert heard == [1]

    def test_thins_out_progress(self, flight: Flight, bus: redis.Redis) -> None:
        for n in range(1000):
            flight.progress(n / 1000)
        flight.progress(1)

        fractions = [data["fraction"] for data in self.said(flight, bus, "progress")]
        assert len(fractions) < 20
        assert fractions[-1] == 1

    @pytest.mark.parametrize(("given", "kept"), [(-1, 0), (7, 1), (None, None), (0.25, 0.25)])
    def test_keeps_progress_between_0_and_1(self, flight: Flight, bus: redis.Redis, given: Any, kept: Any) -> None:
        flight.progress(given)

        assert [data["fraction"] for data in self.said(flight, bus, "progress")] == [kept]

    def test_leaves_out_lines_beyond_a_limit_and_says_so(self, flight: Flight, bus: redis.Redis) -> None:
        for n in range(2500):
            flight.log(f"line {n}")

        lines = self.said(flight, bus, "log")
        assert len(lines) == 2001
        assert "the rest is left out" in lines[-1]["message"]

    def test_says_nothing_more_after_its_end(self, flight: Flight, bus: redis.Redis) -> None:
        flight.is_over = True

        flight.log("too late")

        assert self.said(flight, bus, "log") == []
