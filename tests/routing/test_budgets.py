import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routing import budgets as b
from routing.amounts import DAY_S
from routing.budget_rules import BudgetKey, BudgetSpec
from routing.budgets import Budgets, Reserved
from routing.matching import Match
from tests.routing.subjects import Subject

TASK = Subject()
NEW_YEAR = 1_767_225_600.0  # 2026-01-01 00:00 UTC
NOON = NEW_YEAR + DAY_S / 2


def spec(name: str = "research", **changes: Any) -> BudgetSpec:
    """Return a hard budget of five dollars."""
    return replace(BudgetSpec(name=name, unit="usd", amount=5.0), **changes)


def budgets(*specs: BudgetSpec) -> Budgets[Any]:
    """Return budgets with these rules and nothing spent."""
    made = Budgets[Any]()
    made.configure(specs)
    return made


def task(id: str, **changes: str) -> Subject:
    """Return a task of that id."""
    return replace(TASK, id=id, **changes)  # type: ignore[arg-type]


def spend(made: Budgets[Any], usd: float, now: float = NOON, *, subject: Subject = TASK, agent: str = "jules") -> None:
    """Let an attempt of the task spend so much."""
    made.reserve(subject, 99, agent, {"usd": usd}, now)
    made.settle(subject.id, 99, {"usd": usd}, now)


def lack(made: Budgets[Any], usd: float, now: float = NOON, **changes: Any) -> b.Lack:
    """Return what is lacking for an attempt of so much. Fails if nothing is."""
    found = made.lacks(changes.get("subject", TASK), changes.get("agent", "jules"), {"usd": usd}, now)
    assert found is not None
    return found


class TestLacks:
    def test_is_none_while_there_is_enough(self) -> None:
        made = budgets(spec())
        spend(made, 4.0)

        assert made.lacks(TASK, "jules", {"usd": 1.0}, NOON) is None

    def test_says_what_is_left_until_when_and_what_is_needed(self) -> None:
        made = budgets(spec(period_s=DAY_S))
        spend(made, 4.6)

        found = lack(made, 0.6)

        assert found.words == "budget research: $0.40 of $5.00 left until 00:00 UTC, about $0.60 needed"
        assert (found.ready_at, found.for_good) == (NEW_YEAR + DAY_S, False)
        assert made.lacks(TASK, "jules", {"usd": 0.6}, NEW_YEAR + DAY_S) is None

    def test_never_ends_without_a_period(self) -> None:
        made = budgets(spec(scope="tenant"))
        spend(made, 4.6)

        found = lack(made, 0.6)

        assert found.words == "budget research for tenant acme: $0.40 of $5.00 left, about $0.60 needed"
        assert (found.ready_at, found.for_good) == (None, True)

    def test_does_not_wait_for_a_period_that_could_not_pay_either(self) -> None:
        found = lack(budgets(spec(period_s=DAY_S)), 6.0)

        assert (found.ready_at, found.for_good) == (None, True)

    def test_tells_what_is_only_held_from_what_is_gone(self) -> None:
        made = budgets(spec())
        made.reserve(task("a"), 1, "jules", {"usd": 4.6}, NOON)

        found = lack(made, 0.6)

        assert found.words == "budget research: $0.40 of $5.00 left, about $0.60 needed, $4.60 more held for what runs"
        assert (found.ready_at, found.for_good) == (None, False)

    def test_adds_up_without_any_rounding(self) -> None:
        made = budgets(spec(amount=1.0))
        for _ in range(9):
            spend(made, 0.1)

        assert made.lacks(TASK, "jules", {"usd": 0.1}, NOON) is None
        spend(made, 0.1)
        assert made.lacks(TASK, "jules", {"usd": 0.000001}, NOON) is not None

    def test_lets_free_work_go_on_when_nothing_is_left(self) -> None:
        made = budgets(spec(amount=0.0))

        assert made.lacks(TASK, "jules", {"usd": 0.0}, NOON) is None

    def test_asks_for_something_to_be_left_where_the_need_is_not_known(self) -> None:
        made = budgets(spec(amount=0.5))
        assert made.lacks(TASK, "jules", {}, NOON) is None
        spend(made, 0.5)

        found = made.lacks(TASK, "jules", {}, NOON)

        assert found is not None
        assert found.words == "budget research: $0.00 of $0.50 left"
        assert made.lacks(TASK, None, {}, NOON) is None

    def test_counts_attempts_by_itself(self) -> None:
        made = budgets(spec("tries", unit="attempts", amount=2, scope="task"))
        for attempt in (1, 2):
            made.reserve(TASK, attempt, "jules", {}, NOON)
            made.settle(TASK.id, attempt, {"wall_s": 3.0}, NOON)

        found = made.lacks(TASK, None, {}, NOON)

        assert found is not None
        assert found.words == "budget tries for task x: 0 of 2 attempts left, 1 needed"
        assert made.lacks(task("y"), None, {}, NOON) is None

    def test_asks_for_an_agents_budget_once_the_agent_is_known(self) -> None:
        made = budgets(spec(scope="agent"))
        spend(made, 5.0)

        assert made.lacks(TASK, None, {"usd": 1.0}, NOON) is None
        assert made.lacks(TASK, "codex", {"usd": 1.0}, NOON) is None
        assert lack(made, 1.0, agent="jules").key == BudgetKey("research", "jules")

    def test_speaks_only_of_tasks_and_agents_that_match(self) -> None:
        made = budgets(spec(amount=0.0, match=Match(skill="crawl", agent="j*")))

        assert made.lacks(TASK, "codex", {"usd": 1.0}, NOON) is None
        assert made.lacks(task("y", skill="lint"), "jules", {"usd": 1.0}, NOON) is None
        assert made.lacks(TASK, "jules", {"usd": 1.0}, NOON) is not None

    def test_names_the_one_that_lasts_longest(self) -> None:
        made = budgets(spec("a", period_s=60), spec("b", period_s=DAY_S), spec("c", period_s=3600))
        spend(made, 5.0)

        assert lack(made, 1.0).key.budget == "b"

    def test_is_none_for_a_soft_budget(self) -> None:
        assert budgets(spec(amount=0.0, hard=False)).lacks(TASK, "jules", {"usd": 9.0}, NOON) is None


class TestReserve:
    def test_holds_an_attempt_once(self) -> None:
        made = budgets(spec())
        for _ in range(3):
            made.reserve(TASK, 1, "jules", {"usd": 2.0}, NOON)

        assert made.standing("research", "", NOON).reserved == 2.0


class TestSettle:
    def test_puts_the_actual_usage_in_place_of_what_was_held(self) -> None:
        made = budgets(spec())
        made.reserve(TASK, 1, "jules", {"usd": 3.0}, NOON)
        made.settle(TASK.id, 1, {"usd": 1.0}, NOON)
        made.settle(TASK.id, 1, {"usd": 1.0}, NOON)

        assert made.standing("research", "", NOON) == b.Standing(amount=5.0, spent=1.0, reserved=0.0, overshoot=0.0)

    def test_counts_a_lost_attempt_with_what_is_known_and_else_as_expected(self) -> None:
        made = budgets(spec(), spec("time", unit="wall_s", amount=60), spec("tries", unit="attempts", amount=3))
        made.reserve(TASK, 1, "jules", {"usd": 3.0, "wall_s": 20.0}, NOON)
        made.settle(TASK.id, 1, {"wall_s": 7.5, "attempts": 1}, NOON)

        assert [made.spent(name, "", NOON) for name in ("research", "time", "tries")] == [3.0, 7.5, 1.0]

    def test_counts_what_went_beyond_and_stops_the_next(self) -> None:
        made = budgets(spec())
        made.reserve(TASK, 1, "jules", {"usd": 1.0}, NOON)
        made.settle(TASK.id, 1, {"usd": 6.5}, NOON)

        assert made.standing("research", "", NOON).overshoot == 1.5
        assert made.lacks(TASK, None, {}, NOON) is not None

    def test_never_gives_back_more_than_was_held(self) -> None:
        made = budgets(spec())
        spend(made, 4.0)
        made.reserve(TASK, 1, "jules", {"usd": 1.0}, NOON)
        made.settle(TASK.id, 1, {"usd": -100.0}, NOON)

        assert made.spent("research", "", NOON) == 4.0

    def test_counts_in_the_period_of_the_reservation(self) -> None:
        made = budgets(spec(period_s=DAY_S))
        made.reserve(TASK, 1, "jules", {"usd": 3.0}, NOON)
        tomorrow = NOON + DAY_S
        made.settle(TASK.id, 1, {"usd": 2.0}, tomorrow)

        assert (made.spent("research", "", NOON), made.spent("research", "", tomorrow)) == (2.0, 0.0)
        assert made.changed() == [("research", "", NEW_YEAR, 2.0)]


class TestGiveBack:
    def test_frees_all_that_was_held(self) -> None:
        made = budgets(spec(), spec("tries", unit="attempts", amount=3))
        made.reserve(TASK, 1, "jules", {"usd": 3.0}, NOON)
        made.give_back(TASK.id, 1, NOON)

        assert [made.standing(name, "", NOON).reserved for name in ("research", "tries")] == [0.0, 0.0]
        assert made.changed() == made.snapshot() == []


class TestClose:
    def test_forgets_a_task_that_has_ended(self) -> None:
        made = budgets(spec(scope="task"))
        spend(made, 3.0)
        made.close("task", "x")

        assert made.snapshot() == []
        assert made.changed() == [("research", "x", 0.0, 0.0)]

    def test_keeps_what_is_still_held(self) -> None:
        made = budgets(spec(scope="run"))
        runner = task("x", context="r1")
        spend(made, 3.0, subject=runner)
        made.reserve(runner, 1, "jules", {"usd": 2.0}, NOON)
        made.close("run", "acme/r1")

        assert lack(made, 1.0, subject=runner).key.value == "acme/r1"


class TestNext:
    def test_calls_who_waits_when_an_attempt_cost_less_than_was_held(self) -> None:
        made = budgets(spec())
        made.reserve(task("a"), 1, "jules", {"usd": 5.0}, NOON)
        made.wait("lane", (1.0,), [lack(made, 1.0)])
        assert made.opened(NOON) == []
        made.settle("a", 1, {"usd": 2.0}, NOON)

        [key] = made.opened(NOON)

        assert [made.next(key, NOON), made.next(key, NOON)] == ["lane", None]

    def test_calls_those_for_whom_there_will_never_be_enough(self) -> None:
        made = budgets(spec())
        made.reserve(task("a"), 1, "jules", {"usd": 5.0}, NOON)
        made.wait("lane", (1.0,), [lack(made, 1.0)])
        made.settle("a", 1, {"usd": 5.0}, NOON)

        assert [made.next(key, NOON) for key in made.opened(NOON)] == ["lane"]

    def test_calls_nobody_while_there_is_too_little_for_all(self) -> None:
        made = budgets(spec(period_s=86_400.0))
        made.reserve(task("a"), 1, "jules", {"usd": 5.0}, NOON)
        made.wait("lane", (1.0,), [lack(made, 1.0)])
        made.settle("a", 1, {"usd": 4.5}, NOON)

        assert [made.next(key, NOON) for key in made.opened(NOON)] == [None]
        assert made.opened(NOON) == []

    def test_calls_all_when_the_period_turns(self) -> None:
        made = budgets(spec(period_s=DAY_S))
        spend(made, 5.0)
        for order, who in enumerate("xy"):
            made.wait(who, (float(order),), [lack(made, 1.0 + order)])

        midnight = made.next_opening()

        assert midnight == NEW_YEAR + DAY_S
        [key] = made.opened(midnight)
        assert [made.next(key, midnight) for _ in range(3)] == ["x", "y", None]

    def test_lets_the_others_wait_for_the_next_turn_when_the_first_takes_it_all(self) -> None:
        made = budgets(spec(period_s=DAY_S))
        spend(made, 5.0)
        for order, who in enumerate("xy"):
            made.wait(who, (float(order),), [lack(made, 5.0)])
        midnight = NEW_YEAR + DAY_S
        [key] = made.opened(midnight)
        assert made.next(key, midnight) == "x"
        spend(made, 5.0, midnight)

        assert made.next(key, midnight) is None
        assert (made.opened(midnight), made.next_opening()) == ([], midnight + DAY_S)

    def test_calls_nobody_who_stopped_waiting(self) -> None:
        made = budgets(spec(period_s=DAY_S))
        spend(made, 5.0)
        made.wait("x", (1.0,), [lack(made, 1.0)])
        made.stop_waiting("x")

        assert made.next(BudgetKey("research"), NEW_YEAR + DAY_S) is None


class TestPressure:
    def test_presses_while_a_soft_budget_is_spent_ahead_of_time(self) -> None:
        made = budgets(spec(hard=False, period_s=DAY_S))
        spend(made, 1.0)

        assert made.pressure(TASK, "jules", NOON) == {"usd": pytest.approx(2.0)}
        assert made.pressure(TASK, "jules", NOON + DAY_S / 10) == {"usd": pytest.approx(1.0)}
        assert made.pressure(TASK, "jules", NOON + DAY_S) == {}

    def test_presses_only_beyond_the_amount_without_a_period(self) -> None:
        made = budgets(spec(hard=False))
        spend(made, 5.0)
        assert made.pressure(TASK, "jules", NOON) == {}
        spend(made, 1.0)

        assert made.pressure(TASK, "jules", NOON) == {"usd": pytest.approx(2.0)}

    def test_is_nothing_for_a_hard_budget(self) -> None:
        made = budgets(spec(period_s=DAY_S))
        spend(made, 5.0)

        assert made.pressure(TASK, "jules", NOON) == {}


class TestConfigure:
    def test_keeps_what_was_spent_and_held_when_the_amount_changes(self) -> None:
        made = budgets(spec())
        spend(made, 3.0)
        made.reserve(TASK, 1, "jules", {"usd": 1.0}, NOON)
        made.configure([spec(amount=4.0)])

        assert made.standing("research", "", NOON) == b.Standing(amount=4.0, spent=3.0, reserved=1.0, overshoot=0.0)

    def test_begins_anew_when_it_means_something_else(self) -> None:
        made = budgets(spec())
        spend(made, 3.0)
        made.changed()
        made.configure([spec(unit="tokens")])

        assert made.spent("research", "", NOON) == 0.0
        assert made.changed() == [("research", "", 0.0, 0.0)]

    def test_holds_what_runs_in_a_new_budget_too(self) -> None:
        made = budgets()
        made.reserve(TASK, 1, "jules", {"usd": 3.0}, NOON)
        made.configure([spec(period_s=DAY_S)])

        assert made.standing("research", "", NOON).reserved == 3.0


class TestRestore:
    def test_takes_up_what_was_spent_and_what_runs(self) -> None:
        before = budgets(spec(period_s=DAY_S, scope="tenant"))
        spend(before, 1.5)
        rows = json.loads(json.dumps(before.changed()))
        after = budgets(spec(period_s=DAY_S, scope="tenant"))
        after.restore(rows, [Reserved(task=TASK, attempt=1, agent="jules", estimate={"usd": 2.0}, at=NOON)])

        standing = after.standing("research", "acme", NOON)

        assert (standing.spent, standing.reserved) == (1.5, 2.0)
        after.settle(TASK.id, 1, {"usd": 1.0}, NOON + DAY_S)
        assert after.changed() == [("research", "acme", NEW_YEAR, 2.5)]

    def test_leaves_out_rows_that_fit_no_budget(self) -> None:
        made = budgets(spec(period_s=DAY_S))
        made.restore([["gone", "", 0.0, 1.0], ["research", "", NOON, 1.0]], [])

        assert made.snapshot() == []


class TestTidy:
    def test_forgets_periods_that_are_over(self) -> None:
        made = budgets(spec(period_s=1, amount=1e6, hard=False))
        for second in range(5_000):
            spend(made, 1.0, float(second))

        assert len(made._accounts) <= b.KEPT_ACCOUNTS + 2

    def test_keeps_an_old_period_in_which_something_is_held(self) -> None:
        made = budgets(spec(period_s=1, amount=1e6))
        spend(made, 1.0, 0.0)
        made.reserve(task("old"), 1, "jules", {"usd": 7.0}, 0.0)
        for second in range(1, 3_000):
            spend(made, 1.0, float(second))
        made.settle("old", 1, {"usd": 6.0}, 3_000.0)

        assert made.spent("research", "", 0.0) == 7.0


estimates = st.floats(0, 2, allow_nan=False)


class BudgetsMachine(RuleBasedStateMachine):
    """Submitters come and go at random, and the controller restarts: as long as nothing costs more than expected, a
    hard amount holds in every period.
    """

    SPECS = (
        BudgetSpec(name="once", unit="usd", amount=20.0),
        BudgetSpec(name="minute", unit="usd", amount=3.0, period_s=60),
        BudgetSpec(name="agent", unit="usd", amount=8.0, scope="agent"),
        BudgetSpec(name="task", unit="attempts", amount=2, scope="task"),
        BudgetSpec(name="soft", unit="usd", amount=0.5, hard=False, period_s=60),
    )

    def __init__(self) -> None:
        super().__init__()
        self.made = budgets(*self.SPECS)
        self.rows: dict[tuple[str, str, float], float] = {}
        self.running: dict[tuple[str, int], Reserved] = {}
        self.now = 0.0
        self.attempts = 0

    @rule(id=st.sampled_from("abcdefgh"), agent=st.sampled_from(["jules", "codex"]), usd=estimates)
    def submit(self, id: str, agent: str, usd: float) -> None:
        self.attempts += 1
        wanted = Reserved(task=task(id), attempt=self.attempts, agent=agent, estimate={"usd": usd}, at=self.now)
        if self.made.lacks(wanted.task, agent, wanted.estimate, self.now) is None:
            self.made.reserve(wanted.task, wanted.attempt, agent, wanted.estimate, self.now)
            self.running[id, self.attempts] = wanted

    @rule(data=st.data(), part=st.floats(0, 1))
    def finish(self, data: st.DataObject, part: float) -> None:
        if self.running:
            key = data.draw(st.sampled_from(sorted(self.running)))
            done = self.running.pop(key)
            self.made.settle(*key, {"usd": done.estimate["usd"] * part, "attempts": 1}, self.now)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        self.keep()
        self.made = budgets(*self.SPECS)
        self.made.restore([(*key, spent) for key, spent in self.rows.items()], self.running.values())

    def keep(self) -> None:
        """Do what the ledger does."""
        self.rows.update(((row.budget, row.value, row.start), row.spent) for row in self.made.changed())

    @invariant()
    def no_hard_amount_is_exceeded(self) -> None:
        self.keep()
        amounts = {rule.name: rule.amount for rule in self.SPECS if rule.hard}
        for (name, value, start), spent in self.rows.items():
            if name in amounts:
                held = self.made.standing(name, value, start).reserved
                assert spent == self.made.spent(name, value, start)
                assert spent + held <= amounts[name] + 1e-9

    @invariant()
    def what_is_held_is_what_runs(self) -> None:
        held = self.made.standing("once", "", self.now).reserved
        assert held == pytest.approx(sum(each.estimate["usd"] for each in self.running.values()), abs=1e-4)


TestBudgetsMachine = BudgetsMachine.TestCase
TestBudgetsMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class TestHundredSubmitters:
    @given(
        st.lists(st.floats(0, 1), min_size=100, max_size=100),
        st.randoms(use_true_random=False),
    )
    @settings(max_examples=50, deadline=None)
    def test_never_overspend(self, needs: list[float], random: Any) -> None:
        made = budgets(spec())
        waiting = [(task(f"{n}"), need) for n, need in enumerate(needs)]
        running: list[tuple[Subject, float]] = []
        while waiting:
            subject, need = waiting.pop(random.randrange(len(waiting)))
            if made.lacks(subject, "jules", {"usd": need}, NOON) is None:
                made.reserve(subject, 1, "jules", {"usd": need}, NOON)
                running.append((subject, need))
            if running and random.random() < 0.5:
                done, held = running.pop(random.randrange(len(running)))
                made.settle(done.id, 1, {"usd": held * random.random()}, NOON)
            standing = made.standing("research", "", NOON)
            assert standing.spent + standing.reserved <= 5.0
            assert standing.overshoot == 0.0
