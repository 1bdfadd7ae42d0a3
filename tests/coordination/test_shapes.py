"""What can stand at a path of a value that fits a JSON Schema?"""

from __future__ import annotations

from typing import Any

import pytest

from coordination.shapes import TYPES, absence, types

NODE: dict[str, Any] = {
    "type": "object",
    "properties": {"next": {"$ref": "#"}, "value": {"type": ["integer", "null"]}},
    "additionalProperties": False,
}


class TestAbsence:
    @pytest.mark.parametrize(
        ("schema", "path", "why"),
        [
            (NODE, ("next", "next", "value"), None),
            (NODE, ("next", "other"), "there is no 'other'; there are 'next', 'value'"),
            (NODE, ("value", "x"), "there is no 'x'; it is a number or null, not an object"),
            (NODE, (0,), "there is no place 0; it is an object, not a list"),
            ({}, ("any", 3, "thing"), None),
            ({"type": "object", "properties": {"a": {}}}, ("b",), None),
            ({"type": "array", "items": {"type": "string"}}, (0, "x"), "there is no 'x'; it is text, not an object"),
            ({"anyOf": [{"type": "string"}, NODE]}, ("next",), None),
            ({"enum": ["a", "b"]}, ("x",), "there is no 'x'; it is text, not an object"),
            ({"$ref": "#/$defs/none"}, ("x",), None),
            ({"$ref": "#"}, ("x",), None),
        ],
    )
    def test_speaks_only_where_it_is_certain(self, schema: Any, path: tuple[str | int, ...], why: str | None) -> None:
        assert absence(schema, path) == why


class TestTypes:
    def test_follows_the_path(self) -> None:
        assert types(NODE, ("next", "value")) == {"number", "null"}
        assert types(NODE, ("value", 0, "x")) == TYPES
        assert types({"oneOf": [{"type": "array"}, {"const": True}]}) == {"array", "boolean"}
