"""What the API answers with, typed.  Pure. Fields this version does not know are left out."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

TERMINAL = frozenset({"completed", "failed", "canceled", "rejected"})
INTERRUPTED = frozenset({"input-required", "auth-required"})


class Model(BaseModel):
    """A frozen value that takes answers of newer servers too."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Attempt(Model):
    """One agent's try at a task."""

    number: int
    agent: str
    worker: str = ""
    state: str
    error: dict[str, Any] | None = None
    usage: dict[str, float] | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Event(Model):
    """One transition of a task or run. ``seq`` counts from 1 without gaps."""

    seq: int
    kind: str
    at: datetime
    attempt: int | None = None
    step: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class Artifact(Model):
    """A file that an attempt produced. ``size`` is in bytes."""

    seq: int
    name: str
    size: int
    sha256: str = ""
    media_type: str = ""
    attempt: int | None = None
    href: str = ""


class Task(Model):
    """A task. ``state`` is one of A2A's; ``progress`` is 0..1, None when unknown."""

    id: UUID
    skill: str
    state: str
    detail: str = ""
    priority: int = 5
    agent: str = ""
    attempt: int = 0
    tries: int = 0
    progress: float | None = None
    input: Any = None
    output: Any = None
    error: dict[str, Any] | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    parent: UUID | None = None
    context: UUID | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    events: tuple[Event, ...] = ()
    artifacts: tuple[Artifact, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether it will never change again."""
        return self.state in TERMINAL

    @property
    def wants_somebody(self) -> bool:
        """Whether it waits for an answer from outside."""
        return self.state in INTERRUPTED

    @property
    def why(self) -> str:
        """Why it ended without an output, or why it waits; "" when there is nothing to say."""
        return str((self.error or {}).get("message") or self.detail)


class Agent(Model):
    """An agent as the registry knows it."""

    name: str
    description: str = ""
    skills: tuple[dict[str, Any], ...] = ()
    executor: str = ""
    capacity: int = 1
    labels: dict[str, str] = Field(default_factory=dict)
    cost_usd: float = 0.0
    enabled: bool = True
    draining: bool = False


class Skill(Model):
    """A skill with the JSON Schemas of its input and output."""

    name: str
    version: str = ""
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict)
    output_schema: dict[str, Any] = Field(default_factory=dict)
    agents: tuple[str, ...] = ()


class Step(Model):
    """A step of a run that has begun."""

    step: str
    state: str
    round: int = 1
    output: Any = None
    error: Any = None
    agent: str = ""
    attempt: int | None = None
    tasks: tuple[UUID, ...] = ()


class Run(Model):
    """A run of a workflow."""

    id: UUID
    workflow: str
    version: int = 0
    state: str
    by: str = ""
    input: Any = None
    output: Any = None
    error: dict[str, Any] | None = None
    parent: UUID | None = None
    forked_from: UUID | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    steps: tuple[Step, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it goes on."""
        return self.ended_at is not None

    @property
    def why(self) -> str:
        """Why it failed; "" if it did not."""
        return str((self.error or {}).get("message") or "")


class Workflow(Model):
    """A workflow by name. ``version`` is its newest, None if it has none."""

    name: str
    description: str = ""
    enabled: bool = True
    version: int | None = None


class Command(Model):
    """What was asked of a run; the run's events tell what came of it."""

    id: UUID
    run: UUID
    kind: str


class Decision(Model):
    """Why an attempt went to its agent, in words."""

    number: int
    agent: str
    state: str
    explanation: tuple[str, ...] = ()
