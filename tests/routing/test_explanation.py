from dataclasses import replace
from typing import Any

import pytest

from routing import events as e
from routing.explanation import Choice, explain, why_not
from routing.fleet import Fleet
from routing.limit_rules import LimitSpec
from routing.matching import Match
from routing.policies import PolicySpec
from routing.strategies import STRATEGIES, Candidate, Occasion, rank


def kept(agent: str, service_s: float, trouble_s: float = 0.0, load: float = 0.0, **more: Any) -> dict[str, Any]:
    """Return a candidate of ``balanced`` as decisions keep it."""
    terms = {"service_s": service_s, "trouble_s": trouble_s, "load": load}
    return {"agent": agent, "score": service_s + trouble_s, "terms": terms, **more}


CODEX, JULES = kept("codex", 3.0, 0.1), kept("jules", 4.9)
CHOICE = Choice(
    agent="codex", strategy="balanced", policy="default", revision=12, candidates=(CODEX, JULES), waited_s=0.01
)


def summary(**changes: Any) -> str:
    """Return the first sentence of the choice with these changes."""
    return explain(replace(CHOICE, **changes)).summary


def lines(**changes: Any) -> list[str]:
    """Return all the other sentences."""
    return explain(replace(CHOICE, **changes)).lines()[1:]


class TestExplain:
    def test_says_who_by_which_policy_and_how_much_better(self) -> None:
        assert summary() == (
            "codex, by balanced of policy default (revision 12): expected 3.1 s, 1.8 s sooner than jules."
        )

    def test_says_of_a_worse_candidate_which_term_decided(self) -> None:
        failing = kept("jules", 3.2, 1.7)

        assert lines() == ["jules: expected 4.9 s, 1.8 s later (expected time to a good answer 4.9 s against 3.0 s)."]
        assert lines(candidates=(CODEX, failing)) == [
            "jules: expected 4.9 s, 1.8 s later (charge for recent failures 1.7 s against 100 ms)."
        ]

    def test_says_that_a_better_one_has_failed_this_task(self) -> None:
        failed = kept("jules", 1.3, failed_before=True)

        assert lines(candidates=(CODEX, failed)) == [
            "jules: expected 1.3 s, 1.8 s sooner, but it has failed this very task before."
        ]
        assert "each of the others has failed this very task before" in summary(candidates=(CODEX, failed))

    def test_says_that_a_better_one_was_kept_back(self) -> None:
        shut = kept("jules", 1.3, admitted=False)
        reason = "breaker open until 14:02:10 UTC after 3 failures in a row at lint"
        told = {"candidates": (CODEX, shut), "exclusions": {"jules": reason}}

        assert lines(**told) == [f"jules: expected 1.3 s, 1.8 s sooner, but its breaker was {reason[8:]}."]
        assert "the only one of 2 free agents that nothing kept back, expected 3.1 s" in summary(**told)

    def test_says_that_a_worse_one_was_kept_back(self) -> None:
        shut = kept("jules", 4.9, admitted=False)

        assert lines(candidates=(CODEX, shut), exclusions={"jules": "limit few: 3 of 3 running"}) == [
            "jules: expected 4.9 s, 1.8 s later; limit few: 3 of 3 running."
        ]

    def test_says_what_tells_equals_apart(self) -> None:
        equal = kept("jules", 3.0, 0.1, load=0.5)

        assert summary(candidates=(CODEX, equal)).endswith(
            "expected 3.1 s, as good as jules (slots in use 0 % against 50 %)."
        )
        assert lines(candidates=(CODEX, equal)) == ["jules: expected 3.1 s, as good (slots in use 50 % against 0 %)."]
        assert "as good as jules (load, then the name tells equals apart)" in summary(
            candidates=(CODEX, kept("jules", 3.0, 0.1))
        )

    def test_says_when_there_was_no_choice(self) -> None:
        assert summary(candidates=(CODEX,)).endswith(": the only able agent with a free slot, expected 3.1 s.")

    def test_says_when_everybody_has_failed_it(self) -> None:
        failed = [{**one, "failed_before": True} for one in (CODEX, JULES)]

        assert "it has failed this very task before, as has everybody else" in summary(candidates=failed)
        assert "1.8 s sooner than jules" in summary(candidates=failed)

    def test_lists_those_left_out_by_their_reason(self) -> None:
        out = {**dict.fromkeys("abcdef", "all 2 slots in use"), "x": "draining"}

        assert lines(candidates=(CODEX,), exclusions=out, more=1200) == [
            "Left out: a, b, c, d and 2 more: all 2 slots in use; x: draining; 1,200 more that are not listed."
        ]

    @pytest.mark.parametrize(
        ("waited_for", "said"),
        [
            ("", "Before that it waited 2.4 s."),
            ("a free slot of an agent", "Before that it waited 2.4 s for a free slot of an agent."),
            (
                "limit few: 3 of 3 running",
                "Before that it waited 2.4 s; what kept it back last: limit few: 3 of 3 running.",
            ),
        ],
    )
    def test_says_how_long_it_waited_and_for_what(self, waited_for: str, said: str) -> None:
        assert lines(candidates=(CODEX,), waited_s=2.4, waited_for=waited_for) == [said]

    def test_says_nothing_of_a_wait_too_short_to_be_noticed(self) -> None:
        assert lines(candidates=(CODEX,), waited_for="a free slot of an agent") == []

    def test_says_what_a_shadow_would_have_done(self) -> None:
        other, same = ({"strategy": "adaptive", "agent": name} for name in ("jules", "codex"))

        assert lines(candidates=(CODEX,), shadow=other) == ["A shadow adaptive would have taken jules."]
        assert lines(candidates=(CODEX,), shadow=same) == ["A shadow adaptive would have taken codex as well."]

    def test_says_beside_which_attempt_a_hedge_flew(self) -> None:
        assert lines(candidates=(CODEX,), hedge=True, beside=1) == [
            "It flew beside attempt 1, which took long; the first answer counts."
        ]

    def test_makes_do_with_what_an_earlier_release_kept(self) -> None:
        assert summary(candidates=(), policy="", strategy="forgotten") == "codex, by forgotten."
        assert summary(candidates=({"agent": "codex"},), strategy="forgotten").endswith("with a free slot, score 0.")


OCCASION = Occasion(skill="lint", tenant="t", affinity="k", waiting=2, order=("b", "a"))
CANDIDATES = (
    Candidate(agent="a", running=1, capacity=4, predicted_s=2.0, usual_s=2.0, lateness=2.0, cost_usd=0.02, p_sd=0.05),
    Candidate(agent="b", running=2, capacity=4, predicted_s=1.5, usual_s=2.0, error=0.3, cost_usd=0.03, chosen_at=7),
)
SAID = {
    "balanced": ("expected 3.3 s, 657 ms sooner than a", "expected time to a good answer 4.0 s against 2.1 s"),
    "least_loaded": ("25 % of its slots in use, 25 points less than b", "25 points more"),
    "fastest": ("expected 1.5 s, 2.5 s faster than a", "lateness of its slowest attempt × 2 against × 1"),
    "cheapest": ("expected price $0.02, $0.01 cheaper than b", "$0.01 dearer"),
    "round_robin": ("not chosen before, 7 turns earlier than b", "chosen last at turn 7, 7 turns later"),
    "sticky": ("from the task's key, nearer than", "farther"),
    "ordered": ("place 1 in the policy's order, 1 place nearer the front than a", "1 place farther back"),
    "adaptive": ("more than", "less ("),
}


class TestEveryStrategy:
    @pytest.mark.parametrize("name", STRATEGIES)
    def test_is_told_in_words_of_its_own(self, name: str) -> None:
        ranked = rank(CANDIDATES, strategy=name, occasion=OCCASION)
        terms = STRATEGIES[name].terms
        told = [
            {"agent": r.candidate.agent, "score": r.score, "terms": dict(terms(r.candidate, OCCASION))} for r in ranked
        ]
        chosen = ranked[0].candidate.agent

        found = explain(Choice(agent=chosen, strategy=name, policy="p", revision=1, candidates=told))

        ahead, behind = SAID[name]
        assert ahead in found.summary
        assert behind in found.lines()[1]

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_has_words_for_all_its_terms(self, name: str) -> None:
        for candidate in CANDIDATES:
            terms = dict(STRATEGIES[name].terms(candidate, OCCASION))
            told = {"agent": candidate.agent, "score": 1.0, "terms": terms}
            [agent] = explain(Choice(agent=candidate.agent, strategy=name, candidates=[told])).agents

            assert len(agent.terms) == len(terms)
            assert not {label for label, _ in agent.terms} & {term.replace("_", " ") for term in terms} - {
                "success", "time",
            }  # fmt: skip


class TestWhyNot:
    CHOICE = replace(CHOICE, exclusions={"hal": "draining"})

    @pytest.mark.parametrize(
        ("agent", "said"),
        [
            ("codex", "codex got it: codex, by balanced"),
            ("jules", "jules did not get it: expected 4.9 s, 1.8 s later"),
            ("hal", "hal did not get it: draining."),
            ("nobody", "nobody was not asked: it lacks the skill"),
        ],
    )
    def test_answers_for_everybody(self, agent: str, said: str) -> None:
        assert why_not(self.CHOICE, agent).startswith(said)

    def test_says_that_not_all_are_listed(self) -> None:
        assert "3 more are not listed" in why_not(replace(CHOICE, more=3), "nobody")


class TestADecisionOfTheFleet:
    """What the shipped fleet keeps is what the words are made of."""

    def test_tells_what_a_limit_on_the_better_agent_cost(self) -> None:
        agents = tuple(
            e.AgentSpec(name=name, tenant="t", skills=frozenset({("s", "1")}), capacity=2) for name in ("a", "b")
        )
        fleet = Fleet()
        limit = LimitSpec(name="few", match=Match(agent="a"), per="agent", max_running=1)
        policy = PolicySpec(name="plain")
        fleet.apply(e.RegistryChanged(agents=agents, limits=(limit,), policies=(policy,), revision=3), 0.0)
        fleet.apply(e.Beat(worker="w", incarnation="1", threads=9), 0.0)
        for name in ("t1", "t2"):
            fleet.apply(e.Submitted(task=e.TaskSpec(id=name, tenant="t", skill="s")), 0.0)
            made = [x for x in fleet.due(0.0) if isinstance(x, e.Recorded) and x.decision is not None]
        decision = made[0].decision
        assert decision is not None

        told = explain(
            Choice(
                agent=made[0].agent, strategy=decision.strategy, policy=decision.policy, revision=decision.revision,
                candidates=decision.candidates, exclusions=decision.exclusions,
            )
        )  # fmt: skip

        assert told.summary.startswith("b, by balanced of policy plain (revision 3): the only one of 2 free agents")
        assert told.lines()[1] == "a: expected 1.0 s, as good; limit few for agent a: 1 of 1 running."

    def test_marks_an_agent_that_failed_the_task(self) -> None:
        agents = tuple(
            e.AgentSpec(name=name, tenant="t", skills=frozenset({("s", "1")}), capacity=1) for name in ("a", "b")
        )
        fleet = Fleet()
        fleet.apply(e.RegistryChanged(agents=agents), 0.0)
        fleet.apply(e.Beat(worker="w", incarnation="1", threads=9), 0.0)
        fleet.apply(e.Submitted(task=e.TaskSpec(id="t", tenant="t", skill="s")), 0.0)
        fleet.due(0.0)
        fleet.apply(e.Started(task="t", attempt=1, worker="w"), 0.0)
        error: e.Error = {"kind": "agent", "message": "no", "retryable": True}
        fleet.apply(e.Finished(task="t", attempt=1, error=error), 0.5)
        made = [x for x in fleet.due(9.0) if isinstance(x, e.Recorded) and x.decision is not None]

        assert made[0].decision is not None
        assert [one.get("failed_before", False) for one in made[0].decision.candidates] == [False, True]
