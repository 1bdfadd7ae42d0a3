import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from routing import estimates as module
from routing.estimates import P95_RATIO, UNKNOWN_S, Estimates

LINT, TEST = ("lint", "1"), ("test", "1")


def taught(**seconds: float) -> Estimates:
    """Return what is known after each agent did 50 lints in so many seconds."""
    estimates = Estimates()
    for _ in range(50):
        for agent, each in seconds.items():
            estimates.succeeded(agent, LINT, seconds=each)
    return estimates


def judged(**good: float) -> Estimates:
    """Return what is known after each agent did 40 lints, so many of a hundred of them well."""
    estimates, rng = Estimates(), random.Random(1)
    for _ in range(40):
        for agent, share in good.items():
            if rng.random() < share:
                estimates.succeeded(agent, LINT, seconds=1.0)
            else:
                estimates.failed(agent, LINT)
    return estimates


def busy(seed: int, attempts: int = 400) -> Estimates:
    """Return what is known after all kinds of attempts by three agents."""
    estimates = Estimates()
    for number in range(attempts):
        act(estimates, random.Random(seed * 10_000 + number), float(number))
    return estimates


def act(estimates: Estimates, rng: random.Random, now: float) -> None:
    """Let one thing happen."""
    agent, skill = rng.choice("abc"), rng.choice((LINT, TEST))
    chance = rng.random()
    if chance < 0.6:
        size, cost = rng.choice((None, 10 ** rng.uniform(0, 5))), rng.choice((None, rng.random()))
        estimates.succeeded(agent, skill, seconds=rng.lognormvariate(1, 1), size=size, cost_usd=cost, now=now)
    elif chance < 0.8:
        estimates.failed(agent, skill, cost_usd=rng.random(), now=now)
    else:
        estimates.rated(agent, skill, rng.random())


def said(estimates: Estimates) -> list[Any]:
    """Return everything that can be asked."""
    cells = [(agent, skill) for agent in "abcd" for skill in (LINT, TEST, ("new", "1"))]
    return [
        (
            [estimates.predicted_s(agent, skill, size) for size in (None, 5.0, 3000.0)],
            estimates.success(agent, skill),
            estimates.expected_cost_usd(agent, skill),
            estimates.expected_s(agent, skill),
            estimates.error(agent),
            estimates.p95_ratio(skill),
        )
        for agent, skill in cells
    ]


def stored(slices: dict[str, Any]) -> dict[str, Any]:
    """Return what a database gives back."""
    loaded: dict[str, Any] = json.loads(json.dumps(slices))
    return loaded


class TestUsual:
    def test_is_a_second_before_anything_was_seen(self) -> None:
        assert Estimates().usual_s(LINT) == UNKNOWN_S

    def test_lies_between_what_agents_show(self) -> None:
        assert 2.0 < taught(slow=6.0, fast=2.0).usual_s(LINT) < 6.0

    def test_takes_a_new_skill_for_a_usual_one(self) -> None:
        estimates = taught(a=4.0, b=4.0)

        assert estimates.usual_s(TEST) == pytest.approx(estimates.usual_s(LINT), rel=0.1)

    def test_tells_large_tasks_from_small_ones(self) -> None:
        estimates = Estimates()
        for _ in range(50):
            estimates.succeeded("a", LINT, seconds=1.0, size=100)
            estimates.succeeded("a", LINT, seconds=9.0, size=10_000)

        assert estimates.usual_s(LINT, 9_000) > 6 * estimates.usual_s(LINT, 120)
        assert estimates.predicted_s("a", LINT, 120) == pytest.approx(1.0, rel=0.2)
        assert estimates.predicted_s("a", LINT, 9_000) == pytest.approx(9.0, rel=0.2)

    def test_takes_a_new_size_for_a_usual_one(self) -> None:
        estimates = Estimates()
        estimates.succeeded("a", LINT, seconds=5.0, size=100)

        assert estimates.usual_s(LINT, 10_000) == estimates.usual_s(LINT)


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

    def test_knows_an_agent_that_is_fast_at_one_skill_alone(self) -> None:
        estimates = Estimates()
        for _ in range(50):
            for agent, lint, test in (("a", 1.0, 9.0), ("b", 9.0, 1.0)):
                estimates.succeeded(agent, LINT, seconds=lint)
                estimates.succeeded(agent, TEST, seconds=test)

        assert estimates.predicted_s("a", LINT) < 3 < 6 < estimates.predicted_s("a", TEST)

    def test_does_not_take_the_first_agent_of_a_long_skill_for_a_slow_one(self) -> None:
        estimates = taught(a=1.0, b=1.0)

        estimates.succeeded("a", TEST, seconds=100.0)

        assert estimates.predicted_s("a", LINT) == pytest.approx(estimates.predicted_s("b", LINT))

    def test_stays_positive_whatever_it_is_taught(self) -> None:
        estimates, rng = Estimates(), random.Random(1)
        for _ in range(2000):
            size = rng.choice((None, 0.0, 1.0, 1e30))
            estimates.succeeded("a", LINT, seconds=rng.choice((0.0, 1e-9, 1.0, 1e6, 1e300)), size=size)

        assert 0 < estimates.predicted_s("a", LINT) < 1e9


class TestP95Ratio:
    def test_is_supposed_before_anything_was_seen(self) -> None:
        assert Estimates().p95_ratio(LINT) == P95_RATIO

    def test_is_small_where_attempts_take_what_was_predicted(self) -> None:
        assert taught(a=4.0).p95_ratio(LINT) < 2.0

    def test_is_large_where_they_vary(self) -> None:
        estimates, rng = Estimates(), random.Random(1)
        for _ in range(300):
            estimates.succeeded("a", LINT, seconds=rng.lognormvariate(0.0, 1.5))

        assert estimates.p95_ratio(LINT) > P95_RATIO

    def test_is_never_below_one(self) -> None:
        assert taught(a=4.0).p95_ratio(LINT) >= 1.0


class TestSuccess:
    def test_is_three_in_four_before_anything_was_seen(self) -> None:
        chance, deviation = Estimates().success("a", LINT)

        assert chance == pytest.approx(0.75)
        assert deviation > 0.1

    def test_comes_near_the_share_that_went_well(self) -> None:
        estimates = judged(good=0.9, poor=0.3)

        assert estimates.success("good", LINT)[0] == pytest.approx(0.9, abs=0.12)
        assert estimates.success("poor", LINT)[0] == pytest.approx(0.3, abs=0.12)

    def test_grows_surer(self) -> None:
        assert judged(a=0.7).success("a", LINT)[1] < Estimates().success("a", LINT)[1] / 2

    def test_borrows_from_the_agent_at_a_new_skill(self) -> None:
        estimates = judged(good=0.9, poor=0.3)

        assert estimates.success("good", TEST)[0] > estimates.success("poor", TEST)[0] + 0.2

    def test_borrows_from_the_skill_for_a_new_agent(self) -> None:
        estimates = Estimates()
        for _ in range(20):
            estimates.succeeded("a", LINT, seconds=1.0)
            estimates.failed("a", TEST)

        assert estimates.success("new", LINT)[0] > estimates.success("new", TEST)[0] + 0.2

    def test_follows_an_agent_that_got_worse(self) -> None:
        estimates = taught(a=1.0, b=1.0)
        for _ in range(300):
            estimates.failed("a", LINT)

        assert estimates.success("a", LINT)[0] < 0.1

    def test_stays_a_probability_whatever_happened(self) -> None:
        estimates = Estimates()
        for number in range(3000):
            act(estimates, random.Random(number), float(number))
            chance, deviation = estimates.success("a", LINT)
            assert 0 < chance < 1
            assert 0 < deviation < 1

    def test_counts_for_a_skill_what_its_agents_count(self) -> None:
        estimates = busy(1)

        cells = [cell for (_, skill), cell in estimates.cells.items() if skill == LINT]
        assert estimates.skills[LINT].good == pytest.approx(sum(cell.good for cell in cells))
        assert estimates.fleet.bad == pytest.approx(sum(known.bad for known in estimates.agents.values()))


class TestRated:
    def test_makes_part_of_a_success_of_a_success(self) -> None:
        estimates = Estimates()
        estimates.succeeded("a", LINT, seconds=1.0)

        estimates.rated("a", LINT, 0.3)

        cell = estimates.cells["a", LINT]
        assert cell.good == pytest.approx(0.3)
        assert cell.bad == pytest.approx(0.7)

    def test_takes_back_an_earlier_rating(self) -> None:
        estimates = Estimates()
        estimates.succeeded("a", LINT, seconds=1.0)
        estimates.rated("a", LINT, 0.3)

        estimates.rated("a", LINT, 0.8, before=0.3)

        assert estimates.cells["a", LINT].good == pytest.approx(0.8)

    def test_never_takes_back_more_than_is_there(self) -> None:
        estimates = Estimates()
        estimates.succeeded("a", LINT, seconds=1.0)
        for _ in range(3):
            estimates.rated("a", LINT, 0.0)

        cell = estimates.cells["a", LINT]
        assert cell.good == 0.0
        assert cell.bad == pytest.approx(1.0)

    def test_of_an_unknown_agent_does_nothing(self) -> None:
        estimates = Estimates()

        estimates.rated("a", LINT, 0.0)

        assert estimates.snapshot() == {}


class TestExpectedCost:
    def test_is_nothing_before_anything_was_paid(self) -> None:
        assert Estimates().expected_cost_usd("a", LINT) == 0.0

    def test_is_the_list_price_of_an_unknown_agent(self) -> None:
        assert Estimates().expected_cost_usd("a", LINT, listed_usd=0.2) == 0.2

    def test_comes_near_what_was_paid(self) -> None:
        estimates = Estimates()
        for _ in range(50):
            estimates.succeeded("a", LINT, seconds=1.0, cost_usd=0.5)
            estimates.failed("b", LINT, cost_usd=0.1)

        assert estimates.expected_cost_usd("a", LINT) == pytest.approx(0.5, rel=0.1)
        assert estimates.expected_cost_usd("b", LINT) == pytest.approx(0.1, rel=0.1)

    def test_borrows_from_the_agent_at_a_new_skill(self) -> None:
        estimates = Estimates()
        for agent, cost in (("dear", 1.0), ("cheap", 0.1)) * 20:
            estimates.succeeded(agent, LINT, seconds=1.0, cost_usd=cost)

        assert estimates.expected_cost_usd("dear", TEST) > 5 * estimates.expected_cost_usd("cheap", TEST)


class TestExpectedSeconds:
    def test_comes_near_what_attempts_took(self) -> None:
        assert taught(slow=6.0, fast=2.0).expected_s("slow", LINT) == pytest.approx(6.0, rel=0.1)


class TestFailed:
    def test_raises_the_share_of_errors_and_success_lowers_it(self) -> None:
        estimates = Estimates()
        estimates.failed("a", LINT)
        estimates.failed("a", LINT)
        before = estimates.error("a")
        estimates.succeeded("a", LINT, seconds=1.0)

        assert 0 < estimates.error("a") < before < 1

    def test_says_nothing_about_speed(self) -> None:
        estimates = Estimates()
        estimates.failed("a", LINT)

        assert estimates.predicted_s("a", LINT) == UNKNOWN_S


class TestBadFigures:
    @pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf, -1.0])
    def test_do_not_spoil_what_was_learned(self, figure: float) -> None:
        estimates = taught(a=1.0)

        estimates.succeeded("a", LINT, seconds=figure, size=figure, cost_usd=figure)
        estimates.rated("a", LINT, figure)

        assert 0 < estimates.predicted_s("a", LINT) < math.inf
        assert 0 < estimates.success("a", LINT)[0] < 1
        assert estimates.expected_cost_usd("a", LINT) == 0.0


class TestForget:
    def test_makes_an_agent_unknown(self) -> None:
        estimates = judged(good=0.9, poor=0.1)

        estimates.forget("poor")

        assert estimates.error("poor") == 0.0
        assert estimates.success("poor", LINT) == estimates.success("never seen", LINT)

    def test_takes_its_outcomes_out_of_all_counts(self) -> None:
        estimates = judged(a=0.5)

        estimates.forget("a")

        assert estimates.skills[LINT].good == pytest.approx(0.0, abs=1e-9)
        assert estimates.fleet.good == pytest.approx(0.0, abs=1e-9)

    def test_of_an_unknown_agent_does_nothing(self) -> None:
        estimates = Estimates()

        estimates.forget("a")

        assert estimates.snapshot() == {}


class TestSnapshot:
    def test_tells_only_what_changed(self) -> None:
        estimates = busy(1)
        estimates.snapshot()

        estimates.succeeded("a", LINT, seconds=1.0)

        keys = {'["cell", "a", "lint", "1"]', '["skill", "lint", "1"]', '["agent", "a"]', '["fleet"]'}
        assert set(estimates.snapshot()) == keys
        assert estimates.snapshot() == {}

    def test_tells_what_is_forgotten(self) -> None:
        estimates = taught(a=1.0)
        estimates.snapshot()

        estimates.forget("a")

        slices = estimates.snapshot()
        assert slices['["agent", "a"]'] is None
        assert slices['["cell", "a", "lint", "1"]'] is None
        assert slices['["skill", "lint", "1"]'] is not None

    def test_does_not_tell_what_was_only_asked(self) -> None:
        estimates = busy(1)
        estimates.snapshot()

        said(estimates)

        assert estimates.snapshot() == {}


class TestRestore:
    def test_predicts_the_same_to_the_last_bit(self) -> None:
        estimates = busy(2, attempts=3000)
        again = Estimates()

        again.restore(stored(estimates.snapshot()))

        assert said(again) == said(estimates)

    def test_takes_the_newest_of_each_slice(self) -> None:
        estimates, kept = Estimates(), dict[str, Any]()
        for number in range(500):
            act(estimates, random.Random(number), float(number))
            if number % 7 == 0:
                kept |= stored(estimates.snapshot())
        estimates.forget("b")
        kept |= stored(estimates.snapshot())
        again = Estimates()

        again.restore(kept)

        assert said(again) == said(estimates)

    def test_learns_on_as_if_nothing_had_been(self) -> None:
        estimates, again = busy(3), Estimates()
        again.restore(stored(estimates.snapshot()))

        for number in range(300):
            act(estimates, random.Random(number), 1000.0 + number)
            act(again, random.Random(number), 1000.0 + number)

        assert said(again) == said(estimates)
        assert stored(again.snapshot()) == stored(estimates.snapshot())

    def test_tells_nothing_back(self) -> None:
        again = Estimates()

        again.restore(stored(busy(1).snapshot()))

        assert again.snapshot() == {}


class TestBounds:
    @pytest.mark.parametrize(
        ("limit", "table", "teach"),
        [
            ("KEPT_AGENTS", "agents", lambda e, n: e.succeeded(f"a{n}", LINT, seconds=1.0, now=float(n))),
            ("KEPT_SKILLS", "skills", lambda e, n: e.succeeded("a", (f"s{n}", "1"), seconds=1.0, now=float(n))),
            ("KEPT_CELLS", "cells", lambda e, n: e.succeeded(f"a{n % 7}", (f"s{n}", ""), seconds=1.0, now=float(n))),
        ],
    )
    def test_what_was_longest_unheard_of_makes_room(
        self, limit: str, table: str, teach: Callable[[Estimates, int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, limit, 20)
        estimates, kept = Estimates(), dict[str, Any]()
        for number in range(100):
            teach(estimates, number)
            kept |= stored(estimates.snapshot())

        present = getattr(estimates, table)
        assert len(present) <= 20
        assert max(record.updated_at for record in present.values()) == 99.0
        assert min(record.updated_at for record in present.values()) > 70.0
        again = Estimates()
        again.restore(kept)
        assert again.cells == estimates.cells
        assert math.isclose(again.fleet.good, estimates.fleet.good)
