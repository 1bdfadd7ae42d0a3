"""What the ledger keeps of a run: all that the engine has to know to go on with it.  Pure.

The engine says a row whenever it changes, and ``Engine.restore`` takes the last of each. What was said in one turn
belongs into one commit. Everything else the engine holds follows from these rows and the graph:

========== ============================ ==============================================================================
row        key                          written
========== ============================ ==============================================================================
RunSpec    id                           by the door, before the run begins; never changes
Seed       run, step                    by the door, for a fork; ``RunStarted`` hands them over, StepRows follow
RunRow     run                          at each transition of the run or of one of its steps
StepRow    run, step                    when the step begins, ends, is undone, is reset; no row: it has not begun
ItemRow    run, step, round, item       when an item of a map ends, or goes over to its fallback
SignalRow  run, id                      when the signal comes, and when a step takes it
========== ============================ ==============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from coordination.graph import Graph

RunState = Literal["pending", "running", "paused", "canceling", "completed", "failed", "canceled"]
StepState = Literal[
    "waiting", "ready", "running", "completed", "failed", "skipped", "canceled", "undoing", "undone"
]  # fmt: skip
ItemState = Literal["fallback", "completed", "failed", "canceled"]  # the first of one in flight; the last as asked

RUN_ENDS = frozenset({"completed", "failed", "canceled"})
STEP_ENDS = frozenset({"completed", "failed", "skipped", "canceled", "undoing", "undone"})


class Error(TypedDict, total=False):
    """Why a step or a run did not succeed."""

    kind: str  # as routing's, and expired limit run template
    message: str
    step: str
    agent: str
    attempt: int
    cause: Any  # the error below: of the task, of the sub-run
    undo_failed: list[Any]  # errors of steps that could not be undone


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """A run as it was asked for."""

    id: str
    graph: Graph  # the pinned one; runs of one version should share the object
    workflow: str
    version: int
    tenant: str
    input: Any = None
    priority: int = 5  # 0..9, higher goes first
    context: str = ""
    created_at: float = 0.0
    parent: str = ""  # the run that it is a step of; "" is nobody's
    parent_step: str = ""
    depth: int = 0  # of runs above it
    overrides: Mapping[str, Any] = field(default_factory=dict)  # step → input in place of its template
    due: str | None = None  # the time of a schedule that it is for, ISO 8601 in UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """How a step of a fork had ended in the run that it comes from."""

    step: str
    state: StepState
    output: Any = None
    error: Error | None = None
    passed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as it is."""

    run: str
    state: RunState
    seq: int  # of its last event
    round: int  # 1, and one more at each retry and rerun
    ended_steps: int  # how many ends of steps there were: numbers them
    started_at: float | None
    ended_at: float | None
    deadline: float | None
    closing: str  # "", or the state it ends in once nothing runs any more
    close_at: float | None  # when what does not confirm its end is waited for no longer
    compensate: bool  # before it ends, what was done is undone
    output: Any
    error: Error | None
    unconfirmed: tuple[str, ...]  # tasks that did not confirm their end
    commands: tuple[str, ...]  # the last ones that were acted on


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A step that has begun, or has to know something before it begins."""

    run: str
    step: str
    state: StepState
    round: int
    order: int  # its number among the ends of the run's steps; 0: it has not ended, or in another run
    output: Any  # of one that waits and is to be skipped: what it gets then
    error: Error | None
    undo_error: Error | None
    agent: str
    attempt: int | None
    started_at: float | None
    ended_at: float | None
    until: float | None  # when it ends by itself
    remind_at: float | None
    fallback: bool  # the second skill has it
    passed: bool  # skipped by hand: what follows begins
    undo_round: int  # the run's when it was (last) undone
    undone_by: str  # the compensate step that undoes it; "" is the run
    override: tuple[Any, ...]  # (input,) in place of its template, () for none
    size: int  # items of a map
    begun: int  # and how many of them have begun


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """An item of a map. Items begin in order, and the row of the step says nothing of those without one."""

    run: str
    step: str
    round: int
    item: int
    state: ItemState
    output: Any = None  # the task's, which the ledger may keep there alone
    error: Error | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow:
    """A signal that came."""

    run: str
    id: str
    number: int  # in the order they came, from 1
    name: str
    payload: Any
    taken_by: str  # a step; "" if none yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """All rows of one run, in any order."""

    spec: RunSpec
    run: RunRow
    steps: tuple[StepRow, ...] = ()
    items: tuple[ItemRow, ...] = ()
    signals: tuple[SignalRow, ...] = ()
