"""The simulator and the checker find a fleet that breaks a promise: a net without holes, or the seeds prove nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from routing import events as e
from routing.fleet import Fleet
from routing.flights import Flight, LiveTask, Restored
from routing.gates import Called
from routing.roster import Roster, Seat
from tests.simulation.scenarios import broken_promises, scenario
from tests.simulation.world import simulate

SEEDS = 100  # a broken fleet has to be found within so many


class ForgetsTheFence(Fleet):
    def _current(self, task_id: str, attempt: int) -> Flight | None:
        task = self.tasks.get(task_id)
        return task.flights[0] if task is not None and task.flights else None


class KeepsTheAttemptNumber(Fleet):
    def _occupy(self, task: LiveTask, flight: Flight) -> None:
        task.attempt = flight.attempt = 1
        super()._occupy(task, flight)


class _OneSlotTooMany(Roster):
    def _count_slots(self, seat: Seat) -> None:
        if len(seat.running) <= seat.spec.capacity and not seat.gone:
            self.free.add(seat.spec.name)
        else:
            self.free.discard(seat.spec.name)


class CountsOneSlotTooMany(Fleet):
    make_roster = _OneSlotTooMany


class _ForgetsAnotherFlight(Roster):
    def release(self, flight: Flight) -> None:
        seat = self.agents[flight.agent]
        seat.running.setdefault(flight.task, flight)
        super().release(flight)
        if seat.running:
            seat.running.popitem()
            self._count_slots(seat)


class ReleasesTwice(Fleet):
    make_roster = _ForgetsAnotherFlight


class LosesWhatItTakesBack(Fleet):
    def _wait(self, task: LiveTask, now: float) -> None:
        if task.tries == 0:
            super()._wait(task, now)
        else:
            task.delayed_until = None


class EndsTwice(Fleet):
    def _end(
        self, task: LiveTask, kind: str, now: float, *, data: Mapping[str, Any] | None = None, output: Any = None
    ) -> None:
        if task.tries:
            self._record(task, kind, now, data=data or {}, output=output)
        super()._end(task, kind, now, data=data, output=output)


class NeverGivesUp(Fleet):
    def _attempt_failed(self, task: LiveTask, flight: Flight, error: e.Error, now: float) -> None:
        task.tries = min(task.tries, task.spec.max_attempts - 2)
        super()._attempt_failed(task, flight, error, now)


class SkipsANumber(Fleet):
    def _requeue(self, task: LiveTask, *args: Any, **options: Any) -> None:
        super()._requeue(task, *args, **options)
        task.seq += 1


class ForgetsWhoWasCanceled(Fleet):
    def _requeue(self, task: LiveTask, *args: Any, **options: Any) -> None:
        task.cancel_asked_at = None
        super()._requeue(task, *args, **options)


class FailsWhoWasCanceled(Fleet):
    def _attempt_failed(self, task: LiveTask, flight: Flight, error: e.Error, now: float) -> None:
        task.cancel_asked_at = None
        super()._attempt_failed(task, flight, error, now)


class BeginsTwice(Fleet):
    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        if isinstance(fact, e.Started):
            flight = self._current(fact.task, fact.attempt)
            if flight is not None and flight.phase == "working":
                self._record(self.tasks[fact.task], "working", now, data={"worker": fact.worker}, flight=flight)
        return super().apply(fact, now)


class OffersAgainWhatIsInFlight(Fleet):
    def restore(self, restored: Restored, now: float) -> list[e.Effect]:
        return super().restore(replace(restored, flights=()), now)


class CountsAnewAfterARestart(Fleet):
    def restore(self, restored: Restored, now: float) -> list[e.Effect]:
        return super().restore(replace(restored, seq=0), now)


class ForgetsTriesInARestart(Fleet):
    def restore(self, restored: Restored, now: float) -> list[e.Effect]:
        return super().restore(replace(restored, tries=0), now)


class SendsNothingAfterARestart(Fleet):
    def restore(self, restored: Restored, now: float) -> list[e.Effect]:
        super().restore(restored, now)
        if [flight.phase for flight in restored.flights] == ["assigned"]:
            task = self.tasks.pop(restored.spec.id)
            self._release(task, task.flights[0], now)
        return []


class NeverEndsDelays(Fleet):
    def _delay(self, task: LiveTask, until: float) -> None:
        super()._delay(task, until + 1e9)


class PassesOverForEver(Fleet):
    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        parked = {key: set(lane._parked) for key, lane in self.lanes.all.items()}
        effects = super().apply(fact, now)
        if isinstance(fact, e.RegistryChanged):
            for key, names in parked.items():
                self.lanes.all[key]._parked |= names
        return effects


class NeverCallsAgain(Fleet):
    def _call(self, called: Called, now: float) -> None:
        pass


class AsksNoLimit(Fleet):
    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        effects = super().apply(fact, now)
        self.gates._has_limits = False
        return effects


class CountsNothingAfterARestart(Fleet):
    def _count_restored(self, now: float) -> None:
        self._is_restored = False


class CountsTooLateAfterARestart(Fleet):
    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        is_restored, self._is_restored = self._is_restored, False
        effects = super().apply(fact, now)
        self._is_restored = is_restored
        return effects


class ForgetsWhatWasSpent(Fleet):
    def recall(self, kept: Iterable[tuple[str, str, Any]]) -> None:
        super().recall(row for row in kept if row[0] != "spent")


class SettlesNothing(Fleet):
    def _release(self, task: LiveTask, flight: Flight, now: float) -> None:
        self.gates.budgets.give_back(flight.task, flight.attempt, now)
        super()._release(task, flight, now)


BROKEN: dict[type[Fleet], str] = {
    ForgetsTheFence: "is credited with an outcome of",
    KeepsTheAttemptNumber: "attempt 1 was assigned after attempt 1",
    CountsOneSlotTooMany: "slots (task",
    ReleasesTwice: "slots (task",
    LosesWhatItTakesBack: "never ended",
    EndsTwice: "ended 2 times",
    NeverGivesUp: "are allowed",
    SkipsANumber: "has number",
    ForgetsWhoWasCanceled: "was asked to end, but",
    FailsWhoWasCanceled: "was asked to end, but",
    BeginsTwice: "began twice",
    OffersAgainWhatIsInFlight: "in flight",
    CountsAnewAfterARestart: "has number",
    ForgetsTriesInARestart: "are allowed",
    SendsNothingAfterARestart: "never ended",
    NeverEndsDelays: "never ended",
    PassesOverForEver: "never ended",
    NeverCallsAgain: "never ended",
    AsksNoLimit: "limit few is exceeded",
    CountsNothingAfterARestart: "limit few is exceeded",
    CountsTooLateAfterARestart: "budget total is exceeded",
    ForgetsWhatWasSpent: "budget total is exceeded",
    SettlesNothing: "budget total is exceeded",
}


def first_seed(words: str, **options: Any) -> int | None:
    """Return the first seed with a finding that contains ``words``, or None."""
    for seed in range(SEEDS):
        world = scenario(seed)
        if any(words in finding for finding in broken_promises(world, simulate(world, **options))):
            return seed
    return None


class TestSimulate:
    @pytest.mark.parametrize(("broken", "words"), BROKEN.items(), ids=lambda x: getattr(x, "__name__", ""))
    def test_finds_a_fleet_that(self, broken: type[Fleet], words: str) -> None:
        assert first_seed(words, make_fleet=broken) is not None

    def test_finds_a_ledger_that_lets_two_controllers_write(self) -> None:
        assert first_seed("has number", epochs=False) is not None
