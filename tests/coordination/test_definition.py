"""A workflow as text, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from coordination import definition, notation
from coordination.definition import BadDefinition, as_json, checksum, from_json, read, write
from coordination.graph import Case, Graph, Pause
from routing.payloads import misfits
from routing.retries import RetryPolicy, RetryRule
from tests.coordination.graphs import graph, graphs, task

FOLDER = Path(definition.__file__).parent
EXAMPLES = sorted((FOLDER / "examples").glob("*.yaml"))
TEXT = """\
name: demo
steps:
  research:
    task: web.research
    input: {topic: "{{ run.input.topic }}"}
    retry: {backoff: 5s, to: same}
    timeouts: {wait: 5m, attempt: 1h30m}
  decide:
    choice:
      - when: steps.research.output.n > 3
        then: write
      - then: [stop]
  write:
    map: "{{ steps.research.output.links }}"
    task: text.write
  stop:
    wait: 90
    after: []
"""


def problems(text: str) -> list[str]:
    """Return what keeps the text from being read."""
    with pytest.raises(BadDefinition) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


class TestRead:
    def test_gives_the_steps_as_they_are_written(self) -> None:
        found = read(TEXT)

        assert [(step.name, step.kind, step.line) for step in found.steps] == [
            ("research", "task", 3), ("decide", "choice", 8), ("write", "map", 13), ("stop", "wait", 16),
        ]  # fmt: skip
        ask = found.step("research").ask
        assert ask is not None
        assert (ask.wait_s, ask.timeout_s) == (300, 5_400)
        assert ask.retries == RetryPolicy(rules={"*": RetryRule(backoff_s=5, on="same")})
        assert found.step("decide").cases == (
            Case(when="steps.research.output.n > 3", then=("write",)),
            Case(when="", then=("stop",)),
        )
        assert found.step("stop").pause == Pause(seconds=90)

    def test_lets_a_step_follow_what_it_looks_at_and_the_choice_that_leads_to_it(self) -> None:
        found = read(TEXT)

        after = {step.name: step.after for step in found.steps}
        assert after == {"research": (), "decide": ("research",), "write": ("research", "decide"), "stop": ()}

    def test_takes_json_with_tabs_and_escapes(self) -> None:
        text = '{\n\t"name": "x\\ud83d\\ude00",\n\t"steps": {\n\t\t"a": {"wait": 1e0}}}'

        found = read(text)

        assert found.name == "x😀"
        assert found.steps[0].line == 4

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("task: web", "tusk: web", "line 3, steps.research: Nothing says what this step does. Is 'task' meant?"),
            ("input:", "imput:", "line 5, steps.research.imput: There is no 'imput' here. Is 'input' meant?"),
            ("5s", "5 sec", "line 6, steps.research.retry.backoff: '5 sec' is no span of time."),
            ("to: same", "lost: {}", "line 6, steps.research.retry: Write one rule"),
            ("to: same", "to: me", "'me' is none of 'another', 'same', 'any'."),
            ("- then: [stop]", "- {}", "line 12, steps.decide.choice[1]: 'then' is missing."),
            ("task: text.write", "on_error: fail", "line 13, steps.write: A map needs the task"),
            ("wait: 90", "wait: {for: 1s, signal: x}", "line 17, steps.stop.wait: A wait is for one thing"),
            ("wait: 90", "wait: {for: 1s, timeout: 1s}", "Only waiting for a signal can take too long."),
            ("wait: 90", "wait: ''", "It is empty."),
            ("wait: 90", "compensate: false", "It can only be true."),
            ("wait: 90", "wait: true", "Text or a number or an object is wanted here, not true."),
            ("wait: 90", "workflow: w\n    undo: {}", "steps.stop.undo: "),
            ("name: demo", "title: demo", "line 1: 'name' is missing."),
            ('"{{ steps.research.output.links }}"', "{{ steps.x }}", "that begins with a template stands in quotes"),
            ("stop:\n", "decide:\n", "line 16: The key 'decide' stands twice."),
            ("wait: 90", "wait: !!python/name:os.system", "The tag 'python/name:os.system' is not understood"),
            ("wait: 90", "wait: 1e999", "not a JSON number"),
        ],
    )  # fmt: skip
    def test_refuses_in_words_with_the_line(self, old: str, new: str, problem: str) -> None:
        assert old in TEXT

        found = problems(TEXT.replace(old, new))

        assert any(problem in words for words in found), found

    def test_tells_all_problems_at_once_with_columns(self) -> None:
        with pytest.raises(BadDefinition) as caught:
            read("name: x\nsteps:\n  a: {wait: 1s, foo: 1}\n  b: {task: 3}\n")

        assert [(problem.line, problem.column) for problem in caught.value.problems] == [(3, 17), (4, 7)]

    def test_refuses_a_bomb_and_a_flood(self) -> None:
        bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
        for before, after in pairwise("abcdefghi"):
            bomb += f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"

        assert "unfolds to too much" in problems(bomb)[0]
        assert "at most 2,000,000 are read" in problems(" " * 2_000_001)[0]
        assert problems("[" * 10_000)
        assert problems('{"a":' * 10_000)

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
    def test_reads_what_ships(self, path: Path) -> None:
        assert read(path.read_text()).name == path.stem


class TestWrite:
    @settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40, deadline=None)
    @given(graphs())
    def test_is_read_back_as_an_equal_graph(self, made: Graph) -> None:
        assert read(write(made)) == made

    @settings(suppress_health_check=[HealthCheck.too_slow], max_examples=20, deadline=None)
    @given(graphs())
    def test_fits_the_published_schema(self, made: Graph) -> None:
        assert misfits(notation.json_schema(), as_json(made)) == []

    def test_leaves_out_what_goes_without_saying(self) -> None:
        assert write(read(TEXT)).count("after") == 1


class TestAsJson:
    @settings(suppress_health_check=[HealthCheck.too_slow], max_examples=20, deadline=None)
    @given(graphs())
    def test_passes_json_and_leaves_nothing_to_infer(self, made: Graph) -> None:
        said = json.loads(json.dumps(as_json(made)))

        assert from_json(said) == made
        assert all("after" in step for step in said["steps"].values())


class TestFromJson:
    @pytest.mark.parametrize("value", [{}, [], None, {"name": "x", "steps": {"a": 1}}])
    def test_refuses_what_is_no_workflow(self, value: Any) -> None:
        with pytest.raises(BadDefinition):
            from_json(value)


class TestChecksum:
    def test_knows_content_from_layout(self) -> None:
        first = graph(task("a", input={"x": 1, "y": 2}), task("b"))

        assert checksum(first) == checksum(graph(task("a", input={"y": 2, "x": 1}, line=7), task("b")))
        assert checksum(first) != checksum(graph(task("b"), task("a", input={"x": 1, "y": 2})))
        assert checksum(first) != checksum(replace(first, priority=6))


class TestJsonSchema:
    def test_is_published_as_it_is_used(self) -> None:
        published = json.loads((FOLDER / "published" / "workflow.schema.json").read_text())

        assert published == notation.json_schema()

    @pytest.mark.parametrize(
        "step", [{}, {"task": 3}, {"wait": "soon"}, {"task": "x", "choice": []}, {"compensate": 1}]
    )
    def test_refuses_what_reading_refuses(self, step: dict[str, Any]) -> None:
        value = {"name": "x", "steps": {"a": step}}

        assert misfits(notation.json_schema(), value)
        with pytest.raises(BadDefinition):
            from_json(value)
