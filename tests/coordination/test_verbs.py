from __future__ import annotations

import pytest

from coordination import events as e
from coordination.graph import Step
from coordination.verbs import seeds_of
from tests.coordination.flows import Desk, approval, child, choice, graph, mapped, run_id, task


@pytest.fixture
def desk() -> Desk:
    return Desk()


def refusals(effects: list[e.Effect]) -> list[str]:
    """Return why what was asked was not done."""
    return [effect.reason for effect in effects if isinstance(effect, e.Refused)]


class TestPause:
    def test_lets_nothing_new_begin_and_what_runs_go_on(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a")))
        desk.tell(e.PauseAsked(run=run))

        said = desk.done("a")

        assert desk.submitted(said) == []
        assert (desk.state(run), desk.state(run, "b")) == ("paused", "ready")

    def test_lets_no_item_of_a_map_begin(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", [1, 2], max_parallel=1)))
        desk.tell(e.PauseAsked(run=run))

        paused = desk.submitted(desk.done("m", item=0))
        resumed = desk.submitted(desk.tell(e.ResumeAsked(run=run)))

        assert (paused, resumed) == ([], ["m"])

    def test_holds_sub_runs_too(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))
        inner = desk.start_child(graph(task("a"), task("b", "a")))

        desk.tell(e.PauseAsked(run=run))

        assert desk.state(inner) == "paused"

    def test_holds_a_sub_run_that_comes_later(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))
        desk.tell(e.PauseAsked(run=run))

        inner = desk.start_child(graph(task("a")))

        assert (desk.state(inner), desk.submitted()) == ("paused", [])

    def test_is_refused_for_a_run_that_is_unknown(self, desk: Desk) -> None:
        assert refusals(desk.tell(e.PauseAsked(run=run_id(), command="1"))) == ["There is no such run in flight."]


class TestResume:
    def test_lets_begin_what_was_held(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a")))
        desk.tell(e.PauseAsked(run=run))
        desk.done("a")

        desk.restart()
        said = desk.tell(e.ResumeAsked(run=run))

        assert (desk.submitted(said), desk.state(run)) == (["b"], "running")

    def test_of_sub_runs_comes_with_it(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))
        inner = desk.start_child(graph(task("a")))
        desk.tell(e.PauseAsked(run=run))

        desk.tell(e.ResumeAsked(run=run))

        assert desk.state(inner) == "running"


class TestRetry:
    def test_does_again_what_failed_and_nothing_else(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b"), task("c", "a b")))
        desk.done("a", 1)
        desk.fails("b")
        desk.restart(run)

        said = desk.tell(e.RetryAsked(run=run, command="1"))
        desk.done("b", 2)
        desk.done("c", 3)

        assert (desk.submitted(said), desk.state(run)) == (["b"], "completed")

    def test_gives_what_is_done_again_another_id(self, desk: Desk) -> None:
        run = desk.start(graph(task("a")))
        first = desk.submit("a").task
        desk.fails("a")
        desk.restart(run)

        desk.tell(e.RetryAsked(run=run))

        assert (desk.submit("a").task != first, desk.submit("a").round) == (True, 2)

    def test_does_again_what_was_undone(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", undo=True), task("b", "a", on_error="compensate")))
        desk.done("a")
        desk.fails("b")
        desk.done("a", use="undo")
        desk.restart(run)

        said = desk.tell(e.RetryAsked(run=run))

        assert desk.submitted(said) == ["a"]

    def test_tries_again_what_a_compensate_step_could_not_undo(self, desk: Desk) -> None:
        undo = Step(name="undo", kind="compensate", after=("b",))
        run = desk.start(graph(task("a", undo=True), task("b", "a", undo=True), undo))
        desk.done("a")
        desk.done("b")
        desk.fails("b", use="undo")
        desk.done("a", use="undo")
        desk.restart(run)

        said = desk.tell(e.RetryAsked(run=run))
        desk.done("b", use="undo")

        assert (desk.submitted(said), desk.state(run)) == (["b"], "completed")
        assert desk.rows.step(run, "undo").output == {"undone": ["a", "b"]}  # type: ignore[union-attr]

    def test_told_twice_is_done_once(self, desk: Desk) -> None:
        run = desk.start(graph(task("a")))
        desk.fails("a")
        desk.restart(run)
        desk.tell(e.RetryAsked(run=run, command="1"))
        desk.fails("a")
        desk.restart(run)

        said = desk.tell(e.RetryAsked(run=run, command="1"))

        assert said == []

    def test_is_refused_where_nothing_has_failed_and_forgets_the_run(self, desk: Desk) -> None:
        run = desk.start(graph(task("a")))
        desk.done("a")
        desk.restart(run)

        said = desk.tell(e.RetryAsked(run=run))

        assert refusals(said) == ["Nothing in it has failed."]
        assert not desk.engine.holds(run)

    def test_is_refused_while_the_run_ends(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b")))
        desk.fails("a")

        assert refusals(desk.tell(e.RetryAsked(run=run))) == ["It is about to end as failed."]

    def test_has_the_time_that_the_run_may_take_anew(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), total_s=10.0))
        desk.now = 9.0
        desk.fails("a")
        desk.restart(run)

        desk.tell(e.RetryAsked(run=run))

        assert desk.rows.run(run).deadline == 19.0


class TestSkip:
    def test_lets_what_follows_begin_with_the_output_given(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a", input="{{ steps.a.output }}")))

        desk.tell(e.SkipAsked(run=run, step="a", output=5))

        assert [effect.tasks for effect in desk.all(e.CancelTasks)] == [(desk.submit("a").task,)]
        assert (desk.state(run, "a"), desk.submit("b").input) == ("skipped", 5)

    def test_of_a_step_that_has_not_begun_holds_when_its_turn_comes(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a"), task("c", "b", input="{{ steps.b.output }}")))
        asked = desk.submitted(desk.tell(e.SkipAsked(run=run, step="b", output=5)))
        desk.restart()

        said = desk.done("a")

        assert (asked, desk.submitted(said), desk.state(run, "b")) == ([], ["c"], "skipped")
        assert desk.submit("c").input == 5

    def test_of_a_step_that_is_held_by_a_pause_is_done_at_once(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a")))
        desk.tell(e.PauseAsked(run=run))
        desk.done("a")

        desk.tell(e.SkipAsked(run=run, step="b"))

        assert (desk.state(run, "b"), desk.state(run)) == ("skipped", "completed")

    def test_of_the_step_that_failed_lets_the_run_go_on(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b"), task("c", "a b")))
        desk.fails("a")
        desk.stopped("b")
        desk.restart(run)

        said = desk.tell(e.SkipAsked(run=run, step="a"))
        desk.done("b")

        assert (desk.submitted(said), desk.submitted()) == (["b"], ["c"])

    def test_closes_the_question_of_an_approval(self, desk: Desk) -> None:
        run = desk.start(graph(approval("ok")))

        desk.tell(e.SkipAsked(run=run, step="ok"))

        assert ([closed.outcome for closed in desk.all(e.CloseApproval)], desk.state(run)) == (
            ["canceled"], "completed"
        )  # fmt: skip

    def test_is_refused_for_a_step_that_has_ended(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b")))
        desk.done("a")

        assert refusals(desk.tell(e.SkipAsked(run=run, step="a"))) == ["The step a has ended."]

    def test_is_refused_for_an_unknown_step(self, desk: Desk) -> None:
        run = desk.start(graph(task("a")))

        assert refusals(desk.tell(e.SkipAsked(run=run, step="z"))) == ["There is no step z."]


class TestRerun:
    def test_does_the_step_and_all_that_follows_it_again(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a"), task("c", "b"), task("d")))
        for step in "abcd":
            desk.done(step)
        desk.restart(run)

        said = desk.tell(e.RerunAsked(run=run, step="b"))
        desk.done("b")
        desk.done("c")

        assert (desk.submitted(said), desk.state(run)) == (["b"], "completed")
        assert [submit.step for submit in desk.all(e.Submit)] == ["a", "d", "b", "c", "b", "c"]

    def test_gives_the_step_the_edited_input_after_a_restart_too(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a", input=1)))
        desk.done("a")
        desk.tell(e.PauseAsked(run=run))
        desk.tell(e.RerunAsked(run=run, step="b", input=2))

        desk.restart()
        desk.tell(e.ResumeAsked(run=run))

        assert desk.submit("b").input == 2

    def test_cancels_what_runs_of_it_and_hears_no_more_of_that(self, desk: Desk) -> None:
        run = desk.start(graph(task("a")))
        old = desk.submit("a").task

        desk.tell(e.RerunAsked(run=run, step="a"))
        said = desk.tell(e.TaskEnded(task=old, state="completed", output="old"))

        assert (said, [effect.tasks for effect in desk.all(e.CancelTasks)]) == ([], [(old,)])

    def test_is_refused_for_the_input_of_a_step_that_has_none(self, desk: Desk) -> None:
        run = desk.start(graph(choice("c", ("", "a")), task("a", "c")))

        assert refusals(desk.tell(e.RerunAsked(run=run, step="c", input=1))) == ["The step c has no input."]

    def test_cancels_the_sub_runs_of_what_is_done_again(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))
        inner = desk.start_child(graph(task("a")))

        desk.tell(e.RerunAsked(run=run, step="c"))
        desk.stopped("a")
        second = desk.start_child(graph(task("a")))
        desk.done("a", 3)

        assert (desk.state(inner), desk.state(second), desk.state(run)) == ("canceled", "completed", "completed")


class TestSeedsOf:
    def test_are_the_steps_that_need_not_be_done_again(self, desk: Desk) -> None:
        flow = graph(task("a"), task("b", "a"), task("c", "b"), task("d"))
        run = desk.start(flow)
        for step in "abcd":
            desk.done(step, step)

        seeds = seeds_of(desk.rows.kept(run), "b")

        assert [(seed.step, seed.output) for seed in seeds] == [("a", "a"), ("d", "d")]

    def test_begin_a_fork_that_leaves_the_old_run_alone(self, desk: Desk) -> None:
        flow = graph(task("a", undo=True), task("b", "a", input="{{ steps.a.output }}", on_error="compensate"))
        run = desk.start(flow)
        desk.done("a", 7)
        desk.done("b")

        fork = desk.start(flow, number=2, seeds=seeds_of(desk.rows.kept(run), "b"))
        submitted = desk.submitted()
        desk.fails("b")

        assert (submitted, desk.submit("b").input) == (["b"], 7)
        assert (desk.state(run), desk.state(fork), desk.state(fork, "a")) == ("completed", "failed", "completed")

    def test_give_the_fork_an_edited_input(self, desk: Desk) -> None:
        flow = graph(task("a", input=1))
        run = desk.start(flow)
        desk.done("a")

        desk.start(flow, number=2, seeds=seeds_of(desk.rows.kept(run), "a"), overrides={"a": 2})

        assert desk.submit("a").input == 2
