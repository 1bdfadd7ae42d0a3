from dataclasses import replace
from typing import Any

import pytest

from routing import policy
from routing.events import AgentSpec, Labels, TaskSpec

AGENT = AgentSpec(name="a", tenant="t", skills=frozenset({("lint", "1"), ("lint", "2")}), capacity=2)
TASK = TaskSpec(id="x", tenant="t", skill="lint")


class TestExclusion:
    def test_is_none_for_an_able_agent(self) -> None:
        assert policy.exclusion(AGENT, TASK) is None

    @pytest.mark.parametrize(
        ("agent", "task", "why"),
        [
            ({"tenant": "u"}, {}, "belongs to another tenant"),
            ({}, {"skill": "write"}, "lacks the skill write"),
            ({}, {"version": "3"}, "lacks the skill lint v3"),
            ({}, {"pinned": "b"}, "the task asks for b"),
            ({}, {"excluded": ("a",)}, "the task excludes it"),
            ({"labels": (("gpu", "no"),)}, {"labels": (("gpu", "yes"),)}, "lacks the label gpu=yes"),
            ({"enabled": False}, {}, "disabled"),
            ({"draining": True}, {}, "draining"),
        ],
    )
    def test_has_a_reason(self, agent: dict[str, Any], task: dict[str, Any], why: str) -> None:
        assert policy.exclusion(replace(AGENT, **agent), replace(TASK, **task)) == why


class TestHasSkill:
    @pytest.mark.parametrize(("version", "answer"), [("", True), ("2", True), ("3", False)])
    def test_takes_any_version_if_none_is_named(self, version: str, answer: bool) -> None:
        assert policy.has_skill(AGENT.skills, "lint", version) is answer


class TestWhyNone:
    def test_names_a_skill_that_nobody_has(self) -> None:
        assert policy.why_none([AGENT], replace(TASK, skill="write", version="2")) == "no agent has the skill write v2"

    def test_says_nothing_of_other_tenants_agents(self) -> None:
        assert policy.why_none([AGENT], replace(TASK, tenant="u")) == "no agent has the skill lint"

    def test_gives_each_agents_reason(self) -> None:
        agents = [replace(AGENT, draining=True), replace(AGENT, name="b", enabled=False)]

        assert policy.why_none(agents, TASK) == "no able agent (a: draining; b: disabled)"

    def test_names_the_labels_that_no_skilled_agent_carries(self) -> None:
        asked = replace(TASK, labels=(("gpu", "yes"),))
        both = replace(asked, requires="region in (eu,us)")

        assert policy.why_none([AGENT], asked) == "no agent has the skill lint with the label gpu=yes"
        assert (
            policy.why_none([AGENT], both) == "no agent has the skill lint with the labels gpu=yes, region in (eu,us)"
        )

    def test_gives_the_reasons_where_an_agent_with_the_label_cannot_take_it(self) -> None:
        gpu = replace(AGENT, name="b", labels=(("gpu", "yes"),), draining=True)

        why = policy.why_none([AGENT, gpu], replace(TASK, labels=(("gpu", "yes"),)))

        assert why == "no able agent (a: lacks the label gpu=yes; b: draining)"

    def test_gives_three_reasons_at_most(self) -> None:
        agents = [replace(AGENT, name=name, draining=True) for name in "abcde"]

        assert policy.why_none(agents, TASK).endswith("c: draining and 2 more)")


class TestRequires:
    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ((("region", "eu"),), None),
            ((("region", "us"), ("spot", "yes")), "does not meet !spot"),
            ((("region", "asia"),), "does not meet region in (eu, us)"),
        ],
    )
    def test_asks_for_what_the_selector_says(self, labels: Labels, reason: str | None) -> None:
        agent = AgentSpec(name="a", tenant="t", skills=frozenset({("lint", "1")}), capacity=1, labels=labels)
        task = TaskSpec(id="x", tenant="t", skill="lint", requires="region in (eu, us), !spot")

        assert policy.exclusion(agent, task) == reason
