"""Who is there, and how many attempts each could still take."""

from __future__ import annotations

from typing import Any

from routing import events as e
from routing.flights import Flight
from routing.roster import WORKER_SILENT_S, Roster
from tests.routing.fleets import agent


def beat(worker: str = "w", **changes: Any) -> e.Beat:
    fields: dict[str, Any] = {"incarnation": "1", "threads": 2} | changes
    return e.Beat(worker=worker, **fields)


def roster(**changes: Any) -> Roster:
    """Return a roster of the agent ``a``, which has two slots, and one worker with two threads."""
    made = Roster()
    made.register([agent(**changes)])
    made.hear(beat(), 0.0)
    return made


def occupied(made: Roster, *names: str) -> list[Flight]:
    flights = [Flight(name, 1, "a", 0.0) for name in names]
    for flight in flights:
        made.occupy(flight)
    return flights


class TestFree:
    def test_are_agents_with_a_slot(self) -> None:
        made = roster()
        first, _ = occupied(made, "x", "y")
        assert made.free == set()

        made.release(first)

        assert made.free == {"a"}

    def test_follows_the_capacity(self) -> None:
        made = roster()
        occupied(made, "x", "y")

        made.register([agent(capacity=3)])

        assert (made.free, made.slots) == ({"a"}, 3)

    def test_does_not_hold_one_that_is_registered_no_more(self) -> None:
        made = roster()
        [flight] = occupied(made, "x")

        made.register([])
        assert (made.free, made.registered()) == (set(), {})
        made.release(flight)

        assert made.agents == {}


class TestRoom:
    def test_is_threads_less_what_works_and_what_was_sent(self) -> None:
        made = roster()
        first, _ = occupied(made, "x", "y")
        made.begin(first, "w", "1", 1.0)

        assert (made.room(), made.busy, made.busy_on("w")) == (0, 2, 1)

    def test_is_not_on_a_draining_worker(self) -> None:
        made = roster()

        made.hear(beat(draining=True), 1.0)

        assert made.room() == made.threads() == 0

    def test_follows_an_attempt_to_another_worker(self) -> None:
        made = roster()
        made.hear(beat("v"), 0.0)
        [flight] = occupied(made, "x")
        made.begin(flight, "w", "1", 1.0)

        made.move(flight, "v", "1")

        assert (made.busy_on("w"), made.busy_on("v")) == (0, 1)


class TestHear:
    def test_is_news_when_the_worker_is_new_or_can_take_more(self) -> None:
        made = roster()

        assert made.hear(beat(threads=3), 1.0)
        assert made.hear(beat(threads=3, serves=frozenset({"a"})), 2.0)
        assert made.hear(beat("v"), 3.0)

    def test_is_none_otherwise(self) -> None:
        assert not roster().hear(beat(threads=1), 1.0)


class TestServed:
    def test_is_everybody_while_one_worker_serves_all(self) -> None:
        made = roster()
        made.hear(beat("v", serves=frozenset({"b"})), 0.0)

        assert made.served() is None

    def test_is_what_the_living_serve(self) -> None:
        made = Roster()
        made.hear(beat("v", serves=frozenset({"b"})), 0.0)
        made.hear(beat("w", serves=frozenset({"c"}), draining=True), 0.0)

        assert made.served() == frozenset({"b"})


class TestForgetSilent:
    def test_counts_on_a_worker_until_it_was_silent_too_long(self) -> None:
        made = roster()

        made.forget_silent(WORKER_SILENT_S - 0.1)
        assert made.room() == 2
        made.forget_silent(WORKER_SILENT_S)

        assert made.room() == 0

    def test_forgives_a_silence_of_our_own(self) -> None:
        made = roster()
        made.forgive(5.0)

        made.forget_silent(WORKER_SILENT_S + 4.0)

        assert made.workers.keys() == {"w"}


class TestPullAgents:
    def test_are_served_by_nobody_but_a_worker_that_names_them(self) -> None:
        made = Roster()
        made.register([agent(), agent("p", is_pull=True)])
        made.hear(beat(), 0.0)
        assert made.served() == frozenset({"a"})

        made.hear(beat("pull:p/1", threads=1, serves=frozenset({"p"})), 0.0)
        assert made.served() == frozenset({"a", "p"})
        made.occupy(Flight("x", 1, "p", 0.0))

        assert made.served() == frozenset({"a"})
