from __future__ import annotations

import pytest

from coordination import events as e
from coordination.graph import Step
from tests.coordination.flows import Desk, child, graph, task, wait


@pytest.fixture
def desk() -> Desk:
    return Desk()


def undone(desk: Desk) -> list[str]:
    """Return the steps that undoing tasks were submitted for, in order."""
    return [submit.step for submit in desk.all(e.Submit) if submit.use == "undo"]


class TestAFailureThatCompensates:
    def test_undoes_what_completed_the_last_first_and_one_by_one(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", undo=True), task("b", undo=True), task("c", "a b", on_error="compensate")))
        desk.done("b", 1)
        desk.done("a", 2)

        desk.fails("c")
        first = undone(desk)
        desk.done("a", use="undo")
        second = undone(desk)
        desk.done("b", use="undo")

        assert (first, second) == (["a"], ["a", "b"])
        assert [desk.state(run, step) for step in "abc"] == ["undone", "undone", "failed"]
        assert desk.state(run) == "failed"

    def test_gives_the_undoing_the_steps_output(self, desk: Desk) -> None:
        desk.start(graph(task("a", undo=True), task("b", "a", on_error="compensate")))
        desk.done("a", 7)

        desk.fails("b")

        assert desk.submit("a", use="undo").input == {"of": 7}

    def test_leaves_steps_alone_that_say_nothing_of_undoing(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a", on_error="compensate")))
        desk.done("a")

        desk.fails("b")

        assert (undone(desk), desk.state(run), desk.state(run, "a")) == ([], "failed", "completed")

    def test_goes_on_when_something_cannot_be_undone_and_reports_it(self, desk: Desk) -> None:
        flow = graph(task("a", undo=True), task("b", "a", undo=True), task("c", "b", on_error="compensate"))
        run = desk.start(flow)
        desk.done("a")
        desk.done("b")
        desk.fails("c")

        desk.fails("b", use="undo")
        desk.done("a", use="undo")

        error = desk.rows.run(run).error
        assert error is not None
        assert [(wrong["step"], wrong["agent"]) for wrong in error["undo_failed"]] == [("b", "ada")]
        assert (desk.state(run, "a"), desk.state(run, "b")) == ("undone", "completed")

    def test_waits_for_what_runs_and_undoes_that_too(self, desk: Desk) -> None:
        desk.start(graph(task("a", undo=True), task("b", on_error="compensate")))

        desk.fails("b")
        before = undone(desk)
        desk.done("a")

        assert (before, undone(desk)) == ([], ["a"])

    def test_goes_on_after_a_restart(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", undo=True), task("b", "a", undo=True), task("c", "b", on_error="compensate")))
        desk.done("a")
        desk.done("b")
        desk.fails("c")

        desk.restart()
        desk.done("b", use="undo")
        desk.restart()
        desk.done("a", use="undo")

        assert (undone(desk), desk.state(run)) == (["b", "a"], "failed")


class TestACompensateStep:
    def flow(self, **more: object) -> Step:
        return Step(name="undo", kind="compensate", after=("b",), **more)  # type: ignore[arg-type]

    def test_undoes_what_came_before_it_and_the_run_goes_on(self, desk: Desk) -> None:
        steps = (task("a", undo=True), task("b", "a", on_error="continue"), self.flow(), task("z", "undo"))
        run = desk.start(graph(*steps, task("other", undo=True)))
        desk.done("other")
        desk.done("a")
        desk.fails("b")

        desk.done("a", use="undo")
        desk.done("z")

        assert undone(desk) == ["a"]
        assert desk.rows.step(run, "undo").output == {"undone": ["a"]}  # type: ignore[union-attr]
        assert (desk.state(run), desk.state(run, "other")) == ("completed", "completed")

    def test_fails_when_something_cannot_be_undone(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", undo=True), task("b", "a"), self.flow()))
        desk.done("a")
        desk.done("b")

        desk.fails("a", use="undo")

        error = desk.rows.run(run).error
        assert error is not None
        assert (error["step"], error["kind"]) == ("undo", "undo")

    def test_finishes_the_undoing_at_hand_when_the_run_is_canceled(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", undo=True), task("b", "a", undo=True), self.flow()))
        desk.done("a")
        desk.done("b")

        desk.tell(e.CancelAsked(run=run))
        held = desk.state(run)
        desk.done("b", use="undo")

        assert (held, desk.state(run), undone(desk)) == ("canceling", "canceled", ["b"])


class TestCancel:
    def test_waits_until_each_task_has_confirmed(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b")))

        desk.tell(e.CancelAsked(run=run, reason="no longer wanted"))
        desk.stopped("a")
        held = desk.state(run)
        desk.stopped("b")

        assert (held, desk.state(run)) == ("canceling", "canceled")

    def test_lists_what_refused_after_half_a_minute(self, desk: Desk) -> None:
        run = desk.start(graph(task("a")))
        desk.tell(e.CancelAsked(run=run))

        desk.restart()
        desk.wait_s(30.0)

        assert (desk.state(run), desk.rows.run(run).unconfirmed) == ("canceled", (desk.submit("a").task,))

    def test_ends_waits_at_once(self, desk: Desk) -> None:
        run = desk.start(graph(wait("w", signal="go")))

        desk.tell(e.CancelAsked(run=run))

        assert (desk.state(run), desk.state(run, "w")) == ("canceled", "canceled")

    def test_undoes_what_was_done_if_that_is_wanted(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", undo=True), task("b", "a")))
        desk.done("a")

        desk.tell(e.CancelAsked(run=run, compensate=True))
        desk.stopped("b")
        desk.done("a", use="undo")

        assert (desk.state(run), desk.state(run, "a")) == ("canceled", "undone")

    def test_asked_twice_is_done_once(self, desk: Desk) -> None:
        run = desk.start(graph(task("a")))
        desk.tell(e.CancelAsked(run=run))

        desk.tell(e.CancelAsked(run=run))

        assert desk.kinds(run).count("canceling") == 1

    def test_waits_for_a_sub_run_that_undoes_itself(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))
        inner = desk.start_child(graph(task("a", undo=True), task("b", "a")))
        desk.done("a")

        desk.tell(e.CancelAsked(run=run, compensate=True))
        desk.wait_s(30.0)
        held = (desk.state(run), desk.state(inner))
        desk.done("a", use="undo")

        assert held == ("canceling", "canceling")
        assert (desk.state(run), desk.state(inner)) == ("canceled", "canceled")
