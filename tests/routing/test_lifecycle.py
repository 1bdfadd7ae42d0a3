"""The one door: what is accepted, what is refused, and that it is all or nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from routing import broker, errors, registry, rulebook
from routing.lifecycle import Request, Submitted, Throttle, cancel, submit, submit_many
from routing.models import Command, Containment, Policy, Skill, Task, TaskState
from tests.private_redis import PrivateRedis, wait_until
from tests.routing.conftest import Use

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]

SOON = timezone.now() + timedelta(hours=1)
THREADS = 8


def request(**changes: Any) -> Request:
    """Return an acceptable request."""
    return replace(Request(skill="echo", input={"text": "hi"}), **changes)


class TestSubmit:
    def test_stores_what_was_asked_for(self) -> None:
        task = submit(request(priority=7, labels={"gpu": "yes"}, exclude=["b", "a"], origin="rest")).task

        stored = Task.objects.get()
        assert stored == task
        assert (stored.input, stored.priority, stored.labels) == ({"text": "hi"}, 7, {"gpu": "yes"})
        assert (stored.agents_excluded, stored.origin, stored.state) == (["a", "b"], "rest", TaskState.SUBMITTED)

    def test_takes_limits_from_the_skill_where_none_are_given(self) -> None:
        Skill.objects.filter(name="echo").update(timeout_s=7, max_attempts=2)
        registry.forget()

        task = submit(request()).task

        assert (task.timeout_s, task.max_attempts) == (7, 2)
        assert submit(request(timeout_s=1.5, max_attempts=9)).task.max_attempts == 9

    def test_is_undone_with_the_callers_transaction(self) -> None:
        with transaction.atomic():
            submit(request())
            transaction.set_rollback(True)

        assert not Task.objects.exists()

    def test_leaves_the_callers_transaction_usable_when_it_refuses(self) -> None:
        with transaction.atomic():
            with pytest.raises(errors.UnknownSkill):
                submit(request(skill="nobody"))
            submit(request())

        assert Task.objects.count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_rings_on_commit_and_not_before(self, bus: redis.Redis) -> None:
        with transaction.atomic():
            submit(request())
            time.sleep(0.2)
            assert bus.xlen(broker.FACTS) == 0

        wait_until(lambda: bus.xlen(broker.FACTS) == 1, "the ring")


class TestIdempotencyKey:
    def test_gives_the_same_task_again(self) -> None:
        first = submit(request(idempotency_key="k"))
        again = submit(request(idempotency_key="k"))

        assert (first.created, again.created) == (True, False)
        assert again.task.id == first.task.id

    def test_refuses_another_request(self) -> None:
        submit(request(idempotency_key="k"))

        with pytest.raises(errors.KeyReused) as caught:
            submit(request(idempotency_key="k", priority=6))

        assert caught.value.pointer == "/idempotency_key"
        assert Task.objects.count() == 1

    def test_belongs_to_a_tenant(self) -> None:
        registry.ensure_tenant("other")
        registry.ensure_skill("echo", tenant="other")
        submit(request(idempotency_key="k"))

        assert submit(request(idempotency_key="k", tenant="other")).created

    def test_gives_the_task_even_after_its_deadline(self) -> None:
        first = submit(request(idempotency_key="k", deadline=timezone.now() + timedelta(seconds=0.3)))
        time.sleep(0.35)

        again = submit(request(idempotency_key="k", deadline=first.task.deadline))

        assert again.task.id == first.task.id

    def test_gives_the_task_even_if_the_skill_would_refuse_it_now(self) -> None:
        first = submit(request(idempotency_key="k"))
        Skill.objects.filter(name="echo").update(input_schema={"type": "integer"})
        registry.forget()

        assert submit(request(idempotency_key="k")).task.id == first.task.id

    @pytest.mark.django_db(transaction=True)
    def test_makes_one_task_of_requests_that_race(self) -> None:
        ready = threading.Barrier(THREADS)

        def race(_: int) -> Submitted:
            ready.wait()
            try:
                return submit(request(idempotency_key="k"))
            finally:
                connection.close()

        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(race, range(THREADS)))

        assert Task.objects.count() == 1
        assert [result.created for result in results].count(True) == 1
        assert len({result.task.id for result in results}) == 1


class TestId:
    def test_gives_the_same_task_again(self) -> None:
        name = uuid4()

        assert submit(request(id=name)).created
        assert not submit(request(id=name)).created

    def test_refuses_another_request(self) -> None:
        name = submit(request()).task.id

        with pytest.raises(errors.IdReused) as caught:
            submit(request(id=name, input={"text": "other"}))

        assert caught.value.pointer == "/id"

    def test_refuses_another_tenants(self) -> None:
        registry.ensure_tenant("other")
        registry.ensure_skill("echo", tenant="other")
        name = submit(request()).task.id

        with pytest.raises(errors.IdReused):
            submit(request(id=name, tenant="other"))

    def test_of_a_canvas_step_gives_the_task_whatever_its_input_is_now(self) -> None:
        call: dict[str, Any] = {"body": [[], {}, {}], "headers": {}}
        first = submit(request(id=uuid4(), call=call))

        again = submit(request(id=first.task.id, call=call, input={"text": "the step before said something else"}))

        assert not again.created


@pytest.mark.django_db(transaction=True)
class TestWithoutRedis:
    def test_accepts_with_redis_down(self, use_redis: Use) -> None:
        use_redis("unix:///nowhere/redis.sock")

        began = time.monotonic()
        submit(request())

        assert time.monotonic() - began < 1
        assert Task.objects.count() == 1

    def test_does_not_wait_for_a_redis_that_hangs(self, bus: redis.Redis, private_redis: PrivateRedis) -> None:
        with private_redis.paused():
            began = time.monotonic()
            for _ in range(5):
                submit(request())
            took_s = time.monotonic() - began

        assert took_s < 1
        wait_until(lambda: bus.xlen(broker.FACTS) > 0, "the ring")


class TestSubmitMany:
    def test_answers_each_request_in_its_place(self) -> None:
        results = submit_many([request(), request(skill="nobody"), request(idempotency_key="k"), request(priority=10)])

        assert [type(result) for result in results] == [Submitted, errors.UnknownSkill, Submitted, errors.BadInput]
        assert Task.objects.count() == 2

    def test_makes_one_task_of_a_key_that_comes_twice(self) -> None:
        first, again = submit_many([request(idempotency_key="k")] * 2)

        assert isinstance(first, Submitted)
        assert isinstance(again, Submitted)
        assert (first.created, again.created) == (True, False)

    def test_of_nothing_is_nothing(self) -> None:
        assert submit_many([]) == []


class TestCancel:
    def test_notes_the_request_down(self) -> None:
        task = submit(request()).task

        command = cancel(task.id, tenant="default", by="ann", reason="not needed")

        stored = Command.objects.get()
        assert stored == command
        assert (stored.task_id, stored.kind, stored.by, stored.reason) == (task.id, "cancel", "ann", "not needed")
        assert stored.done_at is None

    def test_knows_no_task_of_another_tenant(self) -> None:
        registry.ensure_tenant("other")
        task = submit(request()).task

        with pytest.raises(errors.NoSuchTask):
            cancel(task.id, tenant="other", by="eve")

        assert not Command.objects.exists()

    def test_refuses_what_has_ended(self) -> None:
        task = submit(request()).task
        Task.objects.filter(id=task.id).update(state=TaskState.COMPLETED, finished_at=timezone.now())

        with pytest.raises(errors.AlreadyEnded, match="completed"):
            cancel(task.id, tenant="default", by="ann")


def nested(depth: int) -> Any:
    """Return lists within lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


BAD: list[tuple[str, dict[str, Any], type[errors.RoutingError], str]] = [
    ("unknown skill", {"skill": "nobody"}, errors.UnknownSkill, "/skill"),
    ("unknown version", {"version": "99"}, errors.UnknownSkill, "/skill"),
    ("unknown tenant", {"tenant": "nobody"}, errors.UnknownSkill, "/skill"),
    ("wrong type inside", {"input": {"text": 5}}, errors.SchemaMismatch, "/input/text"),
    ("missing member", {"input": {}}, errors.SchemaMismatch, "/input"),
    ("NUL", {"input": {"text": "a\0b"}}, errors.Malformed, "/input/text"),
    ("half a character", {"input": {"text": "\ud800"}}, errors.Malformed, "/input/text"),
    ("not a number", {"skill": "any", "input": [float("nan")]}, errors.Malformed, "/input/0"),
    ("not JSON", {"skill": "any", "input": {1, 2}}, errors.Malformed, "/input"),
    ("nested too deep", {"skill": "any", "input": nested(64)}, errors.Malformed, "/input"),
    ("too large", {"input": {"text": "x" * 1_100_000}}, errors.TooLarge, "/input"),
    ("priority above 9", {"priority": 10}, errors.BadInput, "/priority"),
    ("priority below 0", {"priority": -1}, errors.BadInput, "/priority"),
    ("priority a truth", {"priority": True}, errors.BadInput, "/priority"),
    ("no time", {"timeout_s": 0}, errors.BadInput, "/timeout_s"),
    ("endless time", {"timeout_s": float("inf")}, errors.BadInput, "/timeout_s"),
    ("time not a number", {"timeout_s": float("nan")}, errors.BadInput, "/timeout_s"),
    ("no attempts", {"max_attempts": 0}, errors.BadInput, "/max_attempts"),
    ("deadline passed", {"deadline": datetime(2020, 1, 1, tzinfo=UTC)}, errors.BadInput, "/deadline"),
    ("deadline without a zone", {"deadline": datetime(2999, 1, 1)}, errors.BadInput, "/deadline"),
    ("never possible", {"deadline": SOON, "not_before": SOON}, errors.BadInput, "/deadline"),
    ("empty key", {"idempotency_key": ""}, errors.BadInput, "/idempotency_key"),
    ("long key", {"idempotency_key": "k" * 201}, errors.BadInput, "/idempotency_key"),
    ("NUL in the key", {"idempotency_key": "a\0"}, errors.Malformed, "/idempotency_key"),
    ("unknown agent", {"agent": "nobody"}, errors.UnknownAgent, "/agent"),
    ("odd agent name", {"agent": "'; DROP TABLE--"}, errors.UnknownAgent, "/agent"),
    ("pinned and excluded", {"agent": "echo-1", "exclude": ["echo-1"]}, errors.BadInput, "/exclude"),
    ("its own parent", {"id": UUID(int=7), "parent": UUID(int=7)}, errors.BadInput, "/parent"),
    ("odd label", {"labels": {"gpu": 1}}, errors.BadInput, "/labels"),
    ("too many labels", {"labels": {str(n): "" for n in range(33)}}, errors.BadInput, "/labels"),
]


class TestRefusal:
    @pytest.mark.parametrize(("changes", "error", "pointer"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
    def test_points_at_what_is_wrong_and_stores_nothing(
        self, changes: dict[str, Any], error: type[errors.RoutingError], pointer: str
    ) -> None:
        with pytest.raises(error) as caught:
            submit(request(**changes))

        assert caught.value.pointer == pointer
        assert str(caught.value)
        assert not Task.objects.exists()

    def test_names_the_limit(self, settings: Settings) -> None:
        settings.A2A_MAX_INPUT_BYTES = 2000

        with pytest.raises(errors.TooLarge, match="2000"):
            submit(request(input={"text": "x" * 2000}))


class TestPolicies:
    def test_give_limits_where_the_caller_names_none(self) -> None:
        rulebook.save_policy(Policy(name="echoes", skill="echo", labels="gpu=yes", timeout_s=7, max_attempts=2))

        governed = submit(request(labels={"gpu": "yes"})).task
        named = submit(request(labels={"gpu": "yes"}, timeout_s=1.5, max_attempts=9)).task
        other = submit(request()).task

        assert (governed.timeout_s, governed.max_attempts) == (7, 2)
        assert (named.timeout_s, named.max_attempts) == (1.5, 9)
        assert (other.timeout_s, other.max_attempts) == (300, 3)


class TestSize:
    def test_is_the_bytes_of_the_input_unless_the_caller_knows(self) -> None:
        assert submit(request(input={"text": "hi"})).task.size == len('{"text":"hi"}')
        assert submit(request(size=0.5)).task.size == 0.5


class TestContained:
    def contain(self, **fields: Any) -> None:
        given = {"scope": "skill", "value": "echo", "mode": "enforce", "reason": "It leaks.", "by": "ann"}
        rulebook.save_containment(Containment(name="stop", **{**given, **fields}))

    @pytest.mark.parametrize(
        "target", [{}, {"scope": "tenant", "value": "default"}, {"scope": "everything", "value": ""}]
    )
    def test_work_is_refused_with_the_reason(self, target: dict[str, str]) -> None:
        self.contain(**target)

        with pytest.raises(errors.Contained, match=r"Not accepted: .* by ann: It leaks\. Try again when it is"):
            submit(request())

        assert not Task.objects.exists()

    @pytest.mark.parametrize(
        "target", [{"scope": "agent", "value": "echo-1"}, {"mode": "observe"}, {"value": "any"}, {"enabled": False}]
    )
    def test_work_is_accepted_if_somebody_may_do_it(self, target: dict[str, Any]) -> None:
        self.contain(**target)

        assert submit(request()).created

    def test_work_says_when_to_come_again(self) -> None:
        self.contain(release_at=timezone.now() + timedelta(minutes=10))

        with pytest.raises(errors.Contained) as caught:
            submit(request())

        assert 590 < caught.value.fields["retry_after_s"] <= 600


class TestSingleton:
    def test_gives_the_task_that_lives(self) -> None:
        first = submit(request(singleton="nightly"))
        again = submit(request(singleton="nightly", input={"text": "other"}))

        assert (first.created, again.created) == (True, False)
        assert again.task.id == first.task.id

    def test_makes_a_new_one_after_its_end(self) -> None:
        first = submit(request(singleton="nightly")).task
        Task.objects.filter(id=first.id).update(state=TaskState.FAILED, finished_at=timezone.now())

        assert submit(request(singleton="nightly")).created

    def test_belongs_to_a_tenant(self) -> None:
        registry.ensure_tenant("other")
        registry.ensure_skill("echo", tenant="other")
        submit(request(singleton="nightly"))

        assert submit(request(singleton="nightly", tenant="other")).created

    def test_is_refused_for_a_celery_call_because_somebody_waits_for_its_own_id(self) -> None:
        first = submit(request(singleton="nightly")).task

        with pytest.raises(errors.SingletonLives, match=str(first.id)):
            submit(request(singleton="nightly", id=uuid4(), call={"headers": {}}))

    def test_holds_within_one_batch(self) -> None:
        results = submit_many([request(singleton="nightly"), request(singleton="nightly"), request()])

        assert [result.created for result in results if isinstance(result, Submitted)] == [True, False, True]

    @pytest.mark.django_db(transaction=True)
    def test_makes_one_task_of_requests_that_race(self) -> None:
        ready = threading.Barrier(THREADS)

        def race(number: int) -> Submitted:
            ready.wait()
            try:
                return submit(request(singleton="nightly", input={"text": str(number)}))
            finally:
                connection.close()

        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(race, range(THREADS)))

        assert sum(result.created for result in results) == 1
        assert Task.objects.count() == 1


class TestDebounce:
    def debounced(self, **changes: Any) -> Task:
        return submit(request(debounce_s=60, debounce_key="save", **changes)).task

    def test_waits_and_takes_the_place_of_the_one_before(self) -> None:
        first = self.debounced()
        second = self.debounced()

        command = Command.objects.get()
        assert second.not_before is not None
        assert 55 < (second.not_before - timezone.now()).total_seconds() <= 60
        assert (command.kind, command.task_id, command.reason) == ("cancel", first.id, f"superseded by {second.id}")

    def test_leaves_one_that_an_agent_has(self) -> None:
        first = self.debounced()
        Task.objects.filter(id=first.id).update(attempt=1)

        self.debounced()

        assert not Command.objects.exists()

    def test_leaves_other_keys_and_tenants_alone(self) -> None:
        self.debounced()

        submit(request(debounce_s=60, debounce_key="other"))

        assert not Command.objects.exists()

    def test_keeps_a_later_beginning(self) -> None:
        assert self.debounced(not_before=SOON).not_before == SOON

    def test_refuses_a_deadline_before_its_end(self) -> None:
        with pytest.raises(errors.BadInput, match="could never begin"):
            self.debounced(deadline=timezone.now() + timedelta(seconds=30))

        assert not Task.objects.exists()


class TestThrottle:
    def test_refuses_one_too_many_and_says_when_to_come_again(self) -> None:
        throttle = Throttle(limit=2, period_s=60)
        for _ in range(2):
            submit(request(throttle=throttle))

        with pytest.raises(errors.Throttled, match="2 tasks with the throttle key 'echo' came within 60 s") as caught:
            submit(request(throttle=throttle))

        assert 55 < caught.value.fields["retry_after_s"] <= 60
        assert Task.objects.count() == 2

    def test_has_room_again_once_the_oldest_is_old(self) -> None:
        throttle = Throttle(limit=2, period_s=60)
        for age_s in (61, 30):
            task = submit(request(throttle=throttle)).task
            Task.objects.filter(id=task.id).update(created_at=timezone.now() - timedelta(seconds=age_s))

        assert submit(request(throttle=throttle)).created

    def test_counts_each_key_for_itself(self) -> None:
        for key in ("a", "b"):
            assert submit(request(throttle=Throttle(limit=1, period_s=60, key=key))).created

    def test_gives_the_same_task_to_the_same_key_of_a_request(self) -> None:
        throttle = Throttle(limit=1, period_s=60)

        results = [submit(request(throttle=throttle, idempotency_key="k")) for _ in range(2)]

        assert [result.created for result in results] == [True, False]

    @pytest.mark.django_db(transaction=True)
    def test_lets_no_more_through_when_requests_race(self) -> None:
        ready = threading.Barrier(THREADS)

        def race(_: int) -> bool:
            ready.wait()
            try:
                return submit(request(throttle=Throttle(limit=3, period_s=60))).created
            except errors.Throttled:
                return False
            finally:
                connection.close()

        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(race, range(THREADS)))

        assert sum(results) == Task.objects.count() == 3
