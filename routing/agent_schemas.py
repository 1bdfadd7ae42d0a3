"""Shapes of agents and skills as programs and files describe them."""

from __future__ import annotations

from typing import Annotated, Any

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


def _described(skill: Any) -> Any:
    return {"name": skill} if isinstance(skill, str) else skill


class AgentIn(Schema):
    """An agent. What is left out has its usual value."""

    model_config = ConfigDict(extra="forbid")

    description: StrictStr = ""
    skills: list[Annotated[SkillIn, BeforeValidator(_described)]] = Field(
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
