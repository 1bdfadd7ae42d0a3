import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from routing.estimates import Estimates
from routing.strategies import STRATEGIES, Candidate, Occasion, rank, weights_problems

ANY = Occasion(skill="lint", tenant="t")
ALL = sorted(STRATEGIES)


def candidate(agent: str = "a", **changes: Any) -> Candidate:
    """Return an idle agent of four slots that needs a second and has never failed."""
    return replace(Candidate(agent=agent, running=0, capacity=4, predicted_s=1.0, usual_s=1.0), **changes)


def best(*candidates: Candidate, strategy: str = "balanced", occasion: Occasion = ANY) -> str:
    """Return the name of the first choice."""
    return rank(candidates, strategy=strategy, occasion=occasion)[0].candidate.agent


class TestRegistry:
    def test_has_the_eight(self) -> None:
        eight = "adaptive balanced cheapest fastest least_loaded ordered round_robin sticky"

        assert " ".join(ALL) == eight


@pytest.mark.parametrize("strategy", ALL)
class TestRank:
    def test_puts_an_agent_that_failed_this_task_last(self, strategy: str) -> None:
        failed = candidate("a", failed_before=True)
        dreadful = candidate("b", predicted_s=99.0, running=3, error=0.9, p_success=0.01, cost_usd=9.0, chosen_at=7)

        assert best(failed, dreadful, strategy=strategy, occasion=replace(ANY, order=("a", "b"))) == "b"

    def test_returns_nothing_for_nobody(self, strategy: str) -> None:
        assert rank([], strategy=strategy, occasion=ANY) == []

    def test_never_divides_by_zero(self, strategy: str) -> None:
        extreme = candidate(error=1.0, predicted_s=1e-9, p_success=0.0)

        assert best(extreme, strategy=strategy, occasion=replace(ANY, slack_s=-5.0)) == "a"

    def test_does_not_depend_on_the_order_of_the_candidates(self, strategy: str) -> None:
        some = [candidate(name, predicted_s=1.0 + number % 3) for number, name in enumerate("abcdef")]

        forth = rank(some, strategy=strategy, occasion=ANY)

        assert rank(some[::-1], strategy=strategy, occasion=ANY) == forth

    def test_names_the_terms_of_the_score(self, strategy: str) -> None:
        terms = STRATEGIES[strategy].terms(candidate(), ANY)

        assert terms
        assert all(isinstance(value, float) for value in terms.values())


class TestEquals:
    @pytest.mark.parametrize("strategy", [name for name in ALL if name != "sticky"])
    def test_are_told_apart_by_load_then_name(self, strategy: str) -> None:
        assert best(candidate("a", running=1), candidate("b"), strategy=strategy) == "b"
        assert best(candidate("b"), candidate("a"), strategy=strategy) == "a"


class TestBalanced:
    def test_prefers_the_faster_agent_though_it_is_fuller(self) -> None:
        assert best(candidate("a"), candidate("b", predicted_s=0.5, running=3)) == "b"

    def test_avoids_an_agent_that_fails(self) -> None:
        assert best(candidate("a", error=0.5), candidate("b", predicted_s=1.9)) == "b"

    def test_avoids_an_agent_whose_work_is_overdue(self) -> None:
        assert best(candidate("a", lateness=5.0), candidate("b", predicted_s=2.0)) == "b"

    def test_weighs_failures_as_the_policy_says(self) -> None:
        failing, slow = candidate("a", error=0.2), candidate("b", predicted_s=1.5)

        assert best(failing, slow) == "b"
        assert best(failing, slow, occasion=replace(ANY, weights={"failures": 0.0})) == "a"

    def test_has_a_score_of_service_and_trouble(self) -> None:
        chosen, failing = STRATEGIES["balanced"], candidate(predicted_s=3.0, error=0.25, usual_s=2.0, running=1)

        assert chosen.score(failing, ANY) == 3.0 / 0.75 + 2 * 0.25 * 2.0
        assert chosen.terms(failing, ANY) == {"service_s": 4.0, "trouble_s": 1.0, "load": 0.25}


class TestLeastLoaded:
    def test_prefers_the_emptier_agent_though_it_is_slower(self) -> None:
        assert best(candidate("a", running=1), candidate("b", predicted_s=99.0), strategy="least_loaded") == "b"

    def test_compares_shares_not_numbers(self) -> None:
        small, large = candidate("a", running=1, capacity=2), candidate("b", running=2, capacity=8)

        assert best(small, large, strategy="least_loaded") == "b"

    def test_prefers_the_faster_of_equals(self) -> None:
        assert best(candidate("a", predicted_s=2.0), candidate("b"), strategy="least_loaded") == "b"


class TestFastest:
    def test_does_not_mind_failures(self) -> None:
        assert best(candidate("a", error=0.9), candidate("b", predicted_s=1.1), strategy="fastest") == "a"

    def test_avoids_an_agent_whose_work_is_overdue(self) -> None:
        assert best(candidate("a", lateness=5.0), candidate("b", predicted_s=2.0), strategy="fastest") == "b"


class TestCheapest:
    def test_prefers_the_cheaper_agent_though_it_is_slower(self) -> None:
        cheap = candidate("b", cost_usd=0.01, predicted_s=99.0)

        assert best(candidate("a", cost_usd=0.02), cheap, strategy="cheapest") == "b"

    def test_prefers_the_faster_of_equals(self) -> None:
        assert best(candidate("a", predicted_s=2.0), candidate("b"), strategy="cheapest") == "b"


class TestRoundRobin:
    def test_takes_turns(self) -> None:
        turns: dict[str, int] = {}
        chosen = []
        for turn in range(1, 7):
            names = [candidate(name, chosen_at=turns.get(name, 0)) for name in "abc"]
            chosen.append(best(*names, strategy="round_robin"))
            turns[chosen[-1]] = turn

        assert chosen == list("abcabc")


class TestSticky:
    def choice(self, key: str, names: str = "abcde", **capacity: int) -> str:
        """Return who gets the tasks of a key."""
        able = [candidate(name, capacity=capacity.get(name, 4)) for name in names]
        return best(*able, strategy="sticky", occasion=replace(ANY, affinity=key))

    def test_gives_a_key_to_the_same_agent_however_busy_and_slow_it_is(self) -> None:
        first = self.choice("k")
        able = [candidate(name, running=3 * (name == first), predicted_s=1.0 + 9 * (name == first)) for name in "abcde"]

        assert best(*able, strategy="sticky", occasion=replace(ANY, affinity="k")) == first

    def test_spreads_keys(self) -> None:
        counts = Counter(self.choice(f"key {number}") for number in range(500))

        assert set(counts) == set("abcde")
        assert min(counts.values()) > 60

    def test_moves_only_the_keys_of_an_agent_that_left(self) -> None:
        keys = [f"key {number}" for number in range(200)]

        moved = [key for key in keys if self.choice(key) != self.choice(key, "abcd")]

        assert moved
        assert moved == [key for key in keys if self.choice(key) == "e"]

    def test_gives_more_keys_to_a_larger_agent(self) -> None:
        counts = Counter(self.choice(f"key {number}", "ab", b=12) for number in range(400))

        assert counts["b"] == pytest.approx(300, abs=40)

    def test_goes_by_the_tenant_without_a_key(self) -> None:
        assert self.choice("") == self.choice("t")


class TestOrdered:
    def test_goes_by_the_list_then_the_rest_by_load(self) -> None:
        able = [candidate("a", running=1), candidate("b"), candidate("c"), candidate("d")]

        ranked = rank(able, strategy="ordered", occasion=replace(ANY, order=("d", "gone", "c")))

        assert [r.candidate.agent for r in ranked] == ["d", "c", "b", "a"]


class TestAdaptive:
    def choice(self, *candidates: Candidate, waiting: int = 0, slack_s: float | None = None, **weights: float) -> str:
        """Return the first choice under these weights."""
        occasion = replace(ANY, waiting=waiting, slack_s=slack_s, weights=weights)
        return best(*candidates, strategy="adaptive", occasion=occasion)

    def test_prefers_the_agent_that_does_better(self) -> None:
        assert self.choice(candidate("a", p_success=0.6), candidate("b", p_success=0.9)) == "b"

    def test_tries_an_agent_that_it_knows_little_of(self) -> None:
        known, unknown = candidate("a", p_success=0.8, p_sd=0.01), candidate("b", p_success=0.75, p_sd=0.2)

        assert self.choice(known, unknown) == "b"
        assert self.choice(known, unknown, curiosity=0.0) == "a"

    def test_weighs_money_as_the_policy_says(self) -> None:
        good, cheap = candidate("a", p_success=0.9, cost_usd=0.1), candidate("b", p_success=0.8)

        assert self.choice(good, cheap, usd=0.1) == "a"
        assert self.choice(good, cheap, usd=10.0) == "b"

    def test_takes_a_second_for_dearer_when_others_wait(self) -> None:
        good, fast = candidate("a", p_success=0.9, predicted_s=20.0), candidate("b", p_success=0.8)

        assert self.choice(good, fast) == "a"
        assert self.choice(good, fast, waiting=10) == "b"

    def test_takes_it_for_dearer_too_when_the_fleet_is_nearly_full(self) -> None:
        good, fast = candidate("a", p_success=0.9, predicted_s=20.0), candidate("b", p_success=0.8)

        assert best(good, fast, strategy="adaptive", occasion=Occasion(busy=2, slots=12)) == "a"
        assert best(good, fast, strategy="adaptive", occasion=Occasion(busy=10, slots=12)) == "b"

    def test_does_not_value_a_success_that_comes_too_late(self) -> None:
        good, fast = candidate("a", p_success=0.9, predicted_s=20.0), candidate("b", p_success=0.8)

        assert self.choice(good, fast, slack_s=5.0) == "b"

    def test_has_terms_that_make_the_score(self) -> None:
        chosen = STRATEGIES["adaptive"]
        some = candidate(p_success=0.5, p_sd=0.1, cost_usd=0.2, predicted_s=10.0)
        occasion = replace(ANY, waiting=4, weights={"usd": 1.0, "second": 0.01})

        assert chosen.terms(some, occasion) == {"success": 0.5, "curiosity": 0.1, "cost": -0.2, "time": -0.5}
        assert chosen.score(some, occasion) == pytest.approx(0.1)


class TestAdaptiveWithEstimates:
    def counts(self, good: dict[str, float], *, tasks: int) -> Counter[str]:
        """Return who got how many tasks, one after the other, by agents that do so well."""
        estimates, rng, counts = Estimates(), random.Random(1), Counter[str]()
        for _ in range(tasks):
            agent = best(*[self.seen(name, estimates) for name in good], strategy="adaptive")
            counts[agent] += 1
            if rng.random() < good[agent]:
                estimates.succeeded(agent, ("lint", "1"), seconds=1.0)
            else:
                estimates.failed(agent, ("lint", "1"))
        return counts

    def seen(self, name: str, estimates: Estimates) -> Candidate:
        """Return the agent as the estimates see it."""
        chance, deviation = estimates.success(name, ("lint", "1"))
        return candidate(name, p_success=chance, p_sd=deviation)

    def test_finds_the_agent_that_does_best(self) -> None:
        counts = self.counts({"a": 0.3, "b": 0.6, "c": 0.9}, tasks=200)

        assert counts["c"] > 150

    def test_has_tried_all_of_them(self) -> None:
        counts = self.counts({"a": 0.9, "b": 0.9, "c": 0.9, "d": 0.9}, tasks=200)

        assert min(counts.values()) >= 3


class TestWeightsProblems:
    @pytest.mark.parametrize(
        ("strategy", "weights", "problem"),
        [
            ("best", {}, "there is no strategy 'best'; there are adaptive, balanced,"),
            ("balanced", {"speed": 1}, "balanced has no weight 'speed'; it has service, failures"),
            ("sticky", {"usd": 1}, "sticky has no weight 'usd'; it has none"),
            ("adaptive", {"usd": -1}, "the weight usd is negative: -1"),
            ("adaptive", {"usd": float("nan")}, "the weight usd is not a number: nan"),
            ("adaptive", {"usd": float("inf")}, "the weight usd is not a number: inf"),
            ("adaptive", {"usd": "1"}, "the weight usd is not a number: '1'"),
            ("adaptive", {"usd": True}, "the weight usd is not a number: True"),
            ("balanced", {"service": 0, "failures": 0}, "the weights cancel out"),
        ],
    )
    def test_are_told_in_words(self, strategy: str, weights: dict[str, object], problem: str) -> None:
        [told] = weights_problems(strategy, weights)

        assert told.startswith(problem)

    def test_are_all_told(self) -> None:
        assert len(weights_problems("adaptive", {"usd": -1, "second": None, "speed": 1})) == 3

    @pytest.mark.parametrize("strategy", ALL)
    def test_are_none_without_weights(self, strategy: str) -> None:
        assert weights_problems(strategy, {}) == []

    def test_are_none_when_some_are_zero(self) -> None:
        assert weights_problems("adaptive", {"usd": 0, "second": 0.1}) == []
