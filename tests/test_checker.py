"""A checker that finds nothing proves nothing: it is shown one broken promise after the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.checker import Record, recovery_times, violations

Step = tuple[str, int | None]
GOOD: tuple[Step, ...] = (("submitted", None), ("assigned", 1), ("working", 1), ("completed", 1))


def history(*steps: Step, task: str = "x", capacity: int | None = 1) -> list[Record]:
    """Return a task's records, one per second, numbered from 1, all of agent ``a``."""
    return [
        Record(task=task, seq=n, kind=kind, attempt=attempt, at=float(n), agent="a", capacity=capacity)
        for n, (kind, attempt) in enumerate(steps, 1)
    ]


class TestViolations:
    def test_is_empty_for_a_plain_life(self) -> None:
        assert violations(history(*GOOD), ["x"], max_attempts={"x": 1}) == []

    def test_is_empty_for_a_second_try(self) -> None:
        steps = (*GOOD[:3], ("requeued", 1), ("assigned", 2), ("working", 2), ("completed", 2))

        assert violations(history(*steps), ["x"], max_attempts={"x": 2}) == []

    @pytest.mark.parametrize(
        ("steps", "words"),
        [
            ((), "lost, it never ended (the last event was nothing)"),
            (GOOD[:3], "lost, it never ended (the last event was working)"),
            ((*GOOD, ("failed", 1)), "ended 2 times (completed, failed)"),
            ((*GOOD, ("progress", 1)), "progress came after completed"),
            (GOOD[1:], "its first event is assigned"),
            ((GOOD[0], *GOOD), "was taken in more than once"),
            ((*GOOD[:3], ("requeued", 1), *GOOD[1:]), "attempt 1 was assigned after attempt 1"),
            ((*GOOD[:3], ("assigned", 2), ("completed", 2)), "attempt 2 was assigned while attempt 1 was in flight"),
            ((*GOOD[:2], ("working", 2)), "working of attempt 2 came while attempt 1 was in flight"),
            ((*GOOD[:3], ("working", 1), GOOD[3]), "attempt 1 began twice"),
            ((*GOOD[:3], ("requeued", 1), ("completed", 1)), "completed of attempt 1 came while nothing was in flight"),
            (
                (*GOOD[:2], ("hedged", 2), ("hedged", 3)),
                "attempt 3 was hedged while attempt 1 and",
            ),
            (
                (*GOOD[:3], ("hedged", 2), ("dropped", 2), ("completed", 2)),
                "completed of attempt 2 came while",
            ),
            ((*GOOD[:3], ("dropped", 1)), "attempt 1 was dropped, and nothing was in flight after it"),
            ((*GOOD[:3], ("cancel_requested", 1), ("failed", 1)), "was asked to end, but failed followed"),
        ],
    )
    def test_names_what_is_wrong(self, steps: tuple[Step, ...], words: str) -> None:
        assert any(words in found for found in violations(history(*steps), ["x"]))

    def test_finds_a_gap(self) -> None:
        records = [r for r in history(*GOOD) if r.seq != 3]

        assert violations(records, ["x"]) == ["x: event completed has number 4 where 3 was due"]

    def test_finds_events_of_a_task_that_was_never_accepted(self) -> None:
        assert violations(history(*GOOD), []) == ["x: was never accepted but has events"]

    def test_finds_time_running_back(self) -> None:
        records = history(*GOOD)

        assert "dated before" in violations([*records[:3], replace(records[3], at=0.0)], ["x"])[0]

    def test_finds_an_outcome_of_another_attempt(self) -> None:
        records = history(*GOOD)
        records[-1] = replace(records[-1], output={"task": "x", "attempt": 2})

        assert violations(records, ["x"]) == ["x: attempt 1 is credited with an outcome of x attempt 2"]

    def test_finds_an_agent_with_more_than_its_slots(self) -> None:
        records = history(*GOOD)[:2] + history(*GOOD, task="y") + history(*GOOD)[2:]

        assert violations(records, ["x", "y"]) == ["a: holds 2 attempts with 1 slots (task y)"]

    def test_finds_too_many_attempts(self) -> None:
        steps = (*GOOD[:3], ("requeued", 1), ("assigned", 2), ("working", 2), ("failed", 2))

        assert "2 attempts began that count" in violations(history(*steps), ["x"], max_attempts={"x": 1})[0]

    def test_does_not_count_what_was_given_back(self) -> None:
        records = history(*GOOD[:3], ("requeued", 1), ("assigned", 2), ("working", 2), ("completed", 2))
        records[3] = replace(records[3], outcome="returned")

        assert violations(records, ["x"], max_attempts={"x": 1}) == []

    def test_allows_open_tasks_when_told_so(self) -> None:
        assert violations(history(*GOOD[:3]), ["x"], all_ended=False) == []


class TestRecoveryTimes:
    def test_is_the_time_until_the_next_attempt_works(self) -> None:
        steps = (*GOOD[:3], ("requeued", 1), ("assigned", 2), ("working", 2), ("completed", 2))

        assert recovery_times(history(*steps), [("x", 3.5)]) == [2.5]

    def test_is_infinite_where_nothing_followed(self) -> None:
        assert recovery_times(history(*GOOD[:3]), [("x", 3.5)]) == [float("inf")]
