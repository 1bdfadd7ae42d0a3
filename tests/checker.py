"""Did the system keep its promises, judged by what clients could see?  Pure.

The simulator's tests and the tests with real processes feed it alike: with the committed events of all tasks, in the
order of the commits, and the ids that were accepted. It never asks the system for its own opinion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

TERMINAL = frozenset({"completed", "failed", "canceled", "rejected"})
OF_AN_ATTEMPT = frozenset({"working", "progress", "log", "artifact", "requeued", "dropped", "completed"})
SENT = frozenset({"assigned", "hedged"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One committed event of one task."""

    task: str
    seq: int
    kind: str
    attempt: int | None
    at: float  # seconds
    agent: str = ""
    capacity: int | None = None  # of ``assigned``: slots the agent had as registered; None leaves it unchecked
    outcome: str = ""  # of ``requeued`` and ``dropped``: lost, failed, returned or canceled
    output: Any = None  # of ``completed``


def violations(
    records: Sequence[Record],
    accepted: Collection[str],
    *,
    max_attempts: Mapping[str, int] | None = None,
    all_ended: bool = True,
) -> list[str]:
    """Return every broken promise in words; an empty list means that all were kept.

    ``max_attempts`` maps tasks to how many of their attempts may begin. ``all_ended`` False is for a look while tasks
    are still under way.
    """
    histories = by_task(records)
    limits = max_attempts or {}
    found = [f"{task}: was never accepted but has events" for task in histories if task not in set(accepted)]
    for task in accepted:
        history = histories.get(task, [])
        for check in CHECKS:
            found += [f"{task}: {words}" for words in check(history)]
        if task in limits:
            found += [f"{task}: {words}" for words in _too_many_attempts(history, limits[task])]
        if all_ended and not any(r.kind in TERMINAL for r in history):
            last = history[-1].kind if history else "nothing"
            found.append(f"{task}: lost, it never ended (the last event was {last})")
    return found + list(_overfull(records))


def by_task(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return each task's events in the order of the commits."""
    histories: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        histories[record.task].append(record)
    return dict(histories)


def recovery_times(records: Iterable[Record], interrupted: Iterable[tuple[str, float]]) -> list[float]:
    """Return for each interruption (task, when) the seconds until the task was worked on again, or had ended.

    An interruption of which nothing followed counts as infinite.
    """
    histories = by_task(records)
    times = []
    for task, when in interrupted:
        later = (r.at for r in histories.get(task, []) if r.at > when and (r.kind == "working" or r.kind in TERMINAL))
        times.append(next(later, float("inf")) - when)
    return times


# ---- one promise each -------------------------------------------------------------------------------------------


def _gaps(history: list[Record]) -> Iterator[str]:
    for expected, record in enumerate(history, 1):
        if record.seq != expected:
            yield f"event {record.kind} has number {record.seq} where {expected} was due"
            return


def _starts_with_submitted(history: list[Record]) -> Iterator[str]:
    if history and history[0].kind != "submitted":
        yield f"its first event is {history[0].kind}"
    if sum(r.kind == "submitted" for r in history) > 1:
        yield "was taken in more than once"


def _ends_twice(history: list[Record]) -> Iterator[str]:
    ends = [r.kind for r in history if r.kind in TERMINAL]
    if len(ends) > 1:
        yield f"ended {len(ends)} times ({', '.join(ends)})"
    elif ends and history[-1].kind not in TERMINAL:
        yield f"{history[-1].kind} came after {ends[0]}"


def _time_runs_back(history: list[Record]) -> Iterator[str]:
    for before, after in pairwise(history):
        if after.at < before.at:
            yield f"{after.kind} is dated before {before.kind}"


def _attempts_do_not_rise(history: list[Record]) -> Iterator[str]:
    numbers = [r.attempt or 0 for r in history if r.kind in SENT]
    for before, after in pairwise([0, *numbers]):
        if after <= before:
            yield f"attempt {after} was assigned after attempt {before}"


def _two_places(history: list[Record]) -> Iterator[str]:
    """An attempt is assigned, may begin once, and ends before the next is assigned; one hedge may fly beside it."""
    flying: dict[int | None, bool] = {}  # attempt → whether it began
    for r in history:
        if r.kind in SENT:
            if len(flying) != (r.kind == "hedged"):
                yield f"attempt {r.attempt} was {r.kind} while {_words(flying)} in flight"
            flying[r.attempt] = False
        elif r.kind in OF_AN_ATTEMPT and r.attempt not in flying:
            yield f"{r.kind} of attempt {r.attempt} came while {_words(flying)} in flight"
        elif r.kind == "working" and flying[r.attempt]:
            yield f"attempt {r.attempt} began twice"
        if r.kind == "working":
            flying[r.attempt] = True
        elif r.kind in ("requeued", "dropped"):
            flying.pop(r.attempt, None)
            if bool(flying) != (r.kind == "dropped"):
                yield f"attempt {r.attempt} was {r.kind}, and {_words(flying)} in flight after it"


def _words(flying: Collection[int | None]) -> str:
    return " and ".join(f"attempt {attempt}" for attempt in flying) + " was" if flying else "nothing was"


def _foreign_outcome(history: list[Record]) -> Iterator[str]:
    """The accepted outcome was made by the attempt it is credited to, for outputs that say who made them."""
    for r in history:
        if r.kind != "completed" or not isinstance(r.output, dict) or "attempt" not in r.output:
            continue
        made_by = (r.output.get("task", r.task), r.output["attempt"])
        if made_by != (r.task, r.attempt):
            yield f"attempt {r.attempt} is credited with an outcome of {made_by[0]} attempt {made_by[1]}"


def _cancel_without_effect(history: list[Record]) -> Iterator[str]:
    asked = next((i for i, r in enumerate(history) if r.kind == "cancel_requested"), None)
    if asked is None:
        return
    later = [r.kind for r in history[asked + 1 :]]
    if {"assigned", "hedged", "failed"} & set(later):
        yield f"was asked to end, but {' then '.join(later)} followed"


def _too_many_attempts(history: list[Record], limit: int) -> Iterator[str]:
    """Attempts given back without blame, and those that another one overtook, do not count; all others do."""
    began = {r.attempt for r in history if r.kind == "working"}
    returned = {r.attempt for r in history if r.outcome in ("returned", "canceled")}
    if len(began - returned) > limit:
        yield f"{len(began - returned)} attempts began that count, {limit} are allowed"


def _overfull(records: Iterable[Record]) -> Iterator[str]:
    """No agent is given more than it has slots for, counted from the events alone."""
    places: dict[str, dict[int | None, str]] = defaultdict(dict)  # task → attempt → agent
    load: dict[str, int] = defaultdict(int)
    for r in records:
        ended = [r.attempt] if r.kind in ("requeued", "dropped") else list(places[r.task]) if r.kind in TERMINAL else []
        for attempt in ended:
            if attempt in places[r.task]:
                load[places[r.task].pop(attempt)] -= 1
        if r.kind in SENT:
            places[r.task][r.attempt] = r.agent
            load[r.agent] += 1
            if r.capacity is not None and load[r.agent] > r.capacity:
                yield f"{r.agent}: holds {load[r.agent]} attempts with {r.capacity} slots (task {r.task})"


CHECKS: tuple[Callable[[list[Record]], Iterator[str]], ...] = (
    _gaps,
    _starts_with_submitted,
    _ends_twice,
    _time_runs_back,
    _attempts_do_not_rise,
    _two_places,
    _foreign_outcome,
    _cancel_without_effect,
)
