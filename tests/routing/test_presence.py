"""routing.presence"""

from __future__ import annotations

from typing import Any

from routing import events as e
from routing.containment import Containment
from routing.fleet import Fleet
from routing.presence import TOLD, Presence, reach_of

SKILL = ("lint", "1")


def containment(name: str = "stop", **fields: Any) -> Containment:
    """Return a switch over the agent a."""
    usual: dict[str, Any] = {"scope": "agent", "value": "a", "mode": "enforce", "reason": "it lies", "by": "eve"}
    return Containment(name=name, since=0.0, **{**usual, **fields})


def fleet(*containments: Containment, agents: str = "ab") -> Fleet:
    """Return a fleet of agents that can lint, without workers."""
    specs = tuple(
        e.AgentSpec(name=name, tenant="default", skills=frozenset({SKILL}), capacity=2, enabled=True) for name in agents
    )
    made = Fleet()
    made.apply(e.RegistryChanged(agents=specs, containments=containments), 0.0)
    return made


def beat(made: Fleet, worker: str, serves: frozenset[str] | None, *, draining: bool = False) -> None:
    """Let a worker be heard of."""
    made.apply(e.Beat(worker=worker, incarnation="1", threads=4, serves=serves, draining=draining), 0.0)


def watched(made: Fleet) -> Presence:
    """Return a presence that has told everything so far."""
    presence = Presence(made)
    presence.look()
    presence.touched()
    return presence


class TestLook:
    def test_touches_the_agents_that_a_new_worker_serves(self) -> None:
        made = fleet()
        presence = watched(made)
        beat(made, "w1", frozenset("a"))

        presence.look()

        assert presence.touched() == {"a"}
        assert (presence.agent("a", 0.0)["state"], presence.agent("b", 0.0)["state"]) == ("idle", "silent")

    def test_touches_nobody_when_a_second_worker_serves_the_same(self) -> None:
        made = fleet()
        beat(made, "w1", None)
        presence = watched(made)
        beat(made, "w2", frozenset("a"))

        presence.look()

        assert presence.touched() == set()

    def test_touches_the_agents_whose_last_worker_drains_or_goes(self) -> None:
        made = fleet()
        beat(made, "w1", frozenset("a"))
        beat(made, "w2", frozenset("b"))
        presence = watched(made)
        beat(made, "w1", frozenset("a"), draining=True)
        made.apply(e.WorkerGone(worker="w2", incarnation="1"), 0.0)

        presence.look()

        assert presence.touched() == {"a", "b"}


class TestAgent:
    def test_is_told_with_its_breaker_as_it_opens_and_becomes_half_open(self) -> None:
        made = fleet()
        presence = watched(made)
        for n in range(3):
            made.gates.breakers.failed("a", SKILL, 0.0, "agent", task=str(n))

        touched, row = presence.touched(), presence.agent("a", 1.0)

        assert touched == {"a"}
        assert (row["breaker"]["state"], row["breaker"]["skill"], row["breaker"]["more"]) == ("open", "lint", 0)
        assert "3 failures in a row" in row["breaker"]["text"]
        made.gates.breakers.due(1_000.0)
        assert presence.touched() == {"a"}
        assert presence.agent("a", 1_000.0)["breaker"]["state"] == "half-open"

    def test_has_nothing_held_against_it_at_first(self) -> None:
        row = watched(fleet()).agent("a", 0.0)

        assert (row["breaker"], row["contained"]) == (None, None)

    def test_names_the_switch_that_holds_before_one_that_is_only_observed(self) -> None:
        everything = containment("all", scope="everything", value="", mode="observe")
        presence = watched(fleet(everything, containment()))

        held, observed = presence.agent("a", 0.0)["contained"], presence.agent("b", 0.0)["contained"]

        assert (held["state"], held["switch"], held["more"]) == ("enforce", "stop", 1)
        assert held["brief"] == "contained by stop"
        assert (observed["state"], observed["switch"]) == ("observe", "all")
        assert observed["brief"] == "", "it concerns everybody alike"

    def test_is_contained_by_a_switch_over_one_of_its_skills(self) -> None:
        presence = watched(fleet(containment(scope="skill", value="li*")))

        assert presence.agent("b", 0.0)["contained"]["switch"] == "stop"

    def test_is_contained_no_longer_than_the_switch_says(self) -> None:
        presence = watched(fleet(containment(release_at=50.0)))

        assert presence.agent("a", 49.0)["contained"] is not None
        assert presence.agent("a", 50.0)["contained"] is None


class TestWorker:
    def test_names_some_of_the_agents_and_counts_all(self) -> None:
        made = fleet()
        names = frozenset(f"agent-{n:03}" for n in range(50))
        beat(made, "w1", names)
        beat(made, "w2", None)

        row, other = Presence(made).worker("w1"), Presence(made).worker("w2")

        assert (len(row["serves"]), row["serves_count"], row["serves"][0]) == (TOLD, 50, "agent-000")
        assert (other["serves"], other["serves_count"]) == (None, None)
        assert Presence(made).serves() == {"w1": sorted(names)}

    def test_follows_what_it_serves(self) -> None:
        made = fleet()
        beat(made, "w1", frozenset("a"))
        presence = watched(made)
        presence.worker("w1")
        beat(made, "w1", frozenset("ab"))

        assert presence.worker("w1")["serves"] == ["a", "b"]


class TestReachOf:
    def test_is_all_if_one_worker_serves_all(self) -> None:
        assert reach_of([frozenset("a"), None]) is None
        assert reach_of([frozenset("a"), frozenset("b")]) == frozenset("ab")
        assert reach_of([]) == frozenset()
