"""monitoring.rulebook: rules as rows, their previews, and what a tick makes of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.test import Client

from monitoring import alerts, meters, rulebook, rules, store
from monitoring.conditions import Condition
from monitoring.metrics import Sample
from monitoring.models import Alert, Rule
from monitoring.shipped_rules import SHIPPED
from routing import registry
from routing.errors import BadInput

pytestmark = pytest.mark.django_db
NOW = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
HOT: dict[str, Any] = {"kind": "threshold", "metric": "a2a_host_load", "above": 5, "clear": 2}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Remember nothing of another test's tables."""
    store.forget()
    yield
    store.forget()


def rule(**values: Any) -> Rule:
    return Rule(**{"name": "hot", "title": "Too hot.", "condition": HOT, "severity": "warning", **values})


def write_load(*values: float) -> None:
    """Write the load, minute by minute, up to now."""
    for number, value in enumerate(reversed(values)):
        store.write([Sample(name="a2a_host_load", value=value)], NOW - dt.timedelta(minutes=number + 1))


class TestSave:
    def test_refuses_what_is_wrong_in_words(self) -> None:
        with pytest.raises(BadInput, match=r"name: Small letters.*condition: There is no metric"):
            rulebook.save(rule(name="No!", condition={**HOT, "metric": "a2a_host_lod"}))
        with pytest.raises(BadInput, match="controller itself"):
            rulebook.save(rule(name="no-worker"))

    def test_shipped_rules_are_there_and_enabled(self) -> None:
        import_module("monitoring.migrations.0004_shipped_rules").ship(apps, None)

        assert set(Rule.objects.filter(enabled=True).values_list("name", flat=True)) >= SHIPPED.keys()


class TestPreview:
    def test_counts_how_often_it_would_have_fired(self) -> None:
        write_load(1, 6, 3, 6, 1, 9, 1, 9, 1)

        assert rulebook.preview(rule(), NOW).words == "It would have fired 3 times within the last 24 h."
        assert rulebook.preview(rule(hold_s=120), NOW).times == 1
        assert rulebook.preview(rule(hold_s=600), NOW).times == 0


class TestEvaluator:
    def test_finds_what_holds_with_the_words_of_its_labels(self) -> None:
        Rule.objects.all().delete()
        rulebook.save(rule(name="waits", title="{skill} waits.", condition={**HOT, "metric": "a2a_lane_waiting"}))
        evaluator = rulebook.Evaluator()

        found = evaluator.look([Sample(name="a2a_lane_waiting", value=6, labels={"skill": "echo"})], NOW)
        later = evaluator.look([Sample(name="a2a_lane_waiting", value=3, labels={"skill": "echo"})], NOW)
        cool = evaluator.look([Sample(name="a2a_lane_waiting", value=1, labels={"skill": "echo"})], NOW)

        assert [(each.kind, each.key, each.title) for each in found] == [("waits", "skill=echo", "echo waits.")]
        assert (len(later), cool) == (1, [])

    def test_takes_up_what_was_measured_before_it_began(self) -> None:
        Rule.objects.all().delete()
        condition = {"kind": "rate", "metric": "a2a_redis_evicted_keys_total", "above": 0, "over_s": 300}
        rulebook.save(rule(condition=condition))
        store.write([Sample(name="a2a_redis_evicted_keys_total", value=5)], NOW - dt.timedelta(minutes=2))

        found = rulebook.Evaluator().look([Sample(name="a2a_redis_evicted_keys_total", value=9)], NOW)

        assert [each.kind for each in found] == ["hot"]


class TestTick:
    def test_leads_to_an_alert_of_a_rule(self) -> None:
        Rule.objects.all().delete()
        rulebook.save(rule(condition={"kind": "threshold", "metric": "a2a_series", "above": 0}))
        ticker = meters.Ticker()
        ticker.tick(NOW)

        alerts.Watcher()({"workers": [{"worker": "w"}]})
        ticker.close()

        assert Alert.objects.get().title == "Too hot."
        assert meters.holding() == []


class TestDoors:
    @pytest.fixture
    def headers(self) -> Any:
        """Return the head of a request with a key that may write."""
        _, key = registry.create_key(registry.ensure_tenant(), "tests", ["agents:read", "agents:write"])
        return {"HTTP_AUTHORIZATION": f"Bearer {key}", "content_type": "application/json"}

    def test_preview_save_and_delete_it_over_rest(self, client: Client, headers: Any) -> None:
        write_load(1, 6, 1)
        wanted = {"title": "Too hot.", "condition": HOT}

        tried = client.post("/api/v1/rules:preview", wanted, **headers)
        made = client.put("/api/v1/rules/hot", wanted, **headers)
        wrong = client.put("/api/v1/rules/hot", {**wanted, "condition": {}}, **headers)
        gone = client.delete("/api/v1/rules/hot", **headers)

        assert (tried.json()["times"], made.json()["name"], gone.status_code) == (1, "hot", 204)
        assert (wrong.status_code, client.get("/api/v1/rules/hot", **headers).status_code) == (422, 404)

    def test_try_it_in_the_admin_before_it_is_saved(self, client: Client) -> None:
        write_load(1, 6, 1)
        client.force_login(User.objects.create_superuser("ada"))
        form = {"name": "hot", "severity": "warning", "title": "Too hot.", "hold_s": "0", "runbook": ""}
        form |= {"condition": '{"kind": "threshold", "metric": "a2a_host_load", "above": 5}', "enabled": "on"}

        tried = client.post("/admin/monitoring/rule/add/", form | {"only_try": "on"})
        assert "would have fired once" in tried.content.decode()
        assert not Rule.objects.filter(name="hot").exists()

        client.post("/admin/monitoring/rule/add/", form)
        assert Rule.objects.filter(name="hot").exists()

    def test_tell_an_alerts_page_and_what_changed_before(self, client: Client, headers: Any) -> None:
        ada = User.objects.create_superuser("ada")
        LogEntry.objects.log_actions(ada.pk, [ada], CHANGE, change_message="drained", single_object=True)
        alert = alerts.opened(Condition(kind="redis-down", key="", severity="critical", title="Redis is down."))

        told = client.get(f"/api/v1/alerts/{alert.pk}", **headers).json()

        assert told["runbook"] == "docs/operations/redis-down.md"
        assert [(each["by"], "drained" in each["what"]) for each in told["changes"]] == [("ada", True)]


class TestTitleOf:
    @pytest.mark.parametrize(
        ("title", "expected"),
        [
            ("{skill} is late.", "echo is late."),
            ("{agent} of {skill}", "any agent of echo"),
            ("Late.", "Late. (skill=echo)"),
            ("{skill:>999999999}", "{skill:>999999999} (skill=echo)"),
            ("{skill.__class__}", "{skill.__class__} (skill=echo)"),
        ],
    )
    def test_puts_in_labels_and_nothing_else(self, title: str, expected: str) -> None:
        assert rulebook.title_of(rule(title=title), (("skill", "echo"),)) == expected


class TestLook:
    def test_goes_on_with_the_others_where_one_rule_breaks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> Any:
            raise ZeroDivisionError

        monkeypatch.setitem(rules.KINDS, "broken", broken)
        Rule.objects.all().delete()
        rule(name="a", condition={"kind": "broken"}).save()
        rule(name="b").save()
        load = Sample(name="a2a_host_load", value=9.0)

        [found] = rulebook.Evaluator().look([load], NOW)

        assert found.kind == "b"
