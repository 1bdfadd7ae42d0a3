"""What may keep a task from beginning although somebody has a free slot?  Pure.

Limits, budgets and the containment switch are asked once for the task and once for each agent; breakers for each agent.
Whoever is turned away is called again by ``calls`` when that may have changed, so nobody asks in vain.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from routing import events as e
from routing.breakers import Admission, Breakers
from routing.budgets import Budgets, Reserved
from routing.containment import Containments
from routing.estimates import Estimates
from routing.flights import Flight, LiveTask
from routing.lanes import Lane, LaneKey
from routing.limits import Blocked, Holder, Limits
from routing.outliers import Outliers
from routing.retries import RetryBudget

RETRY_ACCOUNT = "account"
OWN_BUDGET = "the task's own budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Why a task may not begin now, and what follows."""

    words: str
    ends: bool = False  # it never will: it fails, with these words
    rejects: bool = False  # it is not to wait: it is rejected, with these words
    cancels: str = ""  # a running task that makes room for it by being canceled
    alone: bool = False  # only this task is concerned, so it steps aside
    key: str | None = None  # only tasks with this concurrency key are concerned


class Called(NamedTuple):
    """Who may try again: a lane, of it only a concurrency key, or one task that had stepped aside."""

    lane: LaneKey | None
    key: str | None = None
    task: str = ""


class Gates:
    """Everything that limits, and the memory of it."""

    def __init__(self, estimates: Estimates) -> None:
        self.limits: Limits[Called] = Limits()
        self.budgets: Budgets[Called] = Budgets()
        self.containments = Containments()
        self.breakers = Breakers()
        self.outliers = Outliers()
        self.retry_budget = RetryBudget()
        self._estimates = estimates
        self._has_limits = self._has_budgets = self._has_containments = False
        self._spent: list[tuple[str, str, float, float]] = []  # as remembered, until the budgets are known
        self._rates: list[tuple[str, str, float]] = []
        self._looks: list[tuple[float, int, LaneKey]] = []  # when lanes whose agents were all turned away look again
        self._looks_made = 0
        self._called: list[Called] = []

    def configure(self, fact: e.RegistryChanged, now: float) -> list[str]:
        """Follow the registry. Return the names of containments that are new and cancel what runs."""
        self.limits.configure(fact.limits, now)
        self.budgets.configure(fact.budgets)
        new = self.containments.replace(fact.containments)
        self._has_limits, self._has_budgets = bool(fact.limits), bool(fact.budgets)
        self._has_containments = bool(fact.containments)
        self.breakers.keep({spec.name for spec in fact.agents})
        self.outliers.keep({spec.name for spec in fact.agents})
        return [c.name for c in new if c.mode == "enforce" and c.cancel_running]

    # ---- may it begin? ------------------------------------------------------------------------------------------

    def turns_away(self, task: LiveTask, now: float) -> Turned | None:
        """Return what keeps the task from beginning, whichever agent would get it, or None."""
        if self._has_containments and (held := self.containments.denies(task.spec, "", now)):
            return Turned(words=held.words())
        if task.spec.budget and (words := self._lacks_of_its_own(task, {"attempts": 1.0})):
            return Turned(words=words, ends=True)
        if self._has_limits and (blocked := self.limits.blocks(task.spec, None, now)):
            return self._blocked(task, blocked)
        if self._has_budgets and (lack := self.budgets.lacks(task.spec, None, {}, now)):
            if lack.for_good:
                return Turned(words=lack.words, ends=True)
            self.budgets.wait(Called(None, task=task.spec.id), (task.spec.created_at,), [lack])
            return Turned(words=lack.words, alone=True)
        return None

    def _lacks_of_its_own(self, task: LiveTask, expected: Mapping[str, float]) -> str:
        """Return in words which of the task's own caps another attempt would break, "" if none."""
        for unit, amount in task.spec.budget:
            used = task.used.get(unit, 0.0)
            if used >= amount or used + expected.get(unit, 0.0) > amount:
                about = expected.get(unit, 0.0)
                return f"{OWN_BUDGET}: {used:g} of {amount:g} {unit} used" + (
                    f", about {about:g} needed" if about else ""
                )
        return ""

    def _blocked(self, task: LiveTask, blocked: Blocked) -> Turned:
        if blocked.on_full == "reject":
            return Turned(words=blocked.words, rejects=True)
        own = task.spec.concurrency_key
        key = own if own and blocked.key.value == f"{task.spec.tenant}/{own}" else None
        self.limits.wait(Called(task.lane, key), (task.spec.created_at,), [blocked])
        oldest = self.limits.oldest_running(blocked.key) if blocked.on_full == "cancel_oldest" else None
        return Turned(words=blocked.words, key=key, cancels=oldest or "")

    def admit(self, task: LiveTask, lane: Lane, free: frozenset[str], now: float) -> Admission:
        """Return who of ``free`` may be given the task, and why not the others."""
        admission = self.breakers.admitted(lane.able, task.skill, now)
        excluded = {name: words for name, words in admission.excluded.items() if name in free}
        left = free - admission.excluded.keys() if admission.excluded else free
        if self._has_containments or self._has_limits or self._has_budgets or task.spec.budget:
            turned = {name: words for name in sorted(left) if (words := self._turns_agent_away(task, name, now))}
            excluded |= turned
            left = left - turned.keys()
        return Admission(admitted=left, excluded=excluded, ignored=admission.ignored)

    def _turns_agent_away(self, task: LiveTask, agent: str, now: float) -> str:
        if task.spec.budget and (words := self._lacks_of_its_own(task, self.expected(task, agent))):
            return words
        if self._has_containments and (held := self.containments.denies(task.spec, agent, now)):
            return held.words()
        if self._has_limits and self.limits.is_per_agent(task.spec):
            blocked = self.limits.blocks(task.spec, agent, now)
            if blocked is not None:
                self._look_again(task.lane, blocked.ready_at)
                return blocked.words
        if self._has_budgets and (lack := self.budgets.lacks(task.spec, agent, self.expected(task, agent), now)):
            self._look_again(task.lane, lack.ready_at)
            return lack.words
        return ""

    def _look_again(self, lane: LaneKey, at: float | None) -> None:
        """Call the lane at ``at``; the end of an attempt on the agent calls it anyway."""
        if at is not None:
            self._looks_made += 1
            heapq.heappush(self._looks, (at, self._looks_made, lane))

    def expected(self, task: LiveTask, agent: str) -> dict[str, float]:
        """Return what an attempt of the task on the agent is expected to use, by unit."""
        return {
            "usd": self._estimates.expected_cost_usd(agent, task.skill),
            "wall_s": self._estimates.predicted_s(agent, task.skill, task.spec.size),
            "attempts": 1.0,
        }

    # ---- it begins and ends -------------------------------------------------------------------------------------

    def begins(self, task: LiveTask, flight: Flight, now: float) -> None:
        """Count an attempt that is sent to its agent."""
        if self._has_limits:
            self.limits.take(task.spec, flight.attempt, flight.agent, now)
        if self._has_budgets:
            expected = self.expected(task, flight.agent)
            self.budgets.reserve(task.spec, flight.attempt, flight.agent, expected, now)
        if self._has_containments:
            self.containments.observe(task.spec, task.spec.id, flight.agent, now)
        self.breakers.probing(flight.agent, task.skill, task.spec.id, now)
        if flight.attempt == 1:
            self.retry_budget.first(now)

    def ends(self, task: LiveTask, flight: Flight, now: float) -> None:
        """Free what the attempt held, whatever became of it. Of what it does not tell it has used what was expected."""
        used = {"wall_s": now - flight.began_at, "attempts": 1.0, **flight.usage}
        if task.spec.budget and flight.phase == "working":
            for unit, amount in {**self.expected(task, flight.agent), **used}.items():
                task.used[unit] = task.used.get(unit, 0.0) + amount
        if self._has_limits:
            self.limits.release(flight.task, flight.attempt)
        if self._has_budgets and flight.phase == "assigned":
            self.budgets.give_back(flight.task, flight.attempt, now)
        elif self._has_budgets:
            self.budgets.settle(flight.task, flight.attempt, used, now)

    def over(self, task: LiveTask) -> None:
        """Forget what was counted for a task that has ended."""
        if self._has_budgets:
            self.budgets.close("task", task.spec.id)

    def rebuild(self, tasks: Mapping[str, LiveTask], now: float) -> None:
        """Count anew all that is in flight: after a restart, or when the first limit or budget was made."""
        flights = [(task, flight) for task in tasks.values() for flight in task.flights]
        flights.sort(key=lambda pair: (pair[1].began_at, pair[1].task, pair[1].attempt))
        self.limits.rebuild(Holder(task.spec, f.attempt, f.agent) for task, f in flights)
        self.limits.restore(self._rates, now)
        self.budgets.restore([*self._spent, *self.budgets.snapshot()], [self._held(task, f) for task, f in flights])
        self.breakers.keep_probes({task.spec.id for task, _ in flights})
        self._rates, self._spent = [], []

    def _held(self, task: LiveTask, flight: Flight) -> Reserved:
        expected = self.expected(task, flight.agent)
        return Reserved(task=task.spec, attempt=flight.attempt, agent=flight.agent, estimate=expected,
                        at=flight.began_at)  # fmt: skip

    # ---- time ---------------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return when ``calls`` should be asked at the latest, None if time changes nothing."""
        moments = (
            self._looks[0][0] if self._looks else None,
            self.limits.next_opening() if self._has_limits else None,
            self.budgets.next_opening() if self._has_budgets else None,
            self.containments.next_due(),
            self.breakers.next_due(),
            self.outliers.next_due(),
        )
        return min((at for at in moments if at is not None), default=None)

    def calls(self, now: float) -> Iterator[Called]:
        """Yield who may try again. A lane of None, without a task, means everybody."""
        while self._looks and self._looks[0][0] <= now:
            yield Called(heapq.heappop(self._looks)[2])
        if self._has_limits:
            for limit in self.limits.opened(now):
                while (who := self.limits.next(limit, now)) is not None:
                    yield who
        if self._has_budgets:
            for budget in self.budgets.opened(now):
                while (who := self.budgets.next(budget, now)) is not None:
                    yield who
        if self.containments.due(now) or self.outliers.due(now, self.breakers) or self.breakers.due(now):
            yield Called(None)

    # ---- over restarts ------------------------------------------------------------------------------------------

    def changes(self) -> Iterator[e.Remembered]:
        """Yield what changed since the last call and has to outlive this controller."""
        for row in self.breakers.changed():
            is_plain = row["until"] is None and not row["opens"]
            name = _name(row["agent"], row["skill"], row["version"])
            yield e.Remembered(kind="breaker", name=name, data=None if is_plain else dict(row))
        for limit, value, full_at in self.limits.changed() if self._has_limits else ():
            yield e.Remembered(kind="rate", name=_name(limit, value), data=[limit, value, full_at])
        for spent in self.budgets.changed() if self._has_budgets else ():
            name = _name(spent.budget, spent.value, str(spent.start))
            yield e.Remembered(kind="spent", name=name, data=list(spent))

    def account(self) -> e.Remembered:
        """Return the account of retries as it stands."""
        return e.Remembered(kind="retries", name=RETRY_ACCOUNT, data=self.retry_budget.snapshot())

    def recall(self, kept: Iterable[tuple[str, str, Any]]) -> None:
        """Take over what another controller remembered, as (kind, name, data). Call ``rebuild`` after it."""
        breakers = []
        for kind, _, data in kept:
            if kind == "breaker":
                breakers.append(data)
            elif kind == "rate":
                self._rates.append((data[0], data[1], data[2]))
            elif kind == "spent":
                self._spent.append((data[0], data[1], data[2], data[3]))
            elif kind == "retries":
                self.retry_budget.restore(data)
        self.breakers.restore(breakers)


def _name(*parts: str) -> str:
    return json.dumps(parts)
