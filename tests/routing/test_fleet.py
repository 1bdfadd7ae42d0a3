"""What the fleet decides, one behaviour at a time. Time is a number that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from routing import events as e
from routing import fleet as module
from routing import lanes, roster
from routing.flights import Phase
from routing.limit_rules import LimitSpec
from routing.policies import Hedging, PolicySpec
from routing.retries import RetryPolicy, RetryRule
from tests.routing.fleets import World, agent, dispatched, recorded, task

LOST: e.Error = {"kind": "agent", "message": "no", "retryable": True}


class TestSubmitted:
    def test_is_recorded_and_sent_to_a_free_agent(self) -> None:
        effects = World().submit()

        assert dispatched(effects) == [("x", 1)]
        assert recorded(effects, "submitted").seq == 1

    def test_twice_is_the_same_task(self) -> None:
        world = World()
        world.submit()

        assert world.submit() == []

    def test_says_why_nobody_can_take_it(self) -> None:
        effects = World(agent(draining=True)).submit()

        assert recorded(effects, "submitted").data == {"detail": "no able agent (a: draining)"}

    def test_with_a_deadline_that_passed_fails_without_an_attempt(self) -> None:
        world = World()
        world.now = 5.0

        world.submit(deadline=4.0)

        assert world.kinds() == ["submitted", "failed"]

    def test_waits_until_not_before(self) -> None:
        world = World()

        assert dispatched(world.submit(not_before=7.0)) == []
        assert dispatched(world.due(6.9)) == []
        assert dispatched(world.due(7.0)) == [("x", 1)]

    def test_leaves_nothing_scheduled_without_a_deadline(self) -> None:
        world = World(threads=0)
        world.submit()

        assert world.fleet.next_due() is None


class TestAssign:
    def test_prefers_the_higher_priority(self) -> None:
        world = World(agent(capacity=1), threads=0)
        for priority in (3, 9, 0):
            world.submit(f"p{priority}", priority=priority)

        world.beat()

        assert dispatched(world.due()) == [("p9", 1)]

    def test_prefers_the_older_of_equals_across_lanes(self) -> None:
        world = World(agent(capacity=1), threads=0)
        world.submit("young", created_at=2.0)
        world.submit("old", created_at=1.0, version="1")

        world.beat()

        assert dispatched(world.due()) == [("old", 1)]

    def test_gives_an_agent_no_more_than_its_slots(self) -> None:
        world = World(agent(capacity=2))
        for name in "xyz":
            world.submit(name)

        assert [world.agent_of(name) for name in "xyz"] == ["a", "a", ""]

    def test_gives_the_freed_slot_to_the_next(self) -> None:
        world = World(agent(capacity=1))
        world.submit("x")
        world.submit("y")

        assert dispatched(world.finish("x")) == [("y", 1)]

    def test_holds_back_when_all_threads_are_in_use(self) -> None:
        world = World(agent(capacity=9), threads=2)
        for name in "xyz":
            world.submit(name)

        assert world.agent_of("z") == ""
        assert dispatched(world.finish("x")) == [("z", 1)]

    def test_waits_for_a_first_worker(self) -> None:
        world = World(threads=0)

        assert dispatched(world.submit()) == []
        world.beat()
        assert dispatched(world.due()) == [("x", 1)]

    def test_sends_nothing_to_a_draining_worker(self) -> None:
        world = World()
        world.beat(draining=True)

        assert dispatched(world.submit()) == []

    def test_fills_one_worker_while_another_drains_with_its_hands_full(self) -> None:
        world = World(agent(capacity=9), threads=2)
        for name in "xy":
            world.submit(name)
            world.start(name)
        world.beat(("x", 1), ("y", 1), threads=2, draining=True)
        world.beat(worker="v", threads=2)

        assert dispatched(world.submit("z")) == [("z", 1)]

    def test_sends_nothing_to_an_agent_that_no_living_worker_serves(self) -> None:
        world = World(agent("a"), agent("b"))
        world.beat(serves=frozenset({"b"}))

        decision = recorded(world.submit(), "assigned").decision

        assert decision is not None
        assert decision.exclusions == {"a": "no living worker serves it"}

    def test_sends_nothing_while_all_workers_are_silent(self) -> None:
        world = World()
        world.due(roster.WORKER_SILENT_S)

        assert dispatched(world.submit()) == []

    def test_takes_an_agent_that_failed_it_last(self) -> None:
        world = World(agent("a"), agent("b", capacity=1))
        world.submit("x", pinned="")
        first = world.agent_of()
        world.finish("x", error=LOST)
        world.due(100.0)
        world.beat()
        world.due()

        assert {first, world.agent_of()} == {"a", "b"}

    def test_takes_it_again_if_nobody_else_is_there(self) -> None:
        world = World(agent("a"))
        world.submit()
        world.finish(error=LOST)
        world.due(1.0)

        assert world.agent_of() == "a"

    def test_keeps_the_decision(self) -> None:
        world = World(agent("a"), agent("full", capacity=1), agent("off", enabled=False))
        world.submit("other", pinned="full")

        decision = recorded(world.submit("x"), "assigned").decision

        assert decision is not None
        assert decision.strategy == "balanced"
        assert [c["agent"] for c in decision.candidates] == ["a"]
        assert decision.exclusions == {"full": "all 1 slots in use", "off": "disabled"}

    def test_follows_the_strategy_of_the_skill(self) -> None:
        world = World(agent("a"), agent("b"), policies=[PolicySpec(name="p", strategy="least_loaded")])

        decisions = [recorded(world.submit(name), "assigned") for name in "xy"]

        assert [d.decision.strategy for d in decisions if d.decision] == ["least_loaded"] * 2
        assert [d.agent for d in decisions] == ["a", "b"]

    def test_says_how_long_it_waited(self) -> None:
        world = World(agent(capacity=1))
        world.submit("x")
        world.submit("y")
        world.now = 4.0

        assert recorded(world.finish("x"), "assigned").data == {"agent": "a", "attempt": 1, "waited_s": 4.0}


class TestServed:
    """A worker may serve some agents only: what waits for them is not sent where nobody has a free thread for it."""

    def test_waits_for_the_worker_that_serves_the_agent(self) -> None:
        world = World(agent("a", capacity=9), agent("b", capacity=9), threads=0)
        world.beat(worker="v", threads=1, serves=frozenset({"a"}))
        world.beat(worker="w", threads=5, serves=frozenset({"b"}))
        for name in ("one", "two"):
            world.submit(name, pinned="a")

        assert (world.agent_of("one"), world.agent_of("two")) == ("a", "")
        assert dispatched(world.finish("one")) == [("two", 1)]

    def test_counts_on_workers_that_serve_all(self) -> None:
        world = World(agent("a", capacity=9), threads=0)
        world.beat(worker="v", threads=1, serves=frozenset({"a"}))
        world.beat(worker="w", threads=1)
        for name in ("one", "two", "three"):
            world.submit(name)

        assert [world.agent_of(name) for name in ("one", "two", "three")] == ["a", "a", ""]


class TestLeases:
    def test_an_assigned_attempt_has_10_s_to_begin(self) -> None:
        world = World()
        world.submit()
        world.beat()

        assert world.due(9.9) == []
        world.beat()
        assert dispatched(world.due(10.0)) == [("x", 2)]

    def test_one_that_never_began_is_no_try(self) -> None:
        world = World()
        world.submit(max_attempts=1)
        for second in range(100):
            world.now = float(second)
            world.beat()
            world.due()

        assert "failed" not in world.kinds()
        assert world.fleet.tasks["x"].tries == 0

    def test_offers_again_more_slowly_when_it_keeps_not_beginning(self) -> None:
        world = World()
        world.submit()
        times = []
        for tenth in range(600):
            world.now = tenth / 10
            world.beat()
            times += [world.now for _ in dispatched(world.due())]

        assert times == [10.0, 21.0, 33.0, 47.0]

    def test_a_beat_renews_exactly_the_attempts_it_lists(self) -> None:
        world = World()
        for name in "xy":
            world.submit(name)
            world.start(name)
        world.now = 5.0
        world.beat(("x", 1))

        world.due(10.0)

        assert world.kinds("y")[-1] == "assigned"
        assert world.kinds("y")[-2] == "requeued"
        assert world.kinds("x")[-1] == "working"
        world.due(15.0)
        assert "requeued" in world.kinds("x")

    def test_a_beat_begins_an_attempt_whose_start_was_not_heard(self) -> None:
        world = World()
        world.submit()

        assert recorded(world.beat(("x", 1)), "working").data == {"worker": "w", "incarnation": "1"}

    def test_the_end_of_a_lease_raises_the_fence_before_the_next_attempt(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.now = 9.0
        world.beat()

        effects = world.due(10.0)

        assert [type(x).__name__ for x in effects] == ["Recorded", "Fence", "Recorded", "Dispatch"]
        assert e.Fence(task="x", attempt=1) in effects

    def test_silence_of_our_own_is_not_held_against_anybody(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.now = 30.0
        world.tell(e.Stalled(seconds=30.0))

        assert world.due() == []
        assert dispatched(world.due(40.0)) == []
        assert world.kinds()[-1] == "requeued"

    def test_a_delay_is_not_cut_short_by_an_earlier_lease(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.now = 9.0
        world.finish(error=LOST, retry_in_s=20.0)
        world.beat()

        assert dispatched(world.due(10.0) + world.due(28.0)) == []
        world.beat()
        assert dispatched(world.due(29.0)) == [("x", 2)]

    def test_the_heap_of_timers_does_not_grow_with_what_has_ended(self) -> None:
        world = World()
        for n in range(2 * module.KEPT_LOOKS):
            world.submit(f"x{n}", deadline=1e6)
            world.finish(f"x{n}")

        assert len(world.fleet._timers) <= module.KEPT_LOOKS + 1


class TestBeat:
    def test_stops_an_attempt_that_is_no_longer_current(self) -> None:
        assert World().beat(("gone", 3)) == [e.Stop(task="gone", attempt=3, reason="stale")]

    def test_repeats_what_was_asked_to_stop(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.cancel()

        assert world.beat(("x", 1)) == [e.Stop(task="x", attempt=1, reason="canceled")]

    def test_of_another_life_ends_what_the_last_one_did(self) -> None:
        world = World()
        world.submit()
        world.start()

        world.beat(incarnation="2")

        assert world.kinds()[-1] == "requeued"

    def test_tells_who_works_on_a_restored_attempt(self) -> None:
        world = World()
        world.restore(phase="working", attempt=1, agent="a")
        world.beat(("x", 1))

        world.tell(e.WorkerGone(worker="w", incarnation="1"))

        assert world.kinds() == ["requeued"]


class TestTakeFromPredecessors:
    """A controller that has just begun to lead knows from the ledger alone who was at work."""

    def test_gives_up_what_the_worker_began_before_it_was_started_anew(self) -> None:
        world = World(threads=0)
        world.restore(phase="working", attempt=1, agent="a", worker="w", incarnation="1")

        world.beat(incarnation="2")

        assert dispatched(world.due()) == [("x", 2)]

    @pytest.mark.parametrize("incarnation", ["1", ""])
    def test_leaves_the_rest_to_its_lease(self, incarnation: str) -> None:
        world = World(threads=0)
        world.restore(phase="working", attempt=1, agent="a", worker="w", incarnation=incarnation)

        world.beat(incarnation="1")

        assert world.due() == []

    def test_believes_the_worker_about_what_it_has_in_flight(self) -> None:
        world = World(threads=0)
        world.restore(phase="working", attempt=1, agent="a", worker="w", incarnation="1")

        world.beat(("x", 1), incarnation="2")

        assert world.due() == []


class TestWorkerGone:
    def test_offers_its_work_again_at_once(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.beat(worker="v")

        world.tell(e.WorkerGone(worker="w", incarnation="1"))

        assert dispatched(world.due()) == [("x", 2)]

    def test_of_an_earlier_life_means_nothing(self) -> None:
        world = World()
        world.submit()
        world.start()

        assert world.tell(e.WorkerGone(worker="w", incarnation="0")) == []


class TestStarted:
    def test_twice_is_recorded_once(self) -> None:
        world = World()
        world.submit()
        world.start()

        assert world.start() == []

    def test_of_a_stale_attempt_is_stopped(self) -> None:
        world = World()
        world.submit()
        world.tell(e.HandedBack(task="x", attempt=1))

        assert world.start(attempt=1) == [e.Stop(task="x", attempt=1, reason="stale")]
        assert world.fleet.stale == 1


class TestNoted:
    def test_is_recorded_with_the_next_number(self) -> None:
        world = World()
        world.submit()
        world.start()

        [line] = world.tell(e.Noted(task="x", attempt=1, kind="progress", data={"fraction": 0.5}))

        assert isinstance(line, e.Recorded)
        assert (line.seq, line.kind, line.data) == (4, "progress", {"fraction": 0.5})

    def test_of_a_stale_attempt_is_dropped(self) -> None:
        world = World()
        world.submit()

        assert world.tell(e.Noted(task="x", attempt=0, kind="log", data={})) == []


class TestFinished:
    def test_completes_the_task(self) -> None:
        world = World()
        world.submit()
        world.start()

        assert recorded(world.finish(output={"n": 1}), "completed").output == {"n": 1}
        assert world.fleet.tasks == {}
        assert world.fleet.roster.busy == 0

    def test_a_late_result_is_refused(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.tell(e.HandedBack(task="x", attempt=1))
        world.due()

        assert world.finish(attempt=1, output="late") == []
        assert world.kinds()[-1] == "assigned"

    def test_twice_ends_once(self) -> None:
        world = World()
        world.submit()
        world.finish()

        assert world.finish() == []

    def test_without_a_start_counts_as_begun_and_teaches_nothing(self) -> None:
        world = World()
        world.submit()
        world.finish()

        assert world.kinds() == ["submitted", "assigned", "working", "completed"]
        assert world.fleet.estimates.agents == {}

    def test_an_error_that_will_stay_fails_the_task(self) -> None:
        world = World()
        world.submit()
        world.finish(error={"kind": "bad_input", "message": "no", "retryable": False})

        assert world.kinds()[-1] == "failed"

    def test_another_try_comes_after_a_pause_that_grows(self) -> None:
        world = World()
        world.submit(max_attempts=9)
        pauses = []
        for attempt in range(1, 9):
            pauses.append(recorded(world.finish(attempt=attempt, error=LOST), "requeued").data["retry_in_s"])
            world.now += 100
            world.beat()
            world.due()

        assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]

    def test_the_last_try_fails_the_task(self) -> None:
        world = World()
        world.submit(max_attempts=1)

        error = recorded(world.finish(error=LOST), "failed").data["error"]

        assert error["message"] == "no (attempt 1 of 1, the last)"

    def test_a_retry_that_the_agent_asks_for_is_no_try(self) -> None:
        world = World()
        world.submit(max_attempts=1)
        world.finish(error=LOST, retry_in_s=0.0)

        assert world.kinds()[-2:] == ["requeued", "assigned"]
        assert world.fleet.tasks["x"].tries == 0

    def test_canceled_without_anybody_having_asked_counts_as_lost(self) -> None:
        world = World()
        world.submit()

        data = recorded(world.finish(error={"kind": "canceled", "message": "bye"}), "requeued").data

        assert data["outcome"] == "lost"


class TestHandedBack:
    def test_goes_on_elsewhere_without_blame(self) -> None:
        world = World()
        world.submit(max_attempts=1)
        world.start()

        world.tell(e.HandedBack(task="x", attempt=1))

        assert dispatched(world.due()) == [("x", 2)]
        assert world.fleet.tasks["x"].tries == 0


class TestMaxAssignments:
    """What does not count as a try has an end all the same."""

    LAST = module.MAX_ASSIGNMENTS

    def world(self, attempt: int, phase: Phase = "working") -> World:
        world = World()
        world.restore(phase=phase, attempt=attempt, agent="a", seq=9)
        return world

    def give_back(self, world: World, attempt: int) -> list[e.Effect]:
        return world.tell(e.HandedBack(task="x", attempt=attempt))

    def ask_again(self, world: World, attempt: int) -> list[e.Effect]:
        return world.finish(attempt=attempt, error=LOST, retry_in_s=60.0)

    def never_begin(self, world: World, attempt: int) -> list[e.Effect]:
        return world.due(module.START_LEASE_S)

    @pytest.mark.parametrize(
        ("way", "phase"), [(give_back, "working"), (ask_again, "working"), (never_begin, "assigned")]
    )
    def test_ends_the_task(self, way: Callable[..., list[e.Effect]], phase: Phase) -> None:
        one_less = way(self, self.world(self.LAST - 1, phase), self.LAST - 1)
        last = way(self, self.world(self.LAST, phase), self.LAST)

        assert recorded(one_less, "requeued")
        assert f"given to an agent {self.LAST} times" in recorded(last, "failed").data["error"]["message"]


class TestPoison:
    def test_stops_at_its_limit(self) -> None:
        world = World()
        world.submit(max_attempts=3)
        for life in range(1, 6):
            world.start(attempt=life)
            world.beat(incarnation=str(life + 1))
            world.due()

        assert world.kinds().count("working") == 3
        assert world.kinds()[-1] == "failed"


class TestSuspects:
    def lose(self, world: World, *names: str) -> None:
        """Have the worker die with these tasks at work."""
        for name in names:
            world.start(name, attempt=world.fleet.tasks[name].attempt)
        world.tell(e.WorkerGone(worker="w", incarnation="1"))
        world.beat()
        world.due()

    def test_a_task_lost_once_is_given_away_at_once_beside_others(self) -> None:
        world = World()
        world.submit("x")
        world.submit("y")

        self.lose(world, "x", "y")

        assert world.agent_of("x")
        assert world.agent_of("y")

    def test_tasks_lost_twice_run_one_at_a_time(self) -> None:
        world = World()
        world.submit("x")
        world.submit("y")

        self.lose(world, "x", "y")
        self.lose(world, "x", "y")

        assert sorted(map(world.agent_of, ("x", "y"))) == ["", "a"]

    def test_the_next_suspect_goes_when_the_one_before_has_ended(self) -> None:
        world = World()
        world.submit("x")
        world.submit("y")
        self.lose(world, "x", "y")
        self.lose(world, "x", "y")
        first, second = ("x", "y") if world.agent_of("x") else ("y", "x")

        world.start(first, attempt=3)
        world.finish(first, attempt=3)

        assert world.agent_of(second)

    def test_others_are_not_held_up_by_a_suspect(self) -> None:
        world = World()
        world.submit("x")
        self.lose(world, "x")
        self.lose(world, "x")

        world.submit("z")

        assert world.agent_of("z")


class TestTimeout:
    def test_ends_an_attempt_that_its_worker_does_not_end(self) -> None:
        world = World()
        world.submit(timeout_s=7.0)
        world.start()
        world.now = 6.0
        world.beat(("x", 1))

        assert world.due(11.9) == []
        assert recorded(world.due(12.0), "requeued").data["error"]["kind"] == "timeout"


class TestCancel:
    def test_ends_a_waiting_task_at_once(self) -> None:
        world = World(threads=0)
        world.submit()
        world.cancel()
        world.beat()

        assert world.due() == []
        assert world.kinds() == ["submitted", "cancel_requested", "canceled"]

    def test_ends_a_delayed_task_at_once(self) -> None:
        world = World()
        world.submit(not_before=9.0)
        world.cancel()

        assert world.kinds()[-1] == "canceled"
        assert world.due(9.0) == []

    def test_fences_an_assigned_attempt(self) -> None:
        world = World()
        world.submit()

        assert e.Fence(task="x", attempt=1) in world.cancel()
        assert world.kinds()[-1] == "canceled"

    def test_asks_a_working_one_to_stop_and_waits_for_it(self) -> None:
        world = World()
        world.submit()
        world.start()

        assert e.Stop(task="x", attempt=1, reason="canceled") in world.cancel()
        assert world.kinds()[-1] == "cancel_requested"
        world.finish(error={"kind": "canceled", "message": "stopped"})
        assert world.kinds()[-1] == "canceled"

    def test_loses_the_race_against_a_result(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.cancel()
        world.finish(output=1)

        assert world.kinds()[-1] == "completed"

    def test_gives_a_deaf_agent_30_s(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.cancel()
        for second in range(0, 30, 3):
            world.now = float(second)
            world.beat(("x", 1))
            world.due()

        world.due(30.0)

        assert world.kinds()[-1] == "canceled"
        assert world.fleet.roster.busy == 0

    @pytest.mark.parametrize("restart", [False, True])
    def test_a_lost_attempt_is_not_tried_again(self, restart: bool) -> None:
        world = World()
        world.submit()
        world.start()
        world.cancel()
        if restart:
            world.fleet = World().fleet
            world.restore(phase="working", attempt=1, agent="a", cancel_asked=True)

        world.due(10.0)

        assert world.kinds()[-1] == "canceled"

    def test_twice_is_recorded_once(self) -> None:
        world = World()
        world.submit()
        world.start()
        world.cancel()

        assert world.cancel() == []

    def test_of_something_unknown_means_nothing(self) -> None:
        assert World().cancel("nothing") == []


class TestDeadline:
    def test_fails_a_waiting_task(self) -> None:
        world = World(threads=0)
        world.submit(deadline=3.0)

        assert world.due(2.9) == []
        assert recorded(world.due(3.0), "failed").data["error"]["kind"] == "deadline"

    def test_holds_after_a_requeue(self) -> None:
        world = World()
        world.submit(deadline=20.0)
        world.tell(e.HandedBack(task="x", attempt=1))
        world.beat(draining=True)

        assert [r.kind for r in world.due(20.0) if isinstance(r, e.Recorded)] == ["failed"]

    def test_is_not_outlasted_by_a_delay(self) -> None:
        world = World()
        world.submit(deadline=20.0)
        world.finish(error=LOST, retry_in_s=3600.0)

        world.due(20.0)

        assert world.kinds()[-1] == "failed"

    def test_lets_work_in_flight_end(self) -> None:
        world = World()
        world.submit(deadline=3.0)
        world.start()

        world.due(4.0)

        assert world.kinds()[-1] == "working"


class TestRegistryChanged:
    def test_more_slots_are_used_at_once(self) -> None:
        world = World(agent(capacity=1))
        world.submit("x")
        world.submit("y")

        world.register(agent(capacity=2))

        assert dispatched(world.due()) == [("y", 1)]

    def test_fewer_slots_take_nothing_away(self) -> None:
        world = World(agent(capacity=2))
        for name in "xyz":
            world.submit(name)

        world.register(agent(capacity=1))

        assert dispatched(world.finish("x")) == []
        assert dispatched(world.finish("y")) == [("z", 1)]

    @pytest.mark.parametrize("change", [{"draining": True}, {"enabled": False}])
    def test_an_agent_that_ends_its_service_finishes_what_it_has(self, change: dict[str, Any]) -> None:
        world = World()
        world.submit("x")

        world.register(agent(**change))

        assert dispatched(world.submit("y")) == []
        assert recorded(world.finish("x"), "completed").agent == "a"

    def test_a_removed_agent_finishes_what_it_has_and_is_forgotten(self) -> None:
        world = World()
        world.submit("x")

        world.register()

        assert dispatched(world.submit("y")) == []
        assert recorded(world.finish("x"), "completed").agent == "a"
        assert world.fleet.roster.agents == {}

    def test_an_agent_that_comes_back_keeps_its_load(self) -> None:
        world = World(agent(capacity=1))
        world.submit("x")
        world.register()
        world.register(agent(capacity=1))

        assert dispatched(world.submit("y")) == []
        assert dispatched(world.finish("x")) == [("y", 1)]

    def test_a_new_agent_takes_what_nobody_could(self) -> None:
        world = World(agent(skills=frozenset()))
        world.submit()

        world.register(agent("b"))

        assert dispatched(world.due()) == [("x", 1)]


class TestMessagesLost:
    def test_sends_again_what_was_not_begun(self) -> None:
        world = World()
        world.submit("x")
        world.submit("y")
        world.start("y")

        assert dispatched(world.tell(e.MessagesLost())) == [("x", 1)]

    def test_gives_it_a_new_lease(self) -> None:
        world = World()
        world.submit()
        world.now = 9.0
        world.tell(e.MessagesLost())

        assert world.due(18.9) == []


class TestRestore:
    def test_sends_an_assigned_attempt_again_under_its_number(self) -> None:
        assert dispatched(World().restore(phase="assigned", attempt=3, agent="a")) == [("x", 3)]

    def test_leaves_a_working_attempt_alone(self) -> None:
        world = World()

        assert world.restore(phase="working", attempt=1, agent="a", began_at=0.0) == []
        assert dispatched(world.due()) == []

    def test_expects_to_hear_of_it_within_two_beats(self) -> None:
        world = World()
        world.restore(phase="working", attempt=1, agent="a")

        assert not world.due(5.9)
        assert recorded(world.due(6.0), "requeued").data["outcome"] == "lost"

    def test_lets_a_waiting_task_wait_on(self) -> None:
        world = World()
        world.restore(attempt=2, tries=1)

        effects = world.due()

        assert dispatched(effects) == [("x", 3)]
        assert recorded(effects, "assigned").seq == 3

    @pytest.mark.parametrize("phase", ["assigned", "working"])
    def test_counts_the_slot_also_of_an_agent_that_was_removed(self, phase: Phase) -> None:
        world = World()
        world.restore(phase=phase, attempt=1, agent="gone")

        assert world.fleet.roster.busy == 1
        world.finish()
        assert world.fleet.roster.busy == 0
        assert "gone" not in world.fleet.roster.agents

    def test_keeps_the_time_out(self) -> None:
        world = World()
        world.now = 50.0
        world.restore(phase="working", attempt=1, agent="a", began_at=0.0)
        for second in (57.0, 64.0):
            world.now = second
            world.beat(("x", 1))

        assert recorded(world.due(65.0), "requeued").data["error"]["kind"] == "timeout"


class TestDropLanes:
    def test_forgets_empty_lanes_when_there_are_too_many(self) -> None:
        world = World()
        for n in range(lanes.KEPT_LANES + 10):
            world.submit(f"x{n}", excluded=(f"z{n}",))
            world.finish(f"x{n}")

        assert len(world.fleet.lanes.all) <= lanes.KEPT_LANES
        assert dispatched(world.submit("after")) == [("after", 1)]


class TestOwnBudget:
    def test_ends_a_task_that_has_used_it_up(self) -> None:
        world = World()
        world.submit(budget=(("usd", 0.5),), max_attempts=9)
        world.start()
        world.finish(error=LOST, usage={"usd": 0.6})
        world.now = 5.0
        world.beat()

        error = recorded(world.due(), "failed").data["error"]

        assert error["kind"] == "limit"
        assert error["message"] == "the task's own budget: 0.6 of 0.5 usd used"

    def test_counts_what_was_used_before_a_restart(self) -> None:
        world = World()
        world.restore(attempt=1, tries=1, spec=task(budget=(("attempts", 1.0),)), used={"attempts": 1.0})

        assert recorded(world.due(), "failed").data["error"]["kind"] == "limit"

    def test_fails_what_every_free_agent_would_take_too_long_for(self) -> None:
        world = World()
        world.submit("first")
        world.start("first")
        world.now = 30.0
        world.beat(("first", 1))
        world.finish("first")

        error = recorded(world.submit(budget=(("wall_s", 2.0),)), "failed").data["error"]

        assert error["message"].startswith("the task's own budget: 0 of 2 wall_s used")


class TestOwnRules:
    def test_a_task_gives_up_waiting_when_it_says_so(self) -> None:
        world = World(threads=0)
        world.submit(wait_s=5.0)

        error = recorded(world.due(5.0), "failed").data["error"]

        assert error["message"].startswith("it waited longer than 5 s")

    def test_a_task_is_tried_again_as_it_says(self) -> None:
        world = World()
        world.submit(max_attempts=9, retries=RetryPolicy(rules={"agent": RetryRule(attempts=2, backoff_s=7.0)}))
        first = recorded(world.finish(error=LOST), "requeued").data["retry_in_s"]
        world.due(7.0)
        world.beat()
        world.due()

        assert first == 7.0
        assert recorded(world.finish(attempt=2, error=LOST), "failed").data["error"]["message"].endswith("the last)")


class TestHedge:
    """A second attempt flies 3.2 s after the start of the first: nothing is known of the skill yet."""

    AT = 3.2
    HEDGED = PolicySpec(name="p", strategy="ordered", order=("a", "b"), hedging=Hedging(enabled=True))

    def world(self, *agents: e.AgentSpec, policy: PolicySpec = HEDGED, **changes: Any) -> World:
        """Return a fleet whose agent a works on the task x."""
        world = World(*(agents or (agent("a"), agent("b"))), policies=[policy])
        world.submit(**{"idempotent": True, **changes})
        world.start()
        return world

    def both(self) -> World:
        """Return a fleet whose agents a and b both work on the task x."""
        world = self.world()
        world.due(self.AT)
        world.start(attempt=2)
        return world

    def test_flies_on_another_agent_when_the_first_takes_long(self) -> None:
        world = self.world()

        assert dispatched(world.due(self.AT - 0.01)) == []
        effects = world.due(self.AT)

        assert (recorded(effects, "hedged").agent, dispatched(effects)) == ("b", [("x", 2)])

    @pytest.mark.parametrize(
        "changes",
        [{"idempotent": False}, {"policy": PolicySpec(name="p")}, {"max_attempts": 1}],
        ids=["not idempotent", "not enabled", "last try"],
    )
    def test_does_not_fly(self, changes: dict[str, Any]) -> None:
        world = self.world(**changes)

        assert dispatched(world.due(self.AT)) == []

    def test_does_not_fly_on_an_agent_for_whom_somebody_waits(self) -> None:
        world = self.world(agent("a"), agent("b"))
        world.register(agent("a"), agent("b"), policies=[self.HEDGED], limits=(LimitSpec(name="l", max_running=1),))
        world.submit("y")

        assert dispatched(world.due(self.AT)) == []

    def test_does_not_mind_somebody_whom_nobody_can_serve(self) -> None:
        world = self.world()
        world.submit("y", skill="unheard-of")

        assert dispatched(world.due(self.AT)) == [("x", 2)]

    def test_does_not_look_again_without_a_pause(self) -> None:
        world = self.world(agent("a"))
        world.fleet.tasks["x"].flights[0].late_s = 0.001

        world.due(self.AT)

        assert world.fleet.tasks["x"].flights[0].hedge_at == self.AT + 1.0

    def test_flies_beside_so_many_attempts_at_most(self) -> None:
        world = World(agent("a", capacity=50), agent("b", capacity=50), threads=100, policies=[self.HEDGED])
        for n in range(30):
            world.submit(f"task-{n}", idempotent=True)
            world.start(f"task-{n}")

        world.due(self.AT)

        assert world.fleet.hedges == 2  # the first for nothing, and 5 % of 30

    def test_the_first_answer_counts_and_the_other_attempt_is_stopped(self) -> None:
        world = self.both()

        effects = world.finish(attempt=2, output="fast")

        assert recorded(effects, "completed").output == "fast"
        assert e.Stop(task="x", attempt=1, reason="stale") in effects
        assert e.Fence(task="x", attempt=1) in effects
        assert world.finish(attempt=1, output="slow") == []

    def test_goes_on_alone_when_the_first_is_lost(self) -> None:
        world = self.world()
        world.due(self.AT)
        world.beat(worker="v")
        world.start(attempt=2, worker="v")

        effects = world.tell(e.WorkerGone(worker="w", incarnation="1"))

        assert (recorded(effects, "dropped").attempt, world.fleet.tasks["x"].tries) == (1, 1)
        assert recorded(world.finish(attempt=2), "completed").attempt == 2

    def test_that_fails_leaves_the_first_alone(self) -> None:
        world = self.both()

        effects = world.finish(attempt=2, error=LOST)

        assert recorded(effects, "dropped").data["goes_on"] == "a"
        assert recorded(world.finish(attempt=1), "completed").attempt == 1

    def test_both_are_asked_to_stop_and_the_task_ends_once(self) -> None:
        world = self.both()

        effects = world.cancel()
        assert {x.attempt for x in effects if isinstance(x, e.Stop)} == {1, 2}
        for attempt in (1, 2):
            world.finish(attempt=attempt, error={"kind": "canceled", "message": "", "retryable": False})

        assert world.kinds()[-2:] == ["dropped", "canceled"]
        assert world.fleet.hedges == world.fleet.roster.busy == 0

    def test_both_fly_on_over_a_restart(self) -> None:
        world = self.both()

        world.restart()
        assert world.fleet.hedges == 1
        effects = world.finish(attempt=2)

        assert recorded(effects, "completed").attempt == 2
        assert e.Fence(task="x", attempt=1) in effects
        assert world.fleet.hedges == world.fleet.roster.busy == 0


class TestAnAgentThatIsMany:
    def test_is_not_blamed_for_what_one_program_raises(self) -> None:
        world = World(agent(is_many=True))
        for number in range(5):
            world.submit(f"x{number}", max_attempts=1)
            world.start(f"x{number}")
            world.fail(f"x{number}")

        assert dispatched(world.submit("next")) == [("next", 1)]

    def test_is_blamed_for_being_out_of_reach(self) -> None:
        world = World(agent(is_many=True))
        for number in range(5):
            world.submit(f"x{number}", max_attempts=1)
            world.start(f"x{number}")
            world.fail(f"x{number}", kind="unavailable")

        assert dispatched(world.submit("next")) == []


class TestAsks:
    ASKED: e.Error = {"kind": "input_required", "message": "Which city?", "retryable": False}

    def asking(self, *agents: e.AgentSpec, **changes: Any) -> World:
        world = World(*agents)
        world.submit(**changes)
        world.start()
        world.finish(error=self.ASKED)
        return world

    def test_frees_the_slot_and_waits_for_the_answer_alone(self) -> None:
        world = self.asking()

        assert world.kinds()[-1] == "input-required"
        assert world.fleet.roster.busy == 0
        assert dispatched(world.due(1e6)) == []

    def test_is_no_failure_of_the_agent(self) -> None:
        world = self.asking()

        assert world.fleet.tasks["x"].tries == 0

    def test_goes_on_at_the_agent_that_asked(self) -> None:
        world = self.asking(agent("a"), agent("b"))
        asked = world.fleet.tasks["x"].stays_on

        world.tell(e.Answered(task="x"))

        assert dispatched(world.due()) == [("x", 2)]
        assert world.fleet.tasks["x"].agent == asked

    def test_is_answered_once(self) -> None:
        world = self.asking()
        world.tell(e.Answered(task="x"))
        world.due()

        assert world.tell(e.Answered(task="x")) == []
        assert world.tell(e.Answered(task="unknown")) == []

    def test_ends_at_the_deadline(self) -> None:
        world = self.asking(deadline=50.0)

        world.due(50.0)

        assert world.kinds()[-1] == "failed"

    def test_can_be_canceled(self) -> None:
        world = self.asking()

        world.cancel()

        assert world.kinds()[-1] == "canceled"

    def test_goes_on_waiting_after_a_restart(self) -> None:
        world = World()

        assert dispatched(world.restore(is_asking=True, attempt=1)) == []
        world.tell(e.Answered(task="x"))
        assert dispatched(world.due()) == [("x", 2)]

    def test_stops_what_flies_beside(self) -> None:
        world = TestHedge().both()

        world.finish(error=self.ASKED)

        assert world.kinds()[-1] == "input-required"
        assert world.fleet.hedges == world.fleet.roster.busy == 0
