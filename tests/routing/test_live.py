"""routing.live"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import redis

from routing import broker
from routing import events as e
from routing.line import Line
from routing.live import Live
from tests.routing.desk import Desk

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]


@pytest.fixture
def desk(bus: redis.Redis) -> Desk:
    return Desk()


class Watcher:
    """Publishes each commit of the desk, and reads what watchers are told."""

    def __init__(self, desk: Desk, bus: redis.Redis) -> None:
        self.desk, self.bus = desk, bus
        self.live = Live(desk.fleet, epoch=1, holder="desk", seq=desk.commits)
        self.line = Line(bus.connection_pool)
        self.publish(reset=True)

    def publish(self, *effects: e.Effect, reset: bool = False) -> dict[str, object]:
        """Publish a commit and return its delta."""
        self.live.seq += 1
        recorded = [effect for effect in effects if isinstance(effect, e.Recorded)]
        self.live.publish(self.line, recorded, reset=reset)
        newest: Any = self.bus.xrevrange(broker.COMMITTED, count=1)
        return dict(orjson.loads(newest[0][1][b"d"]))


def names(delta: dict[str, object]) -> list[str]:
    """Return the agents that a delta tells of."""
    rows = delta["fleet"]
    assert isinstance(rows, list)
    return [row["agent"] for row in rows]


class TestPublish:
    def test_tells_of_the_agents_alone_of_which_something_changed(self, desk: Desk, bus: redis.Redis) -> None:
        watcher = Watcher(desk, bus)
        desk.submit()

        assert names(watcher.publish(*desk.said)) == ["any-1"]

    def test_tells_of_an_agent_whose_breaker_opens(self, desk: Desk, bus: redis.Redis) -> None:
        watcher = Watcher(desk, bus)
        desk.submit()
        watcher.publish(*desk.said)
        for n in range(3):
            desk.fleet.gates.breakers.failed("echo-1", ("echo", ""), desk.now, "agent", task=str(n))

        delta = watcher.publish(desk.said[0])

        assert names(delta) == ["echo-1"]


class TestSnapshot:
    def test_holds_how_the_rules_stand_and_who_serves_whom(self, desk: Desk, bus: redis.Redis) -> None:
        desk.tell(e.Beat(worker="w", incarnation="1", threads=16, serves=frozenset({"any-1"})))
        watcher = Watcher(desk, bus)

        snapshot = watcher.live.snapshot(desk.now)

        assert snapshot["rules"] == {"limits": [], "budgets": [], "containments": []}
        assert snapshot["serves"] == {"w": ["any-1"]}
        assert [(row["agent"], row["served"], row["state"]) for row in snapshot["fleet"]] == [
            ("any-1", True, "idle"),
            ("echo-1", False, "silent"),
        ]
