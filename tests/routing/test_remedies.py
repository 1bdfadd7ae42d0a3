from dataclasses import replace
from typing import Any

import pytest

from routing.events import AgentSpec, TaskSpec
from routing.remedies import remedies

AGENT = AgentSpec(name="codex", tenant="t", skills=frozenset({("lint", "1")}), capacity=2)
TASK = TaskSpec(id="x", tenant="t", skill="lint")


class TestRemedies:
    @pytest.mark.parametrize(
        ("agent", "task", "said"),
        [
            ({}, {"skill": "write", "version": "2"}, "Give an agent the skill write v2"),
            ({"enabled": False}, {}, "Enable codex."),
            ({"draining": True}, {}, "Let codex take work again"),
            ({}, {"labels": (("gpu", "yes"),)}, "codex lacks the label gpu=yes: give it that label"),
            ({}, {"requires": "gpu"}, "codex does not meet gpu: give it that label"),
            ({}, {"pinned": "hal"}, "It is pinned to hal"),
            ({}, {"excluded": ("codex",)}, "It excludes codex"),
        ],
    )
    def test_name_what_keeps_everybody_from_it(self, agent: dict[str, Any], task: dict[str, Any], said: str) -> None:
        [line] = remedies([replace(AGENT, **agent)], replace(TASK, **task))

        assert line.startswith(said)

    def test_name_together_who_lacks_the_same(self) -> None:
        agents = [replace(AGENT, name=name) for name in "abcde"]

        [line] = remedies(agents, replace(TASK, labels=(("gpu", "yes"),)))

        assert line.startswith("Each of a, b, c and 2 more lacks the label gpu=yes: give one of them that label")

    @pytest.mark.parametrize(
        ("held", "said"),
        [
            ("limit few: 3 of 3 running", "Raise the limit few"),
            ("limit few for agent a: 3 of 3 running", "Raise the limit few"),
            ("budget day: $0.10 of $5.00 left until 00:00 UTC", "when the budget day is full again"),
            ("skill lint contained since 2026-01-01 by ann: it leaks", "Release the switch"),
            ("breaker open until 14:02:10 UTC after 3 failures in a row", "Look at what it fails at"),
            ("ejected until 14:02:10 UTC: far slower than its peers", "Look at what it fails at"),
            ("another task that was lost before runs: they run one at a time", "Nothing: it goes on by itself."),
        ],
    )
    def test_name_what_opens_the_gate_again(self, held: str, said: str) -> None:
        [line] = remedies([AGENT], TASK, held=held)

        assert said in line

    def test_name_the_agents_whose_slots_are_in_use(self) -> None:
        agents = [replace(AGENT, name=name) for name in "abcde"]

        slot, priority = remedies(agents, TASK)

        assert "capacity of a, b, c and 2 more" in slot
        assert "higher priority than 5" in priority
        assert len(remedies(agents, replace(TASK, priority=9))) == 1

    def test_name_the_worker_that_is_missing(self) -> None:
        assert remedies([AGENT], TASK, workers=0) == ["Start a worker: python3 manage.py up."]
