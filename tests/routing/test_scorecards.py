"""routing.scorecards"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from routing import events as e
from routing import feedback, registry, scorecards
from routing.models import Agent, Task
from routing.scorecard import Card, Scorecard
from tests.routing.desk import Desk

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]

BAD: e.Error = {"kind": "agent", "message": "no", "retryable": False}


@pytest.fixture
def desk(echo: None) -> Desk:
    return Desk()


def do(desk: Desk, seconds: float = 2.0, **fields: Any) -> Task:
    """Have a task begun and ended after so many seconds."""
    desk.tell(e.Beat(worker="w", incarnation="1", threads=16))
    task = desk.submit()
    desk.tell(desk.started(task))
    desk.now += seconds
    desk.tell(desk.finished(task, **fields))
    return task


def read(desk: Desk, name: str = "any-1", *, later_s: float = 10.0) -> Scorecard:
    """Return the scorecard after the fleet has had time to write down what it learned."""
    desk.now += later_s
    desk.tell()
    return scorecards.scorecard(Agent.objects.get(name=name), datetime.fromtimestamp(desk.now, UTC))


def only(card: Scorecard) -> Card:
    [found] = card.cards
    return found


class TestScorecard:
    def test_says_what_the_fleet_would_say(self, desk: Desk) -> None:
        for n in range(12):
            do(desk, 1.0 + n % 5, usage={"usd": 0.5})
        do(desk, error=BAD)

        told = only(read(desk)).learned

        estimates, skill = desk.fleet.estimates, ("any", "")
        assert (told.success, told.success_sd) == estimates.success("any-1", skill)
        assert told.expected_s == estimates.expected_s("any-1", skill)
        assert told.p95_s == estimates.cells["any-1", skill].latency.quantile(0.95)
        assert told.cost_usd == estimates.expected_cost_usd("any-1", skill)
        assert told.samples == 13

    def test_counts_what_the_ledger_holds_of_the_last_day(self, desk: Desk) -> None:
        do(desk, 1.0)
        desk.now += 100_000
        do(desk, 3.0, usage={"usd": 0.25})
        do(desk, error=BAD)
        desk.submit()

        told = only(read(desk, later_s=6.0)).counted

        assert (told.attempts, told.succeeded, told.failed, told.running) == (3, 1, {"agent": 1}, 1)
        assert (told.p50_s, told.p95_s, told.cost_usd) == (3.0, 3.0, 0.25)

    def test_tells_an_open_breaker_in_words(self, desk: Desk) -> None:
        for _ in range(3):
            do(desk, error=BAD)

        told = only(read(desk, later_s=1.0)).breaker

        assert told.state == "open"
        assert "3 failures in a row at any" in told.words
        assert told.opens == 1

    def test_names_a_skill_of_which_nothing_is_known(self, desk: Desk) -> None:
        card = read(desk, "echo-1")

        assert (only(card).skill, only(card).learned.samples, only(card).counted.attempts) == ("echo", 0, 0)
        assert only(card).breaker.state == card.breaker.state == "closed"

    def test_means_what_callers_said(self, desk: Desk) -> None:
        first, second = do(desk), do(desk)
        do(desk)
        feedback.give(first.id, tenant="default", by="a", score=0.5)
        feedback.give(second.id, tenant="default", by="a", score=1.0)

        told = only(read(desk)).feedback

        assert (told.mean, told.ratings) == (0.75, 2)

    def test_takes_nothing_of_an_agent_whose_name_begins_alike(self, desk: Desk) -> None:
        registry.ensure_agent("any-10", skills=list(Agent.objects.get(name="any-1").skills.all()))
        do(desk)

        card = read(desk, "any-10")

        assert (only(card).learned.samples, only(card).counted.attempts) == (0, 0)

    def test_counts_the_newest_alone_where_there_are_too_many(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scorecards, "MOST", 2)
        for _ in range(3):
            do(desk)

        card = read(desk)

        assert (only(card).counted.attempts, card.is_cut) == (2, True)
        assert card.at - card.since < timedelta(hours=1)
