"""monitoring.agent_page"""

from __future__ import annotations

from typing import Any

from monitoring import agent_page
from routing.scorecard import BreakerNow

SNAPSHOT: dict[str, Any] = {
    "workers": [{"worker": "w1"}, {"worker": "w2"}, {"worker": "w3"}, {"worker": "w4", "draining": True}],
    "serves": {"w2": ["b"], "w3": ["a", "b"]},
}


class TestServers:
    def test_are_the_workers_that_serve_all_or_name_the_agent(self) -> None:
        assert agent_page.servers("a", SNAPSHOT) == {"names": ["w1", "w3"], "more": 0}

    def test_are_none_without_a_controller(self) -> None:
        assert agent_page.servers("a", None) == {"names": [], "more": 0}

    def test_are_counted_where_they_are_too_many_to_name(self) -> None:
        workers = [{"worker": f"w{n}"} for n in range(agent_page.SERVERS + 3)]

        assert agent_page.servers("a", {"workers": workers})["more"] == 3


class TestSwitch:
    def test_is_the_one_that_the_agents_row_names(self) -> None:
        told = [{"containment": name, "mode": "enforce", "tasks": None} for name in ("storm", "stop")]
        snapshot = {"rules": {"containments": told}}

        def found(name: str) -> Any:
            return agent_page.switch({"contained": {"switch": name}}, snapshot)

        assert found("stop")["name"] == "stop"
        assert found("gone") is None
        assert agent_page.switch({"contained": None}, snapshot) is agent_page.switch(None, None) is None


class TestMoney:
    def test_reads_as_dollars(self) -> None:
        assert [agent_page.money(usd) for usd in (None, 0.0, 0.001, 0.25, 12.5)] == [
            "–",
            "$0.00",
            "$0.001",
            "$0.25",
            "$12.50",
        ]


class TestHistory:
    def test_tells_openings_and_ejections(self) -> None:
        def breaker(opens: int, ejections: int) -> BreakerNow:
            return BreakerNow(state="closed", words="", until=None, opens=opens, ejections=ejections)

        told = [agent_page.history(breaker(*counts)) for counts in ((0, 0), (1, 0), (3, 2))]

        assert told == ["", "opened 1 time of late", "opened 3 times of late, ejected 2 times in all"]
