"""What a rule does, in words."""

from __future__ import annotations

from typing import Any

import pytest

from routing import rule_words, selectors
from routing.budget_rules import BudgetSpec
from routing.containment import Containment
from routing.limit_rules import LimitSpec
from routing.matching import Match
from routing.policies import Hedging, PolicySpec

NARROW = Match(skill="code.*", tenant="lab", labels=selectors.parse("gpu=yes"), low=7)


class TestMatch:
    @pytest.mark.parametrize(
        ("match", "words"),
        [
            (Match(), "every task"),
            (NARROW, "tasks of code.* of tenant lab that ask for gpu=yes of priority 7 to 9"),
            (Match(agent="codex", low=3, high=3), "tasks on codex of priority 3"),
        ],
    )
    def test_names_what_is_asked(self, match: Match, words: str) -> None:
        assert rule_words.match(match) == words


class TestPolicy:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (PolicySpec(name="p"), "every task: balanced"),
            (PolicySpec(name="p", strategy="ordered", order=("a", "b")), "every task: ordered (a, b)"),
            (
                PolicySpec(name="p", timeout_s=60, when_shut="fail", shadow="fastest"),
                "every task: balanced, 60 s for each attempt, fails while every breaker is open, fastest in its shadow",
            ),
            (
                PolicySpec(name="p", max_attempts=1, wait_s=9),
                "every task: balanced, 1 attempt, fails after waiting 9 s",
            ),
            (
                PolicySpec(name="p", weights={"cost": 2}, max_attempts=4, hedging=Hedging(enabled=True)),
                "every task: balanced, weights cost 2, at most 4 attempts, a second attempt beside a slow one",
            ),
        ],
    )
    def test_names_what_differs_from_the_usual(self, spec: PolicySpec, words: str) -> None:
        assert rule_words.policy(spec) == words


class TestLimit:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (
                LimitSpec(name="l", max_running=5),
                "every task: at most 5 at once, others wait",
            ),
            (
                LimitSpec(name="l", rate_per_s=0.1, burst=3, on_full="reject"),
                "every task: 6 per minute (up to 3 at once), others are rejected",
            ),
            (
                LimitSpec(name="l", max_running=1, rate_per_s=2, per="key"),
                "every task: at most 1 at once and 2 per second for each concurrency key, others wait",
            ),
        ],
    )
    def test_says_how_many_and_what_then(self, spec: LimitSpec, words: str) -> None:
        assert rule_words.limit(spec) == words


class TestBudget:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (
                BudgetSpec(name="b", unit="usd", amount=5, period_s=86_400, scope="tenant"),
                "every task: $5.00 each day for each tenant, then nothing begins",
            ),
            (
                BudgetSpec(name="b", unit="tokens", amount=1_000, period_s=90, hard=False),
                "every task: 1,000 tokens each 90 s, beyond that it only warns",
            ),
            (
                BudgetSpec(name="b", unit="attempts", amount=3, scope="task"),
                "every task: 3 attempts for each task, then nothing begins",
            ),
        ],
    )
    def test_says_how_much_and_what_then(self, spec: BudgetSpec, words: str) -> None:
        assert rule_words.budget(spec) == words


class TestContainment:
    SWITCH: Any = {"name": "s", "scope": "agent", "value": "codex", "reason": "It leaks.", "by": "ann", "since": 0.0}

    def test_says_whether_it_is_only_tried(self) -> None:
        words = rule_words.containment(Containment(**self.SWITCH), 1.0)

        assert words == "only observed: agent codex contained since 1970-01-01 00:00:00 UTC by ann: It leaks."

    def test_says_that_it_cancels(self) -> None:
        words = rule_words.containment(Containment(**self.SWITCH, mode="enforce", cancel_running=True), 1.0)

        assert words.endswith("by ann: It leaks. (what runs is cancelled)")

    def test_says_that_it_has_ended(self) -> None:
        assert (
            rule_words.containment(Containment(**self.SWITCH, release_at=5.0), 5.0) == "agent codex: released by time"
        )
