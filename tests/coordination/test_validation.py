"""Could this workflow run?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination import definition
from coordination.definition import BadDefinition
from coordination.graph import Ask, Case, Child, Form, Graph, Over, Pause, Step
from coordination.review import fleet
from coordination.steps import from_steps
from coordination.validation import Catalog, SkillShape, check, problems
from tests.coordination.graphs import graph, task

FOLDER = Path(definition.__file__).parent / "examples"
CLOSED = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "links": {"type": "array"}, "n": {"type": "integer"}},
    "additionalProperties": False,
}
SKILLS = {
    "read": (SkillShape(input_schema={"type": "object", "required": ["topic"]}, output_schema=CLOSED),),
    "write": (SkillShape(version="2", input_schema=CLOSED), SkillShape(version="1")),
    "echo": (SkillShape(),),
}
KNOWN = Catalog(skills=SKILLS, workflows={})
READ = task("a", skill="read", input={"topic": "x"})


def choice(name: str, *cases: Case, after: tuple[str, ...] = ()) -> Step:
    """Return a choice."""
    return Step(name=name, kind="choice", after=after, cases=cases)


def words(*steps: Step, known: Catalog = KNOWN, **more: Any) -> list[str]:
    """Return what is wrong with a workflow of the steps."""
    return [str(problem) for problem in problems(graph(*steps, **more), known)]


class TestProblems:
    def test_finds_nothing_wrong_where_all_fits(self) -> None:
        over = Over(items="{{ steps.a.output.links }}", key="{{ item.id }}")
        each = Step(name="m", kind="map", after=("a",), over=over, ask=Ask(skill="write", input={"text": "{{ item }}"}))
        undone = task("b", "m", skill="write", input={"n": "{{ steps.a.output.n }}"})

        assert words(READ, each, replace(undone, undo=Ask(skill="echo", input="{{ steps.b.output }}"))) == []

    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            ([task("a", "b"), task("b", "a")], "These steps wait for one another: a → b → a."),
            ([task("a", "a")], "These steps wait for one another: a → a."),
            ([task("a"), task("a")], "steps.a: 2 steps are called 'a'."),
            ([task("a", "research"), task("reserch")], "There is no step 'research'; perhaps 'reserch' is meant."),
            ([task("a"), task("b", input="{{ steps.a.output }}")], "'a' need not have ended by then."),
            ([task("a", input="{{ steps.a.output }}")], "a step cannot look at itself."),
            ([task("a", input="{{ steps.b.output }}")], "steps.b.output: there is no step 'b'."),
            ([task("a"), task("b", "a", input="{{ steps.a.result }}")], "of a step there are 'output', 'state'"),
            ([task("a", input="{{ run.user }}")], "of the run there are 'input', 'id', 'context', 'due'."),
            ([task("a", input="{{ item }}")], "There is an item only in what a map asks for"),
            ([task("a", input=["{{ x }}"])], "it begins with steps, run or item."),
            ([task("a", when="run.input.x = 1")], "steps.a.when: "),
            ([task("a", skill="raed")], "There is no skill 'raed'; perhaps 'read' is meant."),
            ([Step(name="a", kind="task", ask=Ask(skill="write", version="9"))], "has no version 9; there are 2, 1."),
            ([Step(name="a", kind="task", ask=Ask(skill="echo", fallback="ech"))], "a.fallback: There is no skill"),
            ([Step(name="a", kind="workflow", child=Child(workflow="w"))], "There is no workflow 'w'."),
            ([READ, task("b", "a", input="{{ steps.a.output.summary }}")],
             "steps.a.output.summary: there is no 'summary'; there are 'text', 'links', 'n'."),
            ([READ, task("b", "a", input="{{ steps.a.output.text.x }}")], "there is no 'x'; it is text, not an"),
            ([READ, task("b", "a", skill="write", input={"text": "{{ steps.a.output.n }}"})],
             "steps.b.input.text: Skill 'write' wants text here, and '{{ steps.a.output.n }}' is a number."),
            ([task("a", skill="read", input={})], "steps.a.input: Skill 'read' would refuse it: 'topic' is a required"),
            ([task("a", skill="write", input={"x": "{{ run.id }}"})], "steps.a.input.x: Skill 'write' would refuse it"),
            ([READ, Step(name="m", kind="map", after=("a",), over=Over(items="{{ steps.a.output.n }}"),
                         ask=Ask(skill="echo"))], "A map goes over a list or an object; this is a number."),
            ([Step(name="m", kind="map", over=Over(items="list"), ask=Ask(skill="echo"))], "or the template of one."),
            ([choice("c", Case(when="", then=("b",)), Case(when="x", then=("d",))), task("b", "c"), task("d", "c")],
             "Only the last case can hold always"),
            ([choice("c", Case(when="", then=("b",)), Case(when="", then=("d",))), task("b", "c"), task("d", "c"),
              task("e", "d")], "steps.e: It can never be reached"),
            ([choice("c", Case(when="", then=("b",)))], "steps.c.choice[0].then: There is no step 'b'."),
            ([choice("c", Case(when="", then=("b",))), task("b")], "'b' does not come after this choice."),
            ([Step(name="w", kind="wait", pause=Pause(seconds=1), undo=Ask(skill="echo"))], "that can be undone"),
            ([Step(name="w", kind="wait", pause=Pause())], "A wait is for one thing"),
            ([Step(name="w", kind="wait", pause=Pause(seconds=-1))], "above 0"),
            ([Step(name="w", kind="wait", ask=Ask(skill="echo"))], "A wait has exactly these parts: pause."),
            ([Step(name="f", kind="approval", form=Form(title="x", schema={"type": "obj"}))], "steps.f.form: At /type"),
            ([Step(name="f", kind="approval", form=Form(title="x", remind_s=9, expires_s=3))], "when the question has"),
            ([Step(name="a", kind="task", ask=Ask(skill="echo", requires="a in ("))], "This is no selector"),
            ([task('a"')], "no quotes"),
            ([], "It has no steps."),
        ],
    )  # fmt: skip
    def test_says_in_words_what_is_wrong(self, steps: list[Step], expected: str) -> None:
        found = words(*steps)

        assert any(expected in each for each in found), found

    def test_says_nothing_of_what_is_not_known(self) -> None:
        steps = [task("a", skill="any"), Step(name="b", kind="workflow", child=Child(workflow="w"))]

        assert words(*steps, known=Catalog()) == []

    def test_checks_the_inputs_of_the_run_and_the_output(self) -> None:
        found = words(task("a", input="{{ run.input.x }}"), output="{{ steps.b.output }}", input_schema=CLOSED)

        assert found == [
            "output: steps.b.output: there is no step 'b'.",
            "steps.a.input: run.input.x: there is no 'x'; there are 'text', 'links', 'n'.",
        ]

    def test_names_the_workflows_of_a_recursion_and_stops_at_a_depth(self) -> None:
        def runs(name: str, inner: str) -> Graph:
            return Graph(name=name, steps=(Step(name="s", kind="workflow", child=Child(workflow=inner)),))

        around = {"b": runs("b", "c"), "c": runs("c", "a")}
        deep = {f"w{n}": runs(f"w{n}", f"w{n + 1}") for n in range(12)}

        assert "The workflow would run itself: a → b → c → a." in str(
            problems(runs("a", "b"), Catalog(workflows=around))
        )
        assert "more than 10 deep" in str(problems(runs("a", "w0"), Catalog(workflows=deep)))
        assert problems(runs("a", "w4"), Catalog(workflows={**deep, "w12": graph(task("x"))})) == []

    @given(st.lists(st.sets(st.integers(0, 30)), max_size=12))
    def test_finds_a_cycle_exactly_where_there_is_one(self, links: list[set[int]]) -> None:
        names = [f"s{n}" for n in range(len(links))]
        steps = [task(name, *(f"s{n}" for n in to if n < len(links))) for name, to in zip(names, links, strict=True)]

        has_cycle = any("wait for one another" in each for each in words(*steps))

        assert has_cycle == (not _can_be_peeled({step.name: set(step.after) for step in steps}))


class TestCheck:
    def test_tells_line_and_column_of_the_very_place(self) -> None:
        text = "name: x\nsteps:\n  a:\n    task: echo\n    input:\n      deep: ['{{ steps.b.output }}']\n"

        with pytest.raises(BadDefinition) as caught:
            check(text)

        (problem,) = caught.value.problems
        assert (problem.line, problem.column, problem.path) == (6, 14, ("steps", "a", "input", "deep", 0))

    @pytest.mark.parametrize(
        ("form", "looks_at", "expected"),
        [
            (Form(title="x"), "approved", None),
            (Form(title="x"), "by", None),
            (Form(title="x"), "aproved", "steps.f.output.aproved"),
            (Form(title="x"), "answer.text", "steps.f.output.answer.text"),
            (Form(title="x", schema=CLOSED), "answer.text", None),
            (Form(title="x", schema=CLOSED), "answer.title", "steps.f.output.answer.title"),
            (Form(title="x", schema=CLOSED, expires_s=9, on_expiry="reject"), "answer.text", None),
            (Form(title="x", schema=CLOSED, expires_s=9, on_expiry="reject"), "answer.title", "answer.title"),
            (
                Form(title="x", schema={"$ref": "#/$defs/a", "$defs": {"a": CLOSED}}, expires_s=9, on_expiry="approve"),
                "answer.n",
                None,
            ),
        ],
    )
    def test_knows_what_an_approval_comes_to(self, form: Form, looks_at: str, expected: str | None) -> None:
        asked = Step(name="f", kind="approval", form=form)

        found = words(asked, task("b", "f", skill="echo", input=f"{{{{ steps.f.output.{looks_at} }}}}"))

        assert (expected in str(found)) if expected else found == []

    def test_sees_an_answer_of_the_wrong_type(self) -> None:
        asked = Step(name="f", kind="approval", form=Form(title="x", schema=CLOSED))

        found = words(asked, task("b", "f", skill="write", input={"n": "{{ steps.f.output.answer.text }}"}))

        assert "is text" in str(found)

    @pytest.mark.parametrize("name", ["review", "research-and-write", "incident-response"])
    def test_passes_what_ships(self, name: str) -> None:
        assert check((FOLDER / f"{name}.yaml").read_text()).graph.steps

    def test_passes_the_review_with_the_skills_of_the_fleet(self) -> None:
        shapes = {
            skill.name: (SkillShape(input_schema=skill.input_schema, output_schema=skill.output_schema),)
            for skill in fleet.SKILLS
        }

        assert check((FOLDER / "review.yaml").read_text(), Catalog(skills=shapes)).graph.name == "review"

    def test_passes_thousands_of_steps(self) -> None:
        steps = [task(f"s{n}", input=f"{{{{ steps.s{n - 1}.output }}}}" if n else None) for n in range(5_000)]
        made = from_steps("long", [replace(step, after=(f"s{n - 1}",) if n else ()) for n, step in enumerate(steps)])

        assert problems(made, KNOWN) == []
        assert "at most 5,000" in str(problems(replace(made, steps=(*made.steps, task("more"))), KNOWN))


def _can_be_peeled(before: dict[str, set[str]]) -> bool:
    """Return whether steps with nothing before them can be taken away until none is left."""
    while free := {name for name, earlier in before.items() if not earlier}:
        before = {name: earlier - free for name, earlier in before.items() if name not in free}
    return not before
