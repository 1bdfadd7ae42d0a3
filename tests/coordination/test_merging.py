from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination.merging import Collision, Rule, Unfit, joined, merged

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


class TestMerged:
    @pytest.mark.parametrize(
        ("there", "change", "expected"),
        [  # RFC 7396, appendix A
            ({"a": "b"}, {"a": "c"}, {"a": "c"}),
            ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
            ({"a": "b"}, {"a": None}, {}),
            ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
            ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
            ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
            ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
            ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
            (["a", "b"], ["c", "d"], ["c", "d"]),
            ({"a": "b"}, ["c"], ["c"]),
            ({"a": "foo"}, None, None),
            ({"a": "foo"}, "bar", "bar"),
            ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
            ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
            ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ],
    )
    def test_does_as_the_standard_says(self, there: Any, change: Any, expected: Any) -> None:
        assert merged(there, change) == expected

    @given(JSON, JSON)
    def test_twice_is_once(self, there: Any, change: Any) -> None:
        once = merged(there, change)

        assert merged(once, change) == once


class TestJoined:
    @pytest.mark.parametrize(
        ("rule", "expected"),
        [(Rule.LAST_WRITE, 2), (Rule.APPEND, [5, 2]), (Rule.MAX, 5), (Rule.MIN, 2), (Rule.MERGE, 2)],
    )
    def test_is_what_the_rule_makes_of_both(self, rule: Rule, expected: Any) -> None:
        assert joined(rule, 5, 2) == expected

    def test_is_refused_where_the_rule_rejects(self) -> None:
        with pytest.raises(Collision):
            joined(Rule.REJECT, 5, 2)

    @pytest.mark.parametrize(("there", "new"), [(1, "2"), (True, 2), (None, 1), ({}, 1)])
    def test_compares_only_numbers(self, there: Any, new: Any) -> None:
        with pytest.raises(Unfit):
            joined(Rule.MAX, there, new)

    @given(st.lists(st.integers(-5, 5) | st.lists(st.integers(-5, 5), max_size=3), min_size=2, max_size=6))
    def test_appends_everything_in_order(self, values: list[Any]) -> None:
        found: Any = []
        for value in values:
            found = joined(Rule.APPEND, found, value)

        assert found == [item for value in values for item in (value if isinstance(value, list) else [value])]
