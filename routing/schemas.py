"""Shapes of what the REST API takes and gives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from ninja import Field, Schema
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, StrictInt, StrictStr, WithJsonSchema

from routing.models import TaskState

MAX_BATCH = 1000  # tasks in one call
MAX_PAGE = 200  # tasks on one page


def _text_only(value: Any) -> Any:
    """Return the value. Without this, pydantic takes numbers too, as seconds since 1970."""
    if isinstance(value, str):
        return value
    raise ValueError("write a time as text, such as 2026-01-31T12:00:00Z")


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("this time is outside the years 1 to 9999") from None


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_text_only), AfterValidator(_in_utc)]
Name = Annotated[StrictStr, Field(max_length=64), AfterValidator(_printable)]
Word = Annotated[StrictStr, Field(max_length=200), AfterValidator(_printable)]
Key = Annotated[StrictStr, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class ThrottleIn(Schema):
    """At most ``limit`` submissions with the same key within any ``period_s`` seconds; one more is refused (429)."""

    model_config = ConfigDict(extra="forbid")

    limit: StrictInt
    period_s: float = Field(strict=True)
    key: Annotated[StrictStr, AfterValidator(_printable)] = Field("", description="Else the skill's name.")


class TaskIn(Schema):
    """A task to submit. Everything but the skill may be left out."""

    model_config = ConfigDict(extra="forbid")

    skill: Name
    input: Any = Field(None, description="JSON that fits the skill's input schema.")
    version: Name = Field("", description="Of the skill; empty accepts any.")
    priority: StrictInt = Field(5, ge=0, le=9, description="Higher goes first.")
    labels: dict[Name, StrictStr] = Field(default_factory=dict, description="What the agent must carry.")
    requires: Annotated[StrictStr, Field(max_length=2000)] = Field(
        "", description="A label selector over the agents, such as `region in (eu, us), !spot`."
    )
    agent: Name = Field("", description="The only agent that may get it; empty leaves the choice to the router.")
    exclude: list[Name] = Field(default_factory=list, max_length=1000, description="Agents that must not get it.")
    not_before: Moment | None = None
    deadline: Moment | None = None
    timeout_s: float | None = Field(None, strict=True, description="Seconds for one attempt; else the skill's.")
    max_attempts: StrictInt | None = Field(None, description="Attempts that began, before it fails; else the skill's.")
    wait_s: float | None = Field(None, strict=True, description="It fails when it has waited so long.")
    retries: dict[StrictStr, dict[str, Any]] | None = Field(
        None, description='Rules per kind of error, such as {"timeout": {"attempts": 2}}; else those of the policy.'
    )
    idempotency_key: Key | None = Field(None, description="The same key with the same request gives the same task.")
    id: UUID | None = Field(None, description="The task's id, if the caller wants to choose it.")
    parent: UUID | None = None
    context: UUID | None = None
    size: float | None = Field(None, strict=True, description="How much work it is; else the bytes of the input.")
    concurrency_key: Word = Field("", description="Limits per key count the tasks with the same one.")
    affinity: Word = Field("", description="Tasks with the same one like the same agent.")
    singleton: Key | None = Field(None, description="While a task with this key has not ended, it is the answer (200).")
    debounce_s: float | None = Field(
        None, strict=True, description="It waits so long; a later one with the same debounce_key takes its place."
    )
    debounce_key: Key | None = None
    throttle: Annotated[ThrottleIn, WithJsonSchema(ThrottleIn.model_json_schema())] | None = None
    budget: dict[StrictStr, float] | None = Field(None, description="Its own caps: usd, tokens, wall_s, attempts.")


class BatchIn(Schema):
    """Up to 1,000 tasks. Each is accepted or refused for itself."""

    model_config = ConfigDict(extra="forbid")

    tasks: Annotated[
        list[Any], WithJsonSchema({"type": "array", "items": TaskIn.model_json_schema(), "maxItems": MAX_BATCH})
    ] = Field(min_length=1, max_length=MAX_BATCH)


class CancelIn(Schema):
    """Why a task should end."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[StrictStr, Field(max_length=300)] = ""


class AnswerIn(Schema):
    """What a task's agent has asked for."""

    model_config = ConfigDict(extra="forbid")

    input: Any = Field(description="Of the form that was asked for.")
    message_id: Annotated[StrictStr, Field(max_length=200)] = Field(
        "", description="The same one again changes nothing: for a call that is made twice."
    )


class FeedbackIn(Schema):
    """How good a completed task's output is."""

    model_config = ConfigDict(extra="forbid")

    score: float = Field(strict=True, description="0 (useless) to 1 (as good as it can be).")
    comment: StrictStr = ""


class FeedbackOut(Schema):
    """What a caller says of a task's output; a later word of the same caller takes its place."""

    task: UUID
    score: float
    comment: str
    by: str
    at: datetime


class Links(Schema):
    """Where to go on."""

    self: str
    events: str
    cancel: str


class TaskLine(Schema):
    """A task without its input and output, as in a list."""

    id: UUID
    tenant: str
    skill: str
    version: str
    state: TaskState
    detail: str = Field(description="Why it waits, in words.")
    priority: int
    labels: dict[str, str]
    requires: str = Field(description="A label selector over the agents.")
    agent: str = Field(description="That has it, or had it last.")
    attempt: int
    tries: int = Field(description="Attempts that began and did not succeed.")
    progress: float | None = Field(description="0 to 1, null when unknown.")
    error: dict[str, Any] | None
    created_at: datetime
    accepted_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime | None
    deadline: datetime | None
    timeout_s: float
    max_attempts: int
    wait_s: float | None
    retries: dict[str, Any] | None
    parent: UUID | None
    context: UUID | None
    size: float
    concurrency_key: str
    affinity: str
    singleton_key: str | None
    debounce_key: str | None
    budget: dict[str, float] | None
    links: Links


class TaskOut(TaskLine):
    """A task."""

    input: Any
    output: Any


class DecisionOut(Schema):
    """Why an attempt went to its agent."""

    policy: str
    revision: int = Field(description="Of the configuration.")
    strategy: str
    agent: str
    at: datetime
    candidates: list[Any] = Field(
        description="With their scores, best first; last, with admitted false, those free ones that were kept back."
    )
    exclusions: dict[str, str] = Field(description="Agent to reason.")
    more: int = Field(description="Candidates and exclusions that are not listed.")
    waited_for: str = Field(description="What the task waited for last, in words.")
    shadow: dict[str, Any] | None = Field(description="What another strategy would have done.")
    explanation: list[str] = Field(description="All of it in words, the most important sentence first.")


class AttemptOut(Schema):
    """One agent's try at a task."""

    number: int
    agent: str
    worker: str
    state: str
    hedge: bool = Field(description="It flew beside another attempt that took long.")
    error: dict[str, Any] | None
    usage: dict[str, float] | None = Field(description="What the agent says it has used, by unit.")
    assigned_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    decision: DecisionOut | None = None


class DecisionsOut(Schema):
    """Why each attempt of a task went to its agent, the first one first."""

    task: UUID
    state: TaskState
    detail: str = Field(description="Why it waits, in words.")
    attempts: list[AttemptOut]


class EventOut(Schema):
    """One transition of a task; ``seq`` counts from 1 without gaps."""

    seq: int
    kind: str
    attempt: int | None
    at: datetime
    data: dict[str, Any]


class ArtifactOut(Schema):
    """A file that an attempt produced."""

    seq: int
    attempt: int
    name: str
    sha256: str
    size: int
    media_type: str
    at: datetime
    href: str


class TaskDetail(TaskOut):
    """A task with everything that happened to it; ``events`` are its first 1,000, ``links.events`` has all."""

    decision: DecisionOut | None = Field(description="Of the last attempt.")
    attempts: list[AttemptOut]
    events: list[EventOut]
    artifacts: list[ArtifactOut]


class TaskPage(Schema):
    """Tasks, newest first. ``next`` is the address of the page after, null on the last one."""

    tasks: list[TaskLine]
    next: str | None


class EventPage(Schema):
    """Events of a task in order. ``next`` is the address of those after, null when there are none yet."""

    events: list[EventOut]
    next: str | None


class Problem(Schema):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = None
    pointer: str | None = Field(None, description="JSON Pointer into the body.")
    parameter: str | None = Field(None, description="Of the query.")
    errors: list[dict[str, Any]] | None = None


class Result(Schema):
    """What became of one task of a batch: 201 made, 200 it was there already, else a problem."""

    status: int
    task: TaskOut | None = None
    problem: Problem | None = None


class BatchOut(Schema):
    """One result for each task, in the order they came."""

    results: list[Result]


class SkillRef(Schema):
    """A skill by name."""

    name: str
    version: str


class AgentOut(Schema):
    """An agent as the registry knows it."""

    name: str
    description: str
    skills: list[SkillRef]
    executor: str
    capacity: int
    labels: dict[str, str]
    cost_usd: float
    enabled: bool
    draining: bool


class SkillOut(Schema):
    """A skill with the shapes of what goes in and what comes out."""

    name: str
    version: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    idempotent: bool
    timeout_s: float
    max_attempts: int
    agents: list[str]


class AgentList(Schema):
    """All agents of the caller's tenant."""

    agents: list[AgentOut]


class SkillList(Schema):
    """All skills of the caller's tenant."""

    skills: list[SkillOut]


class TaskQuery(Schema):
    """Which tasks to list. Times are compared with ``created_at``, half-open: since <= created_at < until."""

    state: TaskState | None = None
    skill: Name | None = None
    agent: Name | None = None
    parent: UUID | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: int = Field(50, ge=1, le=MAX_PAGE)
    cursor: Annotated[str, Field(max_length=500)] | None = None


class EventQuery(Schema):
    """Which events of a task to list."""

    after: int = Field(0, ge=0, le=2**31 - 1, description="The last seq the caller has.")
    limit: int = Field(1000, ge=1, le=1000)
