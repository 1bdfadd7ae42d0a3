from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import matching
from routing.matching import Match, Rules, fits
from routing.selectors import parse
from tests.routing.subjects import Subject

TASK = Subject(labels=(("gpu", "yes"),), priority=5)


class TestFits:
    @pytest.mark.parametrize(
        ("pattern", "name", "answer"),
        [
            ("*", "anything", True),
            ("code.*", "code.lint", True),
            ("code.*", "code", False),
            ("code.*", "codexlint", False),
            ("code.lint", "code.lint", True),
            ("code.lint", "code.lint2", False),
            ("c?de", "code", True),
            ("c?de", "cde", False),
            ("*.lint", "code.lint", True),
        ],
    )
    def test_knows_names_and_patterns(self, pattern: str, name: str, answer: bool) -> None:
        assert fits(pattern, name) is answer

    @given(st.text(alphabet="ab.*?", min_size=1, max_size=8), st.text(alphabet="ab.", max_size=10))
    def test_agrees_with_the_shell(self, pattern: str, name: str) -> None:
        assert fits(pattern, name) == fnmatchcase(name, pattern)

    def test_does_not_take_long_for_a_spiteful_pattern(self) -> None:
        assert not fits("*a" * 32 + "b", "a" * 64)


class TestMatches:
    @pytest.mark.parametrize(
        ("match", "answer"),
        [
            ({}, True),
            ({"skill": "cr*"}, True),
            ({"skill": "lint"}, False),
            ({"tenant": "acme"}, True),
            ({"tenant": "other"}, False),
            ({"labels": parse("gpu=yes")}, True),
            ({"labels": parse("!gpu")}, False),
            ({"low": 5, "high": 5}, True),
            ({"low": 6}, False),
            ({"high": 4}, False),
            ({"agent": "nobody"}, True),
        ],
    )
    def test_asks_for_everything_but_the_agent(self, match: dict[str, Any], answer: bool) -> None:
        assert Match(**match).matches(TASK) is answer


class TestIncludes:
    def test_asks_for_the_agent(self) -> None:
        match = Match(agent="jules-*")

        assert (match.includes("jules-1"), match.includes("codex"), match.names_agents) == (True, False, True)

    def test_means_every_agent_if_none_is_named(self) -> None:
        assert (Match().includes("codex"), Match().names_agents) == (True, False)


class TestSpecificity:
    def test_puts_the_narrower_rule_first(self) -> None:
        rules = [
            Match(skill="code.lint", tenant="acme"),
            Match(skill="code.lint", high=4),
            Match(skill="code.lint"),
            Match(skill="code.*", tenant="acme"),
            Match(skill="c*"),
            Match(tenant="acme"),
            Match(agent="jules"),
            Match(agent="j*"),
            Match(labels=parse("gpu")),
            Match(low=3, high=4),
            Match(),
        ]

        shuffled = rules[::-1]

        assert sorted(shuffled, key=lambda match: match.specificity, reverse=True) == rules


class TestProblems:
    def test_are_none_for_plain_rules(self) -> None:
        assert [Match().problems(), Match(skill="code.*", tenant="t", agent="a?", low=0, high=9).problems()] == [[], []]

    @pytest.mark.parametrize(
        ("match", "words"),
        [
            ({"skill": ""}, "skill: use a name or a pattern"),
            ({"skill": "Code.*"}, "skill: use a name or a pattern"),
            ({"agent": "[ab]"}, "agent: use a name or a pattern"),
            ({"tenant": "ACME"}, "tenant: no tenant can be called 'ACME'"),
            ({"low": 6, "high": 5}, "priority: 6 to 5 is empty"),
            ({"high": 10}, "priority: use whole numbers from 0 to 9, not 0 to 10"),
            ({"low": True}, "priority: use whole numbers"),
            ({"labels": parse("gpu, !gpu")}, "labels: nothing can meet all that is asked of gpu (gpu, !gpu)"),
        ],
    )
    def test_say_what_can_never_match(self, match: dict[str, Any], words: str) -> None:
        [problem] = Match(**match).problems()

        assert words in problem


class Rule(NamedTuple):
    """A rule with nothing to say."""

    match: Match


class TestRules:
    def test_returns_those_that_speak_of_the_task_in_order(self) -> None:
        first, second, other = Rule(Match(skill="crawl")), Rule(Match()), Rule(Match(skill="lint"))
        rules = Rules([first, other, second])

        assert rules.of(TASK) == rules.of(replace(TASK, id="y")) == (first, second)

    def test_tells_tasks_apart_that_differ_in_what_rules_ask_for(self) -> None:
        rules = Rules([Rule(Match(tenant="acme", skill="crawl", labels=parse("gpu"), low=5))])
        changes: list[dict[str, Any]] = [{"tenant": "t"}, {"skill": "s"}, {"labels": ()}, {"priority": 4}]

        assert len(rules.of(TASK)) == 1
        assert [rules.of(replace(TASK, **change)) for change in changes] == [()] * 4

    def test_remembers_only_so_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(matching, "KEPT_ANSWERS", 10)
        rules = Rules([Rule(Match())])
        for n in range(100):
            rules.of(replace(TASK, skill=f"s{n}"))

        assert len(rules._known) <= 10
