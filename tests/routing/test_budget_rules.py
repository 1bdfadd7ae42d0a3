import math
from typing import Any

import pytest

from routing.budget_rules import BudgetKey, BudgetSpec, key_of, need_of, problems
from routing.matching import Match
from tests.routing.subjects import Subject


class TestKeyOf:
    @pytest.mark.parametrize(
        ("scope", "value"), [("all", ""), ("tenant", "acme"), ("run", "acme/r1"), ("task", "x"), ("agent", "jules")]
    )
    def test_counts_apart_what_the_scope_says(self, scope: Any, value: str) -> None:
        spec = BudgetSpec(name="b", unit="usd", amount=1, scope=scope)

        assert key_of(spec, Subject(context="r1"), "jules") == BudgetKey("b", value)

    def test_is_none_for_a_task_that_is_in_no_run(self) -> None:
        assert key_of(BudgetSpec(name="b", unit="usd", amount=1, scope="run"), Subject(), "jules") is None


class TestNeedOf:
    def test_is_always_one_attempt(self) -> None:
        assert need_of(BudgetSpec(name="b", unit="attempts", amount=1), {}) == 1_000_000

    def test_is_none_where_nothing_is_known(self) -> None:
        assert need_of(BudgetSpec(name="b", unit="usd", amount=1), {"tokens": 5.0}) is None


class TestProblems:
    @pytest.mark.parametrize(
        "changes",
        [{}, {"amount": 0}, {"period_s": 86_400}, {"scope": "task", "unit": "attempts"}, {"hard": False}],
    )
    def test_are_none_for_plain_budgets(self, changes: dict[str, Any]) -> None:
        assert problems(BudgetSpec(**{"name": "research", "unit": "usd", "amount": 5.0, **changes})) == []

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"amount": -1}, "amount: use a number from 0 to 1,000,000,000,000, not -1"),
            ({"amount": math.nan}, "amount: use a number from 0"),
            ({"amount": math.inf}, "amount: use a number from 0"),
            ({"amount": True}, "amount: use a number from 0"),
            ({"unit": "eur"}, "unit: use one of usd, tokens, wall_s, attempts, not 'eur'"),
            ({"scope": "planet"}, "scope: use one of all, tenant, run, task, agent, not 'planet'"),
            ({"period_s": 0}, "period_s: use whole seconds from 1"),
            ({"period_s": 1.5}, "period_s: use whole seconds from 1"),
            ({"period_s": math.nan}, "period_s: use whole seconds from 1"),
            ({"period_s": 1e12}, "period_s: use whole seconds from 1"),
            ({"scope": "task", "period_s": 60}, "period_s: a budget per task is for all of its attempts"),
            ({"name": ""}, "name: use 1 to 64 of a-z"),
            ({"match": Match(low=9, high=0)}, "priority: 9 to 0 is empty"),
        ],
    )
    def test_say_in_words_what_is_wrong(self, changes: dict[str, Any], words: str) -> None:
        [problem] = problems(BudgetSpec(**{"name": "research", "unit": "usd", "amount": 5.0, **changes}))

        assert problem.startswith(words)
