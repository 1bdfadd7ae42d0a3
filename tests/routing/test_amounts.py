import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.amounts import DAY_S, MICRO, MOST, Unit, figure, left_of, micros, moment, window, window_end

NEW_YEAR = 1_767_225_600.0  # 2026-01-01 00:00 UTC


class TestMicros:
    @pytest.mark.parametrize(("amount", "answer"), [(0.1, 100_000), (-5.0, 0), (1e99, int(MOST) * MICRO)])
    def test_is_exact_and_within_bounds(self, amount: float, answer: int) -> None:
        assert micros({"usd": amount}, "usd") == answer

    @pytest.mark.parametrize("amounts", [{}, {"usd": math.nan}, {"usd": math.inf}, {"tokens": 1.0}])
    def test_is_none_where_nothing_is_known(self, amounts: dict[str, float]) -> None:
        assert micros(amounts, "usd") is None


class TestWindow:
    def test_begins_days_at_midnight_utc(self) -> None:
        assert window(DAY_S, NEW_YEAR + 3600) == window(DAY_S, NEW_YEAR) == NEW_YEAR
        assert window(DAY_S, NEW_YEAR - 1) == NEW_YEAR - DAY_S

    def test_is_the_only_one_without_a_period(self) -> None:
        assert (window(None, NEW_YEAR), window_end(None, NEW_YEAR)) == (0.0, None)

    @given(st.one_of(st.integers(1, 10**8), st.floats(0.01, 1e6)), st.floats(0, 4e9))
    def test_ends_exactly_where_the_next_begins(self, period_s: float, now: float) -> None:
        end = window_end(period_s, now)

        assert end is not None
        assert window(period_s, now) <= now < end == window(period_s, end)


class TestLeftOf:
    @pytest.mark.parametrize(
        ("left", "amount", "unit", "words"),
        [
            (400_000, 5_000_000, "usd", "$0.40 of $5.00"),
            (-400_000, 5_000_000, "usd", "$0.00 of $5.00"),
            (1_200_900_000, 5_000_000_000, "tokens", "1,200 of 5,000 tokens"),
            (2_460_000, 60_000_000, "wall_s", "2.4 of 60 s"),
            (0, 3_000_000, "attempts", "0 of 3 attempts"),
        ],
    )
    def test_reads_like_a_person_writes(self, left: int, amount: int, unit: Unit, words: str) -> None:
        assert left_of(left, amount, unit) == words


class TestFigure:
    @pytest.mark.parametrize(
        ("amount", "down", "up"),
        [(1_239_000, "$1.23", "$1.24"), (123_456, "$0.1234", "$0.1235"), (7, "$0.000007", "$0.000007")],
    )
    def test_never_makes_too_little_look_like_enough(self, amount: int, down: str, up: str) -> None:
        assert (figure(amount, "usd"), figure(amount, "usd", up=True)) == (down, up)


class TestMoment:
    @pytest.mark.parametrize(
        ("ahead_s", "words"),
        [(DAY_S, "00:00 UTC"), (DAY_S + 60, "2026-01-02 00:01 UTC"), (90, "00:01:30 UTC")],
    )
    def test_names_the_day_only_if_it_is_not_the_next(self, ahead_s: float, words: str) -> None:
        assert moment(NEW_YEAR + ahead_s, NEW_YEAR) == words
