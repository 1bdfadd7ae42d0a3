"""How programs and files register agents: their skills by name, or described and made on the fly."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.db import transaction

from routing import errors, registry
from routing.agent_schemas import AgentIn, SkillIn
from routing.models import Agent, Skill


def register(tenant: str, name: str, wanted: AgentIn, *, only: Iterable[str] | None = None) -> tuple[Agent, bool]:
    """Return the agent as it was wanted, and whether it is new. ``only`` names the fields to change of one that exists.

    All or nothing. Raises ``BadRegistration``, ``NameTaken`` for another tenant's agent, and ``NoSuchAgent`` when only
    some fields are given and there is none.
    """
    with transaction.atomic():
        agent = Agent.objects.filter(name=name).first()
        if agent is None and only is not None:
            raise errors.NoSuchAgent(name=name)
        if agent is not None and agent.tenant_id != tenant:
            raise errors.NoSuchAgent(name=name) if only is not None else errors.NameTaken(name=name)
        fields = set(AgentIn.model_fields) if only is None else set(only)
        row = agent or Agent(name=name, tenant_id=tenant)
        for field in fields - {"skills"}:
            setattr(row, field, _column(field, getattr(wanted, field)))
        skills = _skills(tenant, wanted.skills) if "skills" in fields else list(row.skills.all())
        return registry.save_agent(row, skills), agent is None


def find(tenant: str, name: str) -> Agent:
    """Return the tenant's agent. Raises ``NoSuchAgent``."""
    agent = Agent.objects.filter(tenant_id=tenant, name=name).first()
    if agent is None:
        raise errors.NoSuchAgent(name=name)
    return agent


def save_skill(tenant: str, wanted: SkillIn, *, whole: bool = False) -> Skill:
    """Return the skill, made or changed as described; ``whole`` also sets what was left out to its usual value.

    Raises ``BadRegistration``.
    """
    row = registry.newest_skill(tenant, wanted.name, wanted.version) or Skill(tenant_id=tenant, name=wanted.name)
    is_new = row.pk is None
    values: dict[str, Any] = wanted.model_dump(
        exclude={"name", "version", "tenant"}, exclude_unset=not (is_new or whole)
    )
    values["description"] = wanted.description or ""
    if is_new and wanted.version:
        row.version = wanted.version
    changes = {field: value for field, value in values.items() if getattr(row, field) != value}
    for field, value in changes.items():
        setattr(row, field, value)
    return registry.save_skill(row) if is_new or changes else row


def _skills(tenant: str, wanted: Iterable[SkillIn]) -> list[Skill]:
    return [_skill(tenant, each, place) for place, each in enumerate(wanted)]


def _skill(tenant: str, asked: SkillIn, place: int) -> Skill:
    if asked.description is not None:
        try:
            return save_skill(tenant, asked)
        except errors.BadRegistration as error:
            error.pointer = f"/skills/{place}{error.pointer}"
            error.fields["problems"] = [(f"skills/{place}/{field}", words) for field, words in error.fields["problems"]]
            raise
    there = registry.newest_skill(tenant, asked.name, asked.version)
    if there is None:
        known = ", ".join(sorted(set(Skill.objects.filter(tenant_id=tenant).values_list("name", flat=True)))[:20])
        what = asked.name + (f" v{asked.version}" if asked.version else "")
        why = f"No skill is called {what!r}; known: {known or 'none'}. To make it, give it a description."
        raise errors.BadRegistration(why=why, pointer=f"/skills/{place}", problems=[(f"skills/{place}", why)])
    return there


def _column(field: str, value: Any) -> Any:
    return Decimal(str(value)) if field == "cost_usd" else value
