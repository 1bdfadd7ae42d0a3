"""The rivals keep their books, or comparing with them says nothing."""

from __future__ import annotations

import pytest

from routing.report import Report
from routing.simulator import simulate, true_work
from tests.bench.clairvoyant import Clairvoyant
from tests.bench.conditions import Condition, conditions, recorded
from tests.bench.late_binding import LateBinding, Parts
from tests.bench.routing import SHIPPED, deciders

TASKS = recorded()[:300]
CONDITIONS = {str(condition): condition for condition in conditions(TASKS, seed=3)}


def clairvoyant(condition: Condition) -> Report:
    """Return what the clairvoyant makes of it."""
    work = true_work(condition.trace, condition.fleet, condition.seed)
    decider = Clairvoyant(work=work, fleet=condition.fleet, origin=condition.trace[0].at)
    return simulate(condition.trace, condition.fleet, seed=condition.seed, decider=decider)


class TestConditions:
    def test_are_twelve(self) -> None:
        assert len(CONDITIONS) == 12

    def test_bring_as_much_work_as_the_load_says(self) -> None:
        condition = CONDITIONS["no fault 0.70"]

        work_s = sum(true_work(condition.trace, condition.fleet, condition.seed).values())
        power = sum(agent.speed * agent.capacity for agent in condition.fleet.agents)

        assert work_s / (power * condition.trace[-1].at) == pytest.approx(0.7, rel=0.1)


class TestRivals:
    @pytest.mark.parametrize("name", [name for name in deciders(CONDITIONS["no fault 0.50"]) if name != SHIPPED])
    @pytest.mark.parametrize("kind", ["black hole 0.70", "freezes 0.85"])
    def test_end_every_task_once(self, name: str, kind: str) -> None:
        condition = CONDITIONS[kind]
        decider = deciders(condition)[name]()

        report = simulate(condition.trace, condition.fleet, seed=condition.seed, decider=decider)

        assert report.completed + report.failed == report.tasks == len(TASKS)
        assert report.failed == 0 or kind == "black hole 0.70"


class TestClairvoyant:
    @pytest.mark.parametrize("name", list(CONDITIONS))
    def test_fails_nothing(self, name: str) -> None:
        report = clairvoyant(CONDITIONS[name])

        assert (report.completed, report.retries) == (len(TASKS), 0)

    @pytest.mark.parametrize("name", ["no fault 0.85", "slow-downs 0.85"])
    def test_is_faster_than_those_who_know_nothing(self, name: str) -> None:
        condition = CONDITIONS[name]
        decider = deciders(condition)["shortest queue"]()

        other = simulate(condition.trace, condition.fleet, seed=condition.seed, decider=decider)

        assert clairvoyant(condition).total.mean < other.total.mean


class TestLateBinding:
    def test_a_breaker_keeps_tasks_from_a_black_hole(self) -> None:
        condition = CONDITIONS["black hole 0.85"]
        sizes = {job.id: job.size for job in condition.trace}

        with_breaker, without = (
            simulate(condition.trace, condition.fleet, decider=LateBinding(sizes=sizes, parts=Parts(breaker=breaker)))
            for breaker in (True, False)
        )

        assert with_breaker.retries < without.retries
