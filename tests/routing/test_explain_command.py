"""`manage.py explain`: the life of a task, told from the ledger and the controller's last snapshot."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from routing import broker, events, ledger, lifecycle, registry, rulebook
from routing.line import Line
from routing.live import Live
from routing.models import Agent, Containment, Task
from tests.routing.desk import Desk

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]

ERROR: events.Error = {"kind": "agent", "message": "it crashed", "retryable": True}

ROW: dict[str, Any] = {
    "tenant_id": "default", "skill": "any", "input": 1, "timeout_s": 60, "max_attempts": 3, "request_digest": "x",
}  # fmt: skip


@pytest.fixture
def desk(bus: redis.Redis) -> Desk:
    return Desk()


def said(task: Task | str, **options: Any) -> str:
    """Return what the command prints."""
    out = StringIO()
    call_command("explain", str(task.id if isinstance(task, Task) else task), stdout=out, **options)
    return out.getvalue()


def publish(desk: Desk, bus: redis.Redis) -> None:
    """Write the snapshot, as the controller does."""
    Live(desk.fleet, epoch=1, holder="desk", seq=desk.commits).publish(Line(bus.connection_pool), [], reset=True)


def fill(desk: Desk) -> None:
    """Let two tasks take both slots of the only agent."""
    for _ in range(2):
        desk.submit()


class TestExplain:
    def test_tells_every_attempt_and_why_it_went_where(self, desk: Desk) -> None:
        task = desk.submit()
        desk.tell(desk.started(task))
        desk.now += 2
        desk.tell(desk.finished(task, error=ERROR))
        desk.now += 60
        desk.tell(events.Beat(worker="w", incarnation="1", threads=16))
        desk.tell(desk.started(task, 2))
        desk.now += 1
        desk.tell(desk.finished(task, 2, output=1))

        told = said(task)

        assert f"Task {task.id}" in told
        assert "any of tenant default, priority 5: completed by any-1" in told
        assert "governed by policy default, as it stands now (every task: balanced)" in told
        assert "Attempt 1 on any-1: failed after it worked for 2.0 s: agent: it crashed" in told
        assert "any-1, by balanced of policy default (revision" in told
        assert "Attempt 2 on any-1: completed after it worked for 1.0 s" in told
        assert "Now:" not in told

    def test_tells_one_attempt_if_asked_to(self, desk: Desk) -> None:
        task = desk.submit()

        assert "Attempt 1 on any-1: assigned for" in said(task, attempt=1)
        with pytest.raises(CommandError, match=r"The task has no attempt 7\. Its attempts: 1\."):
            said(task, attempt=7)

    def test_tells_why_somebody_else_did_not_get_it(self, desk: Desk) -> None:
        assert "hal was not asked" in said(desk.submit(), why_not="hal")

    def test_prints_json(self, desk: Desk) -> None:
        task = desk.submit()

        told = json.loads(said(task, json=True))

        assert told["task"] == str(task.id)
        assert [attempt["agent"] for attempt in told["attempts"]] == ["any-1"]
        assert told["attempts"][0]["explanation"][0].startswith("any-1, by balanced")
        assert told["now"] == "any-1 is to begin it."

    def test_refuses_what_is_no_id(self) -> None:
        with pytest.raises(CommandError, match="'codex' is no task id"):
            said("codex")

    def test_says_that_there_is_no_such_task(self) -> None:
        with pytest.raises(CommandError, match=r"There is no task .*\. Tasks are deleted 30 days after their end\."):
            said(str(uuid4()))


class TestAWaitingTask:
    def test_waits_for_a_controller(self) -> None:
        task = lifecycle.submit(lifecycle.Request(skill="any")).task

        assert "Now: It waits for a controller to accept it." in said(task)

    def test_waits_for_a_slot(self, desk: Desk, bus: redis.Redis) -> None:
        fill(desk)
        task = desk.submit()
        desk.submit()
        publish(desk, bus)

        told = said(task)

        assert "Now: It waits: for a free slot of an agent (2 tasks in its lane)." in told
        assert "What would help:\n  A free slot: raise the capacity of any-1" in told

    def test_waits_for_somebody_who_can(self, desk: Desk, bus: redis.Redis) -> None:
        task = desk.submit(labels={"gpu": "yes"})
        publish(desk, bus)

        told = said(task)

        assert "Now: It waits: no agent has the skill any with the label gpu=yes." in told
        assert "What would help:\n  any-1 lacks the label gpu=yes" in told

    def test_waits_for_a_gate(self, desk: Desk, bus: redis.Redis) -> None:
        task = Task.objects.create(**ROW)  # the door would refuse it
        rulebook.save_containment(
            Containment(name="stop", scope="skill", value="any", mode="enforce", reason="It leaks.", by="ann")
        )
        desk.tell(rulebook.fact(), events.Submitted(task=ledger.spec_of(task)))
        publish(desk, bus)

        told = said(task)

        assert "contained since" in told
        assert "Release the switch" in told

    def test_waits_for_its_next_attempt(self, desk: Desk) -> None:
        desk.now = timezone.now().timestamp()
        task = desk.submit()
        desk.tell(desk.started(task))
        desk.tell(desk.finished(task, error=ERROR))

        assert "more before its next attempt." in said(task)

    def test_says_that_nobody_knows_without_a_controller(self, desk: Desk) -> None:
        registry.set_state(Agent.objects.get(name="any-1"), draining=True)
        desk.tell(rulebook.fact())
        task = desk.submit()

        with override_settings(A2A_REDIS_URL="unix:///nowhere.sock"):
            broker.client.cache_clear()
            told = said(task)
        broker.client.cache_clear()

        assert "no controller reports. What was said when it came: no able agent (any-1: draining)." in told
