"""The strict JSON gate."""

import json
import math
import re
import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import payloads
from routing.errors import BadInput, Malformed, RoutingError, TooLarge

MIB = 1024 * 1024

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(payloads.LOWEST, payloads.HIGHEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(categories=["L", "P"])), inner),
    max_leaves=30,
)


def load(data: bytes | str) -> Any:
    return payloads.loads(data, max_bytes=MIB)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class TestLoads:
    @given(JSON)
    def test_gives_back_what_json_wrote(self, value: Any) -> None:
        assert load(json.dumps(value)) == value
        assert load(json.dumps(value, ensure_ascii=False).encode()) == value

    @given(st.binary(max_size=200) | st.text('[]{}",:\\u0d18eE+-.9 \0\ud800', max_size=60))
    def test_never_raises_anything_but_a_routing_error(self, data: bytes | str) -> None:
        try:
            value = load(data)
        except RoutingError:
            return

        assert value == json.loads(data) or math.isnan(value)
        assert payloads.check(value, max_bytes=MIB) > 0

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"NaN", "NaN is not a JSON number"),
            (b'{"a": [Infinity]}', "Infinity is not"),
            (b"-Infinity", "-Infinity is not"),
            (b"1e999", "too large"),
            (b'{"a": 1, "b": 2, "a": 3}', 'the key "a" stands twice'),
            (b"18446744073709551616", "more than 64 bits"),
            (b"-9223372036854775809", "more than 64 bits"),
            (b"9" * 10_000, "more than 64 bits"),
            (b"\xff", "not valid UTF-8 (at position 0)"),
            ("\ud800", "not valid UTF-8"),
            (b'"a\x00b"', "control character"),
            (b"", "line 1, column 1"),
            (b"[1,", "line 1"),
            (b"{} {}", "Extra data"),
            (b"\xef\xbb\xbf{}", "BOM"),
            (b"{'a': 1}", "double quotes"),
        ],
    )
    def test_refuses(self, data: bytes | str, words: str) -> None:
        with pytest.raises(Malformed, match="(?i)" + words.replace("(", r"\(").replace(")", r"\)")):
            load(data)

    @pytest.mark.parametrize(
        ("data", "pointer"),
        [
            (b'{"a": ["x", "\\u0000"]}', "/a/1"),
            (b'{"a/b": {"c~d": "\\ud800"}}', "/a~1b/c~0d"),
            (b'{"a": {"\\u0000": 1}}', "/a"),
        ],
    )
    def test_points_at_text_that_no_database_can_hold(self, data: bytes, pointer: str) -> None:
        with pytest.raises(Malformed) as caught:
            load(data)

        assert caught.value.pointer == pointer

    def test_takes_a_whole_surrogate_pair_and_an_escaped_backslash(self) -> None:
        assert load(b'"\\ud83d\\ude00 \\\\u0000"') == "\N{GRINNING FACE} \\u0000"

    def test_takes_64_levels_and_no_more(self) -> None:
        assert load(json.dumps(nested(64))) == nested(64)
        with pytest.raises(Malformed, match="more than 64 deep"):
            load(json.dumps(nested(65)))

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
    @pytest.mark.parametrize("times", [5_000, 150_000])
    def test_survives_any_depth(self, opening: bytes, times: int) -> None:
        with pytest.raises(Malformed, match="more than 64 deep"):
            load(opening * times)

    def test_does_not_count_brackets_inside_strings(self) -> None:
        value = ["[" * 100, '"[{' * 100, "\\"]

        assert load(json.dumps(value)) == value

    @pytest.mark.parametrize("data", [b'"' + b'\\"' * 500_000, b'"["' * 300_000, b'["\\' + b"[" * 500_000])
    def test_takes_linear_time_for_strings_that_are_never_closed(self, data: bytes) -> None:
        began = time.process_time()

        with pytest.raises(Malformed):
            load(data)

        assert time.process_time() - began < 5  # quadratic would be hours

    def test_counts_bytes_not_characters(self) -> None:
        assert payloads.loads('"ää"', max_bytes=6) == "ää"
        with pytest.raises(TooLarge, match="6 bytes; at most 5"):
            payloads.loads('"ää"', max_bytes=5)


class TestCheck:
    @given(JSON)
    def test_returns_the_size_of_compact_json(self, value: Any) -> None:
        assert payloads.check(value, max_bytes=MIB) == len(
            json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        )

    @pytest.mark.parametrize(
        ("value", "pointer", "words"),
        [
            ({"a": [1, uuid.uuid4()]}, "/a/1", "a UUID"),
            ({"a": {1, 2}}, "/a", "a set"),
            ([b"x"], "/0", "a bytes"),
            ([math.nan], "/0", "nan"),
            ([math.inf], "/0", "inf"),
            ([2**64], "/0", "64 bits"),
            pytest.param([10**5000], "/0", "64 bits", id="huge"),
            ({"a": "x\0"}, "/a", "NUL"),
            ({"a": "\udfff"}, "/a", "surrogate"),
            ({"a": {"\0": 1}}, "/a", "NUL"),
        ],
    )
    def test_refuses_what_json_cannot_carry(self, value: Any, pointer: str, words: str) -> None:
        with pytest.raises(Malformed, match=words) as caught:
            payloads.check(value, max_bytes=MIB, at="/input")

        assert caught.value.pointer == "/input" + pointer

    @pytest.mark.parametrize("key", [1, None, pytest.param(10**5000, id="huge"), ("a",)])
    def test_refuses_keys_that_are_not_text(self, key: Any) -> None:
        with pytest.raises(BadInput, match="keys of a JSON object are strings"):
            payloads.check({"a": {key: 1}}, max_bytes=MIB)

    def test_refuses_a_value_that_holds_itself(self) -> None:
        value: list[Any] = []
        value.append(value)

        with pytest.raises(Malformed, match="more than 64 deep"):
            payloads.check(value, max_bytes=MIB)

    def test_refuses_a_small_value_that_unfolds_without_end(self) -> None:
        value: list[Any] = ["ha"]
        for _ in range(60):
            value = [value, value]

        with pytest.raises(TooLarge):
            payloads.check(value, max_bytes=10_000)

    def test_takes_tuples_as_arrays(self) -> None:
        assert payloads.check({"a": (1, 2)}, max_bytes=MIB) == len('{"a":[1,2]}')


class TestProblems:
    @pytest.mark.parametrize(
        "schema",
        [
            {},
            {"$schema": payloads.DIALECT, "$id": "urn:example:one", "type": "object"},
            {"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
            {"properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}, "$id": {"type": "string"}}},
            {"const": {"$ref": "http://example.com/"}, "enum": [{"pattern": "("}]},
            {"pattern": r"^\p{L}+$"},
        ],
    )
    def test_finds_nothing_in_a_good_schema(self, schema: Any) -> None:
        assert payloads.problems(schema) == []

    @pytest.mark.parametrize(
        ("schema", "words"),
        [
            ([], "is a JSON object"),
            ({"type": "objekt"}, "At /type"),
            ({"properties": {"a": {"minimum": "1"}}}, "At /properties/a/minimum"),
            ({"$schema": "http://json-schema.org/draft-07/schema#"}, "2020-12"),
            ({"$ref": "http://127.0.0.1:9/schema.json"}, "leads out of the schema"),
            ({"items": {"$dynamicRef": "file:///etc/passwd"}}, "At /items: .*leads out"),
            ({"properties": {"default": {"$ref": "http://example.com/"}}}, "leads out"),
            ({"$ref": "#/$defs/missing"}, "leads to nothing"),
            ({"items": {"$id": "http://example.com/"}}, "at the top only"),
            ({"pattern": "(?=a)b"}, "look-around"),
            ({"pattern": r"(a)\1"}, "backreference"),
            ({"patternProperties": {"(": {}}}, "cannot be used"),
            ({"pattern": "((a{1000}){1000}){1000}"}, "size limit"),
            ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "cannot stand together"),
            ({"const": "\0"}, "NUL"),
            ({"items": nested(100)}, "64 deep"),
        ],
    )
    def test_says_in_words_what_is_wrong(self, schema: Any, words: str) -> None:
        found = payloads.problems(schema)

        assert len(found) == 1
        assert re.search(words, found[0]), found[0]


class TestMismatch:
    SCHEMA = {
        "type": "object",
        "properties": {"path": {"type": "string", "pattern": "^[a-z]+$"}, "n": {"type": "array", "uniqueItems": True}},
        "required": ["path"],
        "patternProperties": {"^x-": {"type": "integer"}},
        "additionalProperties": False,
    }

    @pytest.mark.parametrize("value", [{"path": "a"}, {"path": "a", "x-1": 5}, {"path": "a", "n": [1, True, "1", [1]]}])
    def test_is_none_for_a_value_that_fits(self, value: Any) -> None:
        assert payloads.mismatch(self.SCHEMA, value) is None

    @pytest.mark.parametrize(
        ("value", "pointer", "words"),
        [
            (None, "", "None is not of type 'object'"),
            ({}, "", "'path' is a required property"),
            ({"path": "A"}, "/path", "does not match"),
            ({"path": "a\n"}, "/path", "does not match"),
            ({"path": "a", "odd/key": 1}, "/odd~1key", "not a known property"),
            ({"path": "a", "x-1": "5"}, "/x-1", "not of type 'integer'"),
            ({"path": "a", "n": [1, {"a": 1}, {"a": 1.0}]}, "/n/2", "stands in the list before"),
        ],
    )
    def test_points_at_what_does_not_fit(self, value: Any, pointer: str, words: str) -> None:
        found = payloads.mismatch(self.SCHEMA, value)

        assert found is not None
        assert found[0] == pointer
        assert words in found[1]

    def test_takes_no_time_for_a_regular_expression_bomb(self) -> None:
        assert payloads.mismatch({"pattern": "^(a+)+$"}, "a" * 100_000 + "!") is not None

    def test_takes_no_time_to_find_equal_objects(self) -> None:
        many = [{"n": number} for number in range(50_000)]

        assert payloads.mismatch({"uniqueItems": True}, many) is None

    def test_follows_a_schema_down_to_the_deepest_value(self) -> None:
        tree = {"$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}, "type": "object"}}, "$ref": "#/$defs/n"}
        value: Any = {}
        for _ in range(63):
            value = {"a": value}

        assert payloads.mismatch(tree, value) is None

    def test_survives_a_schema_that_refers_to_itself(self) -> None:
        found = payloads.mismatch({"$ref": "#"}, 1)

        assert found is not None
        assert "without end" in found[1]

    def test_fetches_nothing(self) -> None:
        found = payloads.mismatch({"$ref": "http://127.0.0.1:9/"}, 1)

        assert found is not None
        assert "which is not in it" in found[1]

    def test_shortens_what_it_quotes(self) -> None:
        found = payloads.mismatch({"type": "integer"}, "x" * 100_000)

        assert found is not None
        assert len(found[1]) < 300


class TestMisfits:
    SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}

    def test_tells_every_misfit_with_its_path_and_keyword(self) -> None:
        found = payloads.misfits(self.SCHEMA, {"a": "x", "b": 1})

        assert sorted((misfit.path, misfit.keyword) for misfit in found) == [
            (("a",), "type"),
            (("b",), "additionalProperties"),
        ]
        assert payloads.misfits(self.SCHEMA, {"a": 1}) == []

    def test_stops_at_the_most_that_is_asked_for(self) -> None:
        assert len(payloads.misfits(self.SCHEMA, {str(n): n for n in range(9)}, most=3)) == 3

    def test_says_that_a_schema_cannot_be_followed(self) -> None:
        (found,) = payloads.misfits({"$ref": "#/$defs/none"}, 1)

        assert "cannot be followed" in found.words
