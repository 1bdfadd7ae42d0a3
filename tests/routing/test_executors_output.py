"""What counts as JSON output, and the lines programs may print."""

import enum
import math
from typing import Any

import pytest

from routing.executors import protocol
from routing.executors.contract import BadOutput
from routing.executors.output import as_json


class Colour(str, enum.Enum):  # noqa: UP042 (its str() differs from a StrEnum's)
    RED = "red"


class TestAsJson:
    @pytest.mark.parametrize("value", [None, True, 3, 2.5, "ü", [], {}, {"a": [1, {"b": None}]}, 2**64 - 1, -(2**63)])
    def test_leaves_json_as_it_is(self, value: Any) -> None:
        assert as_json(value) == value

    def test_makes_lists_of_tuples_and_plain_values_of_subclasses(self) -> None:
        output = as_json({"pair": (1, 2), "colour": Colour.RED})

        assert output == {"pair": [1, 2], "colour": "red"}
        assert type(output["colour"]) is str

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"a": [1, math.nan]}, r"\$\.a\[1\] is nan"),
            ([math.inf], r"\$\[0\] is inf"),
            ({"a": {1: 2}}, r"\$\.a has the key 1, a int"),
            ({"a": {1, 2}}, r"\$\.a is a set"),
            (b"x", r"\$ is a bytes"),
            (["\ud800"], r"\$\[0\] holds the character U\+D800"),
            ({"a": "x\x00"}, r"\$\.a holds the character U\+0000"),
            ([2**64], r"\$\[0\] is an integer that does not fit 64 bits"),
        ],
    )
    def test_refuses_the_rest_and_says_where(self, value: Any, message: str) -> None:
        with pytest.raises(BadOutput, match=message):
            as_json(value)

    def test_refuses_a_list_that_holds_itself(self) -> None:
        endless: list[Any] = []
        endless.append(endless)

        with pytest.raises(BadOutput, match="more than 64 deep"):
            as_json(endless)


class TestParse:
    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"hello",
            b"[1]",
            b"{",
            b"{}",
            b'{"type": "other"}',
            b'{"type": 3}',
            b"{\xff",
            b'{"a":' * 100_000,
            b"\x00",
        ],
    )
    def test_takes_everything_else_for_plain_text(self, line: bytes) -> None:
        assert protocol.parse(line) is None

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (b'{"type":"progress","fraction":0.5}', protocol.Progress(fraction=0.5, message="")),
            (b'  {"type":"progress","message":"m"}\r', protocol.Progress(fraction=None, message="m")),
            (b'{"type":"log","level":"LOUD","message":"m"}', protocol.Log(level="info", message="m")),
            (b'{"type":"log","level":"Error","message":"m"}', protocol.Log(level="error", message="m")),
            (b'{"type":"result","output":null}', protocol.Result(output=None)),
            (b'{"type":"usage","tokens":1500}', protocol.Usage(usd=0.0, tokens=1500.0)),
            (b'{"type":"artifact","name":"n","path":"p"}', protocol.Artifact(name="n", path="p", media_type="")),
        ],
    )
    def test_reads_a_message(self, line: bytes, message: protocol.Message) -> None:
        assert protocol.parse(line) == message

    @pytest.mark.parametrize(
        "line",
        [
            b'{"type":"progress","fraction":2}',
            b'{"type":"progress","fraction":NaN}',
            b'{"type":"progress","fraction":true}',
            b'{"type":"usage","usd":-1}',
            b'{"type":"usage","tokens":NaN}',
            b'{"type":"log"}',
            b'{"type":"result"}',
            b'{"type":"artifact","name":"n"}',
            b'{"type":"error","message":"m","retryable":"yes"}',
        ],
    )
    def test_says_what_breaks_the_protocol(self, line: bytes) -> None:
        assert isinstance(protocol.parse(line), protocol.Malformed)


class TestLines:
    def test_cuts_alike_whatever_the_pieces(self) -> None:
        whole = b"one\n\ntwo\nthree"
        for size in (1, 2, 5, 100):
            lines = protocol.Lines()
            pieces = [whole[start : start + size] for start in range(0, len(whole), size)]

            cut = [line for piece in pieces for line in lines.feed(piece)]

            assert (cut, lines.rest()) == ([b"one", b"", b"two"], b"three")
