"""What a workflow is: steps, what each waits for, and what becomes of the run when one fails.  Pure.

A graph says everything that decides about a run, so a run that pins its graph goes on the same way whatever is edited
meanwhile. Templates stand in it as text; ``templates`` fills them in when a step begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from routing.retries import RetryPolicy

MAX_STEPS = 5_000
MAX_DEPTH = 10  # of workflows within workflows
MAX_ITEMS = 10_000  # of one map

Kind = Literal["task", "map", "choice", "approval", "workflow", "wait", "compensate"]
OnError = Literal["fail", "fail_late", "continue", "compensate"]
Needs = Literal["ended", "completed"]
OnExpiry = Literal["fail", "continue", "approve", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked of an agent. Texts may hold templates; None leaves it to the skill or the policy."""

    skill: str
    version: str = ""
    input: Any = None  # JSON with templates
    labels: Mapping[str, str] = field(default_factory=dict)
    requires: str = ""  # a selector over the agents' labels
    agent: str = ""  # pinned
    priority: int | None = None  # 0..9; None: the run's
    wait_s: float | None = None  # it may wait so long for an agent
    timeout_s: float | None = None  # one attempt may work so long
    total_s: float | None = None  # waiting, working and retries together
    retries: RetryPolicy | None = None
    max_attempts: int | None = None
    fallback: str = ""  # a skill that is asked once the first has failed for good
    call: Mapping[str, Any] | None = None  # a Celery signature in place of a skill: a project's own task


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """What a map goes over."""

    items: Any  # a template that gives a list or an object when the step begins
    max_parallel: int | None = None  # items in flight at once, >= 1
    min_success: float = 1.0  # 0..1, share of the items that must succeed
    key: str = ""  # a template over ``item`` that names it; "" numbers them


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way out of a choice: the steps that go on when ``when`` holds. The last one may hold always ("")."""

    when: str  # an expression; "" is otherwise
    then: tuple[str, ...]  # steps after the choice; those of other cases are skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a person is asked."""

    title: str  # template
    text: str = ""  # template
    schema: Mapping[str, Any] = field(default_factory=dict)  # JSON Schema of the answer; {} for yes or no
    who: tuple[str, ...] = ()  # user names and "group:NAME"; nobody named is any operator
    remind_s: float | None = None
    expires_s: float | None = None
    on_expiry: OnExpiry = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What a wait waits for: one of the three."""

    seconds: float | None = None
    until: str = ""  # a template that gives a moment, ISO 8601 with a zone
    signal: str = ""  # its name; the payload is the step's output
    timeout_s: float | None = None  # for a signal; then the step fails


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """Another workflow, run as a step."""

    workflow: str
    version: int | None = None  # None: the newest when the step begins
    input: Any = None  # JSON with templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. Exactly the part that belongs to its kind is given."""

    name: str
    kind: Kind
    after: tuple[str, ...] = ()  # it begins when all of these have ended, and are not skipped all of them
    needs: Needs = "ended"  # completed: it is skipped unless all of ``after`` have completed
    when: str = ""  # an expression; where it does not hold the step is skipped
    ask: Ask | None = None  # of task and map
    over: Over | None = None  # of map
    cases: tuple[Case, ...] = ()  # of choice
    form: Form | None = None  # of approval
    pause: Pause | None = None  # of wait
    child: Child | None = None  # of workflow
    undo: Ask | None = None  # compensates for this step once it has completed; its input may use this step's output
    on_error: OnError = "fail"  # fail_late: the run goes on where it can, and then fails by this step's error
    line: int | None = field(default=None, compare=False)  # where it stands in the source


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A workflow's steps in the order they were written, all names different."""

    name: str
    steps: tuple[Step, ...]
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None  # a template; None: the outputs of the steps that nothing follows
    priority: int = 5
    total_s: float | None = None  # the run may take so long
    max_active_runs: int | None = None
    on_full: Literal["queue", "reject", "replace"] = "queue"

    def step(self, name: str) -> Step:
        """Return the step. Raises ``KeyError``."""
        found = next((step for step in self.steps if step.name == name), None)
        if found is None:
            raise KeyError(name)
        return found
