"""Which waiting task is next, and which agent gets it."""

from __future__ import annotations

from typing import Any

import pytest

from routing import events as e
from routing.matching import Match
from routing.policies import PolicySpec
from routing.retries import RetryPolicy, RetryRule
from tests.routing.fleets import World, agent, recorded


def decision(world: World, name: str = "x") -> e.DecisionMade:
    """Return the last decision about the task."""
    made = [r.decision for r in world.said if isinstance(r, e.Recorded) and r.task == name and r.decision]
    assert made[-1] is not None
    return made[-1]


def one_slot() -> World:
    """Return a fleet with one slot, which is taken by the task ``first``."""
    world = World(agent(capacity=1))
    world.submit("first", priority=9)
    return world


def drain(world: World) -> list[str]:
    """Let everything run that waits, and return the order in which it began, without what was taken at first."""
    before = len(world.order())
    while world.fleet.tasks:
        [running] = [t for t in world.fleet.tasks.values() if t.flights]
        world.run(running.spec.id, 0.001, running.attempt)
    return world.order()[before:]


class TestMatches:
    def test_lets_priority_go_before_everything_else(self) -> None:
        world = one_slot()
        world.submit("urgent", priority=5, deadline=9.0)
        world.submit("high", priority=6)

        assert drain(world) == ["high", "urgent"]

    def test_lets_the_earliest_deadline_go_first(self) -> None:
        world = one_slot()
        world.submit("none")
        world.submit("late", deadline=90.0)
        world.submit("early", deadline=50.0)

        assert drain(world) == ["early", "late", "none"]

    def test_fails_one_whose_deadline_has_passed_before_it_is_given_away(self) -> None:
        world = one_slot()
        world.submit("late", deadline=5.0)

        world.run("first", 6.0)

        assert world.kinds("late") == ["submitted", "failed"]

    def taught(self, long_waits_s: float) -> World:
        """Return a fleet that knows sizes 1 and 64 as 1 and 16 s, whose slot is busy while one of each waits."""
        world = World(agent(capacity=1))
        for n in range(40):
            size, seconds = ((1.0, 1.0), (64.0, 16.0))[n % 2]
            world.submit(f"lesson-{n}", size=size)
            world.run(f"lesson-{n}", seconds)
        world.beat(threads=8)
        world.submit("first", timeout_s=1000.0, created_at=world.now)
        world.submit("long", size=64.0, created_at=world.now)
        world.now += long_waits_s
        world.beat(("first", 1), threads=8)
        world.submit("short", size=1.0, created_at=world.now)
        return world

    def test_lets_the_shortest_predicted_go_first(self) -> None:
        world = self.taught(long_waits_s=40.0)

        world.run("first", 0.1)

        assert world.agent_of("short") == "a"

    def test_lets_a_long_one_go_first_once_it_has_waited_long_enough(self) -> None:
        world = self.taught(long_waits_s=200.0)

        world.run("first", 0.1)

        assert world.agent_of("long") == "a"

    def test_goes_on_with_other_lanes_when_one_stands_still(self) -> None:
        world = World(agent(capacity=1), agent("b", skills=frozenset({("test", "1")})))
        world.submit("first")
        world.submit("second", priority=9)

        world.submit("other", skill="test")

        assert world.agent_of("other") == "b"

    def test_does_not_ask_for_a_thousand_agents_that_a_tenth_of_them_would_do(self) -> None:
        agents = [agent(f"a{n:04}", capacity=1) for n in range(100)]
        world = World(*agents, threads=1000)

        for n in range(100):
            world.submit(f"task-{n}")

        assert sorted(world.agent_of(f"task-{n}") for n in range(100)) == [spec.name for spec in agents]


class TestDecisions:
    def test_carry_policy_and_revision(self) -> None:
        world = World(policies=[PolicySpec(name="mine", match=Match(skill="lint"))], revision=7)
        world.submit()

        made = decision(world)

        assert (made.policy, made.revision, made.strategy) == ("mine", 7, "balanced")

    def test_say_what_the_task_waited_for_last(self) -> None:
        world = one_slot()
        world.submit()

        world.run("first", 3.0)

        assert decision(world).waited_for == "a free slot of an agent"

    def test_say_it_also_of_one_that_stood_behind_others(self) -> None:
        world = one_slot()
        world.submit("x")
        world.submit("y")
        world.run("first", 3.0)

        world.run("x", 1.0)

        assert decision(world, "y").waited_for == "a free slot of an agent"

    def test_do_not_tell_of_an_earlier_attempt(self) -> None:
        world = one_slot()
        world.submit()
        world.run("first", 3.0)
        world.start()
        world.fail(kind="lost")

        assert decision(world).waited_for == ""

    def test_count_who_is_not_listed(self) -> None:
        world = World(*[agent(f"a{n:02}") for n in range(30)], threads=100)
        world.submit()

        made = decision(world)

        assert len(made.candidates) + len(made.exclusions) + made.more == 30

    def test_tell_what_another_strategy_would_have_done(self) -> None:
        policy = PolicySpec(name="p", strategy="cheapest", shadow="ordered", order=("b", "a"))
        world = World(agent("a", cost_usd=0.1), agent("b", cost_usd=0.2), policies=[policy])
        world.submit()

        made = decision(world)

        assert made.candidates[0]["agent"] == "a"
        assert made.shadow == {"strategy": "ordered", "agent": "b"}


class TestRetriesOn:
    @pytest.mark.parametrize(("where", "then"), [("another", "b"), ("same", "a"), ("any", "a")])
    def test_chooses_as_the_rule_for_the_kind_says(self, where: Any, then: str) -> None:
        rule = RetryRule(backoff_s=0.0, max_s=0.0, on=where)
        order = PolicySpec(name="p", strategy="ordered", order=("a", "b"), retries=RetryPolicy(rules={"agent": rule}))
        world = World(agent("a"), agent("b"), policies=[order])
        world.submit()
        world.start()

        world.fail()

        assert world.agent_of() == then

    def test_the_same_goes_to_another_rather_than_wait(self) -> None:
        rule = RetryRule(backoff_s=0.0, max_s=0.0, on="same")
        order = PolicySpec(name="p", strategy="ordered", order=("a", "b"), retries=RetryPolicy(rules={"agent": rule}))
        world = World(agent("a", capacity=1), agent("b"), policies=[order])
        world.submit()
        world.start()
        world.register(agent("a", draining=True), agent("b"), policies=[order])

        world.fail()

        assert world.agent_of() == "b"


class TestWhenShut:
    def shut(self, when_shut: Any) -> World:
        """Return a fleet whose only agent has failed three times in a row."""
        world = World(policies=[PolicySpec(name="p", when_shut=when_shut)])
        for n in range(3):
            world.submit(f"bad-{n}", max_attempts=1)
            world.start(f"bad-{n}")
            world.fail(f"bad-{n}")
        return world

    def test_wait_lets_a_task_wait_for_the_probe(self) -> None:
        world = self.shut("wait")

        world.submit()

        assert world.agent_of() == ""
        assert world.waits().startswith("breaker open until")

    def test_fail_ends_it_with_the_reason(self) -> None:
        world = self.shut("fail")

        effects = world.submit()

        assert recorded(effects, "failed").data["error"]["message"].startswith("no agent is healthy (a: breaker open")
