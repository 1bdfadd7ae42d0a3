"""What the engine holds of the runs in flight, and the pen that notes down what becomes of them.  Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, NamedTuple
from uuid import UUID

from coordination import events as e
from coordination.plan import Plan
from coordination.rows import STEP_ENDS, Error, RunRow, RunSpec, RunState, SignalRow, StepRow, StepState

KEPT_LOOKS = 1_000  # outdated entries of the timer heap are kept up to so many, and as many again as runs live


@dataclass(slots=True, eq=False)
class LiveMap:
    """The items of a map that runs. Of an item only its state and its output are kept."""

    size: int
    need: int  # so many must succeed
    begun: int = 0
    flying: set[int] = field(default_factory=set)
    fallen: set[int] = field(default_factory=set)  # those in flight that went over to the fallback
    outputs: list[Any] = field(default_factory=list)  # of those that completed, by item; None for the others
    done: int = 0  # completed
    failed: int = 0
    errors: list[tuple[int, Error]] = field(default_factory=list)  # of the first few items that failed
    items: list[Any] | None = None  # what it goes over: found again from the template after a restart
    keys: list[str] | None = None

    @property
    def ended(self) -> int:
        """Return how many items have ended."""
        return self.done + self.failed


@dataclass(slots=True, eq=False)
class LiveStep:
    """A step that has begun, or has to know something before it begins. Fields as in ``StepRow``."""

    state: StepState
    round: int
    order: int = 0
    output: Any = None
    error: Error | None = None
    undo_error: Error | None = None
    agent: str = ""
    attempt: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    until: float | None = None
    remind_at: float | None = None
    fallback: bool = False
    passed: bool = False
    undo_round: int = 0
    undone_by: str = ""
    override: tuple[Any, ...] = ()
    items: LiveMap | None = None

    @property
    def is_skipped(self) -> bool:
        """Return True if what follows counts it as not done."""
        return self.state == "skipped" and not self.passed

    @property
    def is_done(self) -> bool:
        """Return True if what follows counts it as completed."""
        return self.state in ("completed", "undoing", "undone") or self.passed  # whenever it is undone


@dataclass(slots=True, eq=False)
class LiveRun:
    """A run that has not ended. The first fields are as in ``RunRow``, the others follow from rows and graph."""

    spec: RunSpec
    plan: Plan
    uuid: bytes
    state: RunState = "pending"
    seq: int = 0
    round: int = 1
    ended_steps: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    deadline: float | None = None
    closing: str = ""
    close_at: float | None = None
    compensate: bool = False
    output: Any = None
    error: Error | None = None
    unconfirmed: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    signals: list[SignalRow] = field(default_factory=list)
    steps: list[LiveStep | None] = field(default_factory=list)  # by number; None has not begun
    missing: list[int] = field(default_factory=list)  # steps before each that have not ended
    left: int = 0  # steps that have not ended
    ready: list[int] = field(default_factory=list)  # a heap: steps that may begin
    flying: set[int] = field(default_factory=set)  # steps that run
    undoing: int | None = None  # the step that is being undone before the run ends
    scope: dict[str, Any] = field(default_factory=dict)  # what templates see
    broken: tuple[Error, bool] | None = None  # why it has to end, and whether what is done is undone then

    @property
    def id(self) -> str:
        """Return the run's id."""
        return self.spec.id

    def place(self, *parts: object) -> str:
        """Return the id of what belongs at this place of the run, always the same one: ``uuid5`` of run and place."""
        name = "/".join(map(str, parts)).encode()
        digest = sha1(self.uuid + name, usedforsecurity=False).hexdigest()  # three times as fast as uuid.uuid5
        variant = "89ab"[int(digest[16], 16) & 3]
        return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"

    def take(self) -> int:
        """Return the first step that may begin, and count it as ready no more."""
        return heapq.heappop(self.ready)

    def recount(self) -> None:
        """Find out from the steps which may begin, and what the others wait for."""
        is_open = [step is None or step.state not in STEP_ENDS for step in self.steps]
        self.left = sum(is_open)
        self.missing = [sum(is_open[other] for other in before) for before in self.plan.after]
        numbers = (number for number, count in enumerate(self.missing) if not count and is_open[number])
        self.ready = [number for number in numbers if number not in self.flying]

    def see(self, number: int) -> None:
        """Show templates how the step has ended."""
        step = self.live(number)
        state = "completed" if step.state in ("undoing", "undone") else step.state  # whenever it is undone
        shown = {"output": step.output, "state": state, "error": step.error}
        self.scope["steps"][self.plan.graph.steps[number].name] = shown

    def live(self, number: int) -> LiveStep:
        """Return a step that has begun. Raises ``LookupError`` for one that has not."""
        step = self.steps[number]
        if step is None:
            raise LookupError(f"Step {number} of run {self.id} has not begun.")
        return step


class Place(NamedTuple):
    """What a task in flight is for."""

    run: LiveRun
    step: int
    item: int | None
    use: str  # step fallback undo


class Book:
    """Everything in flight, with its indexes, timers, and what has been said and is not handed out yet."""

    def __init__(self) -> None:
        self.runs: dict[str, LiveRun] = {}
        self.tasks: dict[str, Place] = {}  # in flight
        self.plans: dict[int, Plan] = {}  # by the graph's identity
        self.children: dict[str, tuple[LiveRun, int]] = {}  # sub-runs in flight
        self.unsettled: deque[LiveRun] = deque()  # something happened to them, and nobody looked what follows
        self._out: list[e.Effect] = []
        self._runs: dict[str, LiveRun] = {}  # whose rows have changed
        self._steps: dict[tuple[str, int], LiveRun] = {}
        self._timers: list[tuple[float, str, int]] = []  # (when to look, run, step or -1); outdated ones are skipped

    def open(self, spec: RunSpec) -> LiveRun:
        """Take up a run of which nothing has begun. Runs with the same graph share its plan."""
        plan = self.plans.get(id(spec.graph))
        if plan is None:  # it holds the graph, so that no other one gets its identity
            plan = self.plans[id(spec.graph)] = Plan(spec.graph)
        plan.runs += 1
        run = self.runs[spec.id] = LiveRun(spec, plan, UUID(spec.id).bytes)
        run.steps = [None] * len(plan.counts)
        run.missing, run.left, run.ready = list(plan.counts), len(plan.counts), list(plan.first)
        about = {"id": spec.id, "input": spec.input, "context": spec.context, "due": spec.due}
        run.scope = {"run": about, "steps": {}}
        return run

    def forget(self, run: LiveRun) -> None:
        """Hold the run no more."""
        del self.runs[run.spec.id]
        run.plan.runs -= 1
        if not run.plan.runs:
            del self.plans[id(run.plan.graph)]

    # ---- saying -------------------------------------------------------------------------------------------------

    def say(self, effect: e.Effect) -> None:
        """Hand this out with the next ``drain``."""
        self._out.append(effect)

    def record(self, run: LiveRun, kind: str, now: float, *, data: Mapping[str, Any] | None = None) -> None:
        """Add a line about the run to its history; its row changes."""
        run.seq += 1
        self._runs[run.spec.id] = run
        self._out.append(e.RunEvent(run=run.spec.id, seq=run.seq, kind=kind, at=now, data=data or {}))

    def note(self, run: LiveRun, number: int, kind: str, now: float, *, data: Mapping[str, Any] | None = None) -> None:
        """Add a line about the step to its run's history; both rows change."""
        run.seq += 1
        self.changed(run, number)
        name, step = run.plan.graph.steps[number].name, run.steps[number]
        self._out.append(
            e.RunEvent(
                run=run.spec.id,
                seq=run.seq,
                kind=kind,
                at=now,
                step=name,
                round=step.round if step is not None else run.round,
                data=data or {},
            )
        )

    def touch(self, run: LiveRun) -> None:
        """Note that the run's row has changed."""
        self._runs[run.spec.id] = run

    def changed(self, run: LiveRun, number: int) -> None:
        """Note that the rows of the step and of its run have changed."""
        self._runs[run.spec.id] = run
        self._steps[run.spec.id, number] = run

    def drain(self) -> list[e.Effect]:
        """Return what was said since the last time, and then each row that changed, once."""
        out, self._out = self._out, []
        out += (e.Keep(row=run_row(run)) for run in self._runs.values())
        out += (e.Keep(row=step_row(run, number)) for (_, number), run in self._steps.items())
        self._runs, self._steps = {}, {}
        return out

    # ---- timers -------------------------------------------------------------------------------------------------

    def watch(self, at: float | None, run: LiveRun, number: int = -1) -> None:
        """See to it that somebody looks at the run, or at its step, at ``at``."""
        if at is None:
            return
        heapq.heappush(self._timers, (at, run.spec.id, number))
        if len(self._timers) > 8 * len(self.runs) + KEPT_LOOKS:
            self._timers = [entry for entry in set(self._timers) if self._is_current(*entry)]
            heapq.heapify(self._timers)

    def look(self, now: float) -> tuple[LiveRun, int] | None:
        """Return the next run, and step or -1, that has come due, None if nothing has."""
        while self._timers and self._timers[0][0] <= now:
            at, run, number = heapq.heappop(self._timers)
            if self._is_current(at, run, number):
                return self.runs[run], number
        return None

    def next_look(self) -> float | None:
        """Return when ``looks`` has something next, None for never; outdated entries are dropped on the way."""
        while self._timers and not self._is_current(*self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _is_current(self, at: float, run_id: str, number: int) -> bool:
        run = self.runs.get(run_id)
        if run is None:
            return False
        if number < 0:
            return at in (run.deadline, run.close_at)
        step = run.steps[number]
        return step is not None and step.state == "running" and at in (step.until, step.remind_at)


def run_row(run: LiveRun) -> RunRow:
    """Return the run as the ledger keeps it."""
    return RunRow(
        run=run.spec.id,
        state=run.state,
        seq=run.seq,
        round=run.round,
        ended_steps=run.ended_steps,
        started_at=run.started_at,
        ended_at=run.ended_at,
        deadline=run.deadline,
        closing=run.closing,
        close_at=run.close_at,
        compensate=run.compensate,
        output=run.output,
        error=run.error,
        unconfirmed=run.unconfirmed,
        commands=run.commands,
    )


def step_row(run: LiveRun, number: int) -> StepRow:
    """Return the step as the ledger keeps it."""
    step = run.live(number)
    return StepRow(
        run=run.spec.id,
        step=run.plan.graph.steps[number].name,
        state=step.state,
        round=step.round,
        order=step.order,
        output=step.output,
        error=step.error,
        undo_error=step.undo_error,
        agent=step.agent,
        attempt=step.attempt,
        started_at=step.started_at,
        ended_at=step.ended_at,
        until=step.until,
        remind_at=step.remind_at,
        fallback=step.fallback,
        passed=step.passed,
        undo_round=step.undo_round,
        undone_by=step.undone_by,
        override=step.override,
        size=step.items.size if step.items is not None else 0,
        begun=step.items.begun if step.items is not None else 0,
    )
