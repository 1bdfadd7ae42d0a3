"""monitoring.slos and /status.json."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from monitoring import alerts, slos, store
from monitoring.conditions import Condition
from monitoring.metrics import Sample
from monitoring.models import Alert
from monitoring.sketches import Distribution
from monitoring.slos import OBJECTIVES
from routing import registry

pytestmark = pytest.mark.django_db
NOW = dt.datetime.now(dt.UTC).replace(second=30, microsecond=0)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Remember nothing of another test's tables."""
    store.forget()
    yield
    store.forget()


def write(minutes: range, *, failed: float = 0.0) -> None:
    """Write what a controller measures every 5 s in these minutes ago; of ten tasks a minute so many fail."""
    waits = Distribution()
    waits.add(0.2)
    for ago in minutes:
        for second in range(0, 60, 5):
            at = NOW - dt.timedelta(minutes=ago, seconds=30 - second)
            done = 1000.0 - ago
            samples = [
                Sample(name="a2a_controller_epoch", value=1),
                Sample(name="a2a_task_wait_seconds", value=waits),
                Sample(name="a2a_tasks_ended_total", value=(10 - failed) * done, labels={"state": "completed"}),
                Sample(name="a2a_tasks_ended_total", value=failed * done, labels={"state": "failed"}),
            ]
            store.write(samples, at)


def burn(name: str) -> float | None:
    return slos.standings(OBJECTIVES[name], NOW)["1h"].burn


class TestStandings:
    def test_of_an_hour_without_trouble(self) -> None:
        write(range(20, 0, -1))

        assert burn("uptime") == pytest.approx(0.0)
        assert burn("errors") == 0.0
        assert burn("response") == pytest.approx(0.4)

    def test_counts_the_minutes_in_which_nothing_was_measured_as_downtime(self) -> None:
        write(range(30, 20, -1))
        write(range(10, 0, -1))

        standing = slos.standings(OBJECTIVES["uptime"], NOW)["1h"]

        assert standing.badness == pytest.approx(10 / 28, abs=0.05)
        assert standing.is_met is False

    def test_of_errors_tells_how_many_times_too_fast_the_budget_goes(self) -> None:
        write(range(20, 0, -1), failed=0.5)

        assert burn("errors") == pytest.approx(5.0)

    def test_of_alerts_counts_those_that_nobody_answered_in_time(self) -> None:
        for key, after in (("a", 60), ("b", 600), ("c", None)):
            row = alerts.opened(Condition(kind="redis-down", key=key, severity="critical", title="Down."))
            opened = NOW - dt.timedelta(minutes=20)
            answered = None if after is None else opened + dt.timedelta(seconds=after)
            Alert.objects.filter(pk=row.pk).update(opened_at=opened, acknowledged_at=answered)

        assert slos.standings(OBJECTIVES["alert-response"], NOW)["1h"].badness == pytest.approx(2 / 3)

    def test_says_nothing_where_nothing_was_measured(self) -> None:
        assert {name: burn(name) for name in OBJECTIVES} == dict.fromkeys(OBJECTIVES)


def test_the_api_lists_all_eight(client: Client) -> None:
    _, key = registry.create_key(registry.ensure_tenant(), "tests", ["agents:read"])

    found: Any = client.get("/api/v1/slos", HTTP_AUTHORIZATION=f"Bearer {key}").json()["slos"]

    assert len(found) == 8
    assert all(list(each["windows"]) == ["1h", "6h", "3d", "30d"] for each in found)


def test_the_status_says_why_it_is_down(client: Client) -> None:
    alerts.opened(Condition(kind="redis-down", key="", severity="critical", title="Down."))

    told = client.get("/status.json").json()

    assert told["status"] in {"down", "degraded"}
    assert "1 critical alert open" in told["why"]
    assert {part["part"] for part in told["parts"]} >= {"database", "redis", "controller", "alerts"}
