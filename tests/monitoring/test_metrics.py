"""monitoring.metrics and monitoring.sketches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitoring import metrics
from monitoring.metrics import Point
from monitoring.sketches import Distribution

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200)


def line(*values: float) -> list[Point]:
    """Return raw points a second apart."""
    return [Point.of(float(at), value) for at, value in enumerate(values)]


class TestDistribution:
    @given(VALUES, st.floats(0, 0.999))
    def test_is_right_within_five_percent(self, values: list[float], share: float) -> None:
        found = Distribution()
        for value in values:
            found.add(value)

        exact = sorted(values)[int(share * len(values))]
        told = found.quantile(share)
        assert told is not None
        assert abs(told - exact) <= 0.051 * exact

    @given(VALUES, VALUES)
    def test_of_two_parts_merged_is_that_of_the_whole(self, left: list[float], right: list[float]) -> None:
        parts, whole = [Distribution(), Distribution()], Distribution()
        for part, values in zip(parts, (left, right), strict=True):
            for value in values:
                part.add(value)
                whole.add(value)

        parts[0].merge(Distribution.of_json(parts[1].as_json()))

        assert (parts[0].count, parts[0].bins) == (whole.count, whole.bins)
        assert (parts[0].lowest, parts[0].highest) == (whole.lowest, whole.highest)


class TestThinned:
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 50))
    def test_keeps_the_least_and_the_greatest(self, values: list[float], most: int) -> None:
        found = metrics.thinned(line(*values), most)

        assert len(found) <= most or len(values) <= most
        assert min(point.low for point in found) == min(values)
        assert max(point.high for point in found) == max(values)
        assert sum(point.count for point in found) == len(values)


class TestIncrease:
    def test_takes_a_fall_for_a_new_beginning(self) -> None:
        assert metrics.increase(line(5, 9, 2, 4)) == 4 + 2 + 2

    def test_is_per_second_as_a_rate_and_unknown_of_one_point(self) -> None:
        assert metrics.rate(line(0, 10, 20)) == 10
        assert metrics.rate(line(7)) is None


class TestKey:
    def test_is_as_prometheus_writes_it(self) -> None:
        assert metrics.key("a", {"y": 'q"\n', "x": "1"}) == 'a{x="1",y="q\\"\\n"}'
