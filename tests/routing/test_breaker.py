from typing import Any

import pytest

from routing.breaker import WHOLE, Breaker, BreakerRule

RULE = BreakerRule()
LINT, WRITE = ("lint", "1"), ("write", "1")
AT = 50_530.0  # 14:02:10 UTC


def counted(*outcomes: tuple[str, str] | None) -> Breaker:
    """Return a breaker that counted these attempts: None for a success, the skill for a failure."""
    breaker = Breaker()
    for failed in outcomes:
        breaker.count(RULE.gain, failed)
    return breaker


def opened(*, times: int = 1, **fields: Any) -> Breaker:
    """Return a breaker that opened so often, the last time at 0."""
    breaker = Breaker()
    for _ in range(times):
        breaker.open(RULE, 0.0, **({"cause": "failures", "why": "a test", "name": ("a",)} | fields))
    return breaker


class TestProblems:
    def test_has_none_for_the_stock_rule(self) -> None:
        assert RULE.problems() == []

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"failures_in_row": 1}, "failures_in_row"),
            ({"error_share": 1.0}, "error_share"),
            ({"gain": 0.0}, "gain"),
            ({"least_seen": 1}, "least_seen"),
            ({"open_s": 0.0}, "open_s"),
            ({"eject_s": float("nan")}, "eject_s"),
            ({"quiet_s": float("inf")}, "quiet_s"),
            ({"most_times": 0}, "most_times"),
            ({"jitter": 1.0}, "jitter"),
        ],
    )
    def test_names_what_is_wrong(self, fields: dict[str, Any], word: str) -> None:
        [problem] = BreakerRule(**fields).problems()

        assert problem.startswith(word)


class TestWhyOpen:
    def test_is_three_failures_in_a_row(self) -> None:
        assert counted(LINT, LINT, LINT).why_open(RULE, LINT) == "3 failures in a row at lint"

    @pytest.mark.parametrize("outcomes", [[LINT], [LINT, LINT], [LINT, LINT, None, LINT, LINT]])
    def test_is_nothing_for_fewer(self, outcomes: list[tuple[str, str] | None]) -> None:
        assert counted(*outcomes).why_open(RULE, LINT) == ""

    def test_is_that_most_of_late_attempts_failed(self) -> None:
        breaker = counted(*[LINT, LINT, None] * 6, LINT, LINT)

        assert breaker.why_open(RULE, LINT) == "62 % of late attempts failed at lint"

    def test_is_no_share_of_few_attempts(self) -> None:
        rule = BreakerRule(failures_in_row=9, gain=0.9, least_seen=3)
        breaker = Breaker()
        breaker.count(rule.gain, LINT)
        breaker.count(rule.gain, LINT)

        assert breaker.why_open(rule, LINT) == ""
        breaker.count(rule.gain, LINT)
        assert breaker.why_open(rule, LINT) == "100 % of late attempts failed at lint"

    def test_is_for_the_whole_agent_when_failures_span_its_skills(self) -> None:
        assert counted(LINT, WRITE, LINT).why_open(RULE, WHOLE) == "3 failures in a row across skills"

    @pytest.mark.parametrize(
        "outcomes",
        [[LINT, LINT, LINT], [WRITE, None, LINT, LINT, LINT], [LINT, WRITE, None, WRITE, WRITE, WRITE]],
    )
    def test_is_nothing_for_the_whole_agent_when_one_skill_failed(self, outcomes: list[tuple[str, str] | None]) -> None:
        assert counted(*outcomes).why_open(RULE, WHOLE) == ""

    def test_counts_the_share_across_skills_too(self) -> None:
        breaker = counted(*[LINT, WRITE, None] * 6, LINT, WRITE)

        assert breaker.why_open(RULE, WHOLE) == "62 % of late attempts failed across skills"

    def test_forgets_the_other_skill_when_its_failure_is_long_ago(self) -> None:
        breaker = counted(WRITE, *[LINT, LINT, None] * 6, LINT, LINT)

        assert breaker.error > RULE.error_share
        assert breaker.why_open(RULE, WHOLE) == ""


class TestOpen:
    @pytest.mark.parametrize(("times", "base_s"), [(1, 10), (2, 20), (6, 60), (7, 60), (99, 60)])
    def test_lasts_longer_each_time_up_to_a_limit(self, times: int, base_s: float) -> None:
        until = opened(times=times).until

        assert until is not None
        assert 0.75 * base_s <= until <= 1.25 * base_s

    def test_lasts_differently_for_different_breakers(self) -> None:
        assert len({opened(name=(name,)).until for name in "abcdef"}) == 6

    def test_lasts_longer_for_an_outlier(self) -> None:
        until = opened(cause="outlier").until

        assert until is not None
        assert 22.5 <= until <= 37.5

    def test_forgets_one_opening_after_each_quiet_time(self) -> None:
        breaker = opened(times=5)
        breaker.close(100.0)
        breaker.open(RULE, 100.0 + 2 * RULE.quiet_s, cause="failures", why="", name=())

        assert breaker.opens == 4  # 5, two forgotten, one more

    def test_forgets_none_before_it_is_closed(self) -> None:
        breaker = opened(times=2)
        breaker.open(RULE, 9_999.0, cause="failures", why="", name=())

        assert breaker.opens == 3

    def test_does_not_mind_a_clock_that_goes_back(self) -> None:
        breaker = opened(times=2)
        breaker.close(9_999.0)
        breaker.open(RULE, 0.0, cause="failures", why="", name=())

        assert breaker.opens == 3

    def test_begins_to_count_anew(self) -> None:
        breaker = counted(LINT, LINT, LINT)
        breaker.open(RULE, 0.0, cause="failures", why="", name=())
        breaker.close(20.0)

        breaker.count(RULE.gain, LINT)
        assert breaker.why_open(RULE, LINT) == ""


class TestWords:
    def test_are_none_while_it_is_closed(self) -> None:
        assert Breaker().words(AT) == ""

    def test_say_until_when_and_why(self) -> None:
        breaker = Breaker(until=AT, why="3 failures in a row at lint")

        assert breaker.words(AT - 1) == "breaker open until 14:02:10 UTC after 3 failures in a row at lint"

    def test_say_that_it_was_ejected(self) -> None:
        breaker = Breaker(until=AT, cause="outlier", why="61 % success, peers 97 %")

        assert breaker.words(AT - 1) == "ejected until 14:02:10 UTC: 61 % success, peers 97 %"

    def test_are_none_for_the_first_probe(self) -> None:
        assert Breaker(until=AT).words(AT) == ""

    def test_tell_others_that_a_probe_is_under_way(self) -> None:
        assert Breaker(until=AT, probe="x").words(AT) == "breaker half-open, one probe under way"


class TestRow:
    def test_holds_all_of_it(self) -> None:
        breaker = Breaker(
            in_row=1, error=0.2, seen=3, opens=4, until=5.0, cause="outlier", why="w", probe="x", calm_since=6.0,
            failing=LINT, failed_at=7, other_at=8,
        )  # fmt: skip

        assert Breaker.of(breaker.row("a", LINT)) == breaker
