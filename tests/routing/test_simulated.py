from typing import Any

import pytest

from routing import events as e
from routing.simulated import BadFleet, Pace, described


def agent(**fields: Any) -> dict[str, Any]:
    """Return the description of one agent."""
    return {"name": "codex", **fields}


class TestDescribed:
    def test_returns_the_agents_as_registered(self) -> None:
        fleet = described({"agents": [agent(capacity=3, skills=["lint"], labels={"gpu": "yes"}, cost_usd=0.5)]})

        assert fleet.agents[0].spec() == e.AgentSpec(
            name="codex",
            tenant="default",
            skills=frozenset({("lint", "1")}),
            capacity=3,
            labels=(("gpu", "yes"),),
            cost_usd=0.5,
        )

    @pytest.mark.parametrize(
        ("data", "where"),
        [
            (None, "fleet: "),
            ({"agents": []}, "agents: "),
            ({"agents": [agent(capacity=0)]}, "agents[0].capacity: "),
            ({"agents": [agent(speed=float("nan"))]}, "agents[0].speed: "),
            ({"agents": [agent(error_rate=1.5)]}, "agents[0].error_rate: "),
            ({"agents": [agent(colour="red")]}, "agents[0].colour: "),
            ({"agents": [agent(freezes=[{"from": 5, "to": 5}])]}, "agents[0].freezes[0]: 'to' comes after 'from'"),
            ({"agents": [agent(slow=[{"from": 5, "to": 6, "factor": 0}])]}, "agents[0].slow[0].factor: "),
            ({"agents": [agent(), agent()]}, "fleet: two agents are called codex"),
            ({"agents": [agent()], "noise": -1}, "noise: "),
        ],
    )
    def test_refuses_bad_data_with_its_place(self, data: Any, where: str) -> None:
        with pytest.raises(BadFleet) as refused:
            described(data)

        assert str(refused.value).startswith(where)


class TestEndOf:
    def pace(self, **fields: Any) -> Pace:
        """Return the pace of one agent whose windows count from 100."""
        return Pace(described({"agents": [agent(**fields)]}).agents[0], origin=100.0)

    def test_divides_the_work_by_the_speed(self) -> None:
        assert self.pace(speed=2.0).end_of(105, 10) == 110

    def test_slows_only_the_part_in_the_window(self) -> None:
        pace = self.pace(slow=[{"from": 10, "to": 18, "factor": 4}])

        assert pace.end_of(105, 5) == 110
        assert pace.end_of(105, 6) == 114
        assert pace.end_of(105, 8) == 119
        assert pace.end_of(118, 8) == 126

    def test_makes_no_way_while_frozen(self) -> None:
        pace = self.pace(freezes=[{"from": 10, "to": 18}])

        assert pace.end_of(105, 6) == 119
        assert pace.end_of(112, 1) == 119

    def test_multiplies_windows_that_overlap(self) -> None:
        pace = self.pace(slow=[{"from": 0, "to": 20, "factor": 2}, {"from": 10, "to": 30, "factor": 5}])

        assert pace.end_of(100, 6) == 120
        assert pace.end_of(100, 8) == 130
