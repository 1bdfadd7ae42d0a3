"""Does a step run, which case of a choice is it?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination.conditions import MAX_CHARS, BadCondition, evaluate, holds, references

SCOPE: dict[str, Any] = {
    "steps": {
        "find-links": {"output": {"links": [{"ok": True, "n": 1}, {"ok": False, "n": 5}], "level": "high", "n": 3}},
    },
    "run": {"input": {"tags": ["urgent"], "zero": 0, "empty": ""}},
}  # fmt: skip


class TestHolds:
    @pytest.mark.parametrize(
        ("expression", "answer"),
        [
            ("", True),
            ("steps.find-links.output.level == 'high' && steps.find-links.output.n > 2", True),
            ("steps.find-links.output.n >= 3.5", False),
            ("steps.find-links.output.n < `4`", True),
            ("steps.find-links.output.links[0].ok == true", True),
            ("steps.find-links.output.missing == null", True),
            ("steps.find-links.output.level == 'a == 3'", False),
            ("length(steps.find-links.output.links[?n > 2]) == 1", True),
            ("contains(run.input.tags, 'urgent') || steps.never.output", True),
            ("!(run.input.empty) && !contains(run.input.tags, 'x')", True),
            ("run.input.zero", True),
            ("run.input.zero == -1", False),
        ],
    )
    def test_decides(self, expression: str, answer: bool) -> None:
        assert holds(expression, SCOPE) is answer

    @pytest.mark.parametrize(
        ("expression", "words"),
        [
            ("steps.find-links.output.level > 1", "cannot be decided"),
            ("length(steps.find-links.output.n)", "cannot be decided"),
            ("run.input.zero = 1", "Equal is written =="),
            ("run.input.zero and run.input.empty", "And is written &&"),
            ("!run.input.empty", "brackets belong behind the !"),
            ("[@, @][]", "a list in brackets cannot stand"),
            ("{a: run}", "an object in braces cannot stand"),
            ("join('', run.input.tags)", "there is no function 'join'"),
            ("(" * 900 + "run" + ")" * 90, "is no"),
            ("!" * 400 + "run", "nested too deep"),
            ("run" + " " * MAX_CHARS, "at most"),
        ],
    )
    def test_refuses_in_words(self, expression: str, words: str) -> None:
        with pytest.raises(BadCondition, match=r"(?s).*") as caught:
            holds(expression, SCOPE)

        assert words in str(caught.value) or "nested too deep" in str(caught.value)

    @given(st.text("steprunima.[]()'`\"&|!=<>?@*- 0123", max_size=60))
    def test_says_yes_or_no_or_refuses_whatever_is_written(self, expression: str) -> None:
        try:
            answer = holds(expression, SCOPE)
        except BadCondition:
            return

        assert answer in (True, False)


class TestEvaluate:
    def test_gives_the_value(self) -> None:
        assert evaluate("max_by(steps.find-links.output.links, &n).n", SCOPE) == 5


class TestReferences:
    def test_lists_what_is_looked_at_from_the_top(self) -> None:
        found = references(
            "steps.a.output.l[?n > 2].m && contains(run.input.tags, item.x[0]) && steps.a-b.output.c | d"
        )

        assert [str(reference) for reference in found] == [
            "steps.a.output.l", "run.input.tags", "item.x[0]", "steps.a-b.output.c",
        ]  # fmt: skip

    def test_refuses_another_root(self) -> None:
        with pytest.raises(BadCondition, match=r"there is no 'high'.*Text stands in single quotes"):
            references('steps.a.output.level == "high"')
