"""Streams of events, from a real web process with a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from monitoring import streams
from routing import registry
from routing.models import Scope, Task
from tests.monitoring.fakes import FakeController
from tests.monitoring.serving import Site
from tests.routing.desk import Desk

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = "/api/v1/events"
ACCEPT = {"Accept": "text/event-stream"}


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Yield a fleet whose tasks have events."""
    registry.ensure_tenant("default")
    registry.ensure_agent("one", skills=[registry.ensure_skill("any")])
    yield Desk()
    registry.forget()


@pytest.fixture
def client(site: Site, controller: FakeController) -> Iterator[httpx.Client]:
    """Yield a client with a key."""
    registry.ensure_tenant("default")
    _, key = registry.create_key("default", "bot", (Scope.TASKS_READ,))
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=10) as made:
        yield made


def told(client: httpx.Client, path: str, count: int, last: str = "") -> list[tuple[str, str]]:
    """Return (id, event) of the next events of a stream."""
    headers = {"Last-Event-ID": last} if last else {}
    found = []
    with connect_sse(client, "GET", path, headers=headers) as source:
        for sent in source.iter_sse():
            found.append((sent.id, sent.event))
            if len(found) == count:
                break
    return found


def event(n: int, tenant: str = "default") -> dict[str, Any]:
    return {"task": "t", "seq": n, "kind": "submitted", "tenant": tenant, "data": {}}


class TestEventBox:
    def test_forgets_rather_than_grow(self) -> None:
        box = streams.EventBox("default")

        box.push({"seq": 1, "events": [event(n) for n in range(streams.QUEUED + 1)]})

        assert (len(box.queue), box.resync) == (0, True)

    def test_hears_nothing_of_other_tenants(self) -> None:
        box = streams.EventBox("default")

        box.push({"seq": 4, "events": [event(1, "other"), event(2)]})

        assert [place for place, _ in box.queue] == [(4, 2)]


class TestTaskStream:
    def path(self, task: Task) -> str:
        return f"/api/v1/tasks/{task.pk}/events"

    def test_resumes_after_the_last_event_id_and_ends_with_the_task(self, desk: Desk, client: httpx.Client) -> None:
        task = desk.submit()
        desk.tell(desk.started(task))
        desk.tell(desk.finished(task, output=1))
        whole = client.get(self.path(task)).json()["events"]

        with connect_sse(client, "GET", self.path(task), headers={"Last-Event-ID": "1"}) as source:
            sent = [json.loads(each.data) for each in source.iter_sse()]

        assert sent == whole[1:]
        last = {"Last-Event-ID": str(whole[-1]["seq"]), **ACCEPT}
        assert client.get(self.path(task), headers=last).status_code == 204

    def test_refuses_an_id_from_the_future(self, desk: Desk, client: httpx.Client) -> None:
        refused = client.get(self.path(desk.submit()), headers={"Last-Event-ID": "99", **ACCEPT})

        assert refused.status_code == 422
        assert "from the future" in refused.json()["detail"]


class TestTenantStream:
    def test_replays_what_came_after_the_last_event_id(self, client: httpx.Client, controller: FakeController) -> None:
        controller.commit(events=[event(1), event(2, "other"), event(3)])
        first = controller.seq
        controller.commit(events=[event(4)])

        found = told(client, EVENTS, 2, last=f"{first}-1")

        assert found == [(f"{first}-3", "submitted"), (f"{first + 1}-1", "submitted")]

    def test_refuses_an_id_from_the_future(self, client: httpx.Client, controller: FakeController) -> None:
        refused = client.get(EVENTS, headers={"Last-Event-ID": f"{controller.seq + 5}-1", **ACCEPT})

        assert refused.status_code == 422

    def test_wants_to_be_asked_for_a_stream(self, client: httpx.Client) -> None:
        assert client.get(EVENTS).status_code == 406
