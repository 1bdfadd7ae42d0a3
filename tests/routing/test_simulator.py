from dataclasses import replace
from typing import Any

from routing import events as e
from routing.fleet import Fleet
from routing.policies import PolicySpec
from routing.report import Report
from routing.simulated import SimulatedFleet, described
from routing.simulator import Decider, Outcome, simulate, true_work
from routing.traces import Job


def fleet(*agents: dict[str, Any], noise: float = 0.0) -> SimulatedFleet:
    """Return a fleet of these agents, named ``a0``, ``a1``, … where no name is given."""
    named = [{"name": f"a{number}", **agent} for number, agent in enumerate(agents)]
    return described({"agents": named, "noise": noise})


def trace(count: int, *, every_s: float = 1.0, size: float = 1.0, **fields: Any) -> list[Job]:
    """Return ``count`` tasks, one after the other."""
    return [Job(id=f"t{n}", at=1000 + n * every_s, size=size, **fields) for n in range(count)]


class Watched(Fleet):
    """The fleet, and what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: list[tuple[float, e.Fact]] = []

    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        """Keep the fact."""
        self.facts.append((now, fact))
        return super().apply(fact, now)

    def told(self, kind: type[e.Fact]) -> list[float]:
        """Return when facts of this kind came."""
        return [at for at, fact in self.facts if isinstance(fact, kind)]


class Hedging(Fleet):
    """Sends every attempt twice over, and then asks the first one to stop."""

    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        """Say everything twice."""
        return [twice for effect in super().apply(fact, now) for twice in self._twice(effect)]

    def due(self, now: float) -> list[e.Effect]:
        """Say everything twice."""
        return [twice for effect in super().due(now) for twice in self._twice(effect)]

    def _twice(self, effect: e.Effect) -> list[e.Effect]:
        if not isinstance(effect, e.Dispatch):
            return [effect]
        stop = e.Stop(task=effect.task, attempt=effect.attempt + 7, reason="canceled")
        return [effect, effect, replace(effect, attempt=effect.attempt + 7), stop]


class Known:
    """The first attempt fails after 5 s, each further one takes 7 s."""

    def __init__(self) -> None:
        self.made = 0

    def next(self, task: str, agent: str) -> Outcome:
        """Return what comes next."""
        self.made += 1
        error: e.Error = {"kind": "agent", "message": "no", "retryable": True}
        return Outcome(5.0, error) if self.made == 1 else Outcome(7.0)


class TestSimulate:
    def test_the_same_seed_gives_the_same_report_and_another_one_does_not(self) -> None:
        jobs, agents = trace(200, every_s=0.3), fleet({"error_rate": 0.2}, {"speed": 2.0}, noise=0.5)

        first, again, other = (simulate(jobs, agents, seed=seed) for seed in (1, 1, 2))

        assert first == again
        assert first != other

    def test_an_idle_agent_begins_at_once_and_works_at_its_speed(self) -> None:
        report = simulate(trace(5, every_s=10, size=3.0), fleet({"speed": 1.5, "cost_usd": 0.25}))

        assert (report.completed, report.retries) == (5, 0)
        assert report.total.p50 == report.total.p99 == 2.0
        assert report.wait.p99 == 0.0
        assert report.cost_usd == 1.25

    def test_no_more_run_at_once_than_there_are_slots(self) -> None:
        report = simulate(trace(6, every_s=0.0, size=10.0), fleet({"capacity": 2}))

        assert report.wait.p99 == 20.0
        assert report.total.mean == 20.0

    def test_the_strategy_decides(self) -> None:
        jobs, agents = trace(300, every_s=0.5, size=1.0), fleet({"speed": 0.2, "capacity": 8}, {"capacity": 8})

        balanced, least_loaded = (simulate(jobs, agents, strategy=name) for name in ("balanced", "least_loaded"))

        assert balanced.shares["a0"] < 0.05 < least_loaded.shares["a0"]

    def test_windows_count_from_the_first_arrival(self) -> None:
        agents = fleet({"slow": [{"from": 0, "to": 100, "factor": 3}]})

        report = simulate(trace(2, every_s=200), agents)

        assert (report.total.p50, report.total.mean) == (3.0, 2.0)

    def test_an_agent_in_a_black_hole_fails_what_begins_there_at_once(self) -> None:
        agents = fleet({"black_holes": [{"from": 0, "to": 1}]})

        report = simulate(trace(1), agents)

        assert (report.completed, report.attempts) == (1, 2)
        assert 2.0 < report.total.mean < 3.0

    def test_an_error_rate_of_one_fails_every_attempt(self) -> None:
        report = simulate(trace(3, every_s=60), fleet({"error_rate": 1.0}))

        assert (report.failed, report.attempts) == (3, 9)

    def test_an_agent_in_a_short_freeze_goes_on_afterwards(self) -> None:
        agents = fleet({"freezes": [{"from": 1, "to": 6}]})

        report = simulate(trace(1, size=3.0), agents)

        assert (report.retries, report.total.mean) == (0, 8.0)

    def test_nothing_is_heard_of_a_frozen_agent(self) -> None:
        decider = Watched()

        simulate(trace(1, size=30.0), fleet({"freezes": [{"from": 1, "to": 40}]}), decider=decider)

        assert [at for at in decider.told(e.Beat) if 1001 <= at < 1040] == []
        assert 1000.0 in decider.told(e.Beat)
        assert 1040.0 in decider.told(e.Beat)

    def test_a_task_on_an_agent_that_stays_frozen_goes_to_another(self) -> None:
        agents = fleet({"speed": 1.01, "freezes": [{"from": 1, "to": 500}]}, {"speed": 1.0})

        report = simulate(trace(1, size=3.0), agents)

        assert (report.completed, report.given["t0"], report.attempts) == (1, "a1", 2)
        assert 10 < report.total.mean < 20

    def test_an_attempt_ends_at_its_time_out(self) -> None:
        spec = e.TaskSpec(id="t0", tenant="default", skill="work", timeout_s=4.0, max_attempts=1, created_at=1000.0)
        decider = Watched()

        report = simulate(trace(1, size=9.0, task=spec), fleet({}), decider=decider)

        assert report.failed == 1
        assert decider.told(e.Finished) == [1004.0]

    def test_tasks_beyond_their_deadline_fail_or_are_late(self) -> None:
        report = simulate(trace(3, every_s=0.0, size=10.0, deadline_s=15.0), fleet({}))

        assert (report.completed, report.late, report.failed, report.missed) == (2, 1, 1, 2)
        assert report.goodput_per_s == 1 / 20

    def test_ends_when_nobody_can_do_what_waits(self) -> None:
        jobs = [*trace(2), Job(id="odd", at=1003, size=1.0, skill="unknown")]

        report = simulate(jobs, fleet({}))

        assert (report.completed, report.unfinished) == (2, 1)

    def test_waits_for_the_end_of_a_long_task(self) -> None:
        report = simulate(trace(2, every_s=0.0, size=2000.0), fleet({}))

        assert report.completed == 2

    def test_an_attempt_runs_once_and_another_one_of_the_same_task_beside_it(self) -> None:
        report = simulate(trace(1), fleet({}), decider=Hedging())

        assert (report.completed, report.attempts, report.total.mean) == (1, 2, 1.0)

    def test_the_fleet_is_told_the_task_as_it_stands_in_the_job(self) -> None:
        spec = e.TaskSpec(id="t0", tenant="default", skill="work", pinned="a1", created_at=1000.0)

        report = simulate(trace(1, task=spec), fleet({}, {"speed": 0.1}))

        assert report.given == {"t0": "a1"}

    def test_the_fleet_is_told_the_rules_as_they_are_given(self) -> None:
        agents = fleet({"capacity": 5}, {"speed": 9.0, "capacity": 5})
        first = PolicySpec(name="first", strategy="ordered", order=("a0",))
        specs = tuple(agent.spec() for agent in agents.agents)

        report = simulate(trace(5, every_s=0.0), agents, rules=e.RegistryChanged(agents=specs, policies=(first,)))

        assert set(report.given.values()) == {"a0"}

    def test_attempts_come_to_what_is_known_of_them(self) -> None:
        report = simulate(trace(1), fleet({}), outcomes=Known())

        assert (report.completed, report.retries) == (1, 1)
        assert 5 + 7 < report.total.mean < 5 + 7 + 5

    def test_a_known_attempt_ends_at_its_time_out_all_the_same(self) -> None:
        spec = e.TaskSpec(id="t0", tenant="default", skill="work", timeout_s=2.0, max_attempts=1, created_at=1000.0)

        report = simulate(trace(1, task=spec), fleet({}), outcomes=Known())

        assert (report.failed, report.attempts) == (1, 1)

    def test_an_empty_trace_gives_an_empty_report(self) -> None:
        assert simulate([], fleet({})).tasks == 0

    def test_every_task_ends_once_whatever_happens(self) -> None:
        jobs = trace(400, every_s=0.4)
        agents = fleet(
            {"speed": 0.5, "error_rate": 0.1, "capacity": 3},
            {"freezes": [{"from": 20, "to": 45}, {"from": 40, "to": 60}]},
            {"black_holes": [{"from": 10, "to": 90}], "capacity": 2},
            {"slow": [{"from": 30, "to": 80, "factor": 5}]},
            noise=0.4,
        )

        report = simulate(jobs, agents)

        assert report.unfinished == 0
        assert report.completed + report.failed == len(jobs)
        assert report.retries > 0


class TestTrueWork:
    def test_is_the_size_where_there_is_no_noise(self) -> None:
        assert true_work(trace(2, size=3.0), fleet({}), seed=1) == {"t0": 3.0, "t1": 3.0}

    def test_is_what_was_recorded_where_that_is_known(self) -> None:
        jobs = trace(1, size=3.0, work_s=7.0)

        assert true_work(jobs, fleet({}, noise=1.0), seed=1) == {"t0": 7.0}

    def test_is_a_tasks_own_whoever_gets_it(self) -> None:
        jobs = trace(2)

        assert true_work(jobs, fleet({}, noise=1.0), seed=1) == true_work(jobs, fleet({}, {}, noise=1.0), seed=1)


class TestDecider:
    def test_the_shipped_fleet_is_one(self) -> None:
        decider: Decider = Fleet()

        assert isinstance(simulate(trace(1), fleet({}), decider=decider), Report)
