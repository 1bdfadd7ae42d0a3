import json

from hypothesis import given
from hypothesis import strategies as st

from routing import rates
from routing.rates import Buckets, Rate

RATE = Rate(2.0, 3)  # a token each half second


def taken(buckets: Buckets[str], rate: Rate, now: float) -> int:
    """Take all that there is now, and return how much it was."""
    count = 0
    while buckets.ready_at("k", rate, now) <= now:
        buckets.take("k", rate, now)
        count += 1
    return count


class TestTake:
    def test_finds_a_new_bucket_full(self) -> None:
        assert taken(Buckets(), RATE, 100.0) == 3

    def test_finds_what_has_come_since(self) -> None:
        buckets: Buckets[str] = Buckets()
        taken(buckets, RATE, 100.0)

        assert taken(buckets, RATE, 100.49) == 0
        assert taken(buckets, RATE, 101.1) == 2
        assert taken(buckets, RATE, 999.0) == 3

    def test_owes_nothing_that_was_taken_without_asking(self) -> None:
        buckets: Buckets[str] = Buckets()
        for _ in range(100):
            buckets.take("k", RATE, 100.0)

        assert buckets.ready_at("k", RATE, 100.0) == 100.5
        assert taken(buckets, RATE, 110.0) == 3

    def test_forgets_buckets_that_are_full_again(self) -> None:
        buckets: Buckets[str] = Buckets()
        for n in range(10_000):
            buckets.take(f"k{n}", RATE, float(n))

        assert len(buckets) <= rates.KEPT_FULL + 10


class TestReadyAt:
    @given(
        st.floats(0.001, 1e4),
        st.integers(1, 50),
        st.lists(st.floats(0, 10), max_size=60),
    )
    def test_is_exact(self, per_s: float, burst: int, pauses: list[float]) -> None:
        rate, now = Rate(per_s, burst), 1.7e9
        buckets: Buckets[str] = Buckets()
        for pause in pauses:
            ready_at = buckets.ready_at("k", rate, now)
            now = ready_at if ready_at > now else now + pause
            assert buckets.ready_at("k", rate, now) <= now
            buckets.take("k", rate, now)

    @given(st.floats(0.01, 100), st.integers(1, 20), st.lists(st.floats(0, 3), max_size=100))
    def test_never_lets_more_begin_than_burst_and_rate_allow(
        self, per_s: float, burst: int, pauses: list[float]
    ) -> None:
        rate, now, begun = Rate(per_s, burst), 0.0, []
        buckets: Buckets[str] = Buckets()
        for pause in pauses:
            now += pause
            if buckets.ready_at("k", rate, now) <= now:
                buckets.take("k", rate, now)
                begun.append(now)

        for i, first in enumerate(begun):
            for j in range(i, len(begun)):
                assert j - i + 1 <= burst + per_s * (begun[j] - first) + 1e-6

    def test_is_not_far_off_when_the_clock_was_put_back(self) -> None:
        buckets: Buckets[str] = Buckets()
        taken(buckets, RATE, 1e6)

        assert buckets.ready_at("k", RATE, 0.0) == 0.5


class TestConvert:
    def test_keeps_the_missing_tokens(self) -> None:
        buckets: Buckets[str] = Buckets()
        buckets.take("k", RATE, 100.0)
        buckets.take("k", RATE, 100.0)
        faster = Rate(10.0, 3)
        buckets.convert("k", RATE, faster, 100.0)

        assert taken(buckets, faster, 100.0) == 1


class TestRestore:
    def test_gives_no_second_burst(self) -> None:
        before: Buckets[str] = Buckets()
        taken(before, RATE, 100.0)
        after: Buckets[str] = Buckets()
        after.restore([(key, at) for key, at in json.loads(json.dumps(before.rows(100.0)))], 100.2)

        assert after.ready_at("k", RATE, 100.2) == before.ready_at("k", RATE, 100.2) == 100.5

    def test_leaves_out_what_is_full_or_no_number(self) -> None:
        buckets: Buckets[str] = Buckets()
        buckets.restore([("k", 99.0), ("l", float("nan")), ("m", float("inf"))], 100.0)

        assert len(buckets) == 0


class TestChanged:
    def test_tells_each_change_once(self) -> None:
        buckets: Buckets[str] = Buckets()
        buckets.take("k", RATE, 100.0)
        buckets.take("k", RATE, 100.0)

        assert buckets.changed() == [("k", 101.0)]
        assert buckets.changed() == []
