import math
from typing import Any

import pytest

from routing.limit_rules import LimitKey, LimitSpec, key_of, problems, rate_words
from routing.matching import Match
from tests.routing.subjects import Subject


class TestKeyOf:
    @pytest.mark.parametrize(
        ("per", "value"),
        [("all", ""), ("tenant", "acme"), ("skill", "acme/crawl"), ("agent", "jules"), ("key", "acme/db")],
    )
    def test_counts_apart_what_the_limit_is_per(self, per: Any, value: str) -> None:
        task = Subject(concurrency_key="db")

        assert key_of(LimitSpec(name="l", per=per), task, "jules") == LimitKey("l", value)

    def test_is_none_for_a_task_without_the_key_that_the_limit_is_per(self) -> None:
        assert key_of(LimitSpec(name="l", per="key"), Subject(), "jules") is None


class TestProblems:
    @pytest.mark.parametrize(
        "spec",
        [
            LimitSpec(name="crawl", max_running=1, on_full="cancel_oldest"),
            LimitSpec(name="crawl", rate_per_s=0.5, burst=10, per="key", on_full="reject"),
            LimitSpec(name="crawl", max_running=3, rate_per_s=5, per="agent"),
        ],
    )
    def test_are_none_for_plain_limits(self, spec: LimitSpec) -> None:
        assert problems(spec) == []

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"max_running": None}, "it limits nothing: give max_running, rate_per_s or both"),
            ({"max_running": 0}, "max_running: use a whole number from 1"),
            ({"max_running": -3}, "max_running: use a whole number from 1"),
            ({"max_running": 1.5}, "max_running: use a whole number from 1"),
            ({"max_running": True}, "max_running: use a whole number from 1"),
            ({"rate_per_s": 0.0}, "rate_per_s: use a number from"),
            ({"rate_per_s": -1.0}, "rate_per_s: use a number from"),
            ({"rate_per_s": math.nan}, "rate_per_s: use a number from"),
            ({"rate_per_s": math.inf}, "rate_per_s: use a number from"),
            ({"rate_per_s": 1e-320}, "rate_per_s: use a number from"),
            ({"burst": 0}, "burst: use a whole number from 1"),
            ({"per": "day"}, "per: use one of all, tenant, skill, agent, key, not 'day'"),
            ({"on_full": "explode"}, "on_full: use one of reject, queue, cancel_oldest, not 'explode'"),
            ({"rate_per_s": 1.0, "on_full": "cancel_oldest"}, "on_full: cancelling the oldest makes no room in a rate"),
            ({"name": "No name"}, "name: use 1 to 64 of a-z"),
            ({"match": Match(skill="")}, "skill: use a name or a pattern"),
        ],
    )
    def test_say_in_words_what_is_wrong(self, changes: dict[str, Any], words: str) -> None:
        [problem] = problems(LimitSpec(**{"name": "crawl", "max_running": 1, **changes}))

        assert problem.startswith(words)


class TestRateWords:
    @pytest.mark.parametrize(
        ("per_s", "words"), [(5.0, "5 per second"), (0.5, "30 per minute"), (0.001, "3.6 per hour")]
    )
    def test_choose_the_unit_that_reads_well(self, per_s: float, words: str) -> None:
        assert rate_words(per_s) == words
