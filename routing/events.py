"""What the fleet is told, and what it says.  Pure.

Times are seconds since the epoch, UTC; durations are seconds. Ids are the text form of a UUID.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:  # they speak of tasks, so they import this module
    from routing.budget_rules import BudgetSpec
    from routing.containment import Containment
    from routing.limit_rules import LimitSpec
    from routing.policies import PolicySpec
    from routing.retries import RetryPolicy

Labels = tuple[tuple[str, str], ...]


class Error(TypedDict, total=False):
    """Why an attempt or a task did not succeed."""

    kind: str  # agent timeout lost bad_input bad_output limit canceled unavailable deadline
    message: str
    retryable: bool
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task as the fleet sees it: what it needs, not what it is about."""

    id: str
    tenant: str
    skill: str
    version: str = ""  # "" accepts any
    priority: int = 5  # 0..9, higher goes first
    labels: Labels = ()
    requires: str = ""  # a selector over the agent's labels, in its canonical form; "" asks for nothing more
    pinned: str = ""  # "" leaves the choice to the policy
    excluded: tuple[str, ...] = ()
    not_before: float | None = None
    deadline: float | None = None
    timeout_s: float = 300.0  # one attempt may work so long
    max_attempts: int = 3  # attempts that began
    wait_s: float | None = None  # it fails when it has waited so long; None leaves it to the policy
    retries: RetryPolicy | None = None  # likewise
    created_at: float = 0.0
    size: float = 1.0  # how much work it is, without a unit; only tasks of one skill are compared by it
    concurrency_key: str = ""  # of tasks with the same one a limit lets only so many run
    affinity: str = ""  # tasks with the same one like the same agent
    context: str = ""  # the piece of work it is part of
    budget: tuple[tuple[str, float], ...] = ()  # (unit, amount): the task's own caps over all its attempts
    idempotent: bool = False  # doing it twice does no harm, so a second attempt may fly beside a slow one


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """An agent as the registry describes it."""

    name: str
    tenant: str
    skills: frozenset[tuple[str, str]]  # (name, version)
    capacity: int  # attempts at once, >= 1
    labels: Labels = ()
    cost_usd: float = 0.0
    enabled: bool = True
    draining: bool = False
    is_many: bool = False  # it stands for many programs: what one of them raises says nothing of the others
    is_pull: bool = False  # it fetches its attempts itself; only a worker that names it serves it


# ---- what the fleet is told -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A task stands in the ledger and has not been accepted yet."""

    task: TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryChanged:
    """The whole registry, after a change: who is there, and by which rules tasks are routed."""

    agents: tuple[AgentSpec, ...]
    policies: tuple[PolicySpec, ...] = ()
    limits: tuple[LimitSpec, ...] = ()
    budgets: tuple[BudgetSpec, ...] = ()
    containments: tuple[Containment, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)  # tenant → share, 1 where none is given
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A worker process lives; ``attempts`` are exactly those it has in flight, as (task, attempt)."""

    worker: str
    incarnation: str  # differs after each start of the process
    threads: int  # attempts it can run at once; stuck threads are not counted
    attempts: tuple[tuple[str, int], ...] = ()
    serves: frozenset[str] | None = None  # agents, None = all but pull agents
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGone:
    """A worker process has ended."""

    worker: str
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker has claimed the attempt and begins."""

    task: str
    attempt: int
    worker: str
    incarnation: str = ""  # of the worker; "" is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Progress, a log line or an artifact of a running attempt."""

    task: str
    attempt: int
    kind: str  # progress log artifact
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The attempt ended: ``error`` None means it succeeded and ``output`` is its result.

    ``usage`` is what the agent says the attempt has used, by unit: "usd", "tokens".
    """

    task: str
    attempt: int
    output: Any = None
    error: Error | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    retry_in_s: float | None = None  # the agent itself asks for another attempt after so long
    call: Mapping[str, Any] | None = None  # and this is the Celery call to make then


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """Somebody judged the output of an attempt that had succeeded; ``before`` is what it counted until now, 0..1."""

    agent: str
    skill: tuple[str, str]
    score: float  # 0..1
    before: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedBack:
    """The worker gives the attempt back without blame, because it stops."""

    task: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """Somebody wants the task to end."""

    task: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Somebody said what the task's agent had asked for: it may go on."""

    task: str
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalled:
    """For ``seconds`` nothing could be heard: nobody's silence in that time counts against them."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesLost:
    """The broker lost its data: what was sent and not begun has to be sent again."""


Fact = (
    Submitted
    | RegistryChanged
    | Beat
    | WorkerGone
    | Started
    | Noted
    | Finished
    | Rated
    | HandedBack
    | CancelAsked
    | Answered
    | Stalled
    | MessagesLost
)


# ---- what the fleet says ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One line of a task's history. The ledger derives all its rows from these."""

    task: str
    tenant: str
    skill: str
    seq: int  # 1, 2, 3 … without gaps per task
    kind: str
    at: float
    attempt: int | None = None
    agent: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)  # what everyone may see
    output: Any = None  # of ``completed``
    call: Mapping[str, Any] | None = None  # of ``requeued``: the Celery call that takes the place of the old one
    decision: DecisionMade | None = None  # of ``assigned``


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """Why this agent."""

    policy: str
    revision: int  # of the configuration
    strategy: str
    candidates: tuple[Mapping[str, Any], ...]  # {"agent", "score", "terms"}, best first; last those kept back by a gate
    exclusions: Mapping[str, str]  # agent → reason
    more: int = 0  # candidates and exclusions that are not listed
    waited_for: str = ""  # what the task waited for last, in words
    shadow: Mapping[str, Any] | None = None  # what another strategy would have done: {"strategy", "agent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Send the attempt to the agent's queue."""

    task: str
    attempt: int
    agent: str
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """This attempt must not begin any more."""

    task: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Whoever runs this attempt should stop it."""

    task: str
    attempt: int
    reason: str  # canceled | stale


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """Something learned that a later controller should know: kept in the same commit, under its kind and name."""

    kind: str  # breaker, rate, spent, estimate …
    name: str
    data: Any  # JSON; None: forget it


Effect = Recorded | Dispatch | Fence | Stop | Remembered
