"""How a run is taken up where the ledger left it.  Pure."""

from __future__ import annotations

from coordination.asking import Asking
from coordination.kinds import Steps
from coordination.maps import Maps
from coordination.rows import RUN_ENDS, STEP_ENDS, ItemRow, Kept, StepRow
from coordination.runs_state import Book, LiveRun, LiveStep, Place
from coordination.turns import Turns


def take_up(kept: Kept, book: Book, steps: Steps, maps: Maps, asking: Asking, turns: Turns) -> LiveRun:
    """Return the run, held again with what runs for it and when to look at it."""
    run = book.open(kept.spec)
    _take_run(run, kept)
    for row in sorted(kept.steps, key=lambda row: (row.order, run.plan.index[row.step])):  # as they ended
        number = run.plan.index[row.step]
        run.steps[number] = _step(row)
        if row.state == "running":
            run.flying.add(number)
        elif row.state in STEP_ENDS:
            run.see(number)
    run.recount()
    for row in kept.steps:
        _take_step(run, row, kept.items, steps, maps, asking)
    if run.state == "pending":
        turns.wait(run)
    elif run.state not in RUN_ENDS:
        turns.enter(run)
        book.watch(run.deadline, run)
        book.watch(run.close_at, run)
    return run


def _take_run(run: LiveRun, kept: Kept) -> None:
    row = kept.run
    run.state, run.seq, run.round, run.ended_steps = row.state, row.seq, row.round, row.ended_steps
    run.started_at, run.ended_at, run.deadline = row.started_at, row.ended_at, row.deadline
    run.closing, run.close_at, run.compensate = row.closing, row.close_at, row.compensate
    run.output, run.error, run.unconfirmed, run.commands = row.output, row.error, row.unconfirmed, row.commands
    run.signals = sorted(kept.signals, key=lambda signal: signal.number)


def _take_step(
    run: LiveRun, row: StepRow, items: tuple[ItemRow, ...], steps: Steps, maps: Maps, asking: Asking
) -> None:
    """Take up what runs for the step."""
    number = run.plan.index[row.step]
    if row.state == "running":
        steps.recall(run, number)
        if run.plan.graph.steps[number].kind == "map":
            own = [item for item in items if (item.step, item.round) == (row.step, row.round)]
            maps.restore(run, number, row.size, row.begun, own)
    elif row.state == "undoing":
        asking.recall(Place(run, number, None, "undo"), row.undo_round)
        run.undoing = run.undoing if row.undone_by else number


def _step(row: StepRow) -> LiveStep:
    return LiveStep(
        row.state,
        row.round,
        order=row.order,
        output=row.output,
        error=row.error,
        undo_error=row.undo_error,
        agent=row.agent,
        attempt=row.attempt,
        started_at=row.started_at,
        ended_at=row.ended_at,
        until=row.until,
        remind_at=row.remind_at,
        fallback=row.fallback,
        passed=row.passed,
        undo_round=row.undo_round,
        undone_by=row.undone_by,
        override=row.override,
    )
