"""routing.standings"""

from __future__ import annotations

from typing import Any

from routing import events as e
from routing.budget_rules import BudgetSpec
from routing.containment import Containment
from routing.fleet import Fleet
from routing.limit_rules import LimitSpec
from routing.standings import TOLD, rules

SKILL = ("lint", "1")


def fleet(**facts: Any) -> Fleet:
    """Return a fleet of one agent with many slots and one worker."""
    agent = e.AgentSpec(name="a", tenant="default", skills=frozenset({SKILL}), capacity=100, enabled=True)
    made = Fleet()
    made.apply(e.RegistryChanged(agents=(agent,), **facts), 0.0)
    made.apply(e.Beat(worker="w", incarnation="1", threads=100), 0.0)
    return made


def submit(made: Fleet, number: int, now: float = 0.0, **fields: Any) -> None:
    """Submit tasks and let them be assigned as far as the rules allow."""
    for n in range(number):
        task = e.TaskSpec(id=f"{len(made.tasks)}-{n}", tenant="default", skill="lint", created_at=now, **fields)
        made.apply(e.Submitted(task=task), now)
    made.due(now)


class TestRules:
    def test_are_empty_without_rules(self) -> None:
        assert rules(fleet(), 0.0) == {"limits": [], "budgets": [], "containments": []}

    def test_tell_how_many_run_and_how_many_may_begin(self) -> None:
        made = fleet(limits=(LimitSpec(name="few", max_running=2), LimitSpec(name="slow", rate_per_s=1.0, burst=5)))
        submit(made, 3)

        few, slow = rules(made, 0.0)["limits"]

        assert (few["limit"], few["max_running"], few["values"]) == (
            "few",
            2,
            [{"value": "", "running": 2, "tokens": None}],
        )
        assert (slow["limit"], slow["values"][0]["tokens"]) == ("slow", 3.0)

    def test_tell_of_a_limit_that_nothing_uses(self) -> None:
        [limit] = rules(fleet(limits=(LimitSpec(name="few", max_running=2),)), 0.0)["limits"]

        assert limit["values"] == [{"value": "", "running": 0, "tokens": None}]

    def test_tell_of_a_limit_and_a_budget_without_a_value_in_use(self) -> None:
        limit = LimitSpec(name="each", per="agent", max_running=2, rate_per_s=1.0, burst=3)
        made = fleet(limits=(limit,), budgets=(BudgetSpec(name="each", unit="usd", amount=1, scope="tenant"),))
        submit(made, 1)
        in_use = rules(made, 0.0)["limits"][0]["values"]
        made.apply(e.CancelAsked(task=next(iter(made.tasks)), by="eve", reason=""), 1.0)

        told = rules(made, 9.0)

        assert in_use == [{"value": "a", "running": 1, "tokens": 2.0}]
        assert told["limits"][0]["values"] == []
        assert [row["budget"] for row in told["budgets"]] == ["each"]

    def test_name_the_fullest_values_alone(self) -> None:
        made = fleet(limits=(LimitSpec(name="keys", per="key", max_running=9),))
        submit(made, 1, concurrency_key="twice")
        for n in range(TOLD + 5):
            submit(made, 1, concurrency_key=f"k{n}")
        submit(made, 1, concurrency_key="twice")

        [limit] = rules(made, 0.0)["limits"]

        assert limit["values"][0] == {"value": "default/twice", "running": 2, "tokens": None}
        assert (len(limit["values"]), limit["more"]) == (TOLD, 6)

    def test_tell_what_is_spent_reserved_and_left_and_until_when(self) -> None:
        made = fleet(budgets=(BudgetSpec(name="tries", unit="attempts", amount=5, period_s=3600),))
        submit(made, 2)
        task = next(iter(made.tasks))
        made.apply(e.Started(task=task, attempt=1, worker="w"), 1.0)
        made.apply(e.Finished(task=task, attempt=1), 2.0)

        [budget] = rules(made, 2.0)["budgets"]

        assert budget["until"] == "1970-01-01T01:00:00.000Z"
        assert budget["values"] == [{"value": "", "spent": 1.0, "reserved": 1.0, "left": 3.0, "overshoot": 0.0}]

    def test_tell_of_the_present_period_alone(self) -> None:
        made = fleet(budgets=(BudgetSpec(name="tries", unit="attempts", amount=5, period_s=3600),))
        submit(made, 2)

        [budget] = rules(made, 3600.0)["budgets"]

        assert [value["reserved"] for value in budget["values"]] == [0.0]

    def test_count_what_a_containment_holds_or_would_have_held(self) -> None:
        told: dict[str, Any] = {"reason": "storm", "by": "eve", "since": 0.0}
        made = fleet(
            containments=(
                Containment(name="agent", scope="agent", value="b", mode="enforce", **told),
                Containment(name="lint", scope="skill", value="lint", mode="enforce", release_at=60.0, **told),
            )
        )
        submit(made, 3)

        agent, lint = rules(made, 1.0)["containments"]

        assert (agent["target"], agent["tasks"]) == ("agent b", None)
        assert (lint["mode"], lint["tasks"], lint["until"]) == ("enforce", 3, "1970-01-01T00:01:00.000Z")
        assert [c["containment"] for c in rules(made, 60.0)["containments"]] == ["agent"]

    def test_count_what_an_observed_containment_would_have_held(self) -> None:
        told: dict[str, Any] = {"reason": "storm", "by": "eve", "since": 0.0}
        made = fleet(containments=(Containment(name="all", scope="everything", mode="observe", **told),))
        submit(made, 4)

        [everything] = rules(made, 1.0)["containments"]

        assert (everything["mode"], everything["tasks"]) == ("observe", 4)
