"""Shapes of the pull API: what agents that run elsewhere send and get."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Field, Schema
from pydantic import BeforeValidator, ConfigDict, StrictBool, StrictInt, StrictStr, StringConstraints

from routing.agent_schemas import SkillIn, described
from routing.schemas import Name

SessionId = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_-]{8,64}$")]
Attempts = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
Unit = Annotated[str, StringConstraints(strict=True, pattern="^(usd|tokens)$")]
Usage = dict[Unit, Annotated[float, Field(strict=True, ge=0, lt=1e15)]]


class PullAgentIn(Schema):
    """A pull agent. Its skills are named, or described and made where they are not there."""

    model_config = ConfigDict(extra="forbid")

    description: StrictStr = ""
    skills: list[Annotated[SkillIn, BeforeValidator(described)]] = Field(default_factory=list, max_length=200)
    capacity: StrictInt = Field(4, description="Attempts it may hold at once, in all of its sessions together.")
    labels: dict[Name, StrictStr] = Field(default_factory=dict, description="Words to choose by.")
    cost_usd: float = Field(0, strict=True, description="Expected cost of one attempt.")


class Hold(Schema):
    """An attempt that the session works on."""

    model_config = ConfigDict(extra="forbid")

    task: UUID
    attempt: Attempts


class SessionIn(Schema):
    """What every call says of the process that works."""

    model_config = ConfigDict(extra="forbid")

    session: SessionId = Field(description="Chosen by the process at its start, never used before.")
    slots: StrictInt = Field(1, ge=1, le=1_000, description="Attempts the process can work on at once.")
    holds: list[Hold] = Field(default_factory=list, max_length=1_000, description="Exactly those it works on now.")
    draining: StrictBool = Field(False, description="It takes nothing new.")


class ClaimIn(SessionIn):
    """Ask for attempts."""

    max: StrictInt = Field(1, ge=0, le=100, description="So many at most; 0 waits for stops alone.")
    wait_s: float = Field(20, ge=0, le=30, description="Seconds to wait when there is nothing.")


class ClaimOut(Schema):
    """An attempt that is the session's now."""

    task: UUID
    attempt: int
    skill: str
    version: str
    input: Any
    timeout_s: float = Field(description="It has to end within.")
    idempotency_key: str = Field(description="The same for every attempt of the task: pass it on to what has effects.")
    context: UUID | None
    labels: dict[str, str]
    created_at: datetime


class StopOut(Schema):
    """An attempt to stop."""

    task: UUID
    attempt: int
    reason: Literal["canceled", "stale"] = Field(description="stale: it is somebody else's, or over; report nothing.")


class RenewOut(Schema):
    """How long the session's attempts are safe now, and which to stop."""

    lease_s: float = Field(description="Renew before so many seconds have passed, best every third of it.")
    stop: list[StopOut]


class ClaimsOut(RenewOut):
    """What the session got."""

    claims: list[ClaimOut]


class Report(Hold):
    """About one attempt."""

    session: SessionId


class NoteIn(Schema):
    """A progress report or a log line."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["progress", "log"]
    fraction: float | None = Field(None, ge=0, le=1)
    level: Literal["debug", "info", "warning", "error"] = "info"
    message: StrictStr = Field("", max_length=4_000)


class ProgressIn(Report):
    """Progress reports and log lines, in order."""

    notes: list[NoteIn] = Field(min_length=1, max_length=200)


class CompleteIn(Report):
    """The attempt succeeded."""

    output: Any = None
    usage: Usage = Field(default_factory=dict)


class ErrorIn(Schema):
    """Why it did not."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["agent", "bad_input", "bad_output", "limit", "timeout", "canceled", "unavailable"] = "agent"
    message: StrictStr = Field(max_length=4_000)
    retryable: StrictBool = False
    detail: dict[str, Any] | None = None


class FailIn(Report):
    """The attempt failed."""

    error: ErrorIn
    retry_in_s: float | None = Field(None, ge=0, le=604_800, description="Ask for another attempt after so long.")
    usage: Usage = Field(default_factory=dict)


class LeaveIn(Schema):
    """The session ends, and gives back what it still holds."""

    model_config = ConfigDict(extra="forbid")

    session: SessionId
    holds: list[Hold] = Field(default_factory=list, max_length=1_000)


class EndOut(Schema):
    """What became of the report."""

    task: UUID
    attempt: int
    state: str = Field(description="Of the attempt. Still working with 202: told, and not committed yet.")


class KeptOut(Schema):
    """An artifact that is kept."""

    name: str
    sha256: str
    size: int
    media_type: str
