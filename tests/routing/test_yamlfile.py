"""YAML with the line of every value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.yamlfile import BadYaml, read, write

TEXT = """\
agents:
  - name: codex
    labels: {gpu: yes}

  - name: claude
    capacity: 3
"""
TRAPS = ["yes", "no", "on", "1e3", "010", "1:30", "2026-01-31", "~", "null", "", ".5", "<<", "=", "0x1f"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
    | st.sampled_from(TRAPS)
)
KEYS = st.text("abc", min_size=1, max_size=3)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


class TestRead:
    def test_knows_the_line_of_every_value(self) -> None:
        found = read(TEXT)

        assert found.value["agents"][1] == {"name": "claude", "capacity": 3}
        assert found.line(("agents", 0, "labels", "gpu")) == 3
        assert found.line(("agents", 1, "capacity")) == 6

    def test_knows_the_column_too(self) -> None:
        found = read(TEXT)

        assert found.column(("agents", 0, "labels", "gpu")) == 14
        assert found.column(("agents", 9)) == found.column(("agents",)) == 1

    def test_gives_the_line_around_what_is_not_there(self) -> None:
        assert read(TEXT).line(("agents", 1, "executor", 5)) == 5
        assert read("").line(("agents",)) == 1

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("yes", "yes"), ("off", "off"), ("true", True), ("1:30", "1:30"), ("010", "010"),
            ("2026-01-31", "2026-01-31"),
            ("-7", -7), ("1e3", 1000.0), (".5", 0.5), ("~", None), ("", None), ("'5'", "5"), ("{a: }", {"a": None}),
        ],
    )  # fmt: skip
    def test_takes_values_as_people_mean_them(self, text: str, value: Any) -> None:
        found = read(text).value

        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("a: 1\nb: [1", 2, "expected"),
            ("a: 1\n\na: 2", 3, "The key 'a' stands twice."),
            ("a: 1\n? [x]\n: 2", 2, "A key is text."),
            ("a: !!python/object:os.system x", 1, "is not understood; leave it out"),
            ("a: 1\n---\nb: 2", 2, "expected a single document"),
            ("a: &x [*x]", 1, "nested too deep"),
            ("[" * 3000, 1, "nested too deep"),
            ("a: \0", 1, "cannot be read"),
        ],
    )
    def test_refuses_in_words_with_the_line(self, text: str, line: int, words: str) -> None:
        with pytest.raises(BadYaml) as caught:
            read(text)

        assert words in str(caught.value)
        assert caught.value.line == line

    def test_refuses_a_bomb(self) -> None:
        bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))

        with pytest.raises(BadYaml, match="unfolds to too much"):
            read(bomb)


class TestWrite:
    @given(VALUES)
    def test_reads_back_as_it_was(self, value: Any) -> None:
        assert read(write(value)).value == value

    def test_quotes_what_other_readers_would_misread(self) -> None:
        assert write({"gpu": "yes", "at": "1e3"}) == "gpu: 'yes'\nat: '1e3'\n"
