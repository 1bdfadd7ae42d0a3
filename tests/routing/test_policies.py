"""Which policy governs a task, and what it says of it."""

from __future__ import annotations

from typing import Any

import pytest

from routing.budget_rules import BudgetSpec
from routing.matching import Match
from routing.policies import DEFAULT, Hedging, Policies, PolicySpec
from routing.retries import RetryPolicy, RetryRule
from routing.selectors import parse
from tests.routing.fleets import World, agent, recorded, task

NOTHING = {"success": 0, "curiosity": 0, "usd": 0, "second": 0}


class TestOf:
    @pytest.mark.parametrize(
        ("match", "fits", "differs"),
        [
            (Match(skill="lint"), {}, {"skill": "test"}),
            (Match(tenant="t"), {}, {"tenant": "u"}),
            (Match(labels=parse("gpu=yes")), {"labels": (("gpu", "yes"),)}, {}),
            (Match(low=7), {"priority": 8}, {"priority": 6}),
        ],
    )
    def test_follows_skill_tenant_label_and_priority(
        self, match: Match, fits: dict[str, Any], differs: dict[str, Any]
    ) -> None:
        policies = Policies([PolicySpec(name="mine", match=match)])

        assert policies.of(task(**fits)).name == "mine"
        assert policies.of(task(**differs)) is DEFAULT

    def test_prefers_the_narrower_of_equal_positions(self) -> None:
        wide, narrow = PolicySpec(name="wide"), PolicySpec(name="narrow", match=Match(skill="lint"))

        assert Policies([wide, narrow]).of(task()) is narrow

    def test_prefers_the_smaller_position(self) -> None:
        wide, narrow = PolicySpec(name="wide", position=1), PolicySpec(name="narrow", match=Match(skill="lint"))

        assert Policies([wide, narrow]).of(task()) is wide


class TestProblems:
    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"strategy": "luck"}, "there is no strategy 'luck'"),
            ({"shadow": "luck"}, "shadow: there is no strategy"),
            (
                {"strategy": "adaptive", "weights": dict.fromkeys(("success", "curiosity", "usd", "second"), 0)},
                "cancel",
            ),
            ({"strategy": "ordered"}, "name the agents"),
            ({"wait_s": 0.0}, "wait_s"),
            ({"max_attempts": 0}, "max_attempts"),
            ({"when_shut": "hope"}, "when_shut"),
            ({"hedging": Hedging(share=0.9)}, "share"),
            ({"match": Match(low=8, high=2)}, "is empty"),
            ({"retries": RetryPolicy(rules={"luck": RetryRule()})}, "no such kind"),
        ],
    )
    def test_are_told_in_words(self, wrong: dict[str, Any], words: str) -> None:
        problems = PolicySpec(name="p", **wrong).problems()

        assert words in " ".join(problems)

    def test_of_the_default_are_none(self) -> None:
        assert DEFAULT.problems() == []


class TestWaitS:
    """Through the fleet's doors."""

    def test_fails_a_task_that_has_waited_so_long(self) -> None:
        world = World(threads=0, policies=[PolicySpec(name="p", wait_s=5.0)])
        world.submit()

        assert world.due(4.9) == []
        assert "waited longer than 5 s" in recorded(world.due(5.0), "failed").data["error"]["message"]

    def test_counts_from_anew_after_an_attempt(self) -> None:
        rule = RetryRule(backoff_s=20.0, max_s=20.0)
        policy = PolicySpec(name="p", wait_s=5.0, retries=RetryPolicy(rules={"agent": rule}))
        world = World(policies=[policy])
        world.submit()
        world.start()
        world.fail()

        world.due(9.0)

        assert world.kinds()[-1] == "requeued"

    def test_holds_for_those_who_wait_when_it_is_made(self) -> None:
        world = World(threads=0)
        world.submit()
        world.due(100.0)
        world.register(agent(), policies=[PolicySpec(name="p", wait_s=5.0)])

        world.due()

        assert world.kinds()[-1] == "failed"

    def test_does_not_begin_anew_when_the_task_looks_again(self) -> None:
        budget = BudgetSpec(name="b", unit="attempts", amount=1, scope="run")
        world = World(policies=[PolicySpec(name="p", wait_s=70.0)], budgets=(budget,))
        world.submit("first", context="r", timeout_s=1000.0)
        world.start("first")
        world.submit(context="r")
        assert world.waits().startswith("budget b")

        for at in range(1, 75):
            world.beat(("first", 1))
            world.due(float(at))

        assert world.kinds()[-1] == "failed"


class TestRetryRules:
    """Through the fleet's doors."""

    def test_hold_by_the_kind_of_the_error(self) -> None:
        rules = {"timeout": RetryRule(attempts=1), "agent": RetryRule(backoff_s=7.0)}
        world = World(agent(capacity=9), policies=[PolicySpec(name="p", retries=RetryPolicy(rules=rules))])
        for name in ("slow", "bad"):
            world.submit(name)
            world.start(name)

        assert "the last" in recorded(world.fail("slow", kind="timeout"), "failed").data["error"]["message"]
        assert recorded(world.fail("bad"), "requeued").data["retry_in_s"] == 7.0

    def test_let_the_fleets_account_delay_and_lose_nothing(self) -> None:
        rules = {"*": RetryRule(backoff_s=0.0, max_s=0.0)}
        world = World(
            agent(capacity=100), threads=100, policies=[PolicySpec(name="p", retries=RetryPolicy(rules=rules))]
        )
        names = [f"task-{n}" for n in range(40)]
        for name in names:
            world.submit(name)
            world.start(name)
            world.fail(name, kind="bad_input")  # for which no breaker opens
        delayed = [name for name in names if world.fleet.tasks[name].phase == "delayed"]

        for at in range(1, 400):
            world.beat()
            world.due(float(at))
            for live in [live for live in world.fleet.tasks.values() if live.flights]:
                world.run(live.spec.id, 0.0, live.attempt)

        assert delayed
        assert all(world.kinds(name)[-1] == "completed" for name in names)
