"""What may still be spent?  Reserved before an attempt begins, settled when it has ended.  Pure.

One brain reserves for everybody, so a hard budget is never overspent by attempts that cost no more than was expected of
them; one that costs more is counted in full and stops the next. An attempt counts in the period in which it was
reserved. A soft budget keeps nobody waiting: it presses on the choice of the agent while spending runs ahead of time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

from routing.amounts import MICRO, Unit, figure, left_of, micros, moment, window, window_end
from routing.budget_rules import BudgetKey, BudgetSpec, Charged, Scope, key_of, meaning, need_of
from routing.matching import Rules
from routing.pace import PACE_GAIN, Pace, share
from routing.waiters import Order, Waiters

KEPT_ACCOUNTS = 1_000  # of periods that are over, and as many again as are in use


class AccountKey(NamedTuple):
    """A budget, for one value of its scope, in the period that begins at ``start``."""

    budget: str
    value: str
    start: float


class SpentRow(NamedTuple):
    """What the ledger keeps of an account: its primary key, and what was spent, in the budget's unit."""

    budget: str
    value: str
    start: float  # of the period; 0 if there are none
    spent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Why the task may not be paid for now."""

    key: BudgetKey
    words: str  # "budget research: $0.40 of $5.00 left until 00:00 UTC, about $0.60 needed"
    needed: int  # millionths
    ready_at: float | None  # when the period turns and there is enough; None: that does not help
    for_good: bool  # neither time nor the end of what runs will help, only a larger budget
    reach: Literal["lane", "task"]  # whether it concerns all tasks with the same requirements


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a budget stands in the present period, all in its unit."""

    amount: float
    spent: float
    reserved: float
    overshoot: float  # beyond the amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """An attempt in flight, and what it was expected to use."""

    task: Charged
    attempt: int
    agent: str
    estimate: Mapping[str, float]  # by unit; one that is not named is not known
    at: float  # when it was reserved


@dataclass(slots=True)
class _Account:
    spent: int = 0  # millionths
    reserved: int = 0


W = TypeVar("W", bound=Hashable)  # who waits: a lane, say
_Part = tuple[BudgetSpec, AccountKey, int]  # of a reservation: what is held where


class Budgets(Generic[W]):
    """The budgets, what was spent and what is held. Takes O(budgets that speak of the task) for each call."""

    def __init__(self, gain: float = PACE_GAIN) -> None:
        self._specs: dict[str, BudgetSpec] = {}
        self._rules: Rules[BudgetSpec] = Rules()
        self._scoped: dict[Scope, list[str]] = {}  # scope → names of its budgets
        self._accounts: dict[AccountKey, _Account] = {}
        self._held: dict[tuple[str, int], tuple[Reserved, list[_Part]]] = {}  # (task, attempt)
        self._dirty: dict[AccountKey, _Account] = {}
        self._pace: Pace[BudgetKey] = Pace(gain)
        self._waiters: Waiters[BudgetKey, W] = Waiters()
        self._least: dict[BudgetKey, int] = {}  # nobody who waits for it needs less
        self._tidy_at = KEPT_ACCOUNTS

    def configure(self, specs: Iterable[BudgetSpec]) -> None:
        """Take these budgets from now on. What was spent stays, unless unit, scope or period are others now.

        Everybody who waits is forgotten: let all of them try again.
        """
        old, self._specs = self._specs, {spec.name: spec for spec in specs}
        self._rules = Rules(sorted(self._specs.values(), key=lambda spec: spec.name))
        self._scoped = {}
        for spec in self._rules.all:
            self._scoped.setdefault(spec.scope, []).append(spec.name)
        self._waiters.clear()
        self._least.clear()
        for key in list(self._accounts):
            if meaning(old.get(key.budget)) != meaning(self._specs.get(key.budget)):
                del self._accounts[key]
                self._pace.drop(BudgetKey(key.budget, key.value))
                self._dirty[key] = _Account()
        self._hold_again([reserved for reserved, _ in self._held.values()])

    # ---- deciding -----------------------------------------------------------------------------------------------

    def lacks(self, task: Charged, agent: str | None, estimate: Mapping[str, float], now: float) -> Lack | None:
        """Return which hard budget does not allow the attempt, the one that lasts longest, or None.

        ``estimate`` says what the attempt is expected to use, by unit. Of a unit that is not named, something has to be
        left. Without an agent only budgets that do not depend on it are asked, and what is not named costs nothing.
        """
        found = []
        for spec in self._rules.of(task):
            if not spec.hard or (spec.is_per_agent and (agent is None or not spec.match.includes(agent))):
                continue
            key = key_of(spec, task, agent or "")
            need = need_of(spec, estimate)
            if need is None:
                need = 0 if agent is None else 1
            lack = self._lack(spec, key, need, now) if key is not None else None
            if lack is not None:
                found.append(lack)
        return max(found, key=lambda lack: math.inf if lack.ready_at is None else lack.ready_at, default=None)

    def _lack(self, spec: BudgetSpec, key: BudgetKey, need: int, now: float) -> Lack | None:
        account = self._accounts.get(AccountKey(*key, window(spec.period_s, now))) or _Account()
        left = spec.micros - account.spent
        if need <= left - account.reserved:
            return None
        turns_at = window_end(spec.period_s, now)
        fits_once = need <= spec.micros
        return Lack(
            key=key,
            words=_words(spec, key, left, account.reserved, need, now),
            needed=need,
            ready_at=turns_at if fits_once else None,
            for_good=need > left and (turns_at is None or not fits_once),
            reach=spec.reach,
        )

    # ---- what runs ----------------------------------------------------------------------------------------------

    def reserve(self, task: Charged, attempt: int, agent: str, estimate: Mapping[str, float], now: float) -> None:
        """Hold once what the attempt is expected to use, in every budget that speaks of it. Ask ``lacks`` first."""
        if (task.id, attempt) not in self._held:
            self._hold(Reserved(task=task, attempt=attempt, agent=agent, estimate=estimate, at=now))
            self._tidy(now)

    def settle(self, task: str, attempt: int, actual: Mapping[str, float], now: float) -> None:
        """Count what the attempt has used in place of what was held for it. One that holds nothing is ignored.

        A unit that is not named counts as expected: nobody knows what a lost attempt has cost.
        """
        _, parts = self._held.pop((task, attempt), (None, []))
        for spec, key, held in parts:
            used = micros(actual, spec.unit)
            used = held if used is None else used
            account = self._account(key)
            account.reserved -= held
            account.spent += used
            if used:
                self._dirty[key] = account
                self._press(spec, key, used, now)
            self._waiters.open(BudgetKey(key.budget, key.value))  # there is more left, or it is clear that there is not

    def give_back(self, task: str, attempt: int, now: float) -> None:
        """Free what is held for an attempt that never began and has used nothing."""
        self.settle(task, attempt, dict.fromkeys(get_args(Unit), 0.0), now)

    def close(self, scope: Scope, value: str) -> None:
        """Forget what a task or run that has ended has spent, but for what it still holds.

        ``value`` is the task's id, or the run's ``run_of``.
        """
        for name in self._scoped.get(scope, ()):
            key = AccountKey(name, value, 0.0)
            account = self._accounts.get(key)
            if account is not None and not account.reserved:
                self._drop(key)

    def forget_outdated(self, tasks: Container[str], now: float) -> None:
        """Forget what was spent in periods that are over, and by tasks that are not among these."""
        for key in [key for key, account in self._accounts.items() if not account.reserved]:
            spec = self._specs[key.budget]
            is_over = spec.period_s is not None and key.start < window(spec.period_s, now)
            if is_over or (spec.scope == "task" and key.value not in tasks):
                self._drop(key)

    def _drop(self, key: AccountKey) -> None:
        """Forget the account, also where it is kept."""
        if self._accounts.pop(key).spent:
            self._dirty[key] = _Account()

    def rebuild(self, in_flight: Iterable[Reserved]) -> None:
        """Hold what is in flight and nothing else. What is held already stays as it was reserved."""
        self._hold_again([self._held.get((r.task.id, r.attempt), (r, []))[0] for r in in_flight])

    def _hold(self, reserved: Reserved) -> None:
        """Hold it in the accounts of the period it was reserved in."""
        parts: list[_Part] = []
        for spec in self._rules.of(reserved.task):
            key = key_of(spec, reserved.task, reserved.agent)
            if key is None or not spec.match.includes(reserved.agent):
                continue
            part = (spec, AccountKey(*key, window(spec.period_s, reserved.at)), need_of(spec, reserved.estimate) or 0)
            self._account(part[1]).reserved += part[2]
            parts.append(part)
        self._held[reserved.task.id, reserved.attempt] = (reserved, parts)

    def _hold_again(self, in_flight: Iterable[Reserved]) -> None:
        self._held.clear()
        for account in self._accounts.values():
            account.reserved = 0
        for reserved in in_flight:
            self._hold(reserved)

    def _account(self, key: AccountKey) -> _Account:
        return self._accounts.setdefault(key, _Account())

    def _tidy(self, now: float) -> None:
        """Forget the accounts of periods that are over, once they are many."""
        if len(self._accounts) <= self._tidy_at:
            return
        for key in [key for key, account in self._accounts.items() if not account.reserved]:
            period_s = self._specs[key.budget].period_s
            if period_s is not None and key.start < window(period_s, now):
                self._drop(key)
        self._pace.keep({BudgetKey(key.budget, key.value) for key in self._accounts})
        self._tidy_at = 2 * len(self._accounts) + KEPT_ACCOUNTS

    # ---- how it stands ------------------------------------------------------------------------------------------

    def spent(self, name: str, value: str, now: float) -> float:
        """Return what was spent of the budget in the present period, in its unit."""
        return self.standing(name, value, now).spent

    def standing(self, name: str, value: str, now: float) -> Standing:
        """Return how the budget stands in the present period. Raises ``KeyError`` for an unknown one."""
        spec = self._specs[name]
        account = self._accounts.get(AccountKey(name, value, window(spec.period_s, now))) or _Account()
        return Standing(
            amount=spec.amount,
            spent=account.spent / MICRO,
            reserved=account.reserved / MICRO,
            overshoot=max(0, account.spent + account.reserved - spec.micros) / MICRO,
        )

    @property
    def specs(self) -> Collection[BudgetSpec]:
        """Return the budgets."""
        return self._specs.values()

    def standings(self, now: float) -> Iterator[tuple[BudgetSpec, str, Standing]]:
        """Yield (budget, value, how it stands in the present period); one that counts all together in any case."""
        keys = dict.fromkeys(
            AccountKey(spec.name, "", window(spec.period_s, now))
            for spec in self._specs.values()
            if spec.scope == "all"
        )
        for key in keys | dict.fromkeys(self._accounts):
            spec = self._specs.get(key.budget)
            if spec is not None and key.start == window(spec.period_s, now):
                yield spec, key.value, self.standing(key.budget, key.value, now)

    def pressure(self, task: Charged, agent: str, now: float) -> dict[Unit, float]:
        """Return by unit the pressure of the soft budgets that speak of the attempt, without those that do not press.

        See ``Pace``. Where there is no period there is no pace, and only what goes beyond the amount presses.
        """
        found: dict[Unit, float] = {}
        for spec in self._rules.of(task):
            key = key_of(spec, task, agent)
            if spec.hard or key is None or not spec.match.includes(agent):
                continue
            pressure = self._pressed(spec, key, now)
            if pressure > 0:
                found[spec.unit] = found.get(spec.unit, 0.0) + pressure
        return found

    def _press(self, spec: BudgetSpec, key: AccountKey, used: int, now: float) -> None:
        if not spec.hard and spec.period_s is not None:
            self._pace.spend(BudgetKey(key.budget, key.value), share(used, spec.micros), spec.period_s, now)

    def _pressed(self, spec: BudgetSpec, key: BudgetKey, now: float) -> float:
        if spec.period_s is not None:
            return self._pace.pressure(key, spec.period_s, now)
        account = self._accounts.get(AccountKey(*key, 0.0)) or _Account()
        return self._pace.gain * share(max(0, account.spent - spec.micros), spec.micros)

    # ---- who waits ----------------------------------------------------------------------------------------------

    def wait(self, who: W, order: Order, lacks: Iterable[Lack]) -> None:
        """Let ``who`` wait until there is more in any of these budgets. Smaller orders go first.

        It gives up what it waited for before.
        """
        lacking = list(lacks)
        for lack in lacking:
            self._least[lack.key] = min(lack.needed, self._least.get(lack.key, lack.needed))
        self._waiters.wait(who, order, [(lack.key, lack.ready_at) for lack in lacking])

    def stop_waiting(self, who: W) -> None:
        """Let it wait no more."""
        self._waiters.forget(who)

    def opened(self, now: float) -> list[BudgetKey]:
        """Return the budgets that may have got enough for somebody who waits. Ask each with ``next`` until None."""
        return self._waiters.opened(now)

    def next(self, key: BudgetKey, now: float) -> W | None:
        """Return the first who waits for the budget, who then waits no more; None if there is too little or nobody.

        If there is too little for good, those who wait have to be told that too.

        Ask again once it was served, or turned away again.
        """
        spec = self._specs.get(key.budget)
        lack = self._lack(spec, key, self._least.get(key, 0), now) if spec is not None else None
        if spec is None or lack is None or lack.for_good:
            who = self._waiters.next(key)
            if who is None:
                self._least.pop(key, None)
            return who
        self._waiters.close(key)
        turns_at = window_end(spec.period_s, now)
        if turns_at is not None:
            self._waiters.open_at(key, turns_at)
        return None

    def close_for_now(self, key: BudgetKey) -> None:
        """Say that nobody more is to be called before something of the budget comes free, or its period turns."""
        self._waiters.close(key)

    def next_opening(self) -> float | None:
        """Return when ``opened`` should be asked at the latest, or None."""
        return self._waiters.next_opening()

    # ---- over restarts ------------------------------------------------------------------------------------------

    def changed(self) -> list[SpentRow]:
        """Return the accounts that changed since the last call, to be kept with the same commit.

        One in which nothing was spent can be deleted.
        """
        rows = [_row(key, account) for key, account in self._dirty.items()]
        self._dirty.clear()
        return rows

    def snapshot(self) -> list[SpentRow]:
        """Return all accounts in which something was spent."""
        return [_row(key, account) for key, account in self._accounts.items() if account.spent]

    def restore(self, rows: Iterable[Sequence[Any]], in_flight: Iterable[Reserved]) -> None:
        """Take up what was spent, as ``changed`` or ``snapshot`` told it, and hold what is in flight.

        Call it after ``configure``. Give the rows of the present periods, and of those in which something in flight was
        reserved. Rows that fit no budget are left out.
        """
        self._accounts.clear()
        self._dirty.clear()
        for budget, value, start, spent in rows:
            spec = self._specs.get(budget)
            if spec is not None and window(spec.period_s, start) == start:
                self._accounts[AccountKey(budget, value, float(start))] = _Account(spent=round(spent * MICRO))
        self._hold_again(in_flight)


def _row(key: AccountKey, account: _Account) -> SpentRow:
    return SpentRow(*key, account.spent / MICRO)


def _words(spec: BudgetSpec, key: BudgetKey, left: int, reserved: int, need: int, now: float) -> str:
    """Return "budget research: $0.40 of $5.00 left until 00:00 UTC, about $0.60 needed"."""
    title = f"budget {spec.name}" + (f" for {spec.scope} {key.value}" if key.value else "")
    turns_at = window_end(spec.period_s, now)
    until = f" until {moment(turns_at, now)}" if turns_at is not None else ""
    about = "" if spec.unit == "attempts" else "about "
    needed = f", {about}{figure(need, spec.unit, up=True)} needed" if need > 1 else ""
    held = f", {figure(reserved, spec.unit, up=True)} more held for what runs" if need <= left else ""
    return f"{title}: {left_of(left - reserved, spec.micros, spec.unit)} left{until}{needed}{held}"
