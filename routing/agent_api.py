"""REST for the registry: agents and skills. Whoever may write agents may run programs on the workers."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Router, Status

from routing import agent_schemas, listing, registration, registry, schemas, scorecards
from routing.access import Needs, caller
from routing.models import Scope
from routing.scorecard import Scorecard

router = Router()
REFUSALS = {frozenset({400, 401, 403, 404, 409, 413, 415, 422, 503}): schemas.Problem}
reads_agents, writes_agents = Needs(Scope.AGENTS_READ), Needs(Scope.AGENTS_WRITE)


@router.get("/agents", auth=reads_agents, response={200: schemas.AgentList, **REFUSALS})
def list_agents(request: HttpRequest) -> schemas.AgentList:
    """List the agents."""
    return listing.agent_list(caller(request).tenant)


@router.get("/skills", auth=reads_agents, response={200: schemas.SkillList, **REFUSALS})
def list_skills(request: HttpRequest) -> schemas.SkillList:
    """List the skills, with the JSON Schemas of their input and output."""
    return listing.skill_list(caller(request).tenant)


@router.post("/agents/{name}:drain", auth=writes_agents, response={200: schemas.AgentOut, **REFUSALS})
def drain_agent(request: HttpRequest, name: str) -> schemas.AgentOut:
    """Let the agent take nothing new and finish what it has."""
    return _set(request, name, draining=True)


@router.post("/agents/{name}:resume", auth=writes_agents, response={200: schemas.AgentOut, **REFUSALS})
def resume_agent(request: HttpRequest, name: str) -> schemas.AgentOut:
    """Let the agent take tasks again after draining."""
    return _set(request, name, draining=False)


@router.get("/agents/{name}", auth=reads_agents, response={200: schemas.AgentOut, **REFUSALS})
def get_agent(request: HttpRequest, name: str) -> schemas.AgentOut:
    """Return one agent."""
    return listing.agent_out(registration.find(caller(request).tenant, name))


@router.get(
    "/agents/{name}/scorecard",
    auth=reads_agents,
    response={200: agent_schemas.ScorecardOut, **REFUSALS},
)
def get_scorecard(request: HttpRequest, name: str) -> Scorecard:
    """Return what the agent has shown at each skill: what the router has learned of it, and what the ledger counts."""
    return scorecards.scorecard(registration.find(caller(request).tenant, name))


@router.put(
    "/agents/{name}",
    auth=writes_agents,
    response={200: schemas.AgentOut, 201: schemas.AgentOut, **REFUSALS},
)
def put_agent(request: HttpRequest, name: str, agent: agent_schemas.AgentIn) -> Status[schemas.AgentOut]:
    """Register an agent (201), or change it to be exactly so (200). Described skills are made or changed with it."""
    row, is_new = registration.register(caller(request).tenant, name, agent)
    return Status(201 if is_new else 200, listing.agent_out(row))


@router.patch("/agents/{name}", auth=writes_agents, response={200: schemas.AgentOut, **REFUSALS})
def patch_agent(request: HttpRequest, name: str, agent: agent_schemas.AgentPatch) -> schemas.AgentOut:
    """Change what is given of an agent."""
    row, _ = registration.register(caller(request).tenant, name, agent, only=agent.model_fields_set)
    return listing.agent_out(row)


@router.delete("/agents/{name}", auth=writes_agents, response={204: None, **REFUSALS})
def delete_agent(request: HttpRequest, name: str) -> Status[None]:
    """Remove an agent. What runs on it is offered to others; its history stays."""
    registry.remove_agent(registration.find(caller(request).tenant, name))
    return Status(204, None)


def _set(request: HttpRequest, name: str, *, draining: bool) -> schemas.AgentOut:
    agent = registration.find(caller(request).tenant, name)
    registry.set_state(agent, draining=draining)
    return listing.agent_out(agent)
