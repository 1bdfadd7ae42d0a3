"""A Celery call becomes a row, and the row the same Celery call again."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import celery
import pytest
import redis
from celery import chain, chord, group
from django.utils import timezone

from a2a_site.celery import app
from routing import celery_task, errors
from routing.broker import Message
from routing.celery_task import NAME, bind, step_key, task_uuid
from routing.models import Task
from routing.tasks import run_agent_task

ANY = {"skill": "any"}
task: Any = run_agent_task  # its stubs lack signatures with keywords


def step(value: Any = 1, **options: Any) -> Any:
    """Return the signature of one step."""
    return task.s(skill="any", input=value, **options)


def sent(row: Task) -> Message:
    """Return the message that the controller would publish for the row."""
    return celery_task.message(
        task=str(row.id), attempt=3, agent="any-1", timeout_s=5, skill=row.skill, input=row.input, call=row.call
    )


def only() -> Task:
    return Task.objects.get()


@pytest.mark.django_db
@pytest.mark.usefixtures("echo")
class TestOptions:
    def test_reach_the_ledger(self) -> None:
        options = {"size": 3, "concurrency_key": "c", "affinity": "f", "singleton": "s", "budget": {"usd": 1}}

        task.delay(**ANY, **options, debounce_s=5, debounce_key="d", throttle={"limit": 2, "period_s": 60, "key": "t"})

        row = only()
        assert (row.size, row.concurrency_key, row.affinity, row.budget) == (3, "c", "f", {"usd": 1})
        assert (row.singleton_key, row.debounce_key, row.throttle_key) == ("s", "d", "t")

    @pytest.mark.parametrize("throttle", [5, {"limit": 1}, {"limit": 1, "period_s": 1, "x": 1}])
    def test_refuse_a_throttle_that_is_none(self, throttle: Any) -> None:
        with pytest.raises(errors.BadInput, match="A throttle is"):
            task.delay(**ANY, throttle=throttle)


class TestBind:
    def test_takes_the_input_that_is_given(self) -> None:
        assert bind(skill="s", input=1) == ("s", 1, {})

    def test_takes_the_result_of_the_step_before_as_input(self) -> None:
        assert bind([1, 2], skill="s") == ("s", [1, 2], {})

    def test_puts_the_result_of_the_step_before_beside_an_object(self) -> None:
        assert bind(5, skill="s", input={"a": 1}) == ("s", {"a": 1, "previous": 5}, {})

    def test_leaves_options_to_the_request(self) -> None:
        assert bind(skill="s", priority=3, agent="a")[2] == {"priority": 3, "agent": "a"}

    def test_refuses_a_result_beside_what_is_no_object(self) -> None:
        with pytest.raises(errors.BadInput, match="object"):
            bind(5, skill="s", input=[1])

    def test_refuses_unknown_options_by_name(self) -> None:
        with pytest.raises(errors.BadInput, match="colour"):
            bind(skill="s", colour="red")

    def test_refuses_a_second_positional_argument(self) -> None:
        with pytest.raises(errors.BadInput, match="positional"):
            bind(1, 2, skill="s")


class TestTaskUuid:
    def test_is_the_id_itself_where_it_can_be(self) -> None:
        name = uuid4()

        assert task_uuid(str(name)) == name

    def test_is_made_of_any_other_text_always_the_same(self) -> None:
        assert task_uuid("order-5") == task_uuid("order-5") != task_uuid("order-6")


class TestStepKey:
    def test_is_the_same_for_every_attempt_and_another_for_every_task(self) -> None:
        assert step_key("x") == step_key("x") != step_key("y")
        assert UUID(step_key("x")) == uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "a2a:x")


@pytest.mark.django_db
@pytest.mark.usefixtures("echo")
class TestApplyAsync:
    def test_submits_instead_of_publishing(self, bus: redis.Redis) -> None:
        result = task.delay(skill="any", input={"a": 1}, priority=8, labels={"gpu": "yes"})

        row = only()
        assert (str(row.id), row.skill, row.input, row.priority) == (result.id, "any", {"a": 1}, 8)
        assert (row.labels, row.origin) == ({"gpu": "yes"}, "celery")
        assert not bus.exists("intake")

    def test_keeps_no_call_where_it_would_say_nothing_new(self) -> None:
        task.delay(skill="any", input=1)

        assert not (only().call or {}).get("body")

    def test_raises_where_it_is_called_when_it_is_refused(self) -> None:
        with pytest.raises(errors.UnknownSkill):
            task.delay(skill="nobody")

        assert not Task.objects.exists()

    @pytest.mark.parametrize("wrong", [{}, {"input": 1}, {**ANY, "colour": "red"}], ids=str)
    def test_refuses_a_wrong_call(self, wrong: dict[str, Any]) -> None:
        with pytest.raises((errors.BadInput, TypeError)):
            task.delay(**wrong)

        assert not Task.objects.exists()

    def test_refuses_a_call_that_links_to_itself(self) -> None:
        link = step()
        link.options["link"] = [link]

        with pytest.raises(errors.BadInput, match="itself"):
            task.apply_async(kwargs=ANY, link=link)

        assert not Task.objects.exists()

    def test_makes_a_countdown_a_not_before(self) -> None:
        task.apply_async(kwargs=ANY, countdown=60, link=step())

        row = only()
        assert row.not_before is not None
        assert timedelta(seconds=50) < row.not_before - timezone.now() <= timedelta(seconds=60)
        assert not sent(row).headers.get("eta")  # five hundred of those fill a worker

    def test_makes_an_eta_a_not_before(self) -> None:
        moment = timezone.now() + timedelta(hours=2)

        task.apply_async(kwargs=ANY, eta=moment)

        assert only().not_before == moment

    def test_makes_expires_a_deadline(self) -> None:
        task.apply_async(kwargs=ANY, expires=60, link=step())

        row = only()
        assert row.deadline is not None
        assert timedelta(seconds=50) < row.deadline - timezone.now() <= timedelta(seconds=60)
        assert not sent(row).headers.get("expires")

    def test_gives_an_id_that_is_no_uuid_one(self) -> None:
        task.apply_async(kwargs=ANY, task_id="order-5")

        row = only()
        assert row.id == task_uuid("order-5")
        assert sent(row).headers["id"] == "order-5"

    def test_twice_under_the_same_id_is_one_task(self) -> None:
        for _ in range(2):
            task.apply_async(kwargs=ANY, task_id=str(UUID(int=5)))

        assert Task.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("echo")
class TestMessage:
    def test_is_what_celery_itself_would_send(self, bus: redis.Redis) -> None:
        options: dict[str, Any] = {"kwargs": ANY, "task_id": str(uuid4()), "link": step(2), "link_error": step(3)}
        task.apply_async(**options)
        celery.Task.apply_async(task, queue="stock", retry=False, **options)

        raw: Any = bus.lpop("stock")
        ours, stock = sent(only()), json.loads(raw)

        names = set(stock["headers"]) - {"eta", "expires"}  # those are the ledger's business
        assert as_json(ours.body) == json.loads(base64.b64decode(stock["body"]))
        assert as_json({name: ours.headers[name] for name in names}) == {n: stock["headers"][n] for n in names}

    def test_carries_the_attempt(self) -> None:
        task.apply_async(kwargs=ANY, link=step())

        row = only()
        message = sent(row)
        assert message.queue == "agent.any-1"
        facts = message.headers["a2a"]
        assert (facts["task"], facts["attempt"], facts["agent"]) == (str(row.id), 3, "any-1")
        assert (facts["skill"], facts["tenant"], facts["timeout_s"]) == ("any", "default", 5)

    def test_of_a_chain_carries_the_steps_that_follow(self) -> None:
        last = chain(step(1), step(None), step({"a": 1})).apply_async()

        body = sent(only()).body
        assert [s["task"] for s in body[2]["chain"]] == [NAME, NAME]
        assert body[2]["chain"][0]["options"]["task_id"] == last.id

    def test_of_a_chords_member_carries_group_and_body(self) -> None:
        result: Any = chord([step(1), step(2)], step(None)).apply_async()

        messages = [sent(row) for row in Task.objects.order_by("created_at")]
        assert {message.headers["group"] for message in messages} == {result.parent.id}
        assert [message.headers["group_index"] for message in messages] == [0, 1]
        assert {message.body[2]["chord"]["options"]["task_id"] for message in messages} == {result.id}

    def test_of_a_group_carries_the_group(self) -> None:
        result = group(step(1), step(2)).apply_async()

        assert {sent(row).headers["group"] for row in Task.objects.all()} == {result.id}

    def test_of_a_task_from_another_door_is_a_plain_call(self) -> None:
        message = celery_task.message(
            task="t", attempt=1, agent="a", timeout_s=1, skill="s", input={"x": 1}, tenant="other", call=None
        )

        assert message.body[:2] == [[], {"skill": "s", "input": {"x": 1}}]
        assert (message.headers["task"], message.headers["id"]) == (NAME, "t")
        assert message.headers["a2a"]["tenant"] == "other"


def as_json(value: Any) -> Any:
    """Return the value as somebody reads it who gets it as JSON."""
    return json.loads(json.dumps(value))


@pytest.mark.django_db
@pytest.mark.usefixtures("echo")
class TestSubmitCall:
    def test_knows_the_parent(self) -> None:
        parent = str(uuid4())
        call = {"body": [[], ANY, {}], "headers": {"id": str(uuid4()), "parent_id": parent}}

        row = celery_task.submit_call(call, origin="intake").task

        assert (str(row.parent), row.origin) == (parent, "intake")

    def test_refuses_a_moment_that_is_none(self) -> None:
        call = {"body": [[], {**ANY, "deadline": "soon"}, {}], "headers": {"id": str(uuid4())}}

        with pytest.raises(errors.BadInput, match="soon"):
            celery_task.submit_call(call, origin="intake")

    def test_refuses_a_call_without_a_skill(self) -> None:
        call = {"body": [[], {}, {}], "headers": {"id": str(uuid4())}}

        with pytest.raises(errors.BadInput, match="skill"):
            celery_task.submit_call(call, origin="intake")


def test_the_application_never_publishes_with_pickle() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
