"""A step over a list that is known only when it begins.  Pure.

At most ``max_parallel`` items are in flight; the next one begins when one has ended. Of an item only its state and its
output are held: what it goes over is asked of its template, and what it is asked is filled in when it begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from coordination import events as e
from coordination.asking import Asking, Unfillable, task_error, task_id
from coordination.graph import MAX_ITEMS, Ask, Over, Step
from coordination.rows import Error, ItemRow, ItemState
from coordination.runs_state import Book, LiveMap, LiveRun, Place

DEFAULT_PARALLEL = 500  # items in flight at once where nothing is said
NAMED_FAILURES = 5  # so many failed items are named in the step's error
ROUNDING = 1e-9  # 0.7 of 10 are 7


class Maps:
    """Begins and counts items. What a map's end means is for ``Steps`` to say."""

    def __init__(self, book: Book, asking: Asking) -> None:
        self._book = book
        self._asking = asking

    def open(self, run: LiveRun, number: int) -> None:
        """Find out what the map goes over. Raises ``Unfillable``; no item begins yet."""
        step, (_, over) = run.live(number), _parts(run, number)
        items, keys = self._found(run, number)
        if len(items) > MAX_ITEMS:
            raise _bad(f"there are {len(items):,} items; a map has at most {MAX_ITEMS:,}")
        if keys is not None and len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise _bad(f"the key {twice!r} names two items")
        need = needed(over, len(items))
        step.items = LiveMap(len(items), need, outputs=[None] * len(items), items=items, keys=keys)

    def advance(self, run: LiveRun, number: int, now: float) -> None:
        """Let items begin until as many are in flight as may be. One whose input cannot be filled in fails."""
        step, (ask, over) = run.live(number), _parts(run, number)
        live = _live(run, number)
        most = over.max_parallel or DEFAULT_PARALLEL
        while live.begun < live.size and len(live.flying) < most and not self.is_lost(live):
            item, live.begun = live.begun, live.begun + 1
            self._book.changed(run, number)
            try:
                scope = self._scope(run, number, item)
                self._asking.submit(Place(run, number, item, "step"), ask, scope, round=step.round, deadline=step.until)
            except Unfillable as wrong:
                self._failed(run, number, item, wrong.error)
            else:
                live.flying.add(item)

    def item_ended(self, run: LiveRun, number: int, place: Place, fact: e.TaskEnded, now: float) -> None:
        """Count an item's end, or give it to the fallback."""
        item, live = place.item, _live(run, number)
        assert item is not None
        if fact.state == "completed":
            self._leave(live, item)
            live.outputs[item], live.done = fact.output, live.done + 1
            self._row(run, number, item, "completed", output=fact.output)
        elif run.closing and (fact.state == "canceled" or (_parts(run, number)[0].fallback and place.use == "step")):
            self._leave(live, item)  # as it was asked to, or before it had failed for good: it counts as neither
            self._row(run, number, item, "canceled")
            return
        elif not self._fall_back(run, number, item, place, fact, now):
            self._leave(live, item)
            self._failed(run, number, item, task_error(fact))
        self._tell(run, number, now)

    def _fall_back(self, run: LiveRun, number: int, item: int, place: Place, fact: e.TaskEnded, now: float) -> bool:
        step, (ask, _), live = run.live(number), _parts(run, number), _live(run, number)
        if not ask.fallback or place.use == "fallback" or fact.state == "canceled" or run.closing:
            return False
        if step.until is not None and step.until <= now:
            return False
        again = Place(run, number, item, "fallback")
        self._asking.submit(
            again, ask, self._scope(run, number, item), round=step.round, deadline=step.until, override=()
        )
        live.fallen.add(item)
        self._row(run, number, item, "fallback")
        return True

    def is_lost(self, live: LiveMap) -> bool:
        """Return True if not enough items can succeed any more."""
        return live.size - live.failed < live.need

    def is_over(self, live: LiveMap) -> bool:
        """Return True if all items have ended."""
        return live.ended == live.size

    def result(self, run: LiveRun, number: int) -> Any:
        """Return the outputs in the order of the items, under their keys if they have some."""
        live = _live(run, number)
        if live.items is None:
            live.items, live.keys = self._found(run, number)
        return live.outputs if live.keys is None else dict(zip(live.keys, live.outputs, strict=True))

    def error(self, live: LiveMap) -> Error:
        """Return why the map has failed, naming the first failed items."""
        few = f"{live.failed} of {live.size} items failed, and {live.need} have to succeed"
        errors = [error for _, error in live.errors]
        first: Error = errors[0] if errors else {}
        return {**first, "message": f"{few}: {first.get('message', '')}", "cause": errors}

    def tasks(self, run: LiveRun, number: int) -> tuple[str, ...]:
        """Return the tasks of the items in flight."""
        step, live = run.live(number), _live(run, number)
        return tuple(task_id(_place(run, number, item), step.round) for item in sorted(live.flying))

    def restore(self, run: LiveRun, number: int, size: int, begun: int, rows: list[ItemRow]) -> None:
        """Take up the items of a map that runs."""
        step, (_, over) = run.live(number), _parts(run, number)
        live = step.items = LiveMap(size, needed(over, size), begun, outputs=[None] * size)
        live.flying = set(range(begun))
        for row in sorted(rows, key=lambda row: row.item):
            if row.state == "fallback":
                live.fallen.add(row.item)
                continue
            live.flying.discard(row.item)
            if row.state == "completed":
                live.outputs[row.item], live.done = row.output, live.done + 1
            elif row.state == "failed":
                self._count_failure(live, row.item, row.error or {})
        for item in live.flying:
            self._asking.recall(_place(run, number, item), step.round)

    # ---- small things -------------------------------------------------------------------------------------------

    def _found(self, run: LiveRun, number: int) -> tuple[list[Any], list[str] | None]:
        """Return the items, and their keys unless they are numbered. Raises ``Unfillable``."""
        (_, over), override = _parts(run, number), run.live(number).override
        found = override[0] if override else self._asking.fill(over.items, run.scope, "the list")
        if isinstance(found, Mapping):
            return list(found.values()), [str(key) for key in found]
        if not isinstance(found, list | tuple):
            raise _bad(f"it goes over {type(found).__name__}; it has to be a list or an object")
        if not over.key:
            return list(found), None
        scopes = ({**run.scope, "item": item} for item in found)
        return list(found), [str(self._asking.fill(over.key, scope, "the key")) for scope in scopes]

    def _scope(self, run: LiveRun, number: int, item: int) -> dict[str, Any]:
        live = _live(run, number)
        if live.items is None:  # after a restart
            live.items, live.keys = self._found(run, number)
        return {**run.scope, "item": live.items[item]}

    def _leave(self, live: LiveMap, item: int) -> None:
        live.flying.discard(item)
        live.fallen.discard(item)

    def _failed(self, run: LiveRun, number: int, item: int, error: Error) -> None:
        self._count_failure(_live(run, number), item, error)
        self._row(run, number, item, "failed", error=error)

    def _count_failure(self, live: LiveMap, item: int, error: Error) -> None:
        live.failed += 1
        live.errors.append((item, {**error, "message": f"item {item}: {error.get('message', '')}"}))
        live.errors.sort(key=lambda named: named[0])  # the same ones after a restart
        del live.errors[NAMED_FAILURES:]

    def _row(
        self, run: LiveRun, number: int, item: int, state: ItemState, *, output: Any = None, error: Error | None = None
    ) -> None:
        name, round = run.plan.graph.steps[number].name, run.live(number).round
        self._book.changed(run, number)
        row = ItemRow(run=run.id, step=name, round=round, item=item, state=state, output=output, error=error)
        self._book.say(e.Keep(row=row))

    def _tell(self, run: LiveRun, number: int, now: float) -> None:
        """Show how far it is, a hundred times at most."""
        live = _live(run, number)
        if live.ended and live.ended % math.ceil(live.size / 100) == 0:
            data = {"completed": live.done, "failed": live.failed, "of": live.size}
            self._book.note(run, number, "step_progress", now, data=data)


def needed(over: Over, size: int) -> int:
    """Return how many of so many items must succeed."""
    return math.ceil(over.min_success * size - ROUNDING)


def _place(run: LiveRun, number: int, item: int) -> Place:
    return Place(run, number, item, "fallback" if item in _live(run, number).fallen else "step")


def _live(run: LiveRun, number: int) -> LiveMap:
    live = run.live(number).items
    assert live is not None
    return live


def _parts(run: LiveRun, number: int) -> tuple[Ask, Over]:
    step: Step = run.plan.graph.steps[number]
    assert step.ask is not None
    assert step.over is not None
    return step.ask, step.over


def _bad(words: str) -> Unfillable:
    return Unfillable({"kind": "bad_input", "message": words})
