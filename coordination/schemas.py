"""Shapes of what the REST API of workflows and runs takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from ninja import Field, Schema
from pydantic import ConfigDict, StrictBool, StrictInt, StrictStr

from coordination.models import RunState, StepState
from routing.schemas import MAX_PAGE, Key, Name

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
    """A run to start: of a workflow by name, or of a definition of its own."""

    model_config = ConfigDict(extra="forbid")

    workflow: Name = ""
    version: StrictInt | None = Field(None, ge=1, description="Of the workflow; else the newest.")
    definition: Annotated[StrictStr, Field(max_length=1_000_000)] | None = Field(None, description="YAML or JSON.")
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
