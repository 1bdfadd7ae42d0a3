"""Shapes of what the REST API of workflows and runs takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Field, Schema
from pydantic import ConfigDict, StrictBool, StrictInt, StrictStr

from coordination.merging import Rule
from coordination.models import RunState, StepState
from coordination.timetable import CatchUp, Overlap
from routing.schemas import MAX_PAGE, Key, Moment, Name

Reason = Annotated[StrictStr, Field(max_length=300)]
StepName = Annotated[StrictStr, Field(min_length=1, max_length=100)]


class WorkflowIn(Schema):
    """A workflow's definition. Saving what is there already makes no new version."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[StrictStr, Field(max_length=1_000_000)] = Field(description="YAML or JSON.")
    note: Annotated[StrictStr, Field(max_length=300)] = ""
    seen: StrictInt | None = Field(None, ge=1, description="The version it was made from; 409 if there is a newer one.")


class VersionOut(Schema):
    """One version of a workflow."""

    workflow: str
    version: int
    checksum: str
    author: str
    note: str
    created_at: datetime
    source: str = Field(description="YAML.")


class WorkflowOut(Schema):
    """A workflow."""

    name: str
    description: str
    enabled: bool
    version: int | None = Field(description="The newest.")


class WorkflowList(Schema):
    """All workflows of the caller's tenant."""

    workflows: list[WorkflowOut]


class RunIn(Schema):
    """A run to start: of a workflow by name, of a definition of its own, or of a Celery canvas."""

    model_config = ConfigDict(extra="forbid")

    workflow: Name = ""
    version: StrictInt | None = Field(None, ge=1, description="Of the workflow; else the newest.")
    definition: Annotated[StrictStr, Field(max_length=1_000_000)] | None = Field(None, description="YAML or JSON.")
    canvas: dict[StrictStr, Any] | None = Field(None, description="A Celery canvas, as `dict(signature)` in JSON.")
    input: Any = None
    priority: StrictInt | None = Field(None, ge=0, le=9)
    context: UUID | None = None
    idempotency_key: Key | None = None


class RunLine(Schema):
    """A run without its input and output."""

    id: UUID
    workflow: str
    version: int
    state: RunState
    priority: int
    by: str
    error: dict[str, Any] | None
    parent: UUID | None
    forked_from: UUID | None
    reason: str = Field(description="Why it was made.")
    due: datetime | None = Field(description="The time of a schedule that it is for.")
    context: UUID | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class StepOut(Schema):
    """A step that has begun."""

    step: str
    state: StepState
    round: int
    output: Any
    error: Any
    agent: str
    attempt: int | None
    started_at: datetime | None
    ended_at: datetime | None
    tasks: list[UUID] = Field(description="Submitted for it, at most 100.")


class RunOut(RunLine):
    """A run with its steps."""

    input: Any
    output: Any
    unconfirmed: list[str] = Field(description="Tasks that did not confirm their end.")
    steps: list[StepOut]


class RunPage(Schema):
    """Runs, newest first."""

    runs: list[RunLine]
    next: str | None


class RunQuery(Schema):
    """Which runs to list."""

    state: RunState | None = None
    workflow: Name | None = None
    limit: int = Field(50, ge=1, le=MAX_PAGE)
    cursor: Annotated[str, Field(max_length=500)] | None = None


class EventOut(Schema):
    """One transition; ``seq`` counts from 1 without gaps."""

    seq: int
    kind: str
    step: str
    round: int
    at: datetime
    data: dict[str, Any]


class EventPage(Schema):
    """Events of a run in order."""

    events: list[EventOut]


class Wish(Schema):
    """Why something is asked of a run."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = ""


class CancelWish(Wish):
    """How a run should end."""

    compensate: StrictBool = Field(False, description="Undo what is done.")


class StepWish(Wish):
    """A step, and what it should have given."""

    step: StepName
    output: Any = None


class RerunWish(Wish):
    """A step from which to go again; ``fork`` leaves the run as it is and makes another."""

    step: StepName
    input: Any = Field(None, description="In place of the step's own, if given.")
    fork: StrictBool = False


class SignalIn(Schema):
    """A signal for a run."""

    model_config = ConfigDict(extra="forbid")

    name: StepName
    payload: Any = None


class CommandOut(Schema):
    """What was asked, now in the ledger; the run's events tell what came of it."""

    id: UUID
    run: UUID
    kind: str


class ApprovalOut(Schema):
    """A question to people."""

    id: UUID
    run: UUID
    step: str
    title: str
    text: str
    form: dict[str, Any] = Field(description="JSON Schema of the answer.")
    who: list[str]
    state: str
    asked_at: datetime
    expires_at: datetime | None
    answer: Any
    answered_by: str


class ApprovalList(Schema):
    """Questions, newest first."""

    approvals: list[ApprovalOut]


class AnswerIn(Schema):
    """An answer that suits the form."""

    model_config = ConfigDict(extra="forbid")

    answer: Any


class ScheduleIn(Schema):
    """A schedule as it should be. What is left out has its default."""

    model_config = ConfigDict(extra="forbid")

    workflow: Name
    description: Reason = ""
    input: Any = None
    priority: StrictInt | None = Field(None, ge=0, le=9, description="Else the workflow's.")
    cron: Annotated[StrictStr, Field(max_length=100)] = Field("", description="Or every_s.")
    every_s: float | None = Field(None, strict=True, description="Seconds from one time to the next, or cron.")
    zone: Annotated[StrictStr, Field(max_length=64)] = Field("UTC", description="IANA's name of the time zone.")
    overlap: Overlap = Field(Overlap.SKIP, description="When the run before it goes on.")
    catch_up: CatchUp = Field(CatchUp.LATEST, description="Times missed while all was down.")
    catch_up_s: float = Field(86400.0, strict=True, ge=0, description="Seconds; missed longer ago is passed over.")
    enabled: StrictBool = True


class ScheduleOut(ScheduleIn):
    """A schedule, and when it comes next."""

    model_config = ConfigDict(extra="ignore")

    name: str
    words: str = Field(description="When it is due, as a sentence.")
    next: list[datetime] = Field(description="The next five times; empty while it is off.")
    held: datetime | None = Field(description="The first time that waits for the last run to end.")
    trouble: str
    changed_by: str
    created_at: datetime


class ScheduleList(Schema):
    """All schedules of the caller's tenant."""

    schedules: list[ScheduleOut]


class ScheduleTimeOut(Schema):
    """What became of one time."""

    due: datetime
    at: datetime
    cause: str
    outcome: str
    why: str
    run: UUID | None
    by: str


class ScheduleTimes(Schema):
    """What became of a schedule's times, newest first."""

    times: list[ScheduleTimeOut]


class BackfillIn(Schema):
    """A range of times, since <= time < until, all of them past."""

    model_config = ConfigDict(extra="forbid")

    since: Moment
    until: Moment
    dry_run: StrictBool = Field(False, description="Only say what would begin.")


class BackfillOut(Schema):
    """The times of the range: fresh ones for which a run begins, or would, and those that had one already."""

    fresh: list[datetime]
    known: list[datetime]
    runs: list[UUID]


class KeyOut(Schema):
    """A value that the tasks of a context share. Its ETag is ``"vN"`` with its version."""

    key: str
    value: Any
    version: int
    rule: Rule = Field(description="What happens when writers collide.")
    at: datetime


class WriteOut(Schema):
    """One write of a key."""

    version: int
    verb: str
    value: Any
    collided: bool = Field(description="The rule joined it with what was there.")
    by: str
    task: UUID | None
    at: datetime


class WriteList(Schema):
    """The writes of a key, newest first, at most 200."""

    writes: list[WriteOut]


class LockOut(Schema):
    """An advisory lock that is held."""

    key: str
    token: int = Field(description="Larger than that of everyone who held it before.")
    holder: str
    since: datetime
    expires_at: datetime


class ContextOut(Schema):
    """What belongs to a context."""

    id: UUID
    keys: list[KeyOut]
    locks: list[LockOut]
    tasks: list[UUID] = Field(description="The newest 100.")
    runs: list[UUID] = Field(description="The newest 100.")


class LockIn(Schema):
    """For how long the lock is wanted."""

    model_config = ConfigDict(extra="forbid")

    lease_s: float = Field(30.0, strict=True, ge=1, le=3600)


class LockRenewIn(LockIn):
    """The lock that is held."""

    token: StrictInt = Field(ge=1, le=2**62)


class BulkIn(Schema):
    """One verb for all runs that fit. Counting first (``dry_run``) shows how many that would be."""

    model_config = ConfigDict(extra="forbid")

    verb: Literal["pause", "resume", "cancel", "retry"]
    state: RunState | None = None
    workflow: Name | None = None
    since: Moment | None = None
    until: Moment | None = None
    reason: Reason = ""
    dry_run: StrictBool = False


class BulkOut(Schema):
    """What came of it."""

    matched: int = Field(description="Runs that fit.")
    suited: int = Field(description="Of them, those that the verb suits.")
    asked: int = Field(description="Of them, those that were asked; 0 of a dry run.")
    refused: list[str] = Field(description="The first 20 that ended meanwhile, and why.")
