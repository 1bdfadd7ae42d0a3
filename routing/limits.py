"""How many tasks may run at once, and how many may begin per second?  Pure.

A limit counts attempts in flight, which hold a lease: a place in it always comes free again, whatever becomes of the
worker. Who is turned away waits for the limit (``wait``) and is called when there is room (``opened``, ``next``).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from routing.limit_rules import SEVERITY, Limited, LimitKey, LimitSpec, OnFull, Reach, key_of, rate_words, title
from routing.matching import Rules
from routing.rates import Buckets
from routing.waiters import Order, Waiters


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Why the task cannot begin now."""

    key: LimitKey
    on_full: OnFull
    words: str  # "limit crawl: 3 of 3 running"
    ready_at: float | None  # when a rate lets the next one begin; None: when an attempt ends
    reach: Reach  # whom else it keeps from beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStanding:
    """How a limit stands for one value of its ``per``."""

    spec: LimitSpec
    value: str
    running: int  # 0 where it limits no number of attempts
    tokens: float | None  # attempts that may begin at once, 0 to its burst; None without a rate

    @property
    def is_in_use(self) -> bool:
        """Return whether something runs, or began a moment ago."""
        return self.running > 0 or (self.tokens is not None and self.tokens < self.spec.burst)


class Holder(NamedTuple):
    """An attempt in flight."""

    task: Limited
    attempt: int
    agent: str


W = TypeVar("W", bound=Hashable)  # who waits: a lane, say
RateRow = tuple[str, str, float]  # (limit, value, when its bucket is full again)


class Limits(Generic[W]):
    """The limits and who holds them. Takes O(limits that speak of the task) for each call."""

    def __init__(self) -> None:
        self._specs: dict[str, LimitSpec] = {}
        self._shared: Rules[LimitSpec] = Rules()  # the same for all agents
        self._per_agent: Rules[LimitSpec] = Rules()
        self._holders: dict[tuple[str, int], Holder] = {}  # in order of time: (task, attempt)
        self._running: dict[LimitKey, dict[tuple[str, int], None]] = {}  # likewise
        self._buckets: Buckets[LimitKey] = Buckets()
        self._waiters: Waiters[LimitKey, W] = Waiters()

    def configure(self, specs: Iterable[LimitSpec], now: float) -> None:
        """Take these limits from now on. What runs is counted anew; a changed rate keeps the tokens that are missing.

        Everybody who waits is forgotten: let all of them try again.
        """
        old, self._specs = self._specs, {spec.name: spec for spec in specs}
        ordered = sorted(self._specs.values(), key=lambda spec: (SEVERITY[spec.on_full], spec.name))
        self._shared = Rules(spec for spec in ordered if not spec.is_per_agent)
        self._per_agent = Rules(spec for spec in ordered if spec.is_per_agent)
        for key in self._buckets.known():
            self._convert(key, old.get(key.limit), self._specs.get(key.limit), now)
        self._waiters.clear()
        self._running.clear()
        for holder in self._holders.values():
            self._count(holder)

    def _convert(self, key: LimitKey, old: LimitSpec | None, new: LimitSpec | None, now: float) -> None:
        if new is None or new.rate is None or (old is not None and old.per != new.per):
            self._buckets.drop(key)
        elif old is not None and old.rate is not None and old.rate != new.rate:
            self._buckets.convert(key, old.rate, new.rate, now)

    # ---- deciding -----------------------------------------------------------------------------------------------

    def blocks(self, task: Limited, agent: str | None, now: float) -> Blocked | None:
        """Return what keeps the task from beginning now, the gravest first, or None.

        Without an agent only the limits are asked that are the same for all agents, with one only the others: so a lane
        asks once, and then once for each candidate.
        """
        for spec in self._shared.of(task) if agent is None else self._per_agent.of(task):
            if agent is not None and not spec.match.includes(agent):
                continue
            key = key_of(spec, task, agent or "")
            blocked = self._full(spec, key, now) if key is not None else None
            if blocked is not None:
                return blocked
        return None

    def is_per_agent(self, task: Limited) -> bool:
        """Return whether any limit has to be asked for each candidate."""
        return bool(self._per_agent.of(task))

    def _full(self, spec: LimitSpec, key: LimitKey, now: float) -> Blocked | None:
        running = len(self._running.get(key, ()))
        if spec.max_running is not None and running >= spec.max_running:
            words = f"{title(spec, key)}: {running} of {spec.max_running} running"
            return Blocked(key=key, on_full=spec.on_full, words=words, ready_at=None, reach=spec.reach)
        if spec.rate is None:
            return None
        ready_at = self._buckets.ready_at(key, spec.rate, now)
        if ready_at <= now:
            return None
        words = f"{title(spec, key)}: {rate_words(spec.rate.per_s)}"
        return Blocked(key=key, on_full=spec.on_full, words=words, ready_at=ready_at, reach=spec.reach)

    def oldest_running(self, key: LimitKey) -> str | None:
        """Return the task that has held a place of the limit longest, or None.

        It stays the oldest until its attempt is released, so whoever cancels it for a newcomer asks first whether that
        has been done already: then one place frees at a time.
        """
        return next((task for task, _ in self._running.get(key, ())), None)

    # ---- what runs ----------------------------------------------------------------------------------------------

    def take(self, task: Limited, attempt: int, agent: str, now: float) -> None:
        """Count the attempt, which has been given to the agent, once only: one place, and one token of each rate."""
        if (task.id, attempt) in self._holders:
            return
        for spec, key in self._count(Holder(task, attempt, agent)):
            if spec.rate is not None:
                self._buckets.take(key, spec.rate, now)

    def release(self, task: str, attempt: int) -> None:
        """Free the places of the attempt. One that holds none is ignored."""
        holder = self._holders.pop((task, attempt), None)
        if holder is None:
            return
        for spec, key in self._concerned(holder):
            if spec.max_running is None:
                continue
            running = self._running.get(key, {})
            running.pop((task, attempt), None)
            if not running:
                self._running.pop(key, None)
            self._waiters.open(key)

    def rebuild(self, holders: Iterable[Holder]) -> None:
        """Count again what the ledger says is in flight, in order of time, and nothing else. Costs no tokens."""
        self._holders.clear()
        self._running.clear()
        for holder in holders:
            self._count(holder)

    def running(self, key: LimitKey) -> int:
        """Return how many attempts hold a place of the limit."""
        return len(self._running.get(key, ()))

    # ---- how they stand -----------------------------------------------------------------------------------------

    @property
    def specs(self) -> Collection[LimitSpec]:
        """Return the limits."""
        return self._specs.values()

    def standings(self, now: float) -> Iterator[LimitStanding]:
        """Yield how each limit stands for each value that is in use; one that counts all together in any case."""
        keys = dict.fromkeys(LimitKey(spec.name) for spec in self._specs.values() if spec.per == "all")
        for key in keys | dict.fromkeys(self._running) | dict.fromkeys(self._buckets.known()):
            spec = self._specs.get(key.limit)
            if spec is None:
                continue
            tokens = None if spec.rate is None else self._buckets.tokens(key, spec.rate, now)
            standing = LimitStanding(spec=spec, value=key.value, running=self.running(key), tokens=tokens)
            if spec.per == "all" or standing.is_in_use:
                yield standing

    def _count(self, holder: Holder) -> list[tuple[LimitSpec, LimitKey]]:
        place = (holder.task.id, holder.attempt)
        self._holders[place] = holder
        concerned = self._concerned(holder)
        for spec, key in concerned:
            if spec.max_running is not None:
                self._running.setdefault(key, {})[place] = None
        return concerned

    def _concerned(self, holder: Holder) -> list[tuple[LimitSpec, LimitKey]]:
        """Return the limits that the attempt counts in."""
        task, _, agent = holder
        specs = (*self._shared.of(task), *(s for s in self._per_agent.of(task) if s.match.includes(agent)))
        return [(spec, key) for spec in specs if (key := key_of(spec, task, agent)) is not None]

    # ---- who waits ----------------------------------------------------------------------------------------------

    def wait(self, who: W, order: Order, blocked: Iterable[Blocked]) -> None:
        """Let ``who`` wait until there is room in any of these limits. Smaller orders go first.

        It gives up what it waited for before.
        """
        self._waiters.wait(who, order, [(b.key, b.ready_at) for b in blocked])

    def stop_waiting(self, who: W) -> None:
        """Let it wait no more."""
        self._waiters.forget(who)

    def opened(self, now: float) -> list[LimitKey]:
        """Return the limits that have got room and that somebody waits for. Ask each with ``next`` until None."""
        return self._waiters.opened(now)

    def next(self, key: LimitKey, now: float) -> W | None:
        """Return the first who waits for the limit, who then waits no more; None if there is no room or nobody.

        Ask again once it was served, or turned away for another reason.
        """
        spec = self._specs.get(key.limit)
        blocked = self._full(spec, key, now) if spec is not None else None
        if blocked is None:
            return self._waiters.next(key)
        self._waiters.close(key)
        if blocked.ready_at is not None:
            self._waiters.open_at(key, blocked.ready_at)
        return None

    def close(self, key: LimitKey) -> None:
        """Say that nobody more is to be called before the limit opens again."""
        self._waiters.close(key)

    def next_opening(self) -> float | None:
        """Return when ``opened`` should be asked at the latest, or None. Places that free are no matter of time."""
        return self._waiters.next_opening()

    # ---- over restarts ------------------------------------------------------------------------------------------

    def changed(self) -> list[RateRow]:
        """Return the buckets that changed since the last call, to be kept with the same commit."""
        return [(*key, full_at) for key, full_at in self._buckets.changed()]

    def snapshot(self, now: float) -> list[RateRow]:
        """Return all buckets that are not full."""
        return [(*key, full_at) for key, full_at in self._buckets.rows(now)]

    def restore(self, rows: Iterable[Sequence[Any]], now: float) -> None:
        """Take up buckets as ``changed`` or ``snapshot`` told them, after ``configure``; others are left out."""
        known = ((LimitKey(limit, value), float(full_at)) for limit, value, full_at in rows)
        self._buckets.restore(((key, at) for key, at in known if key.limit in self._specs), now)
