"""monitoring.store, on a real database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from monitoring import store
from monitoring.metrics import Sample
from monitoring.models import Chunk, Series, Tick
from monitoring.sketches import Distribution

pytestmark = pytest.mark.django_db
NOW = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Remember nothing of another test's tables."""
    store.forget()
    store.left_out.clear()
    yield
    store.forget()


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def observed(*values: float) -> Distribution:
    found = Distribution()
    for value in values:
        found.add(value)
    return found


def fill(seconds: int, begin: int = 0) -> None:
    """Write a gauge that rises by one a tick, and a distribution, every 10 s."""
    for second in range(begin, begin + seconds, 10):
        samples = [Sample(name="g", value=second / 10, labels={"x": "1"}), Sample(name="d", value=observed(1.0, 2.0))]
        store.write(samples, at(second))


class TestRead:
    def test_returns_the_points_of_the_series_that_carry_the_labels(self) -> None:
        store.write([Sample(name="g", value=1, labels={"x": "1"}), Sample(name="g", value=2, labels={"x": "2"})], at(0))

        found = store.read("g", {"x": "2"}, at(0), until=at(10))

        assert [(reading.labels, [p.last for p in reading.points]) for reading in found] == [({"x": "2"}, [2.0])]
        assert store.read("missing", None, at(0)) == []

    def test_returns_the_same_before_and_after_the_roll_up(self) -> None:
        fill(1500)
        before = store.read("g", None, at(0), until=at(1500))

        assert store.roll_up(at(1500)) == 120
        after = store.read("g", None, at(0), until=at(1500))

        assert [p.last for p in after[0].points] == [p.last for p in before[0].points]
        assert Tick.objects.count() == 30

    def test_rolls_up_to_a_step_with_low_high_and_quantiles(self) -> None:
        fill(1200)
        store.roll_up(at(1300))

        minutes = store.read("g", None, at(0), 60, until=at(1200))[0].points
        waits = store.read("d", None, at(0), 600, until=at(1200))[0].points

        assert len(minutes) == 20
        assert (minutes[1].low, minutes[1].high, minutes[1].count) == (6.0, 11.0, 6)
        assert [p.count for p in waits] == [120, 120]
        assert waits[0].distribution is not None
        assert waits[0].distribution.quantile(0.9) == pytest.approx(2.0, rel=0.05)

    def test_leaves_numbers_out_that_are_none(self) -> None:
        store.write([Sample(name="g", value=float("nan")), Sample(name="h", value=1.0)], at(0))

        assert [reading.name for reading in store.latest(now=at(1))] == ["h"]


class TestRollUp:
    def test_does_no_harm_when_it_is_done_twice(self) -> None:
        fill(600)
        ticks = list(Tick.objects.all())
        store.roll_up(at(700))
        Tick.objects.bulk_create(ticks)  # as if it had been ended before they were deleted
        store.forget()

        store.roll_up(at(700))

        points = store.read("g", None, at(0), until=at(600))[0].points
        assert len(points) == 60
        assert Chunk.objects.filter(series__name="g").count() == 3


class TestWrite:
    def test_leaves_out_what_has_one_combination_of_labels_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "MOST_COMBINATIONS", 2)

        store.write([Sample(name="g", value=1, labels={"x": str(n)}) for n in range(5)], at(0))

        assert Series.objects.count() == 2
        assert store.left_out == {"g": 3}


class TestDeleteOld:
    def test_keeps_each_resolution_as_long_as_it_says(self) -> None:
        fill(600)
        store.roll_up(at(700))

        store.delete_old(NOW + dt.timedelta(days=2))
        left = set(Chunk.objects.values_list("step_s", flat=True))
        store.delete_old(NOW + dt.timedelta(days=120))

        assert left == {60, 600}
        assert (Chunk.objects.count(), Series.objects.count()) == (0, 0)
