import random

import pytest

from routing.estimates import KEEP, UNKNOWN_S, Estimates, Mean

LINT, TEST = ("lint", "1"), ("test", "1")


def taught(**seconds: float) -> Estimates:
    """Return what is known after each agent did 50 lints in so many seconds."""
    estimates = Estimates()
    for _ in range(50):
        for agent, each in seconds.items():
            estimates.succeeded(agent, LINT, each)
    return estimates


class TestMean:
    def test_is_the_mean_of_few_values(self) -> None:
        mean = Mean()
        for value in (1.0, 2.0, 6.0):
            mean.add(value)

        assert mean.value == pytest.approx(3.0)

    def test_forgets_what_is_long_ago(self) -> None:
        mean = Mean()
        for value in [100.0] * KEEP + [1.0] * (10 * KEEP):
            mean.add(value)

        assert mean.value == pytest.approx(1.0, abs=0.05)


class TestUsual:
    def test_is_a_second_before_anything_was_seen(self) -> None:
        assert Estimates().usual_s(LINT) == UNKNOWN_S

    def test_lies_between_what_agents_show(self) -> None:
        assert 2.0 < taught(slow=6.0, fast=2.0).usual_s(LINT) < 6.0

    def test_takes_a_new_skill_for_a_usual_one(self) -> None:
        estimates = taught(a=4.0, b=4.0)

        assert estimates.usual_s(TEST) == pytest.approx(estimates.usual_s(LINT), rel=0.1)


class TestPredicted:
    def test_is_the_usual_time_for_an_unknown_agent(self) -> None:
        estimates = taught(a=4.0)

        assert estimates.predicted_s("new", LINT) == estimates.usual_s(LINT)

    def test_tells_slow_agents_from_fast_ones(self) -> None:
        estimates = taught(slow=6.0, fast=2.0)

        assert estimates.predicted_s("slow", LINT) == pytest.approx(6.0, rel=0.2)
        assert estimates.predicted_s("fast", LINT) == pytest.approx(2.0, rel=0.2)

    def test_carries_an_agents_speed_over_to_other_skills(self) -> None:
        estimates = taught(slow=6.0, fast=2.0)

        assert estimates.predicted_s("slow", TEST) > 2 * estimates.predicted_s("fast", TEST)

    def test_stays_positive_whatever_it_is_taught(self) -> None:
        estimates, rng = Estimates(), random.Random(1)
        for _ in range(2000):
            estimates.succeeded("a", LINT, rng.choice((0.0, 1e-9, 1.0, 1e6)))

        assert 0 < estimates.predicted_s("a", LINT) < 1e9


class TestFailed:
    def test_raises_the_share_of_errors_and_success_lowers_it(self) -> None:
        estimates = Estimates()
        estimates.failed("a")
        estimates.failed("a")
        before = estimates.agents["a"].error
        estimates.succeeded("a", LINT, 1.0)

        assert 0 < estimates.agents["a"].error < before < 1

    def test_says_nothing_about_speed(self) -> None:
        estimates = Estimates()
        estimates.failed("a")

        assert estimates.predicted_s("a", LINT) == UNKNOWN_S
