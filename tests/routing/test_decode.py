"""The log's language: what the controller understands, and that it survives what it does not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from routing import controller
from routing import events as e
from routing.controller import decode


class TestDecode:
    @pytest.mark.parametrize(
        ("raw", "fact"),
        [
            ({"k": "started", "t": "x", "a": 1, "w": "w"}, e.Started(task="x", attempt=1, worker="w")),
            ({"k": "finished", "t": "x", "a": 1, "o": [1]}, e.Finished(task="x", attempt=1, output=[1])),
            ({"k": "returned", "t": "x", "a": 2}, e.HandedBack(task="x", attempt=2)),
            ({"k": "gone", "w": "w", "i": "1"}, e.WorkerGone(worker="w", incarnation="1")),
            (
                {"k": "log", "t": "x", "a": 1, "d": {"level": "info", "message": ""}},
                e.Noted(task="x", attempt=1, kind="log", data={"level": "info", "message": ""}),
            ),
            (
                {"k": "beat", "w": "w", "i": "1", "n": 4, "f": [["x", 1]], "d": True},
                e.Beat(worker="w", incarnation="1", threads=4, attempts=(("x", 1),), draining=True),
            ),
        ],
        ids=lambda value: value["k"] if isinstance(value, dict) else "",
    )
    def test_reads_a_fact(self, raw: dict[str, Any], fact: e.Fact) -> None:
        assert decode(orjson.dumps([raw])) == [fact]

    def test_reads_a_request_for_another_attempt(self) -> None:
        error: e.Error = {"kind": "agent", "message": "no", "retryable": True}
        raw = {"k": "finished", "t": "x", "a": 1, "e": error, "r": 2.5, "c": {"body": []}}

        assert decode(orjson.dumps([raw])) == [
            e.Finished(task="x", attempt=1, error=error, retry_in_s=2.5, call={"body": []})
        ]

    def test_reads_whom_a_worker_serves(self) -> None:
        raw = {"k": "beat", "w": "w", "i": "1", "n": 4, "f": [], "d": False, "s": ["jules"]}

        assert decode(orjson.dumps([raw])) == [
            e.Beat(worker="w", incarnation="1", threads=4, serves=frozenset({"jules"}))
        ]

    def test_reads_what_an_attempt_has_used(self) -> None:
        raw = {"k": "finished", "t": "x", "a": 1, "u": {"usd": 0.5, "tokens": -3, "wall_s": 1e300}}

        assert decode(orjson.dumps([raw])) == [
            e.Finished(task="x", attempt=1, usage={"usd": 0.5, "tokens": 0.0, "wall_s": 1e15})
        ]

    def test_keeps_the_time_until_then_within_a_week(self) -> None:
        raw = {"k": "finished", "t": "x", "a": 1, "e": {"kind": "agent"}, "r": 1e300}

        [fact] = decode(orjson.dumps([raw]))

        assert fact.retry_in_s == 7 * 24 * 3600

    def test_reads_several_in_their_order(self) -> None:
        raw = [{"k": "returned", "t": str(n), "a": 1} for n in range(3)]

        assert [fact.task for fact in decode(orjson.dumps(raw))] == ["0", "1", "2"]

    @pytest.mark.parametrize(
        "entry", [b"", b"\xff\x00", b"[", b"5", b"null", b'"text"', b'{"k": "ring"}', b"[[[[", b"[" * 5000]
    )
    def test_leaves_out_what_is_no_entry(self, entry: bytes) -> None:
        assert decode(entry) == []

    @pytest.mark.parametrize(
        "odd",
        [
            {},
            {"k": "unheard-of"},
            {"k": "started"},
            {"k": "started", "t": "x"},
            {"k": "beat", "w": "w", "i": "1", "n": 4, "f": [["x"]], "d": True},
            {"k": "beat", "w": "w", "i": "1", "n": 4, "f": 5, "d": True},
            {"k": ["ring"]},
            [],
            None,
            "ring",
        ],
        ids=repr,
    )
    def test_leaves_out_what_is_no_fact_and_keeps_the_rest(self, odd: Any) -> None:
        good = {"k": "returned", "t": "x", "a": 1}

        assert decode(orjson.dumps([good, odd, good])) == [e.HandedBack(task="x", attempt=1)] * 2

    def test_knows_every_fact_that_comes_by_the_log(self) -> None:
        by_log = {e.Started, e.Finished, e.Noted, e.HandedBack, e.Beat, e.WorkerGone}

        kinds = set(controller.known_kinds()) - {"ring"}

        assert kinds == {"started", "finished", "progress", "log", "artifact", "returned", "beat", "gone"}
        assert len(by_log) == 6


class TestWellFormed:
    @pytest.mark.parametrize(
        "raw",
        [
            {"k": "started", "t": 5, "a": 1, "w": "w"},
            {"k": "started", "t": "x", "a": "1", "w": "w"},
            {"k": "started", "t": ["x"], "a": 1, "w": "w"},
            {"k": "finished", "t": "x", "a": 1, "e": "no"},
            {"k": "finished", "t": "x", "a": 1, "e": {"kind": "agent"}, "r": "soon"},
            {"k": "log", "t": "x", "a": 1, "d": None},
            {"k": "artifact", "t": "x", "a": 1, "d": {}},
            {"k": "beat", "w": "w", "i": "1", "n": "many", "f": [], "d": False},
            {"k": "beat", "w": ["w"], "i": "1", "n": 1, "f": [], "d": False},
            {"k": "beat", "w": "w", "i": "1", "n": 1, "f": [[["x"], 1]], "d": False},
        ],
        ids=repr,
    )
    def test_facts_of_odd_types_are_left_out(self, raw: dict[str, Any]) -> None:
        assert decode(orjson.dumps([raw])) == []
