"""What the fleet, and each of its agents, says of itself: A2A's agent cards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from a2a.types import a2a_pb2 as pb
from a2a.utils.signing import create_agent_card_signer
from django.conf import settings

from routing import registry
from routing.a2a import conformance, wire
from routing.models import Agent, Revision, Skill

ROOT = "/a2a"  # where the protocol is served; below it the paths of single agents
VERSION = "1.0"
OLD_VERSION = "0.3"
MODES = ("text/plain", "application/json")
ALGORITHM = "ES256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a card stands for: the whole fleet of a tenant, or one agent."""

    tenant: str
    agent: str  # "" is the fleet
    skills: Sequence[Skill]  # the newest version of each, by name
    description: str
    changed_at: datetime

    @property
    def default_skill(self) -> str:
        """Return the skill of a message that names none, "" where it has to name one."""
        names = [skill.name for skill in self.skills]
        for name in (conformance.SKILL if conformance.is_on() else "", settings.A2A_DEFAULT_SKILL):
            if name in names:
                return name
        return names[0] if len(names) == 1 else ""


def offer(tenant: str, agent: str = "") -> Offer | None:
    """Return what is offered under a path, None where there is nothing."""
    if not agent:
        rows = Skill.objects.filter(tenant_id=tenant, agents__enabled=True).distinct()
        words = "A fleet of agents behind one router: it gives each task to the best agent that is free."
        return Offer(tenant=tenant, agent="", skills=_newest(rows), description=words, changed_at=_changed_at())
    row = Agent.objects.filter(tenant_id=tenant, name=agent).prefetch_related("skills").first()
    if row is None:
        return None
    words = row.description or f"The agent {row.name} of a fleet."
    skills = _newest(row.skills.all())
    return Offer(tenant=tenant, agent=row.name, skills=skills, description=words, changed_at=row.updated_at)


def card(offered: Offer, base: str, *, extended: bool = False) -> pb.AgentCard:
    """Return the card; ``base`` is the site's address. The extended one has the skills' schemas as well."""
    made = pb.AgentCard(
        name=offered.agent or settings.A2A_NAME,
        description=offered.description,
        version=str(registry.revision()),
        default_input_modes=conformance.MODES if conformance.is_on() else MODES,
        default_output_modes=MODES,
        documentation_url=f"{base}/",
    )
    made.supported_interfaces.extend(_interfaces(offered, base))
    made.capabilities.CopyFrom(_capabilities())
    made.skills.extend(_skill(skill, extended=extended) for skill in offered.skills)
    if not conformance.is_on():
        made.security_schemes["bearer"].http_auth_security_scheme.scheme = "Bearer"
        made.security_requirements.add().schemes["bearer"].list.extend(())
    return made


def signed(made: pb.AgentCard) -> pb.AgentCard:
    """Return the card with a signature (JWS over RFC 8785) where ``A2A_CARD_KEY`` names a key, else as it is."""
    signer = _signer(settings.A2A_CARD_KEY, settings.A2A_CARD_KEY_ID)
    return signer(made) if signer is not None else made


def _interfaces(offered: Offer, base: str) -> Iterable[pb.AgentInterface]:
    url = f"{base}{ROOT}"
    for binding in ("JSONRPC", "HTTP+JSON"):
        yield pb.AgentInterface(url=url, protocol_binding=binding, protocol_version=VERSION, tenant=offered.agent)
    if settings.A2A_GRPC_PORT:
        address = f"{_host(base)}:{settings.A2A_GRPC_PORT}"
        yield pb.AgentInterface(url=address, protocol_binding="GRPC", protocol_version=VERSION, tenant=offered.agent)
    for binding in ("JSONRPC", "HTTP+JSON"):
        yield pb.AgentInterface(url=url, protocol_binding=binding, protocol_version=OLD_VERSION, tenant=offered.agent)


def _host(base: str) -> str:
    host = base.partition("://")[2]
    return host[: host.index("]") + 1] if host.startswith("[") else host.partition(":")[0]


def _capabilities() -> pb.AgentCapabilities:
    made = pb.AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=True)
    extension = made.extensions.add()
    extension.uri = wire.EXTENSION
    extension.description = (
        "Which skill, and if need be which agent, a message is for: metadata "
        f'{{"{wire.EXTENSION}": {{"skill": …, "agent": …, "version": …, "priority": 0 to 9, "labels": {{…}}}}}}.'
    )
    return made


def _skill(skill: Skill, *, extended: bool) -> pb.AgentSkill:
    made = pb.AgentSkill(
        id=skill.name, name=skill.name, description=skill.description or f"The skill {skill.name}.", tags=[skill.name]
    )
    if extended and skill.input_schema:
        made.examples.append(_example(skill.input_schema))
    return made


def _example(schema: dict[str, Any]) -> str:
    return f"JSON Schema of the input: {orjson.dumps(schema).decode()}"


def _newest(rows: Iterable[Skill]) -> list[Skill]:
    found: dict[str, Skill] = {}
    for row in sorted(rows, key=lambda skill: registry.version_key(skill.version)):
        found[row.name] = row
    return [found[name] for name in sorted(found)]


def _changed_at() -> datetime:
    row = Revision.objects.filter(id=1).first()
    return row.changed_at if row is not None else datetime.fromtimestamp(0, UTC)


@lru_cache(maxsize=4)
def _signer(key: str, key_id: str) -> Callable[[pb.AgentCard], pb.AgentCard] | None:
    if not key:
        return None
    header: Any = {"kid": key_id or "a2a-mission-control", "alg": ALGORITHM, "typ": "JOSE", "jku": None}
    return create_agent_card_signer(Path(key).read_bytes(), header)
