"""monitoring.rules: what a rule says of the metrics at one moment."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring import rule_words, rules, shipped_rules
from monitoring.rules import History
from monitoring.sketches import Distribution

A: dict[str, Any] = {"kind": "threshold", "metric": "a2a_tasks", "above": 10, "clear": 5}


def history(condition: dict[str, Any], *series: tuple[str, dict[str, str], list[tuple[float, Any]]]) -> History:
    """Return a history with these points, that began at 0."""
    found = History()
    found.follow(rules.reach(condition))
    found.began = 0.0
    for name, labels, points in series:
        for at, value in points:
            found.add(name, labels, at, value)
    return found


def holding(condition: dict[str, Any], found: History, now: float, was: Any = frozenset()) -> set[Any]:
    """Return the labels that it holds for."""
    return {labels for labels, each in rules.evaluate(condition, found, now, was).items() if each.holds}


def counter(state: str, *values: float, name: str = "a2a_tasks_ended_total") -> tuple[str, dict[str, str], Any]:
    return name, {"state": state}, [(60.0 * number, value) for number, value in enumerate(values)]


class TestThreshold:
    def test_holds_for_each_label_by_itself_and_ends_at_clear(self) -> None:
        now = history(A, ("a2a_tasks", {"s": "a"}, [(0, 12.0)]), ("a2a_tasks", {"s": "b"}, [(0, 7.0)]))
        a, b = (("s", "a"),), (("s", "b"),)

        assert holding(A, now, 1) == {a}
        assert holding(A, now, 1, frozenset({b})) == {a, b}

    def test_says_nothing_of_what_was_measured_long_ago(self) -> None:
        assert rules.evaluate(A, history(A, ("a2a_tasks", {}, [(0, 12.0)])), 100.0) == {}

    def test_sums_up_by_the_labels_that_are_named(self) -> None:
        condition = {**A, "by": ["t"]}
        rows = [("a2a_tasks", {"s": s, "t": "x"}, [(0.0, 6.0)]) for s in "ab"]

        assert holding(condition, history(condition, *rows), 1) == {(("t", "x"),)}

    def test_takes_a_quantile_of_what_was_observed(self) -> None:
        observed = Distribution()
        for value in [1.0] * 90 + [30.0] * 10:
            observed.add(value)
        high = {**A, "metric": "a2a_task_wait_seconds", "quantile": 0.95}
        found = history(high, ("a2a_task_wait_seconds", {}, [(0, observed)]))

        assert holding(high, found, 1) == {()}
        assert holding({**high, "quantile": 0.5}, found, 1) == set()


class TestRate:
    def test_goes_on_over_a_counter_that_begins_again(self) -> None:
        condition = {"kind": "rate", "metric": "a2a_tasks_ended_total", "above": 0.9, "over_s": 120}

        assert holding(condition, history(condition, counter("failed", 1000, 1060, 60)), 121) == {
            (("state", "failed"),)
        }

    def test_of_a_gauge_is_negative_where_it_falls(self) -> None:
        condition = {"kind": "rate", "metric": "a2a_tasks", "below": -1, "over_s": 60}

        assert holding(condition, history(condition, ("a2a_tasks", {}, [(0, 100.0), (50, 10.0)])), 51) == {()}


class TestRatio:
    condition: dict[str, Any] = {
        "kind": "ratio",
        "part": {"metric": "a2a_tasks_ended_total", "labels": {"state": "failed"}},
        "whole": {"metric": "a2a_tasks_ended_total"},
        "over_s": 300,
        "above": 0.2,
        "least": 20,
    }

    @pytest.mark.parametrize(("failed", "completed", "fires"), [(30, 70, True), (10, 90, False), (3, 7, False)])
    def test_compares_growth_where_there_is_enough(self, failed: float, completed: float, fires: bool) -> None:
        found = history(self.condition, counter("failed", 0, failed), counter("completed", 0, completed))

        assert bool(holding(self.condition, found, 61)) is fires


class TestBurn:
    def test_wants_both_windows(self) -> None:
        condition = shipped_rules.SHIPPED["error-budget-burns"][3]
        ongoing = history(condition, counter("failed", 0, *range(50, 3050, 50)), counter("completed", *[0.0] * 61))
        over = history(condition, counter("failed", 0, *[3000.0] * 60), counter("completed", *range(0, 6100, 100)))

        assert holding(condition, ongoing, 3601) == {()}
        assert holding(condition, over, 3601) == set()


class TestAbsence:
    condition: dict[str, Any] = {"kind": "absence", "metric": "a2a_tasks", "for_s": 60}

    def test_holds_when_nothing_came_for_so_long(self) -> None:
        found = history(self.condition, ("a2a_tasks", {"s": "a"}, [(0, 1.0)]), ("a2a_tasks", {"s": "b"}, [(50, 1.0)]))

        assert holding(self.condition, found, 100) == set()
        assert holding(self.condition, found, 111) == {()}
        assert holding({**self.condition, "each": True}, found, 100) == {(("s", "a"),)}

    def test_of_what_never_came_waits_for_the_time_to_pass(self) -> None:
        assert holding(self.condition, history(self.condition), 59) == set()
        assert holding(self.condition, history(self.condition), 61) == {()}


class TestJoins:
    def test_all_any_and_not(self) -> None:
        busy = {"kind": "threshold", "metric": "a2a_fleet_utilisation_ratio", "above": 0.9}
        both: dict[str, Any] = {"kind": "all", "of": [A, {"kind": "not", "of": [busy]}]}
        either: dict[str, Any] = {"kind": "any", "of": [busy, A]}
        found = history(
            both, ("a2a_tasks", {"s": "a"}, [(0, 12.0)]), ("a2a_fleet_utilisation_ratio", {}, [(0, 0.5), (10, 0.95)])
        )
        idle = history(both, ("a2a_tasks", {"s": "a"}, [(0, 12.0)]), ("a2a_fleet_utilisation_ratio", {}, [(0, 0.5)]))

        assert holding(both, idle, 1) == {(("s", "a"),)}
        assert holding(both, found, 11) == set()
        assert holding(either, found, 11) == {(), (("s", "a"),)}


class TestHistory:
    def test_keeps_a_long_window_in_few_points(self) -> None:
        condition = {"kind": "rate", "metric": "a2a_tasks_ended_total", "above": 0, "over_s": 3600}
        found = history(condition, ("a2a_tasks_ended_total", {}, [(5.0 * n, float(n)) for n in range(5000)]))

        ((_, points),) = found.series("a2a_tasks_ended_total", {})
        assert len(points) <= rules.KEPT_POINTS + 2
        assert rules.evaluate(condition, found, 24_995.0)[()].value == pytest.approx(0.2)


class TestProblems:
    @pytest.mark.parametrize(
        ("condition", "words"),
        [
            ({"kind": "threshold", "metric": "a2a_task", "above": 1}, "Did you mean a2a_tasks"),
            ({"kind": "threshold", "metric": "a2a_tasks"}, "either “above” or “below”"),
            ({"kind": "threshold", "metric": "a2a_tasks", "above": 1, "clear": 2}, "not beyond the bound"),
            ({"kind": "threshold", "metric": "a2a_tasks", "above": "1"}, "a finite number"),
            ({"kind": "rate", "metric": "a2a_tasks", "above": 1, "over": 5}, "rate has no over"),
            ({"kind": "not", "of": [A, A]}, "one condition"),
            ({"kind": "burn", "objective": 2}, "objective"),
            ({"kind": "magic"}, "“kind” is one of"),
            ([], "“kind” is one of"),
        ],
    )
    def test_says_what_is_wrong(self, condition: Any, words: str) -> None:
        assert words in " ".join(rule_words.problems(condition))

    @pytest.mark.parametrize("name", shipped_rules.SHIPPED)
    def test_finds_none_in_the_shipped_rules(self, name: str) -> None:
        assert list(rule_words.problems(shipped_rules.SHIPPED[name][3])) == []
