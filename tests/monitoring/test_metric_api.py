"""The query API of the metric store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from monitoring import metric_queries, store
from monitoring.metrics import Sample
from monitoring.sketches import Distribution
from routing import registry
from routing.errors import BadInput

pytestmark = pytest.mark.django_db
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Remember nothing of another test's tables."""
    store.forget()
    yield
    store.forget()


@pytest.fixture
def ask(client: Client) -> Any:
    """Return a function that asks with a key that may read."""
    _, key = registry.create_key(registry.ensure_tenant(), "tests", ["agents:read"])

    def get(path: str, **asked: Any) -> Any:
        return client.get(f"/api/v1/metrics{path}", asked, HTTP_AUTHORIZATION=f"Bearer {key}")

    return get


def write(seconds: int, *, step: int = 1) -> None:
    waits = Distribution()
    waits.add(2.0)
    for ago in range(seconds, 0, -step):
        value = 1000.0 if ago == 123 else -7.0 if ago == 456 else 1.0
        samples = [
            Sample(name="a2a_tasks", value=value, labels={"state": "waiting"}),
            Sample(name="a2a_tasks", value=3.0, labels={"state": "working"}),
            Sample(name="a2a_redis_commands_total", value=10.0 * (seconds - ago)),
            Sample(name="a2a_task_wait_seconds", value=waits),
        ]
        store.write(samples, NOW - dt.timedelta(seconds=ago))


class TestGetMetric:
    def test_thins_to_2000_points_in_all_that_keep_low_and_high(self, ask: Any) -> None:
        write(1500)

        found = ask("/a2a_tasks", since=(NOW - dt.timedelta(hours=1)).isoformat()).json()

        points = {each["labels"]["state"]: each["points"] for each in found["series"]}
        assert sum(map(len, points.values())) <= 2000
        assert max(point["high"] for point in points["waiting"]) == 1000.0
        assert min(point["low"] for point in points["waiting"]) == -7.0
        assert sum(point["count"] for point in points["waiting"]) == 1500

    def test_tells_rates_of_counters_and_quantiles_of_distributions(self, ask: Any) -> None:
        write(20, step=5)

        counted = ask("/a2a_redis_commands_total").json()["series"][0]["points"]
        observed = ask("/a2a_task_wait_seconds", quantile=[0.9], step=3600).json()["series"][0]["points"]

        assert ["rate" in point for point in counted] == [False, True, True, True]
        assert counted[-1]["rate"] == pytest.approx(10.0)
        assert observed[-1]["quantiles"] == {"0.9": pytest.approx(2.0, rel=0.05)}

    def test_shows_the_series_with_the_label_alone(self, ask: Any) -> None:
        write(5)

        found = ask("/a2a_tasks", where="state:working").json()

        assert [each["labels"] for each in found["series"]] == [{"state": "working"}]

    def test_refuses_in_words_what_it_cannot_answer(self, ask: Any) -> None:
        write(2)

        missing = ask("/a2a_task")
        label = ask("/a2a_tasks", where="state")
        times = ask("/a2a_tasks", since="2026-01-02T00:00:00Z", until="2026-01-01T00:00:00Z")

        assert missing.status_code == 404
        assert "Did you mean a2a_tasks" in missing.json()["detail"]
        assert (label.status_code, times.status_code) == (422, 422)


class TestQuestion:
    def test_refuses_more_than_is_kept_and_quantiles_beyond_one(self) -> None:
        with pytest.raises(BadInput, match="90 days"):
            metric_queries.question("g", since=NOW - dt.timedelta(days=100), until=NOW)
        with pytest.raises(BadInput, match="between 0 and 1"):
            metric_queries.question("g", quantiles=[1.5])


class TestListMetrics:
    def test_names_each_with_its_kind_unit_and_series(self, ask: Any) -> None:
        write(2)

        found = {row["name"]: row for row in ask("").json()["metrics"]}
        series = ask("/a2a_tasks/series").json()["series"]

        assert (found["a2a_tasks"]["kind"], found["a2a_tasks"]["series"]) == ("gauge", 2)
        assert found["a2a_task_wait_seconds"]["unit"] == "s"
        assert [row["labels"]["state"] for row in series] == ["waiting", "working"]
