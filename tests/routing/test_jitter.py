import statistics

from routing import jitter


class TestShare:
    def test_is_the_same_in_every_process(self) -> None:
        assert jitter.share("a", 1) == 0.05289675352837264

    def test_tells_names_apart_wherever_they_are_split(self) -> None:
        assert jitter.share("ab", "c") != jitter.share("a", "bc")

    def test_is_spread_evenly(self) -> None:
        shares = [jitter.share("a", n) for n in range(2000)]

        assert 0 <= min(shares) < 0.01
        assert 0.99 < max(shares) < 1
        assert abs(statistics.mean(shares) - 0.5) < 0.03
