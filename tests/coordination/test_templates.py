"""Where values of a run come from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination.templates import BadTemplate, MissingPath, fill, literal, references, template
from tests.coordination.graphs import JSON

SCOPE: dict[str, Any] = {
    "steps": {
        "research": {"output": {"text": "long", "links": ["a", {"url": "b"}], "count": 3, "none": None}},
        "load 2": {"output": [1, 2]},
    },
    "run": {"input": {"topic": "bees"}, "id": "r1"},
    "item": {"key": "k"},
}
NAMES = st.text(st.characters(codec="utf-8"), max_size=6)
BRACED = st.recursive(
    st.text('{}"\\ ax', max_size=12),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
)


class TestFill:
    @pytest.mark.parametrize(
        ("value", "filled"),
        [
            ("{{ steps.research.output.links }}", ["a", {"url": "b"}]),
            ("{{steps.research.output.count}}", 3),
            ("{{ steps.research.output.none }}", None),
            ("{{ steps.research.output.links[-1].url }}", "b"),
            ('{{ steps["load 2"].output[0] }}', 1),
            ("{{ item.key }}: {{ steps.research.output.count }} of {{ run.input }}", 'k: 3 of {"topic": "bees"}'),
            ({"about": ["{{ run.input.topic }}", 5]}, {"about": ["bees", 5]}),
            ("no template } here {", "no template } here {"),
            ('{{ "{{" }} run }}', "{{ run }}"),
        ],
    )
    def test_keeps_the_type_of_one_template_and_joins_text_around(self, value: Any, filled: Any) -> None:
        assert fill(value, SCOPE) == filled

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{{ steps.research.output.summary }}",
             "steps.research.output.summary: there is no 'summary'; there are 'text', 'links', 'count', 'none'"),
            ("{{ steps.research.output.links[2] }}", "there is no place 2; the list has 2 items"),
            ("{{ steps.research.output.text.x }}", "there is no 'x'; it is text, not an object"),
            ("{{ steps.research.output.none[0] }}", "there is no place 0; it is null, not a list"),
            ("{{ steps.write.output }}", "there is no 'write'; there are 'research', 'load 2'"),
        ],
    )  # fmt: skip
    def test_names_the_path_that_is_missing_and_what_there_is(self, text: str, words: str) -> None:
        with pytest.raises(MissingPath, match="there is no") as caught:
            fill(text, SCOPE)

        assert words in str(caught.value)

    @pytest.mark.parametrize(
        "text",
        ["{{ }}", "{{ steps.", "{{ config.secret }}", "{{ run.input | upper }}", "{{ run.x() }}", "{{ run[x] }}",
         "{{ run..id }}", "{{ steps.a {{ run.id }}", '{{ "open }}', "{{ run." + "a" * 600 + " }}"],
    )  # fmt: skip
    def test_refuses_what_is_no_template(self, text: str) -> None:
        with pytest.raises(BadTemplate):
            fill(text, SCOPE)

    def test_reaches_no_attribute_of_python(self) -> None:
        with pytest.raises(MissingPath, match="there is no '__class__'"):
            fill("{{ run.__class__ }}", SCOPE)

    @given(st.lists(NAMES | st.integers(0, 3), max_size=4))
    def test_finds_what_a_written_path_leads_to(self, path: list[str | int]) -> None:
        found: Any = "here"
        for part in reversed(path):
            found = {part: found} if isinstance(part, str) else [None] * part + [found]

        assert fill(template(("item", *path)), {"item": found}) == "here"

    @given(JSON | BRACED)
    def test_gives_back_what_was_made_literal(self, value: Any) -> None:
        assert fill(literal(value), {}) == value


class TestReferences:
    def test_lists_every_path_once(self) -> None:
        value = {"a": "{{ steps.x.output }} {{ run.id }}", "b": ["{{ steps.x.output }}", 3]}

        found = references(value)

        assert [str(reference) for reference in found] == ["steps.x.output", "run.id"]
        assert [reference.step for reference in found] == ["x", None]
