"""monitoring.consumers, through a real web process"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.contrib.auth.models import User
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from monitoring.consumers import is_same_origin
from tests.monitoring.fakes import FakeController, new_task, record
from tests.monitoring.serving import Site, session_cookie

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def socket(site: Site, path: str, *, cookie: str = "", origin: str = "") -> Iterator[ClientConnection]:
    """While inside, a WebSocket of a page of this site."""
    headers = {"Cookie": cookie} if cookie else {}
    address = site.url.replace("http", "ws") + path
    with connect(address, origin=Origin(origin or site.url), additional_headers=headers, close_timeout=1) as opened:
        yield opened


def first(opened: ClientConnection, type: str, having: str = "type") -> dict[str, Any]:
    """Return the next message of this type that has something under ``having``."""
    for _ in range(50):
        message: dict[str, Any] = json.loads(opened.recv(timeout=10))
        if message["type"] == type and message.get(having):
            return message
    raise AssertionError(f"no {type} with {having} among 50 messages")


class TestLiveSocket:
    def test_closes_with_4401_for_a_stranger(self, site: Site) -> None:
        with socket(site, "/ws/live") as opened, pytest.raises(ConnectionClosed) as closed:
            opened.recv(timeout=10)

        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401

    @pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1"])
    def test_refuses_another_origin_even_on_this_host(self, site: Site, admin: User, origin: str) -> None:
        with (
            pytest.raises(InvalidStatus) as refused,
            socket(site, "/ws/live", cookie=session_cookie(admin), origin=origin),
        ):
            pass

        assert refused.value.response.status_code == 403

    def test_ignores_what_a_client_says(self, site: Site, admin: User, controller: FakeController) -> None:
        with socket(site, "/ws/live", cookie=session_cookie(admin)) as opened:
            opened.send("{ no JSON")
            opened.send(b"\x00")

            assert first(opened, "snapshot")["seq"] == controller.seq


class TestIsSameOrigin:
    @pytest.mark.parametrize(
        ("origin", "host", "same"),
        [
            ("http://a.example", "a.example", True),
            ("https://a.example:8443", "a.example:8443", True),
            ("http://a.example:1", "a.example", False),
            ("null", "a.example", False),
            ("", "a.example", False),
        ],
    )
    def test_compares_host_and_port(self, origin: str, host: str, same: bool) -> None:
        scope = {"headers": [(b"origin", origin.encode()), (b"host", host.encode())]}

        assert is_same_origin(scope) is same


class TestOverviewSocket:
    def test_sends_a_snapshot_and_then_what_changes(
        self, site: Site, admin: User, fleet: None, controller: FakeController
    ) -> None:
        task = new_task("code.lint")
        with socket(site, "/ws/live", cookie=session_cookie(admin)) as opened:
            snapshot = first(opened, "snapshot")
            number = controller.commit(record(task, "submitted"), fleet=[controller.agent("ruff-swift", running=1)])
            change = first(opened, "delta", "events")

        assert [row["agent"] for row in snapshot["fleet"]] == ["ruff-swift", "ruff-steady"]
        assert [row["id"] for row in snapshot["tasks"]] == [str(task.id)]
        assert snapshot["vitals"]["controller"]["epoch"] == 3
        assert (change["seq"], change["events"][0]["task"]) == (number, str(task.id))
        assert change["fleet"][0]["running"] == 1

    def test_sends_the_events_that_a_returning_page_missed(
        self, site: Site, admin: User, fleet: None, controller: FakeController
    ) -> None:
        before = controller.seq
        task = new_task("code.lint")
        controller.commit(record(task, "submitted"))
        controller.publish_snapshot()

        with socket(site, f"/ws/live?seq={before}", cookie=session_cookie(admin)) as opened:
            snapshot = first(opened, "snapshot")

        assert [event["kind"] for event in snapshot["events"]] == ["submitted"]
        assert "tasks" not in snapshot

    @pytest.mark.parametrize("seq", ["0", "99999999999", "-1", "x", "9" * 40])
    def test_starts_anew_with_a_number_it_cannot_serve(
        self, site: Site, admin: User, controller: FakeController, seq: str
    ) -> None:
        with socket(site, f"/ws/live?seq={seq}", cookie=session_cookie(admin)) as opened:
            assert "tasks" in first(opened, "snapshot")

    def test_adds_what_was_committed_after_the_snapshot(
        self, site: Site, admin: User, controller: FakeController
    ) -> None:
        controller.commit(fleet=[controller.agent("ruff-swift", running=3)])

        with socket(site, "/ws/live", cookie=session_cookie(admin)) as opened:
            first(opened, "snapshot")
            change = first(opened, "delta", "fleet")

        assert change["fleet"][0]["running"] == 3

    def test_says_that_no_controller_reports(self, site: Site, admin: User, controller: FakeController) -> None:
        controller.bus.delete("a2a:snapshot")

        with socket(site, "/ws/live", cookie=session_cookie(admin)) as opened:
            stale = first(opened, "stale")
            controller.publish_snapshot()
            first(opened, "snapshot")
            first(opened, "ok")

        assert stale["why"] == "controller"
        assert "manage.py up" in stale["text"]

    def test_sends_the_newest_tasks_when_more_happens_than_it_sends(
        self, site: Site, admin: User, fleet: None, controller: FakeController
    ) -> None:
        task = new_task("code.lint")
        with socket(site, "/ws/live", cookie=session_cookie(admin)) as opened:
            first(opened, "snapshot")
            event = record(task, "submitted")
            controller.commit(*[event] * 300)
            change = first(opened, "delta", "more")

        assert (len(change["events"]), change["more"]) == (200, 100)
        assert change["tasks"][0]["id"] == str(task.id)

    def test_closes_when_the_user_is_deactivated(self, site: Site, admin: User, controller: FakeController) -> None:
        with socket(site, "/ws/live", cookie=session_cookie(admin)) as opened:
            first(opened, "snapshot")
            User.objects.filter(pk=admin.pk).update(is_active=False)

            deadline = time.monotonic() + 60
            with suppress(ConnectionClosed):
                while time.monotonic() < deadline:
                    controller.publish_snapshot()
                    opened.recv(timeout=60)

        assert opened.close_code == 4401


class TestTaskSocket:
    def test_sends_all_events_and_then_each_new_one(
        self, site: Site, admin: User, fleet: None, controller: FakeController
    ) -> None:
        task = new_task("code.lint")
        record(task, "submitted")
        with socket(site, f"/ws/tasks/{task.id}", cookie=session_cookie(admin)) as opened:
            old = first(opened, "events")
            controller.commit(record(task, "log", level="info", message="<b>reading</b>"))
            new = first(opened, "events")

        assert [event["kind"] for event in old["events"]] == ["submitted"]
        assert [(event["seq"], event["detail"], event["level"]) for event in new["events"]] == [
            (2, "<b>reading</b>", "info")
        ]

    def test_resumes_after_the_last_event_a_page_has(
        self, site: Site, admin: User, fleet: None, controller: FakeController
    ) -> None:
        task = new_task("code.lint")
        for kind in ("submitted", "assigned", "working"):
            record(task, kind)

        with socket(site, f"/ws/tasks/{task.id}?seq=2", cookie=session_cookie(admin)) as opened:
            assert [event["seq"] for event in first(opened, "events")["events"]] == [3]
