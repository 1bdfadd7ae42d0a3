"""How two versions of a workflow differ, in words."""

from __future__ import annotations

from dataclasses import replace

from coordination.difference import difference, marks
from tests.coordination.graphs import graph, task


class TestDifference:
    def test_finds_none_between_equal_graphs(self) -> None:
        assert difference(graph(task("a", line=1)), graph(task("a", line=9))) == []

    def test_tells_what_is_new_gone_and_changed(self) -> None:
        old = graph(task("a", input={"x": 1}), task("b", "a"), task("c"))
        new = replace(graph(task("a", input={"x": True, "y": "text"}), task("c", "a"), task("d")), priority=7)

        found = difference(old, new)

        assert [(change.step, change.mark, change.words) for change in found] == [
            ("", "changed", "priority is now 7."),
            ("a", "changed", "'a' input.x: 1 → true."),
            ("a", "changed", "'a' input.y is now text."),
            ("c", "changed", "'c' after: [] → a."),
            ("d", "added", "Step 'd' is new."),
            ("b", "removed", "Step 'b' is gone."),
        ]
        assert marks(found) == {"a": "changed", "c": "changed", "d": "added", "b": "removed"}

    def test_sees_another_order(self) -> None:
        (found,) = difference(graph(task("a"), task("b")), graph(task("b"), task("a")))

        assert found.words == "The steps are written in another order."
