import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.throttle import admit, throttle_problems


class TestAdmit:
    def test_lets_the_first_ones_in(self) -> None:
        assert admit([], 100.0, 2, 10.0) == admit([95.0], 100.0, 2, 10.0) == 0.0

    def test_says_how_long_until_the_oldest_that_counts_is_too_old(self) -> None:
        assert admit([80.0, 93.0, 99.0], 100.0, 2, 10.0) == 3.0

    def test_counts_from_the_time_itself_until_before_its_end(self) -> None:
        assert admit([90.0], 100.0, 1, 10.0) == 0.0
        assert admit([100.0], 100.0, 1, 10.0) == 10.0

    @given(st.integers(1, 5), st.lists(st.integers(0, 20), max_size=50))
    def test_never_lets_more_in_than_allowed_within_any_period(self, limit: int, pauses: list[int]) -> None:
        now, times = 0.0, list[float]()
        for pause in pauses:
            now += pause
            if admit(times, now, limit, 10.0) == 0:
                times.append(now)

        assert all(late - early >= 10.0 for early, late in zip(times, times[limit:], strict=False))


class TestThrottleProblems:
    def test_are_none_for_a_plain_one(self) -> None:
        assert throttle_problems(1, 0.5) == []

    @pytest.mark.parametrize("limit", [0, -1, 1.5, True, None])
    def test_name_a_limit_that_is_none(self, limit: Any) -> None:
        assert throttle_problems(limit, 1.0) == [f"limit: use a whole number of 1 or more, not {limit}"]

    @pytest.mark.parametrize("period_s", [0, -1.0, math.nan, math.inf, "1"])
    def test_name_a_period_that_is_none(self, period_s: Any) -> None:
        assert throttle_problems(1, period_s) == [f"period_s: use seconds above 0, not {period_s}"]
