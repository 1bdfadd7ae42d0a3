"""Graphs printed as canvases, and read again by Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import celery
import pytest
from hypothesis import HealthCheck, assume, event, given, settings

from coordination import canvas
from coordination.canvas_code import print_canvas
from coordination.graph import Ask, Form, Graph, Pause, Step
from coordination.live_canvas import as_json
from tests.coordination.canvases import FUNCTIONS, app, canvases, has_task
from tests.coordination.in_engine import outcome


@pytest.fixture(autouse=True, scope="module")
def _current_app() -> Iterator[None]:
    """Signatures within signatures belong to the current app."""
    before: Any = celery.current_app._get_current_object()  # type: ignore[attr-defined]
    app.set_current()
    yield
    before.set_current()


def made_by(code: str) -> Any:
    """Return the canvas that the code's last expression makes."""
    *imports, last = ast.parse(code).body
    assert isinstance(last, ast.Expr)
    names: dict[str, Any] = {}
    exec(compile(ast.Module(imports, []), "imports", "exec"), names)
    return eval(compile(ast.Expression(last.value), "canvas", "eval"), names)


def task(name: str, *after: str, **more: Any) -> Step:
    """Return a step that asks for the skill of its own name; it gets the output of the one step before."""
    given = f"{{{{ steps.{after[0]}.output }}}}" if len(after) == 1 else None
    return Step(**{"name": name, "kind": "task", "after": after, "ask": Ask(skill=name, input=given), **more})


def graph(*steps: Step) -> Graph:
    return Graph(name="w", steps=steps)


class TestPrintCanvas:
    @settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, max_examples=150)
    @given(canvases(may_fail=True))
    def test_gives_code_that_makes_a_canvas_of_the_same_outcome(self, made: Any) -> None:
        written = as_json(made)
        assume(has_task(written))
        compiled = canvas.compile(written, name="w")

        code = print_canvas(compiled)

        event("printed" if code else "not printed")
        assume(code)
        again = canvas.compile(as_json(made_by(str(code))), name="w")
        assert ended(again) == ended(compiled)

    def test_prints_what_was_written_by_hand(self) -> None:
        code = print_canvas(graph(task("find"), task("write", "find")))

        assert code == (
            "from celery import chain\n"
            "from routing.tasks import run_agent_task\n\n"
            "chain(run_agent_task.s(skill='find'), run_agent_task.s(skill='write'))\n"
        )

    def test_prints_a_fan_out_with_its_join(self) -> None:
        joined = Ask(skill="join", input=["{{ steps.a.output }}", "{{ steps.b.output }}"])

        code = print_canvas(graph(task("s"), task("a", "s"), task("b", "s"), task("join", "a", "b", ask=joined)))

        assert code is not None
        assert "    group(run_agent_task.s(skill='a'), run_agent_task.s(skill='b')),\n" in code

    def test_prints_a_join_of_one(self) -> None:
        joined = Ask(skill="join", input=["{{ steps.a.output }}"])

        code = print_canvas(graph(task("a"), task("join", "a", ask=joined)))

        assert code is not None
        assert "chord([run_agent_task.s(skill='a')], run_agent_task.s(skill='join'))" in code

    def test_prints_countdowns_links_and_error_links(self) -> None:
        call = {"task": "shop.pay", "args": [1], "kwargs": {}, "options": {"countdown": 3, "queue": "q"}}
        links = {"link": [{"task": "shop.tell"}], "link_error": [{"task": "shop.mend", "args": [2]}]}

        code = print_canvas(canvas.compile({**call, "options": {**call["options"], **links}}, name="w"))  # type: ignore[dict-item]

        assert code is not None
        for words in (
            "countdown=3.0",
            "queue='q'",
            "link=[signature('shop.tell')]",
            "signature('shop.mend', args=(2,))",
        ):
            assert words in code

    @pytest.mark.parametrize(
        "wrong",
        [
            graph(Step(name="a", kind="approval", form=Form(title="?"))),
            graph(task("a"), Step(name="w", kind="wait", after=("a",), pause=Pause(signal="go")), task("b", "w")),
            graph(task("a", when="run.input.x")),
            graph(task("a", ask=Ask(skill="a", input="{{ run.input }}"))),
            graph(task("a"), task("b", "a", ask=Ask(skill="b", input="{{ steps.a.output.part }}"))),
            graph(task("a", ask=Ask(skill="a", fallback="b"))),
            graph(task("a", undo=Ask(skill="u"))),
            graph(task("a"), task("b"), task("c", "a"), task("d", "a", "b")),  # neither in series nor side by side
            graph(task("a", on_error="compensate")),
            replace(graph(task("a")), total_s=5.0),
            replace(graph(task("a")), output={"x": "{{ steps.a.output }}"}),
            graph(*(task(f"a{number}") for number in range(501))),
        ],
    )
    def test_gives_none_where_no_canvas_says_the_same(self, wrong: Graph) -> None:
        assert print_canvas(wrong) is None


def ended(made: Graph) -> tuple[str, Any]:
    """Return what a run comes to; of a failure only that it is one, for which comes first is left open."""
    state, value = outcome(made, FUNCTIONS)
    return state, value if state == "completed" else None
