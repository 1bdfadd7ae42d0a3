"""Shapes of agents and skills as programs and files describe them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema
from pydantic import BeforeValidator, ConfigDict, StrictBool, StrictInt, StrictStr

from routing.schemas import Name


class SkillIn(Schema):
    """A skill. It is made or changed if a description is given; by its name alone it has to be there."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    version: Name = Field("", description="Empty: the newest one, 1 for a new skill.")
    description: StrictStr | None = None
    input_schema: dict[str, Any] = Field(default_factory=dict, description="JSON Schema 2020-12; {} accepts anything.")
    output_schema: dict[str, Any] = Field(default_factory=dict, description="JSON Schema 2020-12; {} accepts anything.")
    idempotent: StrictBool = Field(False, description="Doing it twice does no harm.")
    timeout_s: float = Field(300, strict=True, description="Seconds one attempt may work.")
    max_attempts: StrictInt = Field(3, description="Attempts that began, before a task fails.")


def described(skill: Any) -> Any:
    """Return a skill that is named by a text as an object."""
    return {"name": skill} if isinstance(skill, str) else skill


class AgentIn(Schema):
    """An agent. What is left out has its usual value."""

    model_config = ConfigDict(extra="forbid")

    description: StrictStr = ""
    skills: list[Annotated[SkillIn, BeforeValidator(described)]] = Field(
        default_factory=list, max_length=200, description="Each described, or just its name as text."
    )
    executor: Name = "python"
    options: dict[str, Any] = Field(default_factory=dict, description="What the executor needs.")
    capacity: StrictInt = Field(4, description="Attempts it may hold at once.")
    labels: dict[Name, StrictStr] = Field(default_factory=dict, description="Words to choose by.")
    cost_usd: float = Field(0, strict=True, description="Expected cost of one attempt.")
    enabled: StrictBool = True
    draining: StrictBool = Field(False, description="Takes nothing new, finishes what it has.")


class AgentPatch(AgentIn):
    """What to change of an agent; what is left out stays."""


class LearnedOut(Schema):
    """What the router expects of the agent's next attempt at the skill; written every 5 seconds while it learns."""

    success: float = Field(description="Chance, 0 to 1.")
    success_sd: float = Field(description="Standard deviation of what is known about that chance.")
    expected_s: float
    p95_s: float | None = Field(description="Of successful attempts; null before the first.")
    cost_usd: float = Field(description="Of one attempt.")
    samples: int = Field(description="Attempts that ended. With 0 everything is borrowed from similar ones.")
    learned_at: datetime | None = Field(description="When the last of them ended.")


class CountedOut(Schema):
    """What the ledger says of the attempts sent to the agent since ``since``."""

    attempts: int
    running: int
    succeeded: int
    failed: dict[str, int] = Field(description="Kind of error to number of attempts.")
    other: int = Field(description="Canceled, or handed back.")
    p50_s: float | None = Field(description="Of successful attempts.")
    p95_s: float | None
    cost_usd: float | None = Field(description="That the agent told of; null if it told nothing.")


class BreakerOut(Schema):
    """How a circuit breaker stands."""

    state: Literal["closed", "open", "ejected", "half-open"]
    words: str = Field(description="Empty while it is closed.")
    until: datetime | None = Field(description="When the next attempt may try it.")
    opens: int = Field(description="Times it opened, less those forgotten in quiet times.")
    ejections: int = Field(description="Times it opened because its peers did better.")


class RatedOut(Schema):
    """What callers said of the outputs."""

    mean: float | None = Field(description="0 to 1.")
    ratings: int


class CardOut(Schema):
    """One agent at one skill."""

    skill: str
    version: str = Field(description="That is asked for; empty is any.")
    learned: LearnedOut
    counted: CountedOut
    breaker: BreakerOut
    feedback: RatedOut


class ScorecardOut(Schema):
    """What an agent has shown at its skills."""

    agent: str
    at: datetime
    since: datetime = Field(description="Attempts sent from then on are counted; a day ago.")
    is_cut: bool = Field(description="There were more than 10,000 attempts, so since is later than a day ago.")
    breaker: BreakerOut = Field(description="Of the agent as a whole, for failures that span its skills.")
    cards: list[CardOut]
