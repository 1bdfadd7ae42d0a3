"""How soon does work go on after a single fault?  In virtual seconds; the promise is 20 at the 99th percentile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from routing import events as e
from tests.checker import recovery_times
from tests.simulation.processes import History, Point
from tests.simulation.scenarios import POINTS, broken_promises, records
from tests.simulation.world import Arrival, Fault, FaultKind, Scenario, SimAgent, simulate

AGENT = e.AgentSpec(name="a", tenant="t", skills=frozenset({("lint", "1")}), capacity=8)


def busy_world(seed: int = 0, *faults: Fault) -> Scenario:
    """Return a world of two workers and 60 tasks of 2 to 6 seconds, in which only ``faults`` happen."""
    arrivals = tuple(
        Arrival(
            at=n * 0.3,
            task=e.TaskSpec(id=f"task-{n}", tenant="t", skill="lint", created_at=n * 0.3, max_attempts=9),
            size_s=2.0 + n % 5,
        )
        for n in range(60)
    )
    agents = (SimAgent(spec=AGENT), SimAgent(spec=replace(AGENT, name="b")))
    return Scenario(seed=seed, agents=agents, arrivals=arrivals, faults=faults)


def without_harm(world: Scenario) -> History:
    """Return the history of ``world``, where every promise is kept and every task done."""
    history = simulate(world)

    assert not broken_promises(world, history)
    assert sum(line.kind == "completed" for line in history.lines) == len(world.arrivals)
    return history


def waits(history: History) -> list[float]:
    """Return how long each task waited for its first assignment."""
    submitted = {line.task: line.at for line in history.lines if line.kind == "submitted"}
    return [line.at - submitted[line.task] for line in history.lines if line.attempt == 1 and line.kind == "assigned"]


class TestSimulate:
    def test_without_faults_every_task_is_worked_on_once(self) -> None:
        history = without_harm(busy_world())

        assert len(history.executions) == 60
        assert history.take_overs == history.refused_commits == 0

    @pytest.mark.parametrize("kind", ["kill_worker", "freeze_worker", "lose_thread", "empty_redis"])
    @pytest.mark.parametrize("seed", range(20))
    def test_interrupted_work_goes_on_within_20_s(self, kind: FaultKind, seed: int) -> None:
        history = without_harm(busy_world(seed, Fault(at=5 + seed / 4, kind=kind, target=seed, seconds=30)))

        assert max(recovery_times(records(history), history.interrupted), default=0) <= 20

    @pytest.mark.parametrize("kind", ["crash_controller", "pause_controller"])
    @pytest.mark.parametrize("point", POINTS)
    def test_a_standby_goes_on_where_the_leader_stopped(self, kind: FaultKind, point: Point) -> None:
        history = without_harm(busy_world(1, Fault(at=5, kind=kind, point=point, seconds=6)))

        assert history.take_overs == 1
        assert len(history.executions) == 60
        assert max(waits(history)) < 12

    @pytest.mark.parametrize("point", ["after_read", "before_commit"])
    def test_a_leader_that_slept_is_refused(self, point: Point) -> None:
        history = without_harm(busy_world(1, Fault(at=5, kind="pause_controller", point=point, seconds=6)))

        assert history.refused_commits == 1

    def test_nobody_is_blamed_for_a_pause_of_redis(self) -> None:
        history = without_harm(busy_world(1, Fault(at=5, kind="pause_redis", seconds=15)))

        assert len(history.executions) == 60

    def test_a_worker_that_stops_in_good_order_costs_no_tries(self) -> None:
        history = without_harm(busy_world(1, *(Fault(at=4 + 4 * n, kind="stop_worker", target=n) for n in range(4))))

        assert all(line.outcome in ("", "returned") for line in history.lines)

    def test_a_poison_task_stops_at_its_limit(self) -> None:
        world = busy_world()
        poison = replace(world.arrivals[0], kills_worker=True, task=replace(world.arrivals[0].task, max_attempts=3))
        world = replace(world, arrivals=(poison, *world.arrivals[1:]))

        history = simulate(world)

        assert not broken_promises(world, history)
        assert [line.kind for line in history.lines if line.task == "task-0"][-1] == "failed"
        assert [task for task, _ in history.executions].count("task-0") == 3
