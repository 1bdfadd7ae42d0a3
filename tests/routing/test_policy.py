from dataclasses import replace
from typing import Any

import pytest

from routing import policy
from routing.events import AgentSpec, TaskSpec

AGENT = AgentSpec(name="a", tenant="t", skills=frozenset({("lint", "1"), ("lint", "2")}), capacity=2)
TASK = TaskSpec(id="x", tenant="t", skill="lint")


def candidate(agent: str = "a", **changes: Any) -> policy.Candidate:
    """Return an idle agent of four slots that needs a second and has never failed."""
    plain = policy.Candidate(
        agent=agent, running=0, capacity=4, predicted_s=1.0, error=0.0, lateness=1.0, failed_before=False
    )
    return replace(plain, **changes)


def best(*candidates: policy.Candidate, strategy: str = "balanced") -> str:
    """Return the name of the first choice."""
    return policy.rank(candidates, strategy=strategy, usual_s=1.0)[0].candidate.agent


class TestRank:
    def test_puts_an_agent_that_failed_this_task_last(self) -> None:
        assert best(candidate("a", failed_before=True), candidate("b", predicted_s=99.0)) == "b"

    def test_decides_by_name_between_equals(self) -> None:
        assert best(candidate("b"), candidate("a")) == "a"

    def test_returns_nothing_for_nobody(self) -> None:
        assert policy.rank([], strategy="balanced", usual_s=1.0) == []

    def test_keeps_the_terms_of_the_score(self) -> None:
        [ranked] = policy.rank([candidate(running=1)], strategy="least_loaded", usual_s=1.0)

        assert ranked.terms == {"load": 0.25, "service_s": 1.0}

    @pytest.mark.parametrize("strategy", sorted(policy.STRATEGIES))
    def test_never_divides_by_zero(self, strategy: str) -> None:
        assert best(candidate(error=1.0, predicted_s=1e-9), strategy=strategy) == "a"


class TestBalanced:
    def test_prefers_the_faster_agent_though_it_is_fuller(self) -> None:
        assert best(candidate("a"), candidate("b", predicted_s=0.5, running=3)) == "b"

    def test_prefers_the_emptier_of_equals(self) -> None:
        assert best(candidate("a", running=1), candidate("b")) == "b"

    def test_avoids_an_agent_that_fails(self) -> None:
        assert best(candidate("a", error=0.5), candidate("b", predicted_s=1.9)) == "b"

    def test_avoids_an_agent_whose_work_is_overdue(self) -> None:
        assert best(candidate("a", lateness=5.0), candidate("b", predicted_s=2.0)) == "b"


class TestLeastLoaded:
    def test_prefers_the_emptier_agent_though_it_is_slower(self) -> None:
        assert best(candidate("a", running=1), candidate("b", predicted_s=99.0), strategy="least_loaded") == "b"

    def test_compares_shares_not_numbers(self) -> None:
        small, large = candidate("a", running=1, capacity=2), candidate("b", running=2, capacity=8)

        assert best(small, large, strategy="least_loaded") == "b"

    def test_prefers_the_faster_of_equals(self) -> None:
        assert best(candidate("a", predicted_s=2.0), candidate("b"), strategy="least_loaded") == "b"


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

    def test_gives_three_reasons_at_most(self) -> None:
        agents = [replace(AGENT, name=name, draining=True) for name in "abcde"]

        assert policy.why_none(agents, TASK).endswith("c: draining and 2 more)")
