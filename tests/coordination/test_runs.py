"""Runs from the door to their end, decided by a real controller on a real database. The tests play the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import redis

from coordination import errors, runs, workflows
from coordination.models import Approval, Run, RunCommand, RunEvent, StepRun, StepTask
from routing import broker, registry
from routing.broker import FACTS
from routing.models import Task
from tests.private_redis import wait_until
from tests.routing.test_controller import running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bus")]

CHAIN = """
name: pair
steps:
  first:
    task: any
    input: {n: "{{ run.input.n }}"}
  second:
    task: any
    input: {previous: "{{ steps.first.output }}"}
"""
FAN = """
name: fan
steps:
  each:
    map: "{{ run.input.items }}"
    task: any
    input: "{{ item }}"
    max_parallel: 2
  sum:
    task: any
    input: "{{ steps.each.output }}"
"""
ASK = """
name: ask
steps:
  may:
    approval: May it go on?
  go:
    task: any
    after: may
"""


@pytest.fixture(autouse=True)
def agents() -> None:
    """Register a skill that anybody can ask for, and an agent that can do it."""
    registry.ensure_tenant()
    skill = registry.ensure_skill("any")
    registry.ensure_agent("any-1", skills=[skill], executor="command", options={"argv": ["true"]}, capacity=50)


class Hands:
    """A worker that does each task at once: the output is what ``work`` makes of the input."""

    def __init__(self, bus: redis.Redis) -> None:
        self.bus = bus
        self.did: list[Any] = []

    def beat(self) -> None:
        self.say({"k": "beat", "w": "w", "i": "1", "n": 64, "f": [], "d": False})

    def say(self, *facts: dict[str, Any]) -> None:
        self.bus.xadd(FACTS, {"e": orjson.dumps(facts)})

    def do_all(self) -> bool:
        """Do what lies in the queue; return whether there was anything."""
        found = False
        while (taken := self.bus.rpop("agent.any-1")) is not None:
            found = True
            told = orjson.loads(str(taken.decode()))  # type: ignore[union-attr]
            facts = told["headers"]["a2a"]
            value = Task.objects.get(id=facts["task"]).input
            self.did.append(value)
            attempt = {"t": facts["task"], "a": facts["attempt"]}
            self.say({"k": "started", **attempt, "w": "w"}, {"k": "finished", **attempt, **self.end(value)})
        return found

    def end(self, value: Any) -> dict[str, Any]:
        if isinstance(value, dict) and value.get("fail"):
            return {"e": {"kind": "agent", "message": "no", "retryable": False}}
        return {"o": value}


@pytest.fixture
def hands(bus: redis.Redis) -> Iterator[Hands]:
    """Yield a worker beside a controller that leads."""
    made = Hands(bus)
    with running():
        wait_until(lambda: bus.exists(broker.SNAPSHOT), "a leader")
        made.beat()
        yield made


def begun(source: str, **fields: Any) -> Run:
    """Return a run of the workflow, just started."""
    version = workflows.save(source)
    return runs.start(runs.Request(workflow=version.workflow.name, **fields)).run


def ended(run: Run, hands: Hands, state: str = "completed") -> Run:
    """Return the run when it has ended, the worker doing what it asks for."""

    def is_over() -> bool:
        hands.do_all()
        run.refresh_from_db()
        return run.ended_at is not None

    wait_until(is_over, f"the end of {run}")
    assert run.state == state, run.error
    return run


class TestStart:
    def test_takes_a_chain_to_its_end(self, hands: Hands) -> None:
        run = ended(begun(CHAIN, input={"n": 7}), hands)

        assert hands.did == [{"n": 7}, {"previous": {"n": 7}}]
        assert run.output == {"second": {"previous": {"n": 7}}}
        assert [row.state for row in StepRun.objects.filter(run=run).order_by("order")] == ["completed", "completed"]
        seqs = list(RunEvent.objects.filter(run=run).order_by("seq").values_list("seq", flat=True))
        assert seqs == list(range(1, run.seq + 1))
        assert StepTask.objects.filter(run=run).count() == 2

    def test_goes_over_a_list_known_only_then(self, hands: Hands) -> None:
        ended(begun(FAN, input={"items": [1, 2, 3, 4, 5]}), hands)

        assert sorted(hands.did[:-1]) == [1, 2, 3, 4, 5]
        assert hands.did[-1] == [1, 2, 3, 4, 5]

    def test_fails_with_the_step_and_the_cause(self, hands: Hands) -> None:
        run = ended(begun(FAN, input={"items": [{"fail": True}]}), hands, "failed")

        error: Any = run.error
        assert (error["step"], error["cause"][0]["message"]) == ("each", "item 0: no")

    def test_twice_with_the_same_key_is_the_same_run(self) -> None:
        version = workflows.save(CHAIN)
        request = runs.Request(workflow=version.workflow.name, input={"n": 1}, idempotency_key="k")

        first, second = runs.start(request), runs.start(request)

        assert (first.created, second.created) == (True, False)
        assert first.run.pk == second.run.pk

    def test_refuses_a_workflow_that_nobody_knows(self) -> None:
        with pytest.raises(errors.NoSuchWorkflow, match="no workflow 'x'"):
            runs.start(runs.Request(workflow="x"))

        assert Run.objects.count() == 0


class TestAnswer:
    def test_lets_the_run_go_on(self, hands: Hands) -> None:
        run = begun(ASK)
        wait_until(Approval.objects.filter(run=run, state="open").exists, "the question")

        runs.answer(Approval.objects.get(run=run), True, by="ada")

        ended(run, hands)
        assert Approval.objects.get(run=run).answered_by == "ada"
        assert len(hands.did) == 1

    def test_is_given_once(self, hands: Hands) -> None:
        run = begun(ASK)
        wait_until(Approval.objects.filter(run=run, state="open").exists, "the question")
        question = Approval.objects.get(run=run)
        runs.answer(question, True, by="ada")

        with pytest.raises(errors.ApprovalClosed, match="by ada"):
            runs.answer(question, True, by="bob")

    def test_has_to_suit_the_form(self, hands: Hands) -> None:
        run = begun(ASK)
        wait_until(Approval.objects.filter(run=run, state="open").exists, "the question")

        with pytest.raises(errors.AnswerMismatch):
            runs.answer(Approval.objects.get(run=run), "perhaps", by="ada")


class TestAsk:
    def test_pauses_and_resumes(self, hands: Hands) -> None:
        run = begun(CHAIN, input={"n": 1})
        wait_until(lambda: Run.objects.filter(id=run.id, state="running").exists(), "the start")
        runs.ask(run, runs.Kind.PAUSE, by="ada")
        wait_until(lambda: Run.objects.filter(id=run.id, state="paused").exists(), "the pause")
        wait_until(hands.do_all, "the first step")
        runs.ask(run, runs.Kind.RESUME, by="ada")

        ended(run, hands)

    def test_cancels_what_waits(self, hands: Hands) -> None:
        run = begun(ASK)
        wait_until(Approval.objects.filter(run=run, state="open").exists, "the question")

        runs.ask(run, runs.Kind.CANCEL, by="ada", reason="enough")

        ended(run, hands, "canceled")
        wait_until(lambda: Approval.objects.get(run=run).state == "canceled", "the question's end")

    def test_tells_why_something_was_not_done(self, hands: Hands) -> None:
        run = ended(begun(CHAIN, input={"n": 1}), hands)

        with pytest.raises(errors.RunOver):
            runs.ask(run, runs.Kind.PAUSE, by="ada")
        with pytest.raises(errors.NoSuchStep, match="first, second"):
            runs.ask(run, runs.Kind.RERUN, by="ada", step="third")

    def test_of_a_run_that_has_ended_is_possible_again_after_a_refusal(self, hands: Hands) -> None:
        run = ended(begun(CHAIN, input={"n": 1}), hands)
        refused = runs.ask(run, runs.Kind.RETRY, by="ada")
        wait_until(lambda: RunCommand.objects.get(id=refused.id).refusal != "", "the refusal")

        command = runs.ask(run, runs.Kind.RERUN, by="ada", step="second")
        wait_until(lambda: RunCommand.objects.get(id=command.id).done_at is not None, "the command")

        ended(run, hands)
        assert RunCommand.objects.get(id=command.id).refusal == ""
        assert len(hands.did) == 3

    def test_reruns_from_a_step_with_another_input(self, hands: Hands) -> None:
        run = ended(begun(CHAIN, input={"n": 1}), hands)

        command = runs.ask(run, runs.Kind.RERUN, by="ada", step="second", input={"previous": "edited"})
        wait_until(lambda: RunCommand.objects.get(id=command.id).done_at is not None, "the command")

        ended(run, hands)
        assert hands.did[-1] == {"previous": "edited"}
        assert len(hands.did) == 3


class TestRestore:
    def test_goes_on_under_the_next_controller(self, bus: redis.Redis) -> None:
        hands = Hands(bus)
        with running():
            wait_until(lambda: bus.exists(broker.SNAPSHOT), "a leader")
            hands.beat()
            run = begun(FAN, input={"items": [1, 2, 3]})
            wait_until(hands.do_all, "a first item")
        with running():
            hands.beat()

            ended(run, hands)

        assert {1, 2, 3} == {value for value in hands.did if isinstance(value, int)}
        assert run.output in ([1, 2, 3], {"sum": [1, 2, 3]})


class TestFork:
    def test_copies_what_came_before(self, hands: Hands) -> None:
        run = ended(begun(CHAIN, input={"n": 1}), hands)

        made = runs.fork(run, step="second", by="ada")

        ended(made, hands)
        assert made.forked_from == run.id
        assert len(hands.did) == 3
