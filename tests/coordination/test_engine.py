from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from coordination import events as e
from coordination.graph import MAX_DEPTH, Ask
from coordination.kinds import MAX_SIGNALS
from tests.coordination.flows import Desk, approval, child, choice, graph, mapped, run_id, task, wait


@pytest.fixture
def desk() -> Desk:
    return Desk()


class TestSteps:
    def test_without_any_before_them_begin_with_the_run(self, desk: Desk) -> None:
        desk.start(graph(task("a"), task("b"), task("c", "a b")))

        assert desk.submitted() == ["a", "b"]

    def test_begin_when_all_before_them_have_ended(self, desk: Desk) -> None:
        desk.start(graph(task("a"), task("b"), task("c", "a b")))

        first, second = desk.done("a"), desk.done("b")

        assert (desk.submitted(first), desk.submitted(second)) == ([], ["c"])

    def test_begin_once_however_often_they_are_told(self, desk: Desk) -> None:
        desk.start(graph(task("a"), task("b", "a")))
        desk.done("a")

        again = desk.done("a")

        assert again == []

    def test_get_what_their_templates_say(self, desk: Desk) -> None:
        desk.start(graph(task("a"), task("b", "a", input={"of": "{{ steps.a.output.v }}"})))

        desk.done("a", {"v": 7})

        assert desk.submit("b").input == {"of": 7}

    def test_are_skipped_where_their_condition_does_not_hold(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a", when="steps.a.output == 1"), task("c", "b")))

        desk.done("a", 2)

        assert [desk.state(run, step) for step in "bc"] == ["skipped", "skipped"]

    def test_fail_by_a_template_that_leads_nowhere_and_name_it(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", "a", input="{{ steps.a.output.nowhere }}")))

        desk.done("a", {"v": 1})

        error = desk.rows.run(run).error
        assert error is not None
        assert (error["kind"], error["step"]) == ("template", "b")
        assert "steps.a.output.nowhere" in error["message"]

    def test_have_the_runs_priority_unless_they_have_their_own(self, desk: Desk) -> None:
        desk.start(graph(task("a"), task("b", priority=9)), priority=2)

        assert (desk.submit("a").priority, desk.submit("b").priority) == (2, 9)

    def test_ask_the_fallback_once_the_first_skill_has_failed(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", fallback="second")))

        desk.fails("a")
        second = desk.submit("a", use="fallback")
        desk.done("a", 5, use="fallback")

        assert second.skill == "second"
        assert (desk.state(run), desk.rows.run(run).output) == ("completed", {"a": 5})

    def test_fail_when_the_fallback_fails_too(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", fallback="second")))
        desk.fails("a")

        desk.fails("a", use="fallback")

        assert desk.state(run) == "failed"

    def test_end_when_they_take_longer_than_they_may_in_total(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", total_s=10.0, on_error="continue"), task("b", "a")))

        said = desk.wait_s(10.0)

        assert desk.state(run, "a") == "failed"
        assert [effect.tasks for effect in said if isinstance(effect, e.CancelTasks)] == [(desk.submit("a").task,)]
        assert desk.submitted(said) == ["b"]

    def test_that_failed_let_the_run_go_on_where_they_say_so(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", on_error="continue"), task("b", "a", input="{{ steps.a.state }}")))

        desk.fails("a")

        assert (desk.state(run, "a"), desk.submit("b").input) == ("failed", "failed")

    def test_that_need_all_before_them_to_complete_are_skipped_otherwise(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", on_error="continue"), task("b"), task("c", "a b", needs="completed")))
        desk.done("b")

        desk.fails("a")

        assert (desk.state(run, "c"), desk.state(run)) == ("skipped", "completed")

    def test_that_fail_late_let_the_others_end_first(self, desk: Desk) -> None:
        run = desk.start(graph(task("a", on_error="fail_late"), task("b"), task("c", "b")))

        desk.fails("a")
        desk.done("b")
        held = desk.state(run)
        desk.done("c")

        error = desk.rows.run(run).error
        assert error is not None
        assert (held, desk.state(run), error["step"]) == ("running", "failed", "a")


class TestChoices:
    def test_skip_the_steps_of_other_cases(self, desk: Desk) -> None:
        flow = graph(task("a"), choice("c", ("steps.a.output == 1", "x"), ("", "y"), after="a"), task("x", "c"),
                     task("y", "c"))  # fmt: skip
        run = desk.start(flow)

        desk.done("a", 1)

        assert (desk.state(run, "x"), desk.state(run, "y")) == ("running", "skipped")

    def test_let_a_join_behind_them_begin(self, desk: Desk) -> None:
        flow = graph(choice("c", ("`true`", "x"), ("", "y")), task("x", "c"), task("y", "c"), task("j", "x y"))
        desk.start(flow)

        desk.done("x")

        assert desk.submitted() == ["j"]

    def test_of_which_no_case_holds_skip_all_of_them(self, desk: Desk) -> None:
        run = desk.start(graph(choice("c", ("`false`", "x")), task("x", "c"), task("y", "x")))

        assert (desk.state(run), desk.state(run, "y")) == ("completed", "skipped")


class TestMaps:
    def test_keep_so_many_items_in_flight(self, desk: Desk) -> None:
        desk.start(graph(mapped("m", [1, 2, 3, 4], max_parallel=2)))
        first = desk.submitted()

        second = desk.submitted(desk.done("m", item=1))

        assert (first, second) == (["m", "m"], ["m"])

    def test_give_outputs_in_the_order_of_the_items(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", [1, 2, 3])))

        for item in (2, 0, 1):
            desk.done("m", item * 10, item=item)

        assert desk.rows.run(run).output == {"m": [0, 10, 20]}

    def test_give_outputs_under_keys(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", ["x", "y"], key="k{{ item }}")))

        desk.done("m", 1, item=0)
        desk.done("m", 2, item=1)

        assert desk.rows.run(run).output == {"m": {"kx": 1, "ky": 2}}

    def test_over_an_object_give_outputs_under_its_keys(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", {"x": 1})))

        desk.done("m", 7, item=0)

        assert (desk.submit("m", 0).input, desk.rows.run(run).output) == (1, {"m": {"x": 7}})

    def test_over_nothing_complete_at_once(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", [])))

        assert (desk.state(run), desk.rows.run(run).output) == ("completed", {"m": []})

    @pytest.mark.parametrize("items", ["text", list(range(10_001))])
    def test_over_no_list_or_too_long_a_one_fail_without_any_task(self, desk: Desk, items: object) -> None:
        run = desk.start(graph(mapped("m", items)))

        assert (desk.state(run), desk.submitted()) == ("failed", [])

    def test_with_a_key_that_names_two_items_fail(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", ["x", "x"], key="{{ item }}")))

        error = desk.rows.run(run).error
        assert error is not None
        assert "'x' names two items" in error["message"]

    def test_succeed_when_enough_items_have(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", [1, 2], min_success=0.5)))

        desk.fails("m", item=0)
        desk.done("m", 5, item=1)

        assert desk.rows.run(run).output == {"m": [None, 5]}

    def test_fail_as_soon_as_not_enough_can_and_cancel_the_others(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", [1, 2, 3], on_error="continue")))

        desk.fails("m", item=1)

        [canceled] = desk.all(e.CancelTasks)
        assert set(canceled.tasks) == {desk.submit("m", 0).task, desk.submit("m", 2).task}
        assert desk.state(run, "m") == "failed"

    def test_give_single_items_to_the_fallback(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", [1, 2], fallback="second")))
        desk.fails("m", item=1)

        desk.done("m", 1, item=0)
        desk.restart()
        desk.done("m", 2, item=1, use="fallback")

        assert desk.rows.run(run).output == {"m": [1, 2]}

    def test_show_how_far_they_are(self, desk: Desk) -> None:
        desk.start(graph(mapped("m", [1, 2])))

        desk.done("m", item=0)

        [event] = [event for event in desk.all(e.RunEvent) if event.kind == "step_progress"]
        assert event.data == {"completed": 1, "failed": 0, "of": 2}

    def test_go_on_after_a_restart_with_the_next_item(self, desk: Desk) -> None:
        run = desk.start(graph(mapped("m", "{{ run.input }}", max_parallel=1)), input=[5, 6])

        desk.restart()
        desk.done("m", 1, item=0)
        desk.done("m", 2, item=1)

        assert (desk.submit("m", 1).input, desk.rows.run(run).output) == (6, {"m": [1, 2]})


class TestWaits:
    def test_end_after_their_time(self, desk: Desk) -> None:
        desk.start(graph(wait("w", seconds=5.0), task("a", "w")))

        early, late = desk.wait_s(4.9), desk.wait_s(0.2)

        assert (desk.submitted(early), desk.submitted(late)) == ([], ["a"])

    def test_end_at_their_moment(self, desk: Desk) -> None:
        run = desk.start(graph(wait("w", until="1970-01-01T00:01:00+00:00")))

        assert desk.engine.next_due() == 60.0
        desk.wait_s(60.0)
        assert desk.state(run) == "completed"

    def test_for_what_is_no_moment_fail(self, desk: Desk) -> None:
        run = desk.start(graph(wait("w", until="1970-01-01T00:01:00")))

        assert desk.state(run) == "failed"

    def test_take_the_payload_of_their_signal(self, desk: Desk) -> None:
        run = desk.start(graph(wait("w", signal="go")))

        desk.tell(e.Signaled(run=run, id="1", name="go", payload={"v": 1}))

        assert desk.rows.run(run).output == {"w": {"v": 1}}

    def test_take_a_signal_that_came_before_them(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), wait("w", "a", signal="go")))
        desk.tell(e.Signaled(run=run, id="1", name="go", payload=1))
        desk.restart()

        desk.done("a")

        assert desk.rows.run(run).output == {"w": 1}

    def test_take_one_signal_each(self, desk: Desk) -> None:
        run = desk.start(graph(wait("v", signal="go"), wait("w", signal="go")))

        for _ in range(2):
            desk.tell(e.Signaled(run=run, id="1", name="go"))

        assert (desk.state(run, "v"), desk.state(run, "w")) == ("completed", "running")

    def test_fail_when_their_signal_does_not_come_in_time(self, desk: Desk) -> None:
        run = desk.start(graph(wait("w", signal="go", timeout_s=5.0)))

        desk.wait_s(5.0)

        assert desk.state(run) == "failed"

    def test_keep_only_so_many_signals(self, desk: Desk) -> None:
        run = desk.start(graph(wait("w", signal="stop")))
        for number in range(MAX_SIGNALS):
            desk.tell(e.Signaled(run=run, id=str(number), name="go"))

        said = desk.tell(e.Signaled(run=run, id="one more", name="stop"))

        assert [type(effect) for effect in said] == [e.Refused]

    def test_refuse_a_signal_to_a_run_that_has_ended(self, desk: Desk) -> None:
        said = desk.tell(e.Signaled(run=run_id(), id="1", name="go"))

        assert [type(effect) for effect in said] == [e.Refused]


class TestApprovals:
    def test_ask_and_take_the_answer(self, desk: Desk) -> None:
        run = desk.start(graph(approval("ok", who=("group:ops",))))
        [asked] = desk.all(e.AskApproval)

        desk.tell(e.Answered(run=run, step="ok", round=asked.round, answer=True, by="eve"))

        assert asked.who == ("group:ops",)
        assert desk.rows.run(run).output == {"ok": {"approved": True, "answer": True, "by": "eve"}}

    def test_take_one_answer_only(self, desk: Desk) -> None:
        run = desk.start(graph(approval("ok"), task("a", "ok")))
        desk.tell(e.Answered(run=run, step="ok", round=1, answer=True, by="eve"))

        said = desk.tell(e.Answered(run=run, step="ok", round=1, answer=False, by="bob"))

        assert said == []

    def test_remind_once(self, desk: Desk) -> None:
        desk.start(graph(approval("ok", remind_s=10.0)))

        desk.wait_s(10.0)
        desk.wait_s(10.0)

        assert len(desk.all(e.Remind)) == 1

    @pytest.mark.parametrize(
        ("on_expiry", "step", "run"),
        [("fail", "failed", "failed"), ("continue", "failed", "completed"), ("approve", "completed", "completed"),
         ("reject", "completed", "completed")],
    )  # fmt: skip
    def test_that_expire_do_what_they_say(self, desk: Desk, on_expiry: str, step: str, run: str) -> None:
        id = desk.start(graph(approval("ok", expires_s=10.0, on_expiry=on_expiry)))

        desk.wait_s(10.0)

        assert (desk.state(id, "ok"), desk.state(id)) == (step, run)
        assert [closed.outcome for closed in desk.all(e.CloseApproval)] == ["expired"]


class TestSubRuns:
    def test_give_their_output_to_the_step(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))

        desk.start_child(graph(task("a"), output="{{ steps.a.output }}"))
        desk.done("a", 4)

        assert desk.rows.run(run).output == {"c": 4}

    def test_that_fail_fail_the_step_with_their_error_below(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))

        desk.start_child(graph(task("a")))
        desk.fails("a")

        error = desk.rows.run(run).error
        assert error is not None
        assert (error["step"], error["cause"]["step"], error["cause"]["agent"]) == ("c", "a", "ada")

    def test_that_cannot_be_started_fail_the_step(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))

        desk.tell(e.ChildEnded(run=desk.all(e.StartRun)[0].run, state="failed", error={"message": "unknown"}))

        assert desk.state(run) == "failed"

    def test_lie_only_so_deep(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")), depth=MAX_DEPTH)

        assert (desk.state(run), desk.all(e.StartRun)) == ("failed", [])

    def test_that_nobody_waits_for_any_more_do_nothing(self, desk: Desk) -> None:
        desk.start(graph(child("c"), task("a")))
        desk.fails("a")

        id = desk.start_child(graph(task("b")))

        assert (desk.state(id), desk.submitted()) == ("canceled", [])

    def test_are_canceled_with_their_parent(self, desk: Desk) -> None:
        run = desk.start(graph(child("c")))
        id = desk.start_child(graph(task("b")))

        desk.tell(e.CancelAsked(run=run))
        held = desk.state(run)
        desk.stopped("b")

        assert (held, desk.state(id), desk.state(run)) == ("canceling", "canceled", "canceled")


class TestFailure:
    def test_names_step_agent_attempt_and_cause(self, desk: Desk) -> None:
        run = desk.start(graph(task("a")))

        desk.fails("a")

        error: Any = desk.rows.run(run).error
        assert UUID(error["cause"].pop("task"))
        assert error == {
            "kind": "agent", "message": "step a: it broke", "step": "a", "agent": "ada", "attempt": 2,
            "cause": {"kind": "agent", "message": "it broke", "state": "failed"},
        }  # fmt: skip

    def test_cancels_what_runs_and_waits_for_it(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b"), task("c", "b")))

        desk.fails("a")
        held = desk.state(run)
        desk.done("b")

        assert [effect.tasks for effect in desk.all(e.CancelTasks)] == [(desk.submit("b").task,)]
        assert (held, desk.state(run), desk.state(run, "b"), desk.state(run, "c")) == (
            "running", "failed", "completed", "waiting"
        )  # fmt: skip

    def test_asks_no_fallback_any_more(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b", fallback="second"), mapped("m", [1, 2], fallback="second",
                                                                              min_success=0.0)))  # fmt: skip
        desk.fails("a")

        desk.fails("b")
        desk.fails("m", item=0)
        desk.done("m", item=1)

        assert [desk.state(run, step) for step in ("b", "m")] == ["canceled", "canceled"]
        assert len(desk.all(e.Submit)) == 4

    def test_waits_half_a_minute_at_most_and_lists_who_refused(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), task("b")))
        desk.fails("a")

        desk.wait_s(30.0)

        assert desk.state(run) == "failed"
        assert desk.rows.run(run).unconfirmed == (desk.submit("b").task,)

    def test_of_a_run_that_takes_too_long(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), total_s=60.0))

        desk.wait_s(60.0)
        desk.stopped("a")

        error = desk.rows.run(run).error
        assert error is not None
        assert (desk.state(run), error["kind"]) == ("failed", "deadline")

    def test_of_the_runs_output(self, desk: Desk) -> None:
        run = desk.start(graph(task("a"), output="{{ steps.a.output.nowhere }}"))

        desk.done("a", {})

        assert desk.state(run) == "failed"


class TestMaxActiveRuns:
    def test_lets_others_wait_for_their_turn(self, desk: Desk) -> None:
        flow = graph(task("a"), max_active_runs=1)
        first, second = desk.start(flow), desk.start(flow, number=2)
        held = desk.state(second)
        desk.restart()

        desk.tell(e.TaskEnded(task=desk.all(e.Submit)[0].task, state="completed"))

        assert (held, desk.state(first), desk.state(second)) == ("pending", "completed", "running")

    def test_lets_the_urgent_go_first(self, desk: Desk) -> None:
        flow = graph(task("a"), max_active_runs=1)
        desk.start(flow)
        slow, fast = desk.start(flow, number=2), desk.start(flow, number=3, priority=9)

        desk.done("a")

        assert (desk.state(slow), desk.state(fast)) == ("pending", "running")

    def test_rejects_one_more_where_that_is_said(self, desk: Desk) -> None:
        flow = graph(task("a"), max_active_runs=1, on_full="reject")
        desk.start(flow)

        second = desk.start(flow, number=2)

        error = desk.rows.run(second).error
        assert error is not None
        assert (desk.state(second), error["kind"]) == ("failed", "limit")

    def test_replaces_the_one_before_where_that_is_said(self, desk: Desk) -> None:
        flow = graph(task("a"), max_active_runs=1, on_full="replace")
        first, second = desk.start(flow), desk.start(flow, number=2)
        held = (desk.state(first), desk.state(second))

        desk.tell(e.TaskEnded(task=desk.all(e.Submit)[0].task, state="canceled"))

        assert held == ("canceling", "pending")
        assert (desk.state(first), desk.state(second)) == ("canceled", "running")

    def test_does_not_count_sub_runs(self, desk: Desk) -> None:
        flow = graph(child("c"), max_active_runs=1)
        desk.start(flow)

        inner = desk.start_child(graph(task("a"), max_active_runs=1))

        assert desk.state(inner) == "running"


class TestSubmit:
    def test_has_an_id_that_follows_from_its_place(self, desk: Desk) -> None:
        desk.start(graph(task("a")))
        other = Desk()

        other.start(graph(task("a")))

        assert desk.submit("a").task == other.submit("a").task

    def test_hands_on_what_the_step_asks(self, desk: Desk) -> None:
        ask = Ask(skill="{{ run.input }}", labels={"region": "{{ run.input }}"}, requires="gpu", timeout_s=9.0)
        step = task("a")

        desk.start(graph(type(step)(name="a", kind="task", ask=ask)), input="eu")

        submit = desk.submit("a")
        assert (submit.skill, submit.labels, submit.requires, submit.timeout_s) == ("eu", {"region": "eu"}, "gpu", 9.0)
