"""What watchers are told of tasks that wait in vain."""

from __future__ import annotations

from typing import Any

import pytest

from routing import events as e
from routing.fleet import Fleet
from routing.live import STUCK_AFTER_S, Live

pytestmark = pytest.mark.django_db

AGENT = e.AgentSpec(name="a", tenant="t", skills=frozenset({("s", "1")}), capacity=2)
GPU = (("gpu", "yes"),)


def fleet() -> Fleet:
    """Return a fleet of one agent that a worker serves."""
    made = Fleet()
    made.apply(e.RegistryChanged(agents=(AGENT,)), 0.0)
    made.apply(e.Beat(worker="w", incarnation="1", threads=9), 0.0)
    return made


def submit(to: Fleet, count: int, now: float = 0.0, **asks: Any) -> None:
    for number in range(count):
        spec = e.TaskSpec(id=f"{asks}{number}", tenant="t", skill=asks.get("skill", "s"), labels=asks.get("labels", ()))
        to.apply(e.Submitted(task=spec), now)
    to.due(now)


def stuck(of: Fleet, now: float) -> dict[str, Any]:
    found: dict[str, Any] = Live(of, epoch=1, holder="x", seq=1).snapshot(now)["stuck"]
    return found


class TestStuck:
    def test_counts_tasks_that_nobody_can_serve_by_their_reason(self) -> None:
        made = fleet()
        submit(made, 3, labels=GPU)
        submit(made, 2, skill="x")

        assert stuck(made, STUCK_AFTER_S + 1) == {
            "lanes": 2,
            "tasks": 5,
            "reasons": [
                {"reason": "no agent has the skill s with the label gpu=yes", "tasks": 3},
                {"reason": "no agent has the skill x", "tasks": 2},
            ],
        }

    def test_is_none_before_they_have_waited_for_a_while(self) -> None:
        made = fleet()
        submit(made, 3, labels=GPU)

        assert stuck(made, STUCK_AFTER_S)["tasks"] == 0

    def test_is_none_where_somebody_could_serve(self) -> None:
        made = fleet()
        submit(made, 5)

        assert len(made.lanes) == 3
        assert stuck(made, 1000.0)["lanes"] == 0

    def test_ends_when_an_agent_comes_that_can(self) -> None:
        made = fleet()
        submit(made, 3, labels=GPU)
        able = e.AgentSpec(name="b", tenant="t", skills=AGENT.skills, capacity=1, labels=GPU)
        made.apply(e.RegistryChanged(agents=(AGENT, able)), 90.0)

        assert stuck(made, 90.0)["tasks"] == 0


class TestTheFleetMeanwhile:
    def test_does_not_look_at_them_again_and_again(self) -> None:
        made = fleet()
        submit(made, 3, labels=GPU)

        assert made.next_due() is None
        assert made.due(100.0) == []
        assert not made.lanes.hopeful
