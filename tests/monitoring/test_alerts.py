"""monitoring.alerts, with the pages and the REST for it, and a real controller that raises one."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from monitoring import alerts, conditions
from monitoring.conditions import Condition
from monitoring.models import Alert
from routing import lifecycle, live, registry
from tests.private_redis import wait_until
from tests.routing.conftest import bus, private_redis, use_redis
from tests.routing.test_controller import running

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["bus", "private_redis", "use_redis"]
STUCK = Condition(kind="task-nobody-can-do", key="no agent", severity="critical", title="1 task waits.")


class TestOpened:
    def test_is_one_alert_however_often(self) -> None:
        first, again = alerts.opened(STUCK), alerts.opened(STUCK)

        assert first.pk == again.pk
        assert Alert.objects.count() == 1

    def test_is_another_one_after_it_was_over(self) -> None:
        first = alerts.opened(STUCK)
        assert alerts.resolve(STUCK.kind, STUCK.key)

        assert alerts.opened(STUCK).pk != first.pk


class TestAcknowledge:
    def test_keeps_who_was_first(self) -> None:
        alert = alerts.opened(STUCK)

        alerts.acknowledge(alert, by="ann", note="on it")
        alerts.acknowledge(alert, by="bob")

        assert (alert.state, alert.acknowledged_by, alert.note) == ("acknowledged", "ann", "on it")

    def test_is_refused_when_it_is_over(self) -> None:
        alert = alerts.opened(STUCK)
        alerts.resolve(STUCK.kind, STUCK.key)

        with pytest.raises(alerts.AlertOver):
            alerts.acknowledge(alert, by="ann")


class TestWatcher:
    def test_goes_on_with_what_an_earlier_one_had_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(alerts, "LOOK_S", 0.0)
        monkeypatch.setattr(conditions, "OVER_AFTER_S", -1.0)
        alerts.opened(STUCK)

        alerts.Watcher()({"workers": [{"worker": "w"}]})

        assert Alert.objects.get().state == "resolved"

    @pytest.mark.usefixtures("bus")
    def test_in_a_real_controller_opens_an_alert_for_a_task_that_nobody_can_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live, "STUCK_AFTER_S", 0.2)
        registry.ensure_tenant()
        registry.ensure_skill("rare")
        lifecycle.submit(lifecycle.Request(skill="rare"))

        with running():
            stuck = Alert.objects.filter(kind="task-nobody-can-do", state="open")
            wait_until(lambda: stuck.exists(), "the alert")

        assert "1 task waits that nobody can do" in stuck.get().title
        assert "rare" in stuck.get().title


class TestDoors:
    @pytest.fixture
    def alert(self) -> Alert:
        """Return an open alert."""
        return alerts.opened(STUCK)

    def test_show_and_acknowledge_it_on_its_page(self, client: Client, alert: Alert) -> None:
        client.force_login(User.objects.create_superuser("ada"))

        assert "1 task waits." in client.get("/alerts").content.decode()
        client.post(f"/alerts/{alert.pk}/acknowledge", {"note": "on it"})

        alert.refresh_from_db()
        assert (alert.acknowledged_by, alert.note) == ("ada", "on it")
        assert client.get("/admin/monitoring/alert/").status_code == 200

    def test_let_nobody_acknowledge_who_may_only_look(self, client: Client, alert: Alert) -> None:
        user = User.objects.create_user("eve")
        user.user_permissions.add(Permission.objects.get(codename="view_alert"))
        client.force_login(user)

        assert client.post(f"/alerts/{alert.pk}/acknowledge").status_code == 403

    def test_list_and_acknowledge_it_over_rest(self, client: Client, alert: Alert) -> None:
        _, key = registry.create_key(registry.ensure_tenant(), "tests", ["agents:read", "agents:write"])
        headers: Any = {"HTTP_AUTHORIZATION": f"Bearer {key}"}

        listed = client.get("/api/v1/alerts?state=open", **headers)
        done = client.post(
            f"/api/v1/alerts/{alert.pk}:acknowledge", {"note": "n"}, content_type="application/json", **headers
        )
        missing = client.post("/api/v1/alerts/999:acknowledge", {}, content_type="application/json", **headers)

        assert [row["id"] for row in listed.json()["alerts"]] == [alert.pk]
        assert (done.json()["state"], missing.status_code) == ("acknowledged", 404)
