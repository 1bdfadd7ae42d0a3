"""What the engine is told, and what it says.  Pure.

Times are seconds since the epoch, UTC; durations are seconds. Ids are the text form of a UUID, steps are named. Every
fact may come twice, and after others that were meant to follow it: what is stale follows in nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordination.rows import Error, ItemRow, RunRow, RunSpec, Seed, SignalRow, StepRow
from routing.retries import RetryPolicy

if TYPE_CHECKING:
    from routing.events import Recorded

TASK_ENDS = frozenset({"completed", "failed", "canceled", "rejected"})


class _Keep:
    """Stands for an input that is left as it is."""

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Any = _Keep()

# ---- what the engine is told ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run stands in the ledger and has not been accepted yet. With ``seeds`` it is a fork: those steps have ended."""

    run: RunSpec
    seeds: tuple[Seed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnded:
    """A task has ended, for good."""

    task: str
    state: str  # completed failed canceled rejected
    output: Any = None
    error: Mapping[str, Any] | None = None
    agent: str = ""
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnded:
    """A sub-run has ended that this engine was never told of, because it could not be started, say."""

    run: str
    state: str  # completed failed canceled
    output: Any = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Somebody who may has answered an approval, and the answer suits its form."""

    run: str
    step: str
    round: int  # of the question
    answer: Any  # True or False where the form has no schema
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signaled:
    """A signal came. It is kept until a step waits for it; each signal is for one step."""

    run: str
    id: str  # the same signal told twice has the same
    name: str
    payload: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verb:
    """Somebody wants something of a run. The same ``command`` told twice is done once; "" is never the same."""

    run: str
    command: str = ""
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseAsked(_Verb):
    """Nothing new shall begin; what runs goes on, and so do the clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeAsked(_Verb):
    """The run shall go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked(_Verb):
    """The run shall end, with its sub-runs and all that runs for it; with ``compensate`` what is done is undone."""

    compensate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAsked(_Verb):
    """What did not succeed shall be done again, and all that follows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipAsked(_Verb):
    """The step shall not be done (any more). What follows it begins as if it had completed with ``output``."""

    step: str
    output: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunAsked(_Verb):
    """The step and all that follows it shall be done again."""

    step: str
    input: Any = KEEP  # what it gets in place of its template: a task's or sub-run's input, a map's items


Verb = PauseAsked | ResumeAsked | CancelAsked | RetryAsked | SkipAsked | RerunAsked
Fact = RunStarted | TaskEnded | ChildEnded | Answered | Signaled | Verb


def task_ended(recorded: Recorded) -> TaskEnded | None:
    """Return the fact that a line of a task's history tells, None if the task goes on."""
    if recorded.kind not in TASK_ENDS:
        return None
    return TaskEnded(
        task=recorded.task,
        state=recorded.kind,
        output=recorded.output,
        error=recorded.data.get("error"),
        agent=recorded.agent,
        attempt=recorded.attempt,
    )


# ---- what the engine says ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Submit this task, in the same commit. Its id follows from its place, so twice is the same as once."""

    task: str
    run: str
    step: str
    round: int
    item: int | None  # of a map, from 0
    use: str  # step fallback undo
    skill: str  # "" where ``call`` is given
    version: str
    input: Any
    labels: Mapping[str, str]
    requires: str
    agent: str
    priority: int
    deadline: float | None
    wait_s: float | None
    timeout_s: float | None
    retries: RetryPolicy | None
    max_attempts: int | None
    call: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTasks:
    """Ask for the end of these tasks."""

    run: str
    tasks: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun:
    """Start this sub-run: tell ``RunStarted`` once it stands in the ledger, or ``ChildEnded`` if it cannot."""

    run: str
    workflow: str
    version: int | None  # None: the newest
    input: Any
    tenant: str
    priority: int
    context: str
    parent: str
    parent_step: str
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskApproval:
    """Put this question to people."""

    run: str
    step: str
    round: int
    title: str
    text: str
    schema: Mapping[str, Any]  # {} for yes or no
    who: tuple[str, ...]
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remind:
    """Remind people of the question."""

    run: str
    step: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseApproval:
    """The question is no longer open."""

    run: str
    step: str
    round: int
    outcome: str  # answered expired canceled


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One line of a run's history."""

    run: str
    seq: int  # 1, 2, 3 … without gaps per run
    kind: str
    at: float
    step: str = ""  # "" is the run
    round: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Write this row in place of the one with the same key."""

    row: RunRow | StepRow | ItemRow | SignalRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What was asked of the run cannot be done."""

    run: str
    command: str
    reason: str


Effect = Submit | CancelTasks | StartRun | AskApproval | Remind | CloseApproval | RunEvent | Keep | Refused

__all__ = [
    "KEEP", "TASK_ENDS", "Answered", "AskApproval", "CancelAsked", "CancelTasks", "ChildEnded", "CloseApproval",
    "Effect", "Error", "Fact", "ItemRow", "Keep", "PauseAsked", "Refused", "Remind", "RerunAsked", "ResumeAsked",
    "RetryAsked", "RunEvent", "RunRow", "RunSpec", "RunStarted", "Seed", "SignalRow", "Signaled", "SkipAsked",
    "StartRun", "StepRow", "Submit", "TaskEnded", "Verb", "task_ended",
]  # fmt: skip
