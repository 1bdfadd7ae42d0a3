"""Workers that die, freeze, restart, and agents that break."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from a2a_site.chaos import faults
from a2a_site.chaos.stack import Stack
from a2a_site.chaos.verdict import Fault
from tests.faults.trial import Trial

AWAY_S = 30.0


class TestAKilledWorker:
    def test_loses_its_attempts_and_no_task(self, trial: Trial) -> None:
        victim = trial.stack.workers[0]
        with trial.load():
            long = trial.customer.submit("work", {"seconds": 2}, count=8)
            hit = trial.stack.until(
                lambda: set(long) & set(trial.working_on(faults.node(victim))), "it is at work on long ones"
            )
            trial.cause(lambda stack, _: _kill(stack))

        verdict = trial.assert_kept()

        assert verdict.retried >= len(hit)

    def test_in_the_middle_of_a_chord_leaves_its_body_to_run_once(self, trial: Trial) -> None:
        *header, body = trial.customer.chord(20, seconds=0.8)
        trial.stack.until(lambda: any(trial.state(task) == "completed" for task in header), "some members are done")

        trial.cause(lambda stack, _: _kill(stack))

        trial.assert_kept()
        assert trial.stack.executions(body) == [1]
        assert {trial.state(task) for task in (*header, body)} == {"completed"}


def _kill(stack: Stack) -> Fault:
    stack.workers[0].kill()
    return Fault(name="kill worker", at=time.time(), over_at=time.time(), worker=faults.node(stack.workers[0]))


class TestAnAgentThatRaises:
    def test_ends_its_own_attempt_alone(self, trial: Trial) -> None:
        with trial.load(before_s=0.5, after_s=0.5):
            broken = trial.customer.submit("raise") + trial.customer.submit("raise", {"how": "unforeseen"})
            odd = trial.customer.submit("chatty", count=3)

        verdict = trial.assert_kept()

        assert {trial.state(task) for task in broken} == {"failed"}
        assert {trial.state(task) for task in odd} == {"completed"}
        assert verdict.ends == {"completed": verdict.tasks - 2, "failed": 2}


class TestAPoisonedTask:
    def test_stops_at_its_limit_and_takes_no_other_task_with_it(self, trial: Trial) -> None:
        with trial.load(before_s=1, after_s=1):
            poison = trial.customer.submit("poison")[0]

        verdict = trial.assert_kept()

        assert trial.state(poison) == "failed"
        assert trial.stack.executions(poison) == [1, 2, 3]
        assert verdict.ends == {"completed": verdict.tasks - 1, "failed": 1}


class TestARollingRestart:
    def test_hands_back_what_it_cannot_finish_and_loses_nothing(self, trial: Trial) -> None:
        with trial.load(before_s=0.5):
            long = trial.customer.submit("work", {"seconds": 10})[0]
            first = trial.stack.until(lambda: trial.worker_of(long), "it is begun")
            for part in sorted(trial.stack.workers, key=lambda part: part is not first):
                starts = part.starts
                part.terminate()
                now = time.time()
                trial.faults.append(Fault(name="restart worker", at=now, over_at=now, worker=faults.node(part)))
                trial.stack.until(lambda: part.starts > starts and trial.stack.is_ready(), "it is back")  # noqa: B023

        verdict = trial.assert_kept()

        assert verdict.ends == {"completed": verdict.tasks}
        assert trial.kinds(long).count("requeued") == 1
        assert trial.customer.task(long)["tries"] == 0, "giving back is nobody's fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A worker that stands still, and what it was at work on."""

    tasks: list[str]
    worker: str
    since: float


@pytest.fixture(scope="class")
def frozen(stack: Stack) -> Iterator[Frozen]:
    """Stop the second worker while it works, for the time of a class of tests."""
    stack.recover()
    part, name = stack.workers[1], faults.node(stack.workers[1])
    began = time.time()
    stack.customer.submit("stubborn", {"seconds": 2}, count=4)
    trial = Trial(stack, name="frozen", began=began)
    hit = stack.until(lambda: trial.working_on(name), "the second worker has something to do")
    part.freeze()
    yield Frozen(tasks=hit, worker=name, since=time.time())
    part.thaw()


class TestAFrozenWorker:
    """These share 30 seconds in which one of two workers stands still."""

    def test_does_not_keep_a_chain_from_surviving_an_emptied_redis(self, frozen: Frozen, burdened: Trial) -> None:
        steps = burdened.customer.chain(5, seconds=0.5)
        burdened.stack.until(lambda: burdened.state(steps[1]) == "completed", "the chain is in its middle")

        burdened.cause(faults.empty_redis)

        burdened.assert_kept()
        assert [burdened.state(step) for step in steps] == ["completed"] * 5

    def test_does_not_make_a_message_delivered_twice_run_twice(self, frozen: Frozen, burdened: Trial) -> None:
        before = burdened.customer.duplicate(True)
        with burdened.load(before_s=1, after_s=2):
            watched = burdened.customer.submit("work", {"seconds": 0.5}, count=10)
        sent_twice = burdened.customer.duplicate(False) - before

        burdened.assert_kept()

        assert sent_twice > 10
        ran = {task: burdened.stack.executions(task) for task in watched}
        assert all(len(set(attempts)) == len(attempts) for attempts in ran.values()), ran

    def test_has_its_late_result_refused_when_it_returns(self, frozen: Frozen, burdened: Trial) -> None:
        time.sleep(max(0.0, frozen.since + AWAY_S - time.time()))

        burdened.stack.workers[1].thaw()
        burdened.faults.append(Fault(name="freeze worker", at=frozen.since, over_at=time.time(), worker=frozen.worker))

        burdened.stack.until(burdened.stack.is_ready, "it is heard of again")
        burdened.assert_kept(since=frozen.since - AWAY_S)
        for task in frozen.tasks:
            assert burdened.stack.executions(task) == [1, 2]
            assert burdened.customer.task(task)["output"] == {"task": task, "attempt": 2}
