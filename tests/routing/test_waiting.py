"""Why a task waits, told from the controller's last snapshot."""

from datetime import UTC, datetime

import pytest
import redis
from django.test import override_settings

from routing import registry, rulebook, waiting
from routing.line import Line
from routing.live import Live
from routing.models import Agent, Task
from tests.routing.desk import START, Desk

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]


@pytest.fixture
def desk(bus: redis.Redis) -> Desk:
    return Desk()


def publish(desk: Desk, bus: redis.Redis) -> None:
    """Write the snapshot, as the controller does."""
    Live(desk.fleet, epoch=1, holder="desk", seq=desk.commits).publish(Line(bus.connection_pool), [], reset=True)


def change(desk: Desk, **state: bool) -> None:
    """Change the agent that can do what these tests ask for."""
    registry.set_state(Agent.objects.get(name="any-1"), **state)
    desk.tell(rulebook.fact())


def again(task: Task) -> Task:
    return Task.objects.get(id=task.id)


class TestDetails:
    def test_follow_what_becomes_of_the_agents(self, desk: Desk, bus: redis.Redis) -> None:
        change(desk, enabled=False)
        task = desk.submit()
        publish(desk, bus)
        disabled = waiting.detail(again(task))
        change(desk, enabled=True, draining=True)
        publish(desk, bus)
        draining = waiting.detail(again(task))

        assert "disabled" in disabled
        assert "draining" in draining
        assert again(task).detail == disabled, "the row stays as it was"

    def test_say_nothing_more_once_somebody_can_serve(self, desk: Desk, bus: redis.Redis) -> None:
        change(desk, draining=True)
        tasks = [desk.submit() for _ in range(3)]
        change(desk, draining=False)
        publish(desk, bus)

        found = waiting.details([again(task) for task in tasks])

        assert found == {task.id: "" for task in tasks}

    def test_are_told_apart_by_what_each_task_asks_for(self, desk: Desk, bus: redis.Redis) -> None:
        picky, plain = desk.submit(labels={"gpu": "yes"}), desk.submit(skill="echo", input={"text": ""})
        change(desk, draining=True)
        publish(desk, bus)

        found = waiting.details([again(picky), again(plain)])

        assert found[picky.id]
        assert found[plain.id] == ""

    def test_name_the_time_a_task_waits_for(self, desk: Desk, bus: redis.Redis) -> None:
        later = datetime.fromtimestamp(START + 3600, UTC)
        task = desk.submit(not_before=later)
        publish(desk, bus)

        assert f"{later:%H:%M:%S}Z" in waiting.detail(again(task))

    def test_are_the_rows_own_without_redis(self, desk: Desk) -> None:
        change(desk, enabled=False)
        task = desk.submit()

        with override_settings(A2A_REDIS_URL="unix:///nowhere.sock"):
            assert waiting.detail(again(task)) == again(task).detail != ""
