import random

import pytest

from a2a_client.retrying import Retrying


class TestPauseS:
    @pytest.mark.parametrize("status", [None, 429, 502, 503, 504])
    def test_is_given_for_what_may_go_better_next_time(self, status: int | None) -> None:
        assert Retrying().pause_s(0, status, None) is not None

    @pytest.mark.parametrize("status", [200, 201, 400, 401, 404, 409, 422, 500])
    def test_is_none_for_an_answer(self, status: int) -> None:
        assert Retrying().pause_s(0, status, None) is None

    def test_is_none_after_the_last_try(self) -> None:
        retrying = Retrying(times=2)

        assert retrying.pause_s(1, 503, None) is not None
        assert retrying.pause_s(2, 503, None) is None

    def test_stays_under_a_ceiling_that_doubles(self) -> None:
        retrying = Retrying(times=50, first_s=1.0, most_s=5.0, chance=random.Random(7))

        for attempt, ceiling in enumerate([1.0, 2.0, 4.0, 5.0, 5.0]):
            drawn = [retrying.pause_s(attempt, 503, None) or 0.0 for _ in range(200)]
            assert 0.9 * ceiling < max(drawn) <= ceiling

    def test_is_what_the_server_asks_for(self) -> None:
        assert Retrying().pause_s(0, 429, "3") == 3.0

    def test_is_none_when_the_server_asks_for_too_much(self) -> None:
        assert Retrying(most_s=10.0).pause_s(0, 429, "3600") is None

    def test_reads_a_date_as_nothing(self) -> None:
        pause_s = Retrying(first_s=0.2).pause_s(0, 503, "Wed, 21 Oct 2026 07:28:00 GMT")

        assert pause_s is not None
        assert pause_s <= 0.2
