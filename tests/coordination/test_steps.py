"""Workflows written in Python."""

from __future__ import annotations

from coordination.definition import read
from coordination.models import Workflow
from coordination.steps import (
    approval,
    ask,
    case,
    child,
    choice,
    compensate,
    each,
    from_steps,
    item,
    otherwise,
    run,
    steps,
    task,
    wait,
)
from coordination.validation import problems

TEXT = """\
name: write
timeout: 1d
steps:
  research: {task: web.research, input: {topic: "{{ run.input.topic }}"}, attempts: 3}
  read:
    map: "{{ steps.research.output.links }}"
    task: web.read
    input: {url: "{{ item.url }}"}
    key: "{{ item.id }}"
    max_parallel: 4
  good: {choice: [{when: "length(steps.read.output) > 3", then: ask}, {then: undo}]}
  ask: {approval: "Publish {{ run.input.topic }}?", who: [ann], expires: 1h}
  undo: {compensate: true}
  pause: {wait: {signal: go, timeout: 60}, after: [ask, undo]}
  publish:
    workflow: publish
    input: ["{{ steps.read.output[0] }}"]
    after: pause
    undo: {task: withdraw, input: "{{ steps.publish.output }}"}
output: "{{ steps.publish.output }}"
"""


class TestWorkflow:
    def test_is_where_a_graph_is_written_in_python(self) -> None:
        drafts = [task("a", "read"), task("b", "write", {"text": steps.a.output})]

        assert Workflow.from_steps("w", drafts, priority=7) == from_steps("w", drafts, priority=7)


class TestFromSteps:
    def test_gives_the_same_graph_as_the_text(self) -> None:
        made = from_steps(
            "write",
            [
                task("research", "web.research", {"topic": run.input.topic}, max_attempts=3),
                each("read", steps.research.output.links, "web.read", {"url": item.url}, key=item.id, max_parallel=4),
                choice("good", case("length(steps.read.output) > 3", "ask"), otherwise("undo")),
                approval("ask", f"Publish {run.input.topic}?", who=["ann"], expires_s=3_600),
                compensate("undo"),
                wait("pause", signal="go", timeout_s=60, after=["ask", "undo"]),
                child(
                    "publish",
                    "publish",
                    [steps.read.output[0]],
                    after="pause",
                    undo=ask("withdraw", steps.publish.output),
                ),
            ],
            total_s=86_400,
            output=steps.publish.output,
        )

        assert made == read(TEXT)
        assert problems(made) == []

    def test_begins_at_once_where_after_is_empty(self) -> None:
        made = from_steps("x", [task("a", "s"), task("b", "s", steps.a.output, after=())])

        assert made.step("b").after == ()


class TestLater:
    def test_writes_odd_names_in_quotes(self) -> None:
        assert str(steps["load 2"].output["a-b"][0]) == '{{ steps["load 2"].output.a-b[0] }}'
