"""What may keep a task from beginning although somebody has a free slot?  Pure.

Limits, budgets and the containment switch are asked once for the task and once for each agent; breakers for each agent.
Whoever is turned away is called again by ``calls`` when that may have changed, so nobody asks in vain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from routing import events as e
from routing.breakers import Admission, Breakers
from routing.budgets import Budgets, Lack, Reserved
from routing.containment import Containments
from routing.estimates import Estimates
from routing.flights import Flight, LiveTask
from routing.lanes import Lane, LaneKey
from routing.limits import Blocked, Holder, Limits
from routing.outliers import Outliers
from routing.retries import RetryBudget

RETRY_ACCOUNT = "account"
OWN_BUDGET = "the task's own budget"
CALLED_TASKS = 100  # of those that wait for the same limit or budget by themselves, at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Why a task may not begin now, and what follows."""

    words: str
    ends: bool = False  # it never will: it fails, with these words
    rejects: bool = False  # it is not to wait: it is rejected, with these words
    cancels: str = ""  # a running task that makes room for it by being canceled
    alone: bool = False  # only this task is concerned, so it steps aside
    key: str | None = None  # only tasks with this concurrency key are concerned


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a task may not begin, anywhere or on one agent."""

    words: str
    blocked: Blocked | None = None  # by a limit
    lack: Lack | None = None  # in a budget
    is_own: bool = False  # the task's own budget does not allow it, so it never will

    @property
    def is_final(self) -> bool:
        """Return whether neither time nor the end of what runs will help."""
        return self.is_own or (self.lack is not None and self.lack.for_good)

    @property
    def is_rejection(self) -> bool:
        """Return whether the task is not to wait for it."""
        return self.blocked is not None and self.blocked.on_full == "reject"


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
        self._listed_usd: dict[str, float] = {}  # agent → what it says an attempt costs

    def configure(self, fact: e.RegistryChanged, now: float) -> list[str]:
        """Follow the registry. Return the names of containments that are new and cancel what runs."""
        self.limits.configure(fact.limits, now)
        self.budgets.configure(fact.budgets)
        new = self.containments.replace(fact.containments)
        self._has_limits, self._has_budgets = bool(fact.limits), bool(fact.budgets)
        self._has_containments = bool(fact.containments)
        self._listed_usd = {spec.name: spec.cost_usd for spec in fact.agents if spec.cost_usd}
        self.breakers.keep({spec.name for spec in fact.agents})
        self.outliers.keep({spec.name for spec in fact.agents})
        return [c.name for c in new if c.mode == "enforce" and c.cancel_running]

    # ---- may it begin? ------------------------------------------------------------------------------------------

    def objection(self, task: LiveTask, now: float) -> Refusal | None:
        """Return what keeps the task from beginning, whichever agent would get it, or None."""
        if self._has_containments and (held := self.containments.denies(task.spec, "", now)):
            return Refusal(words=held.words())
        if task.spec.budget and (words := self._lacks_of_its_own(task, {"attempts": 1.0})):
            return Refusal(words=words, is_own=True)
        if self._has_limits and (blocked := self.limits.blocks(task.spec, None, now)):
            return Refusal(words=blocked.words, blocked=blocked)
        if self._has_budgets and (lack := self.budgets.lacks(task.spec, None, {}, now)):
            return Refusal(words=lack.words, lack=lack)
        return None

    def admit(self, task: LiveTask, lane: Lane, free: frozenset[str], now: float) -> Admission:
        """Return who of ``free`` breakers let have the task, and why not the others."""
        admission = self.breakers.admitted(lane.able, task.skill, now)
        if not admission.excluded:
            return Admission(admitted=free, excluded={}, ignored=admission.ignored)
        excluded = {name: words for name, words in admission.excluded.items() if name in free}
        return Admission(admitted=free - admission.excluded.keys(), excluded=excluded, ignored=admission.ignored)

    def refusals(self, task: LiveTask, agents: Iterable[str], now: float) -> dict[str, Refusal]:
        """Return by agent what keeps the task from beginning on just this one, for those where something does."""
        if not (self._has_containments or self._has_limits or self._has_budgets or task.spec.budget):
            return {}
        return {name: refusal for name in agents if (refusal := self._refusal(task, name, now)) is not None}

    def _refusal(self, task: LiveTask, agent: str, now: float) -> Refusal | None:
        if task.spec.budget and (words := self._lacks_of_its_own(task, self.expected(task, agent))):
            return Refusal(words=words, is_own=True)
        if self._has_containments and (held := self.containments.denies(task.spec, agent, now)):
            return Refusal(words=held.words())
        if self._has_limits and self.limits.is_per_agent(task.spec):
            blocked = self.limits.blocks(task.spec, agent, now)
            if blocked is not None:
                return Refusal(words=blocked.words, blocked=blocked)
        if self._has_budgets and (lack := self.budgets.lacks(task.spec, agent, self.expected(task, agent), now)):
            return Refusal(words=lack.words, lack=lack)
        return None

    def turn_away(self, task: LiveTask, refusals: Collection[Refusal], *, by_all: bool) -> Turned:
        """Return what follows for a task that is refused; whoever has to wait is called when that may change.

        ``by_all`` says that the refusals are those of all agents that could ever do it.
        """
        words = next(iter(refusals)).words
        if by_all and all(refusal.is_final for refusal in refusals):
            return Turned(words=words, ends=True)
        if by_all and not task.attempt and all(refusal.is_rejection for refusal in refusals):
            return Turned(words=words, rejects=True)
        blocked = [refusal.blocked for refusal in refusals if refusal.blocked is not None]
        lacks = [refusal.lack for refusal in refusals if refusal.lack is not None]
        own = task.spec.concurrency_key if by_all and len(blocked) == 1 and blocked[0].reach == "key" else None
        reaches: list[str] = [*(b.reach for b in blocked), *(lack.reach for lack in lacks)]
        is_alone = any(refusal.is_own for refusal in refusals) or any(reach != "lane" for reach in reaches)
        who = Called(None, task=task.spec.id) if is_alone and own is None else Called(task.lane, own)
        if blocked:
            self.limits.wait(who, (task.spec.created_at,), blocked)
        if lacks:
            self.budgets.wait(who, (task.spec.created_at,), lacks)
        cancels = [self.limits.oldest_running(b.key) or "" for b in blocked if b.on_full == "cancel_oldest"]
        return Turned(words=words, key=own, alone=bool(who.task), cancels=cancels[0] if cancels else "")

    def stop_waiting(self, task: LiveTask) -> None:
        """Call the task, which had stepped aside, no more."""
        who = Called(None, task=task.spec.id)
        self.limits.stop_waiting(who)
        self.budgets.stop_waiting(who)

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

    def expected(self, task: LiveTask, agent: str) -> dict[str, float]:
        """Return what an attempt of the task on the agent is expected to use, by unit; what nobody knows is missing."""
        listed_usd = self._listed_usd.get(agent)
        expected = {
            "wall_s": self._estimates.predicted_s(agent, task.skill, task.spec.size),
            "attempts": 1.0,
        }
        if listed_usd is not None or self._estimates.fleet.cost_usd.count:
            expected["usd"] = self._estimates.expected_cost_usd(agent, task.skill, listed_usd)
        return expected

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
        held = [self._held(task, f) for task, f in flights]
        if self._spent:
            self.budgets.restore(self._spent, held)
            self.budgets.forget_outdated(tasks, now)
        else:
            self.budgets.rebuild(held)
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
            self.limits.next_opening() if self._has_limits else None,
            self.budgets.next_opening() if self._has_budgets else None,
            self.containments.next_due(),
            self.breakers.next_due(),
            self.outliers.next_due(),
        )
        return min((at for at in moments if at is not None), default=None)

    def calls(self, now: float) -> Iterator[Called]:
        """Yield who may try again. A lane of None, without a task, means everybody.

        Of the tasks that wait for one thing by themselves only the first so many are called at a time.
        """
        if self._has_limits:
            for limit in self.limits.opened(now):
                yield from _first_of(partial(self.limits.next, limit, now))
                self.limits.close(limit)
        if self._has_budgets:
            for budget in self.budgets.opened(now):
                yield from _first_of(partial(self.budgets.next, budget, now))
                self.budgets.close_for_now(budget)
        if self.containments.due(now) or self.outliers.due(now, self.breakers) or self.breakers.due(now):
            yield Called(None)

    def has_room(self, now: float) -> bool:
        """Return whether ``calls`` has somebody to call at once."""
        return bool((self._has_limits and self.limits.opened(now)) or (self._has_budgets and self.budgets.opened(now)))

    # ---- over restarts ------------------------------------------------------------------------------------------

    def changes(self) -> Iterator[e.Remembered]:
        """Yield what changed since the last call and has to outlive this controller."""
        for row in self.breakers.changed():
            is_plain = row["until"] is None and not row["opens"]
            name = _name(row["agent"], row["skill"], row["version"])
            yield e.Remembered(kind="breaker", name=name, data=None if is_plain else dict(row))
        for limit, value, full_at in self.limits.changed() if self._has_limits else ():
            yield e.Remembered(kind="rate", name=_name(limit, value), data=[limit, value, full_at])
        for spent in self.budgets.changed():
            name = _name(spent.budget, spent.value, str(spent.start))
            yield e.Remembered(kind="spent", name=name, data=list(spent) if spent.spent else None)

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


def _first_of(ask: Callable[[], Called | None]) -> Iterator[Called]:
    """Yield whom ``ask`` returns until it is None, but only so many tasks."""
    tasks = 0
    while tasks < CALLED_TASKS and (who := ask()) is not None:
        tasks += bool(who.task)
        yield who


def _name(*parts: str) -> str:
    return json.dumps(parts)
