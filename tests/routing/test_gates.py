"""What may keep a task from beginning although somebody has a free slot, and when it goes on. Through the fleet."""

from __future__ import annotations

from typing import Any

import pytest

from routing import events as e
from routing.breaker import WHOLE
from routing.budget_rules import BudgetSpec
from routing.containment import Containment
from routing.limit_rules import LimitSpec
from routing.matching import Match
from routing.policies import PolicySpec
from routing.retries import RetryPolicy, RetryRule
from tests.routing.fleets import World, agent, dispatched, recorded

AT_ONCE = PolicySpec(name="p", retries=RetryPolicy(rules={"*": RetryRule(backoff_s=0.0, max_s=0.0)}))


def limited(*agents: e.AgentSpec, **fields: Any) -> World:
    """Return a fleet with one limit."""
    options: dict[str, Any] = {"max_running": 1} | fields
    limit = LimitSpec(name="l", **options)
    return World(*(agents or (agent(capacity=100),)), threads=1000, limits=(limit,))


def budgeted(*agents: e.AgentSpec, **fields: Any) -> World:
    """Return a fleet with one budget."""
    options: dict[str, Any] = {"name": "b", "unit": "attempts", "amount": 1} | fields
    budget = BudgetSpec(**options)
    return World(*(agents or (agent(capacity=1000),)), threads=1000, budgets=(budget,))


def running(world: World) -> list[str]:
    """Return the tasks in flight."""
    return sorted(name for name, live in world.fleet.tasks.items() if live.flights)


class TestLimits:
    def test_queue_lets_the_next_go_when_one_ends(self) -> None:
        world = limited()
        world.submit("x")
        world.submit("y")
        assert world.waits("y") == "limit l: 1 of 1 running"

        world.run("x", 1.0)

        assert running(world) == ["y"]

    def test_reject_does_not_let_it_wait(self) -> None:
        world = limited(on_full="reject")
        world.submit("x")

        effects = world.submit("y")

        assert recorded(effects, "rejected").data["error"] == {"kind": "limit", "message": "limit l: 1 of 1 running"}

    def test_reject_does_not_end_what_was_accepted_before(self) -> None:
        limit = LimitSpec(name="l", max_running=1, on_full="reject")
        late = RetryPolicy(rules={"agent": RetryRule(backoff_s=5.0)})
        world = World(agent(), limits=(limit,), policies=[PolicySpec(name="p", retries=late)])
        world.submit("x")
        world.start("x")
        world.fail("x")
        world.submit("y")

        world.due(5.0)

        assert world.kinds("x")[-1] == "requeued"

    @pytest.mark.parametrize("key", ["", "k"])
    def test_cancel_oldest_asks_one_to_make_room(self, key: str) -> None:
        world = limited(on_full="cancel_oldest", per="key" if key else "all", max_running=2)
        for name in ("x", "y"):
            world.submit(name, concurrency_key=key)
            world.start(name)

        effects = world.submit("z", concurrency_key=key)
        assert [x.task for x in effects if isinstance(x, e.Stop)] == ["x"]
        assert running(world) == ["x", "y"]
        world.fail("x", kind="canceled")

        assert running(world) == ["y", "z"]

    def test_cancel_oldest_takes_one_that_has_not_begun_at_once(self) -> None:
        world = limited(on_full="cancel_oldest")
        world.submit("x")

        world.submit("y")

        assert (world.kinds("x")[-1], running(world)) == ("canceled", ["y"])

    def test_passes_over_a_key_in_use_while_others_go_on(self) -> None:
        world = limited(per="key")
        for name in ("x1", "x2", "y1", "y2", "z1"):
            world.submit(name, concurrency_key=name[0])
        assert running(world) == ["x1", "y1", "z1"]

        world.run("y1", 1.0)

        assert running(world) == ["x1", "y2", "z1"]

    def test_passes_over_a_key_whose_first_was_canceled_meanwhile(self) -> None:
        world = limited(per="key")
        for name in ("x1", "x2", "x3"):
            world.submit(name, concurrency_key="x")
        world.cancel("x2")

        world.run("x1", 1.0)

        assert running(world) == ["x3"]

    @pytest.mark.parametrize("limits", [(), (LimitSpec(name="l", per="key", max_running=2),)])
    def test_a_key_goes_on_when_the_limit_is_taken_away_or_widened(self, limits: tuple[LimitSpec, ...]) -> None:
        world = limited(per="key")
        for name in ("x1", "x2"):
            world.submit(name, concurrency_key="x")

        world.register(agent(capacity=100), limits=limits)
        world.due()

        assert running(world) == ["x1", "x2"]

    def test_a_rate_wakes_up_in_time(self) -> None:
        world = limited(max_running=None, rate_per_s=0.5)
        world.submit("x")
        world.submit("y")

        assert world.fleet.next_due() == 2.0
        assert dispatched(world.due(1.9)) == []
        assert dispatched(world.due(2.0)) == [("y", 1)]

    def test_a_rate_holds_over_a_restart(self) -> None:
        world = limited(max_running=None, rate_per_s=0.1)
        world.submit("x")
        world.submit("y")

        world.restart()

        assert dispatched(world.due(9.9)) == []
        world.beat()
        assert dispatched(world.due(10.0)) == [("y", 1)]

    def test_places_are_counted_over_a_restart(self) -> None:
        world = limited()
        world.submit("x")
        world.submit("y")

        world.restart()
        world.due()
        assert running(world) == ["x"]
        world.run("x", 1.0)

        assert running(world) == ["y"]

    @pytest.mark.parametrize("per", ["all", "key", "agent", "skill", "tenant"])
    def test_a_lost_attempt_frees_its_place(self, per: Any) -> None:
        world = limited(per=per)
        world.submit("x", max_attempts=1, concurrency_key="k")
        world.start("x")
        world.submit("y", concurrency_key="k")

        world.tell(e.WorkerGone(worker="w", incarnation="1"))
        world.beat(worker="v")
        world.due()

        assert running(world) == ["y"]

    def test_over_several_agents_calls_lanes_that_only_another_of_them_could_serve(self) -> None:
        one, two = agent("g-1"), agent("g-2", skills=frozenset({("test", "1")}))
        world = limited(one, two, match=Match(agent="g-*"))
        world.submit("x")
        world.submit("y", skill="test")
        assert running(world) == ["x"]

        world.run("x", 1.0)

        assert running(world) == ["y"]

    def test_of_one_agent_lets_others_take_the_task(self) -> None:
        world = limited(agent("a"), agent("b"), match=Match(agent="a"))

        for name in ("x", "y", "z"):
            world.submit(name)

        assert sorted(world.agent_of(name) for name in ("x", "y", "z")) == ["a", "b", "b"]

    def test_of_a_key_on_agents_does_not_keep_other_keys_back(self) -> None:
        world = limited(per="key", match=Match(agent="a*"))
        for name in ("x1", "x2", "y1"):
            world.submit(name, concurrency_key=name[0])
        assert running(world) == ["x1", "y1"]

        world.run("x1", 1.0)

        assert running(world) == ["x2", "y1"]

    def test_of_a_priority_does_not_keep_others_back(self) -> None:
        world = limited(match=Match(low=8))
        for name, priority in (("x", 9), ("y", 9), ("z", 5)):
            world.submit(name, priority=priority)
        assert running(world) == ["x", "z"]

        world.run("x", 1.0)

        assert running(world) == ["y", "z"]


class TestBudgets:
    def test_a_hundred_tasks_do_not_overspend(self) -> None:
        world = budgeted(agent(capacity=1000, cost_usd=0.1), unit="usd", amount=5.0)

        for n in range(100):
            world.submit(f"task-{n}")

        assert len(running(world)) == 50

    def test_what_was_used_takes_the_place_of_what_was_held(self) -> None:
        world = budgeted(agent(capacity=1000, cost_usd=1.0), unit="usd", amount=2.0)
        for name in ("x", "y", "z"):
            world.submit(name)
        assert running(world) == ["x", "y"]

        world.run("x", 1.0, usage={"usd": 0.0})

        assert running(world) == ["y", "z"]

    def test_one_that_is_used_up_for_good_ends_who_waits_for_it(self) -> None:
        world = budgeted(agent(capacity=1000, cost_usd=0.6), unit="usd", amount=1.0)
        world.submit("x")
        world.submit("y")
        assert world.waits("y").startswith("budget b: $0.40 of $1.00 left")

        world.run("x", 1.0, usage={"usd": 0.6})

        assert world.kinds("y") == ["submitted", "failed"]

    def test_one_that_is_used_up_for_good_ends_also_those_who_wait_for_other_agents(self) -> None:
        world = budgeted(agent("a"), agent("b", skills=frozenset({("test", "1")})))
        world.submit("x")
        world.submit("y", skill="test")

        world.run("x", 1.0)

        assert world.kinds("y") == ["submitted", "failed"]

    def test_one_that_is_used_up_for_one_agent_leaves_the_others(self) -> None:
        world = budgeted(agent("a", capacity=9), agent("b", capacity=1), scope="agent", match=Match(agent="a"))
        world.submit("x")
        world.submit("y")
        taken = {world.agent_of(name) for name in ("x", "y")}
        world.submit("z")
        waiting_for = world.waits("z")

        assert taken == {"a", "b"}
        assert waiting_for.startswith("budget b for agent a: 0 of 1 attempts left")
        world.run("x" if world.agent_of("x") == "b" else "y", 1.0)
        assert world.agent_of("z") == "b"

    def test_wakes_when_its_period_turns(self) -> None:
        world = budgeted(period_s=60.0)
        world.submit("x")
        world.run("x", 1.0)
        world.submit("y")

        assert dispatched(world.due(59.9)) == []
        assert world.fleet.next_due() == 60.0
        world.beat()
        assert dispatched(world.due(60.0)) == [("y", 1)]

    def test_shared_by_two_skills_calls_the_other_one_too(self) -> None:
        one = agent("a", cost_usd=1.0)
        two = agent("b", cost_usd=1.0, skills=frozenset({("test", "1")}))
        world = budgeted(one, two, unit="usd", amount=1.5)
        world.submit("x")
        world.submit("y", skill="test")
        assert running(world) == ["x"]

        world.run("x", 1.0, usage={"usd": 0.1})

        assert running(world) == ["y"]

    def test_of_a_run_does_not_keep_other_runs_back(self) -> None:
        world = budgeted(agent(capacity=9, cost_usd=1.0), unit="usd", amount=1.5, scope="run")
        for name in ("r1", "r2", "s1"):
            world.submit(name, context=name[0])
        assert running(world) == ["r1", "s1"]

        world.run("r1", 1.0, usage={"usd": 0.1})

        assert running(world) == ["r2", "s1"]

    def test_a_call_does_not_cut_a_pause_short(self) -> None:
        late = PolicySpec(name="p", retries=RetryPolicy(rules={"agent": RetryRule(backoff_s=20.0)}))
        budget = BudgetSpec(name="b", unit="usd", amount=2.0, scope="run")
        world = World(agent(capacity=9, cost_usd=1.0), policies=[late], budgets=(budget,))
        for name in ("x", "y", "z"):
            world.submit(name, context="r")
        world.run("x", 1.0, usage={"usd": 0.0})
        world.start("z")
        world.fail("z", usage={"usd": 0.0})

        world.run("y", 1.0, usage={"usd": 0.0})

        assert (world.fleet.tasks["z"].phase, world.fleet.tasks["z"].delayed_until) == ("delayed", 21.0)

    def test_what_was_spent_holds_over_a_restart(self) -> None:
        world = budgeted(agent(capacity=9, cost_usd=0.6), unit="usd", amount=1.0)
        world.submit("x")
        world.run("x", 1.0, usage={"usd": 0.6})

        world.restart()

        assert recorded(world.submit("y"), "failed")

    def test_what_ends_before_the_first_look_after_a_restart_is_counted(self) -> None:
        world = budgeted(agent(capacity=9, cost_usd=0.6), unit="usd", amount=1.0)
        world.submit("x")
        world.start("x")

        world.restart()
        world.finish("x", usage={"usd": 0.9})

        assert world.fleet.gates.budgets.spent("b", "", world.now) == 0.9

    def test_what_was_spent_is_kept_when_the_rules_change_in_the_same_moment(self) -> None:
        world = budgeted(agent(capacity=9, cost_usd=0.6), unit="usd", amount=1.0)
        world.submit("x")
        world.start("x")
        world.tell(e.Finished(task="x", attempt=1, usage={"usd": 0.6}))

        world.tell(world.registry)
        effects = world.due()

        assert [x.data[3] for x in effects if isinstance(x, e.Remembered) and x.kind == "spent"] == [0.6]

    def test_a_larger_one_is_felt_at_once(self) -> None:
        world = budgeted(scope="run")
        world.submit("x", context="r")
        world.submit("y", context="r")

        budget = BudgetSpec(name="b", unit="attempts", amount=2, scope="run")
        world.register(agent(capacity=9), budgets=(budget,))
        world.due()

        assert running(world) == ["x", "y"]

    def test_of_a_task_is_forgotten_with_it(self) -> None:
        world = budgeted(scope="task", amount=5)
        world.submit("x")
        world.run("x", 1.0)

        assert world.fleet.gates.budgets.snapshot() == []
        assert [x.data for x in world.said if isinstance(x, e.Remembered) and x.kind == "spent"][-1] is None

    def test_many_tasks_of_a_run_go_on_as_the_budget_allows_until_all_have_ended(self) -> None:
        world = budgeted(agent(capacity=1000, cost_usd=1.0), unit="usd", amount=1.0, scope="run")
        for n in range(500):
            world.submit(f"task-{n}", context="r")

        while names := running(world):
            assert world.fleet.gates.budgets.standing("b", "t/r", world.now).overshoot == 0
            world.run(names[0], 0.0, usage={"usd": 0.0})

        assert world.fleet.tasks == {}


class TestOwnBudget:
    def test_too_dear_for_every_agent_ends_the_task(self) -> None:
        world = World(agent("a", cost_usd=2.0), agent("b", cost_usd=3.0))

        effects = world.submit(budget=(("usd", 1.0),))

        assert recorded(effects, "failed").data["error"]["message"].startswith("the task's own budget")

    def test_waits_for_an_agent_that_is_not_too_dear_and_keeps_nobody_back(self) -> None:
        world = World(agent("a", cost_usd=2.0), agent("b", cost_usd=0.5, capacity=1))
        world.submit("first", pinned="b")
        world.submit("x", budget=(("usd", 1.0),))
        world.submit("y")
        assert (world.agent_of("x"), world.agent_of("y")) == ("", "a")

        world.run("first", 1.0)
        world.beat()
        world.due(10.0)

        assert world.agent_of("x") == "b"


class TestContainments:
    def held(self, **fields: Any) -> Containment:
        base: dict[str, Any] = {"name": "c", "scope": "agent", "value": "a", "mode": "enforce"}
        return Containment(**{**base, "reason": "it lies", "by": "me", "since": 0.0, **fields})

    @pytest.mark.parametrize(
        ("scope", "value"), [("agent", "a"), ("skill", "li*"), ("tenant", "t"), ("everything", "")]
    )
    def test_hold_new_work_back_with_the_reason(self, scope: Any, value: str) -> None:
        world = World(containments=(self.held(scope=scope, value=value),))

        world.submit()

        assert world.agent_of() == ""
        assert "contained since" in world.waits()
        assert "it lies" in world.waits()

    def test_let_it_go_when_their_time_is_over(self) -> None:
        world = World(containments=(self.held(release_at=5.0),))
        world.submit()

        assert world.fleet.next_due() == 5.0
        assert dispatched(world.due(5.0)) == [("x", 1)]

    def test_let_it_go_when_they_are_taken_away(self) -> None:
        world = World(containments=(self.held(),))
        world.submit()

        world.register(agent())

        assert dispatched(world.due()) == [("x", 1)]

    def test_cancel_what_runs_if_they_say_so(self) -> None:
        world = World()
        world.submit()
        world.start()

        world.register(agent(), containments=(self.held(cancel_running=True),))

        assert e.Stop(task="x", attempt=1, reason="canceled") in world.said

    def test_cancel_also_what_ran_on_while_nobody_led(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.registry = e.RegistryChanged(agents=(agent(),), containments=(self.held(cancel_running=True),))

        world.restart()
        world.due()

        assert e.Stop(task="x", attempt=1, reason="canceled") in world.said

    def test_leave_what_runs_alone_otherwise(self) -> None:
        world = World()
        world.submit()
        world.start()

        world.register(agent(), containments=(self.held(),))

        assert "cancel_requested" not in world.kinds()

    def test_only_count_while_they_observe(self) -> None:
        world = World(containments=(self.held(mode="observe"),))

        world.submit("x")
        world.submit("y")

        assert running(world) == ["x", "y"]
        assert world.fleet.gates.containments.observed("c") == 2


class TestBreakers:
    def shut(self, *agents: e.AgentSpec) -> World:
        """Return a fleet whose agent a has failed three times in a row."""
        world = World(*agents, policies=[AT_ONCE])
        for n in range(3):
            world.submit(f"bad-{n}", pinned="a", max_attempts=1)
            world.start(f"bad-{n}")
            world.fail(f"bad-{n}")
        return world

    def opens_at(self, world: World) -> float:
        """Return when the breaker of a becomes half-open."""
        return world.fleet.gates.breakers.opens_until("a", ("lint", ""), world.now) or 0.0

    def test_tasks_of_a_skill_with_one_agent_wait_and_are_not_burnt(self) -> None:
        world = self.shut()
        for n in range(5):
            world.submit(f"task-{n}")

        assert running(world) == []
        assert world.fleet.next_due() == self.opens_at(world)

    def test_exactly_one_probe_flies(self) -> None:
        world = self.shut()
        for n in range(5):
            world.submit(f"task-{n}")

        sent = dispatched(world.due(self.opens_at(world)))

        assert len(sent) == 1
        assert world.waits("task-1") == "breaker half-open, one probe under way"

    def test_a_good_probe_lets_the_others_go(self) -> None:
        world = self.shut(agent(capacity=9))
        for n in range(5):
            world.submit(f"task-{n}")
        self.wait(world)

        world.run("task-0", 0.1)

        assert len(running(world)) == 4

    def test_a_bad_probe_opens_it_again_for_longer(self) -> None:
        world = self.shut()
        first_s = self.opens_at(world)
        world.submit("task-0")
        self.wait(world)
        world.start("task-0")

        world.fail("task-0")

        assert running(world) == []
        assert self.opens_at(world) - world.now > first_s

    def test_a_probe_that_is_lost_leaves_its_place_to_the_next(self) -> None:
        world = self.shut()
        world.submit("task-0", max_attempts=1)
        world.submit("task-1")
        self.wait(world)
        world.start("task-0")

        world.tell(e.WorkerGone(worker="w", incarnation="1"))
        world.beat(worker="v")
        world.due()

        assert running(world) == ["task-1"]

    def test_stay_open_over_a_restart_for_their_true_time(self) -> None:
        world = self.shut()
        at = self.opens_at(world)
        world.now = 3.0

        world.restart()
        world.submit()

        assert running(world) == []
        assert self.opens_at(world) == at
        world.beat()
        assert dispatched(world.due(at)) == [("x", 1)]

    def test_are_ignored_while_too_few_would_remain(self) -> None:
        world = self.shut(agent("a"), agent("b", capacity=1))
        world.submit("x", pinned="b")

        world.submit("y")

        assert world.agent_of("y") == ""  # one of two remains
        assert world.fleet.gates.breakers.is_closed("a", WHOLE)

    def wait(self, world: World) -> None:
        """Let it be the time of the probe."""
        world.now = self.opens_at(world)
        world.beat(threads=world.threads)
        world.due()


class TestOutliers:
    def test_an_agent_far_worse_than_its_peers_is_ejected(self) -> None:
        agents = [agent(name, capacity=1) for name in ("a", "b", "c", "d")]
        world = World(*agents, policies=[PolicySpec(name="p", strategy="round_robin")])
        for n in range(200):
            name = f"task-{n}"
            world.submit(name, max_attempts=1)
            world.start(name)
            world.now += 0.1
            world.beat()
            if world.agent_of(name) == "d" and n % 3:
                world.fail(name)
            else:
                world.finish(name)

        rows = {r.data["agent"]: r.data for r in world.said if isinstance(r, e.Remembered) and r.kind == "breaker"}

        assert rows.keys() == {"d"}


class TestRemembered:
    def test_predictions_are_the_same_after_a_restart(self) -> None:
        world = World(agent("a"), agent("b"), policies=[PolicySpec(name="p", strategy="round_robin")])
        for n in range(30):
            world.submit(f"task-{n}", size=float(1 + n % 5))
            world.run(f"task-{n}", 1.0 + n % 7, usage={"usd": 0.01 * n})
        world.due(world.now + 10.0)
        before = world.fleet.estimates

        world.restart()
        after = world.fleet.estimates

        for name in ("a", "b"):
            skill = ("lint", "")
            assert after.predicted_s(name, skill, 3.0) == before.predicted_s(name, skill, 3.0)
            assert after.success(name, skill) == before.success(name, skill)
            assert after.expected_cost_usd(name, skill) == before.expected_cost_usd(name, skill)

    def test_a_rating_counts_as_the_worth_of_a_success(self) -> None:
        world = World()
        world.submit()
        world.run("x", 1.0)
        before, _ = world.fleet.estimates.success("a", ("lint", ""))

        world.tell(e.Rated(agent="a", skill=("lint", ""), score=0.0))

        assert world.fleet.estimates.success("a", ("lint", ""))[0] < before
