"""routing.scorecard"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from routing.breaker import WHOLE, BreakerRule
from routing.breakers import Breakers
from routing.estimates import Estimates
from routing.scorecard import Tried, breaker_now, counted, learned, skills_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LINT = ("lint", "")


def tried(state: str, seconds: float = 1.0, *, error: str | None = None, usd: float | None = None) -> Tried:
    """Return an attempt that took so long."""
    end = NOON + timedelta(seconds=seconds)
    return Tried("lint", "", state, error, usd, NOON, None if state == "working" else end)


class TestCounted:
    def test_tells_failures_by_the_kind_of_error_the_most_frequent_first(self) -> None:
        rows = [tried("failed", error="agent"), tried("lost", error="lost"), tried("failed", error="agent")]

        figures = counted(rows)

        assert list(figures.failed.items()) == [("agent", 2), ("lost", 1)]
        assert (figures.attempts, figures.succeeded, figures.other) == (3, 0, 0)

    def test_takes_the_seconds_of_successful_attempts_alone(self) -> None:
        rows = [*(tried("completed", seconds) for seconds in range(1, 101)), tried("failed", 9_999, error="timeout")]

        figures = counted(rows)

        assert (figures.p50_s, figures.p95_s) == (50, 95)

    def test_sums_up_every_attempt_once(self) -> None:
        states = ["assigned", "working", "completed", "failed", "lost", "canceled", "returned"]

        figures = counted(tried(state) for state in states)

        assert figures.attempts == 7
        assert (figures.running, figures.succeeded, sum(figures.failed.values()), figures.other) == (2, 1, 2, 2)

    def test_knows_no_cost_where_the_agent_told_none(self) -> None:
        assert counted([tried("completed")]).cost_usd is None
        assert counted([tried("completed", usd=0.25), tried("failed", usd=0.5), tried("completed")]).cost_usd == 0.75


class TestLearned:
    def test_says_what_the_router_itself_would_be_told(self) -> None:
        estimates = Estimates()
        for n in range(20):
            estimates.succeeded("a", LINT, seconds=2.0, cost_usd=0.1, now=1_000.0 + n)

        told = learned(estimates, "a", LINT)

        assert (told.success, told.success_sd) == estimates.success("a", LINT)
        assert told.expected_s == estimates.expected_s("a", LINT)
        assert told.cost_usd == estimates.expected_cost_usd("a", LINT)
        assert told.samples == 20
        assert told.learned_at == datetime.fromtimestamp(1_019.0, UTC)

    def test_borrows_where_nothing_was_seen(self) -> None:
        estimates = Estimates()
        estimates.succeeded("b", LINT, seconds=2.0)

        told = learned(estimates, "a", LINT, listed_usd=3.0)

        assert (told.samples, told.p95_s, told.learned_at, told.cost_usd) == (0, None, None, 3.0)
        assert told.expected_s == 2.0


class TestBreakerNow:
    def test_is_closed_without_a_row(self) -> None:
        assert breaker_now(None, 0.0).state == "closed"

    def test_follows_the_clock_from_open_to_half_open(self) -> None:
        breakers = Breakers(BreakerRule(jitter=0.0))
        for n in range(3):
            breakers.failed("a", LINT, 100.0, "agent", task=str(n))
        [row] = [row for row in breakers.snapshot() if row["skill"]]

        before, after = breaker_now(row, 105.0), breaker_now(row, 110.0)

        assert (before.state, before.until) == ("open", datetime.fromtimestamp(110.0, UTC))
        assert "3 failures in a row at lint" in before.words
        assert after.state == "half-open"
        assert "next attempt is its probe" in after.words

    def test_counts_ejections_apart(self) -> None:
        breakers = Breakers()
        breakers.eject("a", LINT, 0.0, "60 % success, peers 99 %")
        [row] = breakers.snapshot()

        told = breaker_now(row, 1.0)

        assert (told.state, told.ejections, told.opens) == ("ejected", 1, 1)

    def test_reads_a_row_from_before_ejections_were_counted(self) -> None:
        breakers = Breakers()
        breakers.eject("a", LINT, 0.0, "slow")
        [row] = breakers.snapshot()
        del row["ejections"]  # type: ignore[misc]

        assert breaker_now(row, 1.0).ejections == 0


class TestSkillsOf:
    def test_names_every_version_seen_and_the_others_once(self) -> None:
        found = skills_of(["lint", "write"], [("lint", "2"), ("lint", "")], [WHOLE, ("old", "")])

        assert found == [("lint", ""), ("lint", "2"), ("old", ""), ("write", "")]
