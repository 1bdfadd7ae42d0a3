"""A workflow as a picture."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from coordination.drawing import GAP_Y, HEIGHT, MARGIN, detail, in_words, mermaid, svg
from coordination.graph import Ask, Case, Form, Graph, Pause, Step
from coordination.layout import layout, shown_edges
from tests.coordination.graphs import graph, task

NASTY = task('<script>"&', skill="<b>")
DIAMOND = graph(task("a"), task("b", "a"), task("c", "a"), task("d", "a", "b", "c"))


@st.composite
def acyclic(draw: st.DrawFn) -> Graph:
    """Return a strategy for graphs without cycles, up to 25 steps."""
    count = draw(st.integers(1, 25))
    after = [draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else set() for n in range(count)]
    return graph(*(task(f"s{n}", *(f"s{m}" for m in sorted(before))) for n, before in enumerate(after)))


class TestSvg:
    def test_is_xml_that_holds_no_script_no_style_and_no_one_elses_markup(self) -> None:
        picture = svg(graph(NASTY, task("b", NASTY.name)), {NASTY.name: '"><script>'}, href=lambda name: f'/x?"{name}')

        root = ElementTree.fromstring(picture)

        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg", "title", "desc", "g", "path", "rect", "text", "a",
        }  # fmt: skip
        assert not any("style" in element.attrib or "onclick" in element.attrib for element in root.iter())

    def test_marks_states_by_attribute_and_word(self) -> None:
        picture = svg(DIAMOND, {"b": "failed"}, ident="run")

        (node,) = re.findall(r'<g class="step" id="run-1".*?</g>', picture, re.DOTALL)
        assert 'data-step="b" data-kind="task" data-state="failed"' in node
        assert ">failed</text>" in node
        assert picture.count("data-state") == 1

    def test_tells_it_to_those_who_do_not_see_it(self) -> None:
        picture = svg(DIAMOND)

        assert 'role="img"' in picture
        assert "4 steps. a (task · echo). b (task · echo), after a." in picture
        assert "b (task · echo, failed), after a." in in_words(DIAMOND, {"b": "failed"})

    def test_labels_the_ways_out_of_a_choice(self) -> None:
        cases = (Case(when="run.id", then=("b",)), Case(when="", then=("b", "d")))
        made = graph(Step(name="c", kind="choice", cases=cases), task("b", "c"), task("d", "c"))

        assert re.findall(r'class="edge-label"[^>]*>([^<]*)', svg(made)) == ["case 1, otherwise", "otherwise"]

    @given(acyclic())
    def test_lays_no_step_upon_another(self, made: Graph) -> None:
        picture = svg(made)

        places = [
            (float(x), float(y))
            for x, y in re.findall(r'class="step"[^>]*translate\(([\d.e+]+) ([\d.e+-]+)\)', picture)
        ]
        assert len(places) == len(made.steps)
        for (left, top), (right, below) in pairwise(sorted(places)):
            assert left != right or below - top > HEIGHT + GAP_Y - 0.5
        assert min(top for _, top in places) >= MARGIN


class TestLayout:
    @given(acyclic())
    def test_puts_every_step_right_of_those_before_it(self, made: Graph) -> None:
        where = layout(made)

        assert all(where.column[name] < where.column[step.name] for step in made.steps for name in step.after)
        assert all(len(bends) == where.column[b] - where.column[a] - 1 for (a, b), bends in where.bends.items())

    def test_draws_long_edges_straight_where_there_are_too_many_bends(self) -> None:
        steps = [task("s0"), *(task(f"s{n}", f"s{n - 1}") for n in range(1, 400))]
        side = [task(f"x{n}", "s0") for n in range(100)]
        ends = [task(f"y{n}", f"x{n}", "s399") for n in range(100)]

        where = layout(graph(*steps, *side, *ends))

        assert where.columns == 401
        assert set(where.bends.values()) == {()}


class TestShownEdges:
    def test_leaves_out_what_others_imply(self) -> None:
        assert shown_edges(DIAMOND) == [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]


class TestMermaid:
    def test_writes_a_flow_chart(self) -> None:
        step = Step(name="ok", kind="approval", after=("a",), form=Form(title="x", who=("group:e",)))

        assert mermaid(graph(task("a"), step)) == (
            'flowchart LR\n    s0["a<br/>task · echo"]\n    s1(["ok<br/>approval · group:e"])\n    s0 --> s1\n'
        )

    def test_lets_nobody_break_out_of_a_label(self) -> None:
        assert '"#lt;script#gt;#quot;#amp;<br/>task · #lt;b#gt;"' in mermaid(graph(NASTY))


class TestDetail:
    def test_says_what_is_waited_for(self) -> None:
        assert detail(Step(name="w", kind="wait", pause=Pause(seconds=5_400))) == "wait · 1h30m"
        assert detail(Step(name="w", kind="wait", pause=Pause(seconds=0.5))) == "wait · 0.5s"
        assert detail(Step(name="w", kind="wait", pause=Pause(signal="go"))) == "wait · signal go"

    def test_names_the_celery_task_where_there_is_no_skill(self) -> None:
        step = Step(name="t", kind="task", ask=Ask(skill="", call={"task": "shop.pay"}))

        assert detail(step) == "task · shop.pay"
