from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.retries import (
    ANY,
    DEFAULT_RULES,
    KINDS,
    UNSTARTED,
    BudgetRule,
    RetryBudget,
    RetryPolicy,
    RetryRule,
    Where,
    next_delay_s,
    wait_s,
)

POLICY = RetryPolicy()


class TestProblems:
    def test_has_none_for_the_stock_policy(self) -> None:
        assert POLICY.problems() == []
        assert BudgetRule().problems() == []

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"attempts": 0}, "attempts"),
            ({"backoff_s": -1.0}, "backoff_s"),
            ({"factor": 0.5}, "factor"),
            ({"max_s": float("inf")}, "max_s"),
            ({"max_s": 0.5}, "max_s"),
            ({"jitter": float("nan")}, "jitter"),
            ({"on": cast("Where", "elsewhere")}, "on"),
        ],
    )
    def test_names_the_kind_and_what_is_wrong(self, fields: dict[str, Any], word: str) -> None:
        [problem] = RetryPolicy(rules={"agent": RetryRule(**fields)}).problems()

        assert problem.startswith(f"agent: {word}")

    def test_names_an_unknown_kind_with_those_there_are(self) -> None:
        [problem] = RetryPolicy(rules={"agnet": RetryRule()}).problems()

        assert problem.startswith("agnet: no such kind of error. Known: *, agent, ")

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"share": 1.1}, "share"),
            ({"floor": 0.0}, "floor"),
            ({"most": 2e6}, "most"),
            ({"refill_s": 0.0}, "refill_s"),
            ({"max_wait_s": float("nan")}, "max_wait_s"),
            ({"memory_s": float("inf")}, "memory_s"),
        ],
    )
    def test_names_what_is_wrong_with_a_budget(self, fields: dict[str, Any], word: str) -> None:
        [problem] = BudgetRule(**fields).problems()

        assert problem.startswith(word)


class TestRule:
    def test_is_its_own_before_that_for_all_before_the_stock_one(self) -> None:
        own, every = RetryRule(attempts=7), RetryRule(attempts=8)

        assert RetryPolicy(rules={"lost": own, ANY: every}).rule("lost") is own
        assert RetryPolicy(rules={"agent": own, ANY: every}).rule("lost") is every
        assert RetryPolicy(rules={"agent": own}).rule("lost") is DEFAULT_RULES["lost"]
        assert RetryPolicy(rules={"agent": own}).rule("timeout") is DEFAULT_RULES[ANY]

    def test_knows_kinds_that_nobody_named(self) -> None:
        assert POLICY.rule("brand-new") is DEFAULT_RULES[ANY]


class TestNextDelay:
    @pytest.mark.parametrize(("tries", "delay_s"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (6, 30.0), (5_000, 30.0)])
    def test_grows_up_to_a_limit(self, tries: int, delay_s: float) -> None:
        assert next_delay_s(POLICY, "agent", tries, "x") == delay_s

    @pytest.mark.parametrize("tries", [1, 2, 5_000])
    def test_is_nothing_after_a_worker_died(self, tries: int) -> None:
        assert next_delay_s(POLICY, "lost", tries, "x") == 0.0

    @pytest.mark.parametrize(("own", "limit"), [(None, 3), (3, None), (3, 9), (9, 3)])
    def test_ends_at_the_smaller_limit(self, own: int | None, limit: int | None) -> None:
        policy = RetryPolicy(rules={"agent": RetryRule(attempts=own)})

        assert next_delay_s(policy, "agent", 2, "x", limit=limit) is not None
        assert next_delay_s(policy, "agent", 3, "x", limit=limit) is None

    @given(
        rule=st.builds(
            RetryRule,
            backoff_s=st.floats(0, 3_600),
            factor=st.floats(1, 10),
            max_s=st.floats(3_600, 86_400),
            jitter=st.floats(0, 1),
        ),
        tries=st.integers(1, 10_000),
        task=st.text(),
    )
    def test_lies_between_none_and_the_longest_and_is_the_same_again(
        self, rule: RetryRule, tries: int, task: str
    ) -> None:
        policy = RetryPolicy(rules={ANY: rule})

        delay_s = next_delay_s(policy, "agent", tries, task)

        assert delay_s is not None
        assert 0 <= delay_s <= rule.max_s
        assert delay_s == next_delay_s(policy, "agent", tries, task)

    def test_differs_between_tasks_by_the_jitter(self) -> None:
        policy = RetryPolicy(rules={"agent": RetryRule(backoff_s=8.0, jitter=0.5)})

        delays = {next_delay_s(policy, "agent", 1, f"x{n}") or 0.0 for n in range(100)}

        assert len(delays) == 100
        assert 4.0 < min(delays) < 4.5
        assert 7.5 < max(delays) <= 8.0


class TestWait:
    def test_is_none_before_the_first_failure(self) -> None:
        assert [wait_s(UNSTARTED, times, "x") for times in range(4)] == [0.0, 1.0, 2.0, 4.0]


# ---- the budget ---------------------------------------------------------------------------------------------------


def spend(budget: RetryBudget, now: float, *, times: int, kind: str = "agent") -> int:
    """Ask so many times at once; return how often it was granted."""
    return sum(budget.spend(now, kind, f"x{n}") == 0.0 for n in range(times))


class TestSpend:
    def test_lets_an_idle_fleet_retry_a_little(self) -> None:
        assert spend(RetryBudget(), 0.0, times=50) == 10

    def test_fills_up_again_with_time_but_not_above_the_floor(self) -> None:
        budget = RetryBudget()
        spend(budget, 0.0, times=50)

        assert spend(budget, 10.0, times=50) == 2
        assert spend(budget, 9_999.0, times=50) == 10

    def test_grants_a_fifth_of_the_first_attempts(self) -> None:
        budget = RetryBudget()
        spend(budget, 0.0, times=50)
        for _ in range(101):
            budget.first(0.0)

        assert spend(budget, 0.0, times=500) == 20

    def test_saves_up_no_more_than_it_may(self) -> None:
        budget = RetryBudget()
        for _ in range(10_000):
            budget.first(0.0)

        assert spend(budget, 0.0, times=500) == 100

    def test_keeps_what_is_saved_while_time_passes(self) -> None:
        budget = RetryBudget()
        for _ in range(10_000):
            budget.first(0.0)
        budget.first(60.0)

        assert spend(budget, 60.0, times=500) == 100

    def test_never_counts_attempts_that_were_lost(self) -> None:
        budget = RetryBudget()

        assert spend(budget, 0.0, times=500, kind="lost") == 500
        assert budget.tokens == 10

    def test_tells_those_who_wait_different_times(self) -> None:
        budget = RetryBudget()
        spend(budget, 0.0, times=10)

        waits = [budget.spend(0.0, "agent", f"y{n}") for n in range(100)]

        assert waits[:3] == pytest.approx([5.0, 10.0, 15.0])
        assert len(set(waits)) == 100
        assert max(waits) <= 60.0

    def test_tells_shorter_times_while_much_begins(self) -> None:
        budget = RetryBudget()
        for n in range(3_000):
            budget.first(n / 100)
        spend(budget, 30.0, times=100)

        assert 0 < budget.spend(30.0, "agent", "x") < 0.2

    def test_never_tells_who_has_to_wait_that_it_may_go(self) -> None:
        budget = RetryBudget()
        budget.restore({"tokens": 1 - 1e-12, "at": 1.8e9, "rate": 0.0, "queue_until": 0.0})

        assert budget.spend(1.8e9, "agent", "x") > 0

    def test_goes_on_after_a_clock_that_went_back(self) -> None:
        budget = RetryBudget()
        budget.first(1e6)
        spend(budget, 1e6, times=50)

        assert spend(budget, 0.0, times=50) == 0
        assert spend(budget, 10.0, times=50) == 2

    @given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=300))
    def test_never_grants_more_than_it_may_and_never_loses_a_task(self, steps: list[tuple[float, bool]]) -> None:
        budget, rule, now, firsts, granted = RetryBudget(), BudgetRule(), 1.8e9, 0, 0
        for seconds, is_first in steps:
            now += seconds
            if is_first:
                budget.first(now)
                firsts += 1
                continue
            wait = budget.spend(now, "agent", "x")
            granted += wait == 0.0
            assert 0.0 <= wait <= rule.max_wait_s

        passed = now - 1.8e9
        assert granted <= rule.floor + rule.share * firsts + passed / rule.refill_s + 1e-6

    def test_lets_every_task_through_in_the_end(self) -> None:
        budget = RetryBudget()
        asks = [(0.0, n) for n in range(60)]
        times_asked = 0
        while asks:
            now, task = min(asks)
            asks.remove((now, task))
            times_asked += 1
            if wait := budget.spend(now, "agent", f"x{task}"):
                asks.append((now + wait, task))

        assert times_asked < 60 * 8


class TestRestore:
    def test_goes_on_with_the_same_account(self) -> None:
        budget, copy = RetryBudget(), RetryBudget()
        for n in range(100):
            budget.first(n / 10)
        spend(budget, 10.0, times=50)
        copy.restore(json.loads(json.dumps(budget.snapshot())))

        answers = [[each.spend(10.0 + n, "agent", f"y{n}") for n in range(50)] for each in (budget, copy)]

        assert answers[0] == answers[1]
        assert 0.0 in answers[0]


class TestKinds:
    def test_are_those_that_the_stock_policy_speaks_of(self) -> None:
        assert set(DEFAULT_RULES) <= {ANY, *KINDS}
