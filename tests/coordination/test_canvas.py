"""What of a canvas becomes what of a graph, and what is refused. That results agree with Celery: test_canvas_oracle."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coordination import validation
from coordination.canvas import BadCanvas, compile
from coordination.definition import as_json, from_json
from coordination.graph import Graph, Pause, Step
from coordination.signatures import AGENT_TASK
from tests.coordination.sequential import Run

Json = dict[str, Any]


def sig(task: str, /, *args: Any, immutable: bool = False, options: Json | None = None, **kwargs: Any) -> Json:
    """Return a task's signature as REST gets it."""
    return {"task": task, "args": list(args), "kwargs": kwargs, "options": options or {}, "subtask_type": None,
            "immutable": immutable}  # fmt: skip


def part(kind: str, *tasks: Json, **options: Any) -> Json:
    """Return a chain or a group."""
    made = sig(f"celery.{kind}", options=options, tasks=list(tasks))
    return {**made, "subtask_type": kind}


def chord(header: Any, body: Any, **options: Any) -> Json:
    """Return a chord."""
    return {**sig("celery.chord", options=options, kwargs={}, header=header, body=body), "subtask_type": "chord"}


def agent(*args: Any, options: Json | None = None, immutable: bool = False, **kwargs: Any) -> Json:
    """Return a signature of ``run_agent_task``."""
    return sig(AGENT_TASK, *args, immutable=immutable, options=options, **kwargs)


def graph(canvas: Any) -> Graph:
    return compile(canvas, name="w")


def steps(canvas: Any) -> dict[str, Step]:
    """Return the compiled steps by name."""
    return {step.name: step for step in graph(canvas).steps}


def ask(canvas: Any, name: str) -> Any:
    return steps(canvas)[name].ask


def called_with(step: Step) -> Any:
    assert step.ask is not None
    assert step.ask.call is not None
    return step.ask.call["args"]


def called(canvas: Json, fails: str = "") -> list[str]:
    """Return the names of the steps that were not skipped, where tasks called ``fails`` do."""

    def function(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> str:
            if name == fails:
                raise ValueError(name)
            return name

        return call

    names = ("a", "b", "c", "d", "e", "f")
    run = Run(graph(canvas), {name: function(name) for name in names})
    run.outcome()
    return [name for name, step in run.steps.items() if step["state"] != "skipped"]


class TestTasks:
    def test_are_called_with_their_own_arguments_behind_the_result_before(self) -> None:
        call = ask(part("chain", sig("shop.a"), sig("shop.b", 1, x="{{")), "b").call

        assert call == {"task": "shop.b", "args": ["{{ steps.a.output }}", 1], "kwargs": {"x": '{{ "{{" }}'}}

    def test_that_are_immutable_get_no_result(self) -> None:
        assert ask(part("chain", sig("a"), sig("b", 1, immutable=True)), "b").call["args"] == [1]

    def test_have_names_of_their_own(self) -> None:
        assert list(steps(part("group", sig("x.add"), sig("y.add"), sig("add-2"), sig("1ü")))) == [
            "add", "add-2", "add-2-2", "step-1",
        ]  # fmt: skip

    def test_take_priority_queue_and_limits_from_the_options(self) -> None:
        options = {"priority": 7, "queue": "gpu", "expires": 30, "time_limit": 9, "soft_time_limit": 8, "task_id": "x"}

        made = ask(sig("a", options=options), "a")

        assert (made.priority, made.labels, made.wait_s, made.timeout_s) == (7, {"queue": "gpu"}, 30, 8)

    def test_take_from_what_they_are_in_what_they_leave_open(self) -> None:
        made = steps(part("group", sig("a", options={"priority": 1}), sig("b"), priority=3, queue="q"))

        assert [(step.ask.priority, step.ask.labels) for step in made.values() if step.ask] == [
            (1, {"queue": "q"}), (3, {"queue": "q"}),
        ]  # fmt: skip


class TestWaits:
    def test_stand_before_a_task_with_a_countdown(self) -> None:
        made = steps(part("chain", sig("a"), sig("b", options={"countdown": 5})))

        assert (made["wait"].pause, made["wait"].after, made["b"].after) == (Pause(seconds=5.0), ("a",), ("wait",))
        assert called_with(made["b"]) == ["{{ steps.a.output }}"]

    def test_stand_once_before_a_group(self) -> None:
        made = steps(part("group", sig("a"), sig("b"), eta="2030-01-01T00:00:00Z"))

        assert made["wait"].pause == Pause(until="2030-01-01T00:00:00+00:00")
        assert made["a"].after == made["b"].after == ("wait",)

    def test_read_moments_as_kombu_writes_them(self) -> None:
        moment = {"__type__": "datetime", "__value__": "2030-01-01T00:00:00+00:00"}

        assert steps(sig("a", options={"eta": moment}))["wait"].pause == Pause(until="2030-01-01T00:00:00+00:00")


class TestAgentTasks:
    def test_ask_for_the_skill(self) -> None:
        made = ask(agent(skill="write", input={"a": 1}, priority=2, agent="w", labels={"x": "y"}, timeout_s=5), "write")

        assert (made.skill, made.input, made.priority, made.agent, made.labels, made.timeout_s, made.call) == (
            "write", {"a": 1}, 2, "w", {"x": "y"}, 5, None,
        )  # fmt: skip

    def test_take_the_result_before_as_input_where_they_have_none(self) -> None:
        canvas = part("chain", agent(skill="find"), agent(skill="write"))

        assert ask(canvas, "write").input == "{{ steps.find.output }}"

    def test_take_the_result_before_beside_their_own_input(self) -> None:
        canvas = part(
            "chain", part("group", agent(skill="find"), agent(skill="find")), agent(skill="w", input={"a": 1})
        )

        assert ask(canvas, "w").input == {"a": 1, "previous": ["{{ steps.find.output }}", "{{ steps.find-2.output }}"]}

    def test_can_be_error_links(self) -> None:
        errback = ask(sig("a", 1, options={"link_error": [agent(skill="mend")]}), "mend")

        assert errback.input == {"step": "a", "task": "a", "args": [1], "kwargs": {}, "errors": ["{{ steps.a.error }}"]}

    def test_are_mapped_with_their_keywords(self) -> None:
        step = steps(sig("celery.map", task=agent(skill="w", input={"a": 1}), it=[1, "{{"]))["w"]

        assert step.kind == "map"
        assert step.over is not None
        assert step.ask is not None
        assert step.over.items == [1, '{{ "{{" }}']
        assert step.ask.input == {"a": 1, "previous": "{{ item }}"}


class TestChunks:
    def test_are_a_group_of_starmaps(self) -> None:
        made = graph(sig("celery.chunks", task=sig("add"), it=[[1, 2], [3, 4], [5, 6]], n=2))

        assert Run(made, {"add": lambda x, y: x + y}).outcome() == ("completed", [[3, 7], [11]])
        assert len(made.steps) == 2


class TestFailures:
    ERR = {"link_error": [sig("e")]}

    def test_let_what_does_not_need_them_go_on(self) -> None:
        canvas = part("group", part("chain", sig("a"), sig("b")), part("chain", sig("c"), sig("d")))

        assert called(canvas, fails="a") == ["a", "c", "d"]

    def test_fail_a_chord_whose_header_has_other_members(self) -> None:
        assert called(chord([sig("a"), sig("b")], sig("c")), fails="a") == ["a", "b"]

    def test_call_the_error_link_of_the_task(self) -> None:
        canvas = part("chain", sig("a", options=self.ERR), sig("b", options={"link_error": sig("f")}))

        assert called(canvas, fails="a") == ["a", "e"]
        assert called(canvas, fails="b") == ["a", "b", "f"]
        assert called(canvas) == ["a", "b"]

    def test_call_the_error_link_of_a_chain_once(self) -> None:
        canvas = part("chain", sig("a", options=self.ERR), part("chain", sig("b"), sig("c")), **self.ERR)

        assert [called(canvas, fails=name)[-1] for name in "abc"] == ["e", "e-2", "e-3"]
        assert called(canvas) == ["a", "b", "c"]

    def test_call_the_error_links_of_each_member_of_a_group(self) -> None:
        assert called(part("group", sig("a"), sig("a"), **self.ERR), fails="a") == ["a", "e", "a-2", "e-2"]

    @pytest.mark.parametrize("fails", ["a", "b", "c"])
    def test_call_the_error_link_of_a_chord_once_whatever_fails_in_it(self, fails: str) -> None:
        canvas = chord([part("chain", sig("a"), sig("d")), sig("b")], sig("c"), **self.ERR)

        assert [name for name in called(canvas, fails=fails) if name.startswith("e")] == ["e"]

    def test_do_not_call_the_error_link_of_a_chord_that_was_never_reached(self) -> None:
        assert called(part("chain", sig("d"), chord([sig("a"), sig("b")], sig("c"), **self.ERR)), fails="d") == ["d"]

    @pytest.mark.parametrize("fails", ["a", "b", "c"])
    def test_call_the_error_link_of_a_chain_of_groups_once(self, fails: str) -> None:
        canvas = part(
            "chain", part("group", sig("a"), sig("d")), part("group", sig("b"), sig("d")), sig("c"), **self.ERR
        )

        assert [name for name in called(canvas, fails=fails) if name.startswith("e")] == ["e"]

    def test_of_links_do_not_fail_the_run(self) -> None:
        made = graph(sig("a", options={"link": [part("chain", sig("b"), sig("c"))]}))

        def fail(*args: Any) -> None:
            raise ValueError

        assert Run(made, {"a": lambda: 1, "b": fail}).outcome() == ("completed", 1)


class TestRefuses:
    @pytest.mark.parametrize(
        ("canvas", "words"),
        [
            (None, "no signature"),
            ([], "no signature"),
            ({"task": 5}, "no signature"),
            ({**sig("a"), "more": 1}, "'more'"),
            ({**sig("a"), "subtask_type": "loop"}, "'loop'"),
            (sig("a", options={"link": [5]}), "canvas.link[0] is no signature"),
            (sig("a", options={"countdown": -1}), "between 0 and"),
            (sig("a", options={"countdown": "1"}), "number of seconds"),
            (sig("a", options={"eta": "2030-01-01"}), "zone"),
            (sig("a", options={"eta": "soon"}), "a moment"),
            (sig("a", options={"priority": 10}), "0 to 9"),
            (sig("a", options={"expires": "2030-01-01T00:00:00Z"}), "number of seconds"),
            (sig("a", options={"wings": 2}), "'wings' means nothing"),
            (part("chain"), "no task in it"),
            (part("group"), "no task in it"),
            ({**part("chain", sig("a")), "args": [1]}, "arguments of its own"),
            (chord([sig("a")], None), "without a body"),
            (chord(5, sig("a")), "must be a list"),
            (sig("celery.map", task=sig("a"), it=5), "must be a list"),
            (sig("celery.map", task=part("group", sig("a")), it=[]), "plain task"),
            (sig("celery.map", task=sig("a", x=1), it=[]), "Celery ignores"),
            (sig("celery.starmap", task=sig("a"), it=[1]), "list of arguments"),
            (sig("celery.chunks", task=sig("a"), it=[], n=0), "at least 1"),
            (sig("celery.backend_cleanup"), "machinery"),
            (sig("routing.settle_call", "x"), "machinery"),
            (agent(), "name of a skill"),
            (agent(skill="x", tenant="t"), "'tenant'"),
            (agent(1, 2, skill="x"), "more than one positional"),
            (part("chain", sig("a"), agent(skill="x", input="text")), "an object as its input"),
            (part("group", *[sig("a")] * 5_001), "5,000 steps"),
            (part("chain", part("group", *[sig("a")] * 600), part("group", *[sig("b")] * 600)), "waits for another"),
        ],
    )
    def test_what_is_no_canvas_that_can_run(self, canvas: Any, words: str) -> None:
        with pytest.raises(BadCanvas) as raised:
            graph(canvas)

        assert words in str(raised.value)

    def test_tasks_that_nobody_knows(self) -> None:
        with pytest.raises(BadCanvas, match=r"canvas.tasks\[1\]: no task is called 'b'"):
            compile(part("chain", sig("a"), sig("b")), name="w", known={"a"})

    def test_a_signature_that_links_to_itself(self) -> None:
        first, second = sig("a"), sig("b")
        first["options"]["link"] = [second]
        second["options"]["link_error"] = first

        with pytest.raises(BadCanvas, match="links back to itself"):
            graph(first)

    def test_what_is_nested_too_deep(self) -> None:
        canvas = sig("a")
        for _ in range(64):
            canvas = part("group", canvas)

        with pytest.raises(BadCanvas, match="64 deep"):
            graph(canvas)

    def test_signatures_that_share_others_without_end(self) -> None:
        canvas = sig("a")
        for _ in range(40):
            canvas = part("group", canvas, canvas)

        with pytest.raises(BadCanvas, match="20,000 signatures"):
            graph(canvas)


class TestGraphs:
    def test_of_canvases_are_workflows_that_could_run(self) -> None:
        chunks = sig("celery.chunks", task=sig("a"), it=[[1], [2], ["{{"]], n=2)
        errback = {"link_error": [sig("e", options={"countdown": 2})], "link": [sig("f")], "queue": "q", "expires": 9}
        made = graph(
            part("chain", part("group", sig("a"), agent(skill="w x")), chord([chunks], sig("b", options=errback)))
        )

        assert validation.problems(made) == []
        assert from_json(json.loads(json.dumps(as_json(made)))) == made


class TestSize:
    def test_a_long_chain_of_groups_is_compiled(self) -> None:
        made = graph(part("chain", *[part("group", sig("a"), sig("b"))] * 1_000))

        assert len(made.steps) == 2_000
