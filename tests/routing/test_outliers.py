from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from routing import outliers as module
from routing.breakers import Breakers
from routing.outliers import OutlierRule, Outliers

Fields = Mapping[str, Any]  # of ``show``

LINT = ("lint", "1")
PEERS = "abcde"


def show(outliers: Outliers, agent: str, *, success: float = 1.0, seconds: float = 1.0, count: int = 50) -> None:
    """Let the agent end ``count`` attempts at 0, of which that share succeeds, spread evenly."""
    for n in range(count):
        if int((n + 1) * success) > int(n * success):
            outliers.succeeded("t", LINT, agent, 0.0, seconds)
        else:
            outliers.failed("t", LINT, agent, 0.0)


def shown(agents: Mapping[str, Fields], *, count: int = 50) -> Outliers:
    """Return comparisons after each agent has shown so many attempts."""
    outliers = Outliers()
    for agent, fields in agents.items():
        show(outliers, agent, **{"count": count, **fields})
    return outliers


def peers(**changes: Fields) -> dict[str, Fields]:
    """Return five agents that differ only by ``changes``."""
    return {agent: changes.get(agent, {}) for agent in PEERS}


class TestProblems:
    def test_has_none_for_the_stock_rule(self) -> None:
        assert OutlierRule().problems() == []

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"memory": 1.0}, "memory"),
            ({"least_peers": 1}, "least_peers"),
            ({"least_seen": 46.0}, "least_seen"),
            ({"deviations": 0.0}, "deviations"),
            ({"least_gap": 1.0}, "least_gap"),
            ({"slowness": 1.0}, "slowness"),
            ({"sustained_s": float("nan")}, "sustained_s"),
            ({"most_ejected": 0.6}, "most_ejected"),
            ({"look_s": 0.0}, "look_s"),
        ],
    )
    def test_names_what_is_wrong(self, fields: dict[str, Any], word: str) -> None:
        [problem] = OutlierRule(**fields).problems()

        assert problem.startswith(word)


class TestSuccess:
    def test_ejects_who_fails_far_more_than_its_peers(self) -> None:
        outliers, breakers = shown(peers(c={"success": 0.6})), Breakers()

        assert outliers.due(10.0, breakers) == {"c"}
        assert (breakers.verdict("c", LINT, 10.0) or "").endswith("% success, peers 100 %")

    @pytest.mark.parametrize("success", [1.0, 0.5, 0.0])
    def test_ejects_nobody_among_equals(self, success: float) -> None:
        outliers = shown({agent: {"success": success} for agent in PEERS})

        assert outliers.due(10.0, Breakers()) == set()

    def test_ejects_nobody_for_a_small_gap(self) -> None:
        assert shown(peers(c={"success": 0.92})).due(10.0, Breakers()) == set()

    def test_ejects_nobody_when_peers_differ_as_much(self) -> None:
        rates = {"a": 1.0, "b": 0.9, "c": 0.7, "d": 0.5, "e": 0.45}
        outliers = shown({agent: {"success": rate} for agent, rate in rates.items()})

        assert outliers.due(10.0, Breakers()) == set()

    def test_ejects_nobody_for_a_gap_that_chance_may_bring(self) -> None:
        outliers = shown({agent: {"success": 0.37 if agent == "c" else 0.5} for agent in PEERS})

        assert outliers.due(10.0, Breakers()) == set()

    @pytest.mark.parametrize("number", [2, 3])
    def test_needs_three_peers(self, number: int) -> None:
        agents: dict[str, Fields] = {"z": {"success": 0.0}, **{agent: {} for agent in PEERS[:number]}}

        assert shown(agents).due(10.0, Breakers()) == ({"z"} if number == 3 else set())

    def test_needs_twenty_attempts_of_each(self) -> None:
        assert shown(peers(c={"success": 0.0}), count=19).due(10.0, Breakers()) == set()

    def test_seldom_takes_chance_for_a_difference(self) -> None:
        rng, outliers, breakers = random.Random(1), Outliers(), Breakers()
        ejected = 0
        for n in range(20_000):
            agent, now = rng.choice(PEERS), n / 10
            if rng.random() < 0.9:
                outliers.succeeded("t", LINT, agent, now, 1.0)
            else:
                outliers.failed("t", LINT, agent, now)
            ejected += len(outliers.due(now, breakers))

        assert ejected <= 4  # in 200 looks at five agents

    def test_keeps_other_tenants_apart(self) -> None:
        outliers = shown(peers())
        for _ in range(50):
            outliers.failed("u", LINT, "z", 0.0)

        assert outliers.due(10.0, Breakers()) == set()


class TestLatency:
    def test_ejects_who_is_slow_for_long_enough(self) -> None:
        outliers, breakers = shown(peers(c={"seconds": 4.0})), Breakers()

        assert outliers.due(10.0, breakers) == set()
        for now in (25.0, 45.0):
            outliers.succeeded("t", LINT, "c", now - 10.0, 4.0)
            ejected = outliers.due(now, breakers)
        assert ejected == {"c"}
        assert (breakers.verdict("c", LINT, 45.0) or "").endswith("95 % of its attempts within 4 s, peers 1 s")

    def test_forgives_who_became_fast_in_between(self) -> None:
        outliers, breakers = shown(peers(c={"seconds": 4.0})), Breakers()
        outliers.due(10.0, breakers)
        for now, seconds in ((20.0, 1.0), (31.0, 4.0), (45.0, 4.0)):
            for _ in range(module.KEPT_SECONDS):
                outliers.succeeded("t", LINT, "c", now - 10.0, seconds)
            ejected = outliers.due(now, breakers)

        assert ejected == set()

    @pytest.mark.parametrize("seconds", [0.1, 2.9])
    def test_ejects_nobody_below_three_times_the_usual(self, seconds: float) -> None:
        outliers, breakers = shown(peers(c={"seconds": seconds})), Breakers()
        ejected = set()
        for n in range(10):
            outliers.succeeded("t", LINT, "c", 10.0 * n, seconds)
            ejected |= outliers.due(10.0 * n + 10.0, breakers)

        assert ejected == set()


class TestDue:
    def test_ejects_half_of_the_peers_at_most_the_worst_first(self) -> None:
        bad: dict[str, Fields] = {name: {"success": n / 10} for n, name in enumerate("zyxwv")}
        outliers = Outliers(OutlierRule(deviations=0.01, least_gap=0.0))
        for agent, fields in {"a": {}, **bad}.items():
            show(outliers, agent, **fields)

        assert outliers.due(10.0, Breakers()) == {"x", "y", "z"}

    def test_counts_those_whose_breakers_are_open(self) -> None:
        outliers, breakers = shown({**peers(c={"success": 0.0}), "x": {}, "y": {}}), Breakers()
        for agent in "axy":
            breakers.eject(agent, LINT, 0.0, "a test")

        assert outliers.due(10.0, breakers) == set()  # three of seven are out

    def test_compares_with_nobody_whose_breaker_is_open(self) -> None:
        outliers, breakers = shown({"a": {}, "b": {}, "c": {"success": 0.0}, "d": {}}), Breakers()
        breakers.eject("a", LINT, 0.0, "a test")

        assert outliers.due(10.0, breakers) == set()  # two peers are too few

    def test_judges_who_comes_back_by_what_it_does_then(self) -> None:
        outliers, breakers = shown(peers(c={"success": 0.0})), Breakers()
        outliers.due(10.0, breakers)
        breakers.probing("c", LINT, "x", 500.0)
        breakers.succeeded("c", LINT, 500.0, task="x")
        outliers.succeeded("t", LINT, "c", 500.0, 1.0)

        assert outliers.due(600.0, breakers) == set()
        assert breakers.is_closed("c", LINT)

    def test_looks_at_intervals_and_only_when_there_is_news(self) -> None:
        outliers = Outliers()

        assert outliers.next_due() is None
        outliers.failed("t", LINT, "a", 5.0)
        assert outliers.next_due() == 15.0
        outliers.due(14.0, Breakers())
        assert outliers.next_due() == 15.0
        outliers.due(15.0, Breakers())
        assert outliers.next_due() is None


class TestKeep:
    def test_forgets_the_others(self) -> None:
        outliers = shown(peers())
        outliers.keep({"a", "b"})

        assert [row["agent"] for row in outliers.snapshot()] == ["a", "b"]


class TestRestore:
    def test_leads_to_the_same_ejections(self) -> None:
        outliers, copy = shown(peers(c={"success": 0.6})), Outliers()
        copy.restore(json.loads(json.dumps(outliers.snapshot())))
        for each in (outliers, copy):
            each.succeeded("t", LINT, "a", 0.0, 1.0)

        assert copy.snapshot() == outliers.snapshot()
        assert copy.due(10.0, Breakers()) == outliers.due(10.0, Breakers()) == {"c"}


class TestBounds:
    def test_keep_the_groups_heard_of_last(self) -> None:
        outliers = Outliers()
        for n in range(module.KEPT_GROUPS + 10):
            outliers.failed("t", (f"s{n}", "1"), "a", 0.0)
            outliers.failed("t", LINT, "a", 0.0)

        assert len(outliers.snapshot()) == module.KEPT_GROUPS
        assert "lint" in {row["skill"] for row in outliers.snapshot()}


class TestMedianWithout:
    @pytest.mark.parametrize("count", [2, 3, 4, 7, 8])
    def test_is_the_median_of_the_rest(self, count: int) -> None:
        rng = random.Random(count)
        values = sorted(rng.choice((1.0, 2.0, 3.0, 5.0, 8.0)) for _ in range(count))

        for value in values:
            rest = list(values)
            rest.remove(value)
            middle = (rest[(len(rest) - 1) // 2] + rest[len(rest) // 2]) / 2
            assert module._median_without(values, value) == middle
