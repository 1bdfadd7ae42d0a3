import json
import random

import pytest

from routing.sketches import KEEP, Sketch


def drawn(seed: int, count: int = 300) -> list[float]:
    """Return numbers of widely different sizes, sorted."""
    rng = random.Random(seed)
    return sorted(rng.lognormvariate(0.0, 2.0) for _ in range(count))


def sketched(values: list[float]) -> Sketch:
    """Return the sketch of all values."""
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


class TestQuantile:
    def test_is_none_before_anything_was_seen(self) -> None:
        assert Sketch().quantile(0.5) is None

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95, 0.99])
    def test_is_within_five_per_cent(self, share: float) -> None:
        values = drawn(1)

        assert sketched(values).quantile(share) == pytest.approx(values[int(share * len(values))], rel=0.05)

    def test_of_everything_is_the_largest(self) -> None:
        assert sketched([1.0, 2.0, 50.0]).quantile(1.0) == pytest.approx(50.0, rel=0.05)

    def test_follows_newer_values(self) -> None:
        assert sketched([100.0] * 400 + [1.0] * 4000).quantile(0.95) == pytest.approx(1.0, rel=0.05)


class TestAdd:
    def test_takes_what_no_clock_should_give(self) -> None:
        sketch = sketched([0.0, -1.0, 1e300])

        assert sketch.weight == 3.0
        assert sketch.quantile(0.0) == pytest.approx(1e-4, rel=0.1)

    def test_keeps_a_bounded_number_of_bins(self) -> None:
        rng = random.Random(2)

        sketch = sketched([10 ** rng.uniform(-9, 12) for _ in range(5000)])

        assert len(sketch.bins) <= 270
        assert sketch.weight <= KEEP


class TestMerge:
    def test_is_the_sketch_of_both(self) -> None:
        one, other = drawn(1, 150), drawn(2, 150)
        merged = sketched(one)

        merged.merge(sketched(other))

        both = sketched(one + other)
        assert merged.bins == both.bins
        assert merged.weight == both.weight

    def test_stays_within_its_weight(self) -> None:
        merged = sketched(drawn(1))

        merged.merge(sketched(drawn(2)))

        assert merged.weight <= KEEP


class TestJson:
    def test_gives_the_same_sketch(self) -> None:
        sketch = sketched(drawn(1, 2000))

        assert Sketch.of_json(json.loads(json.dumps(sketch.as_json()))) == sketch
