from collections import Counter
from dataclasses import replace

from routing.report import Course, Report, Spread, compare, summed_up


def report(courses: dict[str, Course] | None = None) -> Report:
    """Return what became of four tasks: one is quick, one is retried and late, one fails, one never ends."""
    return summed_up(
        courses
        or {
            "quick": Course(0, None, 1, 3, "completed", "a", 1),
            "late": Course(1, 5.0, 2, 9, "completed", "b", 2),
            "bad": Course(2, None, 2, 10, "failed", "b", 1),
            "open": Course(3),
        },
        attempts=Counter(a=1, b=3),
        costs_usd={"a": 0.5, "b": 0.1, "c": 9.0},
    )


class TestSpread:
    def test_takes_percentiles_by_nearest_rank(self) -> None:
        spread = Spread.of(float(n) for n in range(100, 0, -1))

        assert (spread.mean, spread.p50, spread.p95, spread.p99) == (50.5, 51, 96, 100)

    def test_of_nothing_is_nothing(self) -> None:
        assert Spread.of([]) == Spread()


class TestSummedUp:
    def test_counts_how_tasks_ended(self) -> None:
        found = report()

        assert (found.tasks, found.completed, found.failed, found.unfinished, found.late) == (4, 2, 1, 1, 1)
        assert (found.attempts, found.retries) == (4, 1)
        assert found.given == {"quick": "a", "late": "b"}

    def test_measures_from_arrival(self) -> None:
        found = report()

        assert found.total.mean == (3 + 8) / 2
        assert found.wait.mean == (1 + 1 + 0) / 3
        assert found.goodput_per_s == 1 / 10

    def test_adds_up_what_attempts_cost(self) -> None:
        found = report()

        assert found.cost_usd == 0.5 + 3 * 0.1
        assert found.shares == {"a": 0.25, "b": 0.75, "c": 0.0}

    def test_survives_a_trace_of_which_nothing_came(self) -> None:
        found = summed_up({"open": Course(3)}, attempts=Counter(), costs_usd={"a": 1.0})

        assert (found.goodput_per_s, found.shares, found.unfinished) == (0.0, {"a": 0.0}, 1)


class TestCompare:
    def test_says_nothing_of_equals(self) -> None:
        assert compare(report(), report()) == []

    def test_tells_each_difference_in_words(self) -> None:
        before = report()
        after = replace(
            before,
            total=replace(before.total, mean=11.0),
            failed=0,
            cost_usd=0.4,
            shares={"a": 0.5, "b": 0.4, "c": 0.004},
            given={"quick": "b", "late": "b"},
        )

        assert compare(before, after) == [
            "mean time in system: 5.50 s → 11.00 s (2.0 times as much)",
            "failed tasks: 1 → 0",
            "cost: $0.8 → $0.4 (50% less)",
            "b: 75% → 40% of the attempts",
            "a: 25% → 50% of the attempts",
            "1 of 4 tasks went to another agent",
        ]
