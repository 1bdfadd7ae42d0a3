import pytest

from routing.pace import Pace, share


class TestPressure:
    def test_is_nothing_before_anything_was_spent(self) -> None:
        assert Pace[str]().pressure("k", 100.0, 5.0) == 0.0

    def test_rises_with_what_is_spent_and_falls_with_time(self) -> None:
        pace = Pace[str](gain=10.0)
        pace.spend("k", 0.3, 100.0, 0.0)

        assert pace.pressure("k", 100.0, 0.0) == pytest.approx(3.0)
        assert pace.pressure("k", 100.0, 10.0) == pytest.approx(2.0)
        assert pace.pressure("k", 100.0, 99.0) == 0.0

    def test_stays_low_while_spending_keeps_pace(self) -> None:
        pace = Pace[str](gain=10.0)
        for now in range(100):
            pace.spend("k", 0.01, 100.0, float(now))

        assert pace.pressure("k", 100.0, 99.0) == pytest.approx(0.1)

    def test_grows_while_spending_is_twice_too_fast(self) -> None:
        pace = Pace[str](gain=10.0)
        for now in range(50):
            pace.spend("k", 0.02, 100.0, float(now))

        assert pace.pressure("k", 100.0, 50.0) == pytest.approx(5.0)


class TestKeep:
    def test_forgets_the_others(self) -> None:
        pace = Pace[str]()
        pace.spend("k", 0.5, 100.0, 0.0)
        pace.spend("l", 0.5, 100.0, 0.0)
        pace.keep({"l"})

        assert [pace.pressure(key, 100.0, 0.0) for key in "kl"] == [0.0, 5.0]


class TestShare:
    def test_takes_anything_at_all_of_nothing_for_the_whole(self) -> None:
        assert [share(1, 4), share(1, 0), share(0, 0)] == [0.25, 1.0, 0.0]
