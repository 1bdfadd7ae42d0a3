"""Updates on their way to clients that want to be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from pytest_django import Settings

from routing import events
from routing.a2a import delivery, push, rounds
from routing.models import PushConfig, Task
from tests.routing.desk import Desk
from tests.routing.listening import Listener, listening

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]


@pytest.fixture
def desk(echo: None) -> Desk:
    """Return a fleet and its ledger."""
    return Desk()


@pytest.fixture
def listener(settings: Settings) -> Iterator[Listener]:
    """Yield a client's server, which may be called."""
    settings.A2A_OUTBOUND_ALLOW = ["127.0.0.0/8"]
    with listening() as made:
        yield made


def config(task: Task, url: str, **fields: Any) -> PushConfig:
    kept = push.keep(task, pb.TaskPushNotificationConfig(task_id=str(task.pk), id="c", url=url, **fields))
    return PushConfig.objects.get(task_id=task.pk, config_id=kept.id)


def tell(task: Task) -> int:
    return delivery.tell(str(task.pk), "c")


def states(listener: Listener) -> list[str]:
    return [
        body["statusUpdate"]["status"]["state"].removeprefix("TASK_STATE_") if "statusUpdate" in body else "artifact"
        for body in listener.bodies
    ]


class TestTell:
    def test_tells_every_update_once_and_in_order(self, desk: Desk, listener: Listener) -> None:
        task = desk.submit()
        secret = pb.AuthenticationInfo(scheme="Bearer", credentials="s3cret")
        row = config(task, listener.url, token="known", authentication=secret)
        desk.tell(desk.started(task))
        first = tell(task)
        desk.tell(desk.finished(task, output="done"))
        second = tell(task)

        row.refresh_from_db()
        assert (first, second, tell(task)) == (1, 2, 0)
        assert states(listener) == ["WORKING", "artifact", "COMPLETED"]
        assert (row.told, row.is_over) == (3, True)
        headers = listener.got[0][1]
        assert (headers["x-a2a-notification-token"], headers["authorization"]) == ("known", "Bearer s3cret")
        assert "s3cret" not in row.credentials
        assert "known" not in row.token

    def test_goes_on_where_it_failed(self, desk: Desk, listener: Listener) -> None:
        task = desk.submit()
        row = config(task, listener.url)
        desk.tell(desk.started(task))
        desk.tell(desk.finished(task, output="done"))
        listener.answers = [200, 500]

        tell(task)
        row.refresh_from_db()
        assert (row.told, row.failures, row.last_error) == (1, 1, "it answered 500")
        assert row.due_at > row.created_at
        tell(task)

        row.refresh_from_db()
        assert states(listener) == ["WORKING", "artifact", "artifact", "COMPLETED"]
        assert (row.failures, row.last_error, row.is_over) == (0, "", True)

    def test_gives_up_after_many_failures_until_it_is_asked_again(self, desk: Desk, listener: Listener) -> None:
        task = desk.submit()
        row = config(task, listener.url)
        desk.tell(desk.started(task))
        listener.answers = [503] * delivery.MOST_FAILURES
        for _ in range(delivery.MOST_FAILURES):
            tell(task)
        row.refresh_from_db()
        assert row.dead_at is not None
        assert tell(task) == 0

        delivery.send_again(row)

        assert tell(task) == 1

    def test_calls_nobody_whom_only_we_can_reach(self, desk: Desk, listener: Listener, settings: Settings) -> None:
        task = desk.submit()
        row = config(task, listener.url.replace("127.0.0.1", "localhost"))
        desk.tell(desk.started(task))
        settings.A2A_OUTBOUND_ALLOW = ["192.0.2.0/24"]  # so http may be named, and nothing of ours be called

        assert tell(task) == 0

        row.refresh_from_db()
        assert "is not called" in row.last_error
        assert listener.got == []


class TestGoRound:
    @pytest.fixture
    def sent(self, bus: Any) -> Any:
        """Return the bus, where the messages for workers are."""
        return bus

    def test_asks_a_worker_once_where_there_is_something_to_tell(
        self, desk: Desk, listener: Listener, sent: Any
    ) -> None:
        task = desk.submit()
        config(task, listener.url)
        desk.tell(desk.started(task))

        assert (rounds.go_round(), rounds.go_round()) == (1, 0)
        assert sent.llen(rounds.QUEUE) == 1

    def test_asks_nobody_where_all_is_told(self, desk: Desk, listener: Listener, sent: Any) -> None:
        task = desk.submit()
        config(task, listener.url)
        desk.tell(desk.started(task))
        tell(task)

        assert rounds.go_round() == 0
        desk.tell(events.CancelAsked(task=str(task.pk), by="me"))
        desk.tell(desk.finished(task, error={"kind": "canceled", "message": "stopped", "retryable": False}))
        assert rounds.go_round() == 1


class TestKeep:
    @pytest.mark.parametrize("url", ["http://example.com/", "https://169.254.169.254/", "https://127.0.0.1/", "x"])
    def test_refuses_an_address_that_is_not_called(self, desk: Desk, url: str) -> None:
        with pytest.raises(InvalidParamsError):
            config(desk.submit(), url)
        assert not PushConfig.objects.exists()

    def test_is_listed_and_deleted_and_tells_no_secret(self, desk: Desk) -> None:
        task = desk.submit()
        config(task, "https://example.com/", token="s3cret")

        [shown] = push.page(task).configs
        assert (shown.url, shown.token) == ("https://example.com/", "")
        push.delete(task, "c")
        push.delete(task, "c")
        with pytest.raises(TaskNotFoundError):
            push.get(task, "c")

    def test_has_an_end(self, desk: Desk) -> None:
        task = desk.submit()
        for number in range(push.MOST):
            push.keep(task, pb.TaskPushNotificationConfig(id=str(number), url="https://example.com/"))

        with pytest.raises(InvalidParamsError, match="at most"):
            config(task, "https://example.com/")
