"""A run of 200 steps with nested fan-outs, hurt in its middle: it ends as one that nobody hurt."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from a2a_site.chaos import faults
from a2a_site.chaos.stack import Stack
from a2a_site.chaos.verdict import Fault
from tests.faults.trial import Trial

BRANCHES, TWIGS, ITEMS = 9, 10, 20
STEPS = 200
PATIENCE_S = 120.0
Blow = Callable[[Stack], Fault]


def source(name: str, *, step_s: float, extra: int = 0) -> str:
    """Return a workflow of 200 steps: 9 branches, each of which forks into 10 pairs and joins; then a map."""
    one: dict[str, Any] = {"task": "sum"}

    def adding(*of: str, number: int = 1) -> dict[str, Any]:
        values = [f"{{{{ steps.{each}.output }}}}" for each in of]
        return one | {"input": {"seconds": step_s, "of": [number + extra, *values]}}

    steps: dict[str, Any] = {"begin": adding()}
    for b in range(BRANCHES):
        steps[f"open{b}"] = adding("begin", number=b)
        for t in range(TWIGS):
            steps[f"left{b}x{t}"] = adding(f"open{b}", number=t)
            steps[f"right{b}x{t}"] = adding(f"left{b}x{t}", number=t)
        steps[f"join{b}"] = adding(*(f"right{b}x{t}" for t in range(TWIGS)))
    items = [*range(ITEMS - 1), "{{ steps.join0.output }}"]
    value = {"seconds": step_s, "of": ["{{ item }}", *(f"{{{{ steps.join{b}.output }}}}" for b in range(BRANCHES))]}
    steps["each"] = {"map": items, "task": "sum", "max_parallel": 6, "input": value}
    return yaml.safe_dump({"name": name, "steps": steps, "output": "{{ steps.each.output }}"}, sort_keys=False)


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> dict[str, Any]:
    """Return what a run comes to that nobody hurts."""
    stack.recover()
    run = stack.customer.begin("tree", source("tree", step_s=0.01))
    return ended(stack, run)


@pytest.fixture
def whole(trial: Trial) -> Iterator[Trial]:
    """Yield a trial whose figures tell how long the run stood still at most."""
    yield trial
    assert trial.figures


def ended(stack: Stack, run: str) -> dict[str, Any]:
    stack.until(
        lambda: stack.customer.run(run)["state"] in ("completed", "failed", "canceled"), "it ends", timeout_s=PATIENCE_S
    )
    return stack.customer.run(run)


def hurt(trial: Trial, *blows: Blow) -> dict[str, Any]:
    """Return a run as it ended that was hit when some steps were done, again and again."""
    stack = trial.stack
    run = stack.customer.begin("tree", source("tree", step_s=0.15))
    for number, blow in enumerate(blows, 1):
        share = STEPS * number // (len(blows) + 1)
        stack.until(lambda share=share: len(completed(stack.customer.run(run))) >= share, f"{share} steps are done")  # type: ignore[misc]
        trial.faults.append(blow(stack))
    found = ended(stack, run)
    times: list[float] = [event[3] for event in found["events"]]
    trial.figures["longest_pause_s"] = round(max(b - a for a, b in itertools.pairwise(times)), 2)
    return found


def completed(run: dict[str, Any]) -> list[str]:
    """Return the steps that have completed, once for each time that was recorded."""
    return [step for _, kind, step, _ in run["events"] if step and kind.endswith("completed")]


def assert_same(found: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    """Fail unless the run came to the same, with each step recorded once and none forgotten."""
    assert (found["state"], found["error"]) == ("completed", None)
    assert found["output"] == undisturbed["output"]
    assert found["steps"] == undisturbed["steps"]
    assert len(found["steps"]) == STEPS
    assert [event[0] for event in found["events"]] == list(range(1, len(found["events"]) + 1))
    assert max(Counter(completed(found)).values()) == 1
    assert max(Counter(map(tuple, found["done"])).values()) == 1
    assert len(found["done"]) == STEPS - 1 + ITEMS
    for counted in (found["ends"], found["completed_attempts"]):
        assert set(Counter(counted).values()) == {1}
        assert len(counted) == len(found["done"])


def kill_a_worker(stack: Stack) -> Fault:
    stack.workers[0].kill()
    return Fault(name="kill worker", at=time.time(), over_at=time.time(), worker=faults.node(stack.workers[0]))


def restart_a_worker(stack: Stack) -> Fault:
    stack.workers[1].terminate()
    return Fault(name="restart worker", at=time.time(), over_at=time.time())


def freeze_a_worker(stack: Stack) -> Fault:
    part, at = stack.workers[1], time.time()
    part.freeze()
    time.sleep(12)
    part.thaw()
    return Fault(name="freeze worker", at=at, over_at=time.time(), worker=faults.node(part))


def kill_the_leader(stack: Stack) -> Fault:
    (stack.leader() or stack.controllers[0]).kill()
    stack.until(lambda: stack.leader() is not None, "another one leads")
    return Fault(name="kill leader", at=time.time(), over_at=time.time())


def chosen(fault: Callable[[Stack, random.Random], Fault]) -> Blow:
    return lambda stack: fault(stack, random.Random(1))


class TestARunOf200Steps:
    @pytest.mark.parametrize(
        "blows",
        [
            pytest.param((kill_a_worker, restart_a_worker, kill_a_worker), id="workers"),
            pytest.param((freeze_a_worker,), id="frozen worker"),
            pytest.param(
                (
                    kill_the_leader,
                    partial(faults.crash_at, failpoint="before_commit"),
                    partial(faults.crash_at, failpoint="after_commit"),
                    partial(faults.crash_at, failpoint="after_publish"),
                ),
                id="controllers",
            ),
            pytest.param((chosen(faults.kill_redis), chosen(faults.empty_redis)), id="redis"),
            pytest.param((partial(faults.hold_database, seconds=5.0), chosen(faults.lose_messages)), id="database"),
            pytest.param((chosen(faults.repeat_messages), kill_a_worker, kill_the_leader), id="everything"),
        ],
    )
    def test_ends_as_if_nothing_had_happened(
        self, whole: Trial, undisturbed: dict[str, Any], blows: tuple[Blow, ...]
    ) -> None:
        found = hurt(whole, *blows)

        assert_same(found, undisturbed)

    def test_finishes_its_own_version_after_a_deploy_that_changes_the_workflow(
        self, whole: Trial, undisturbed: dict[str, Any]
    ) -> None:
        stack, customer = whole.stack, whole.stack.customer
        old = customer.begin("tree", source("tree", step_s=0.1))
        stack.until(lambda: len(completed(customer.run(old))) > 20, "some steps are done")

        new = customer.begin("tree", source("tree", step_s=0.01, extra=1))
        for part in (*stack.controllers, *stack.workers):
            part.terminate()

        assert_same(ended(stack, old), undisturbed)
        later = ended(stack, new)
        assert later["version"] > customer.run(old)["version"]
        assert (later["state"], len(later["steps"])) == ("completed", STEPS)
        assert later["output"] != undisturbed["output"]
        whole.figures["steps"] = 2 * STEPS
