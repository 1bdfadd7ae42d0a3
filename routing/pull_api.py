"""REST for agents that run elsewhere and fetch their attempts, behind a firewall or not."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja import Query, Router, Status

from routing import errors, listing, pull, schemas
from routing import pull_schemas as shapes
from routing.access import Needs, caller
from routing.models import AttemptState, Scope
from routing.pull_bell import bell

router = Router()
REFUSALS = {frozenset({400, 401, 403, 404, 409, 413, 415, 422, 503}): schemas.Problem}
works = Needs(Scope.AGENTS_WORK)
LOOK_S = 2.0  # a request that waits looks again by itself
RECORD_S = 3.0  # an answer waits so long for the commit of what it reports
FIRST_LOOK_S, MOST_LOOK_S = 0.008, 0.1
MEDIA_TYPE = "application/octet-stream"
ANY_BODY = {
    "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.put("/agents/{name}/pull", auth=works, response={200: schemas.AgentOut, 201: schemas.AgentOut, **REFUSALS})
def register_pull_agent(request: HttpRequest, name: str, agent: shapes.PullAgentIn) -> Status[schemas.AgentOut]:
    """Register an agent that fetches its attempts (201), or change it to be exactly so (200)."""
    who = caller(request)
    may_change = Scope.AGENTS_WRITE in who.scopes
    row, is_new = pull.register(who.tenant, name, agent, may_change_skills=may_change)
    return Status(201 if is_new else 200, listing.agent_out(row))


@router.post("/agents/{name}/claims", auth=works, response={200: shapes.ClaimsOut, **REFUSALS})
async def claim_attempts(request: HttpRequest, name: str, wish: shapes.ClaimIn) -> shapes.ClaimsOut:
    """Fetch attempts, waiting for up to ``wait_s`` seconds until there is one or one in hand is to stop.

    Each is the session's for ``lease_s`` seconds; ``renew`` keeps it. Sent again, it returns what the answer before
    would have brought.
    """
    session = await _session(request, name, wish.session)
    give_up, keys = time.monotonic() + wish.wait_s, _keys(wish.holds)
    async with bell().waiter(name, keys) as waiter:
        stops = await _renew(session, keys, wish)
        while True:
            claims = [] if wish.draining else await sync_to_async(pull.claim)(session, wish.max, keys)
            left = give_up - time.monotonic()
            if claims or stops or left <= 0:
                return shapes.ClaimsOut(lease_s=pull.LEASE_S, stop=stops, claims=claims)
            if await waiter.wait(min(LOOK_S, left)) and keys:
                stops = await _renew(session, keys, wish)


@router.post("/agents/{name}/renew", auth=works, response={200: shapes.RenewOut, **REFUSALS})
async def renew_leases(request: HttpRequest, name: str, wish: shapes.SessionIn) -> shapes.RenewOut:
    """Say that the process lives, and keep its attempts for another ``lease_s`` seconds."""
    session = await _session(request, name, wish.session)
    return shapes.RenewOut(lease_s=pull.LEASE_S, stop=await _renew(session, _keys(wish.holds), wish))


@router.post("/agents/{name}/progress", auth=works, response={204: None, **REFUSALS})
def report_progress(request: HttpRequest, name: str, report: shapes.ProgressIn) -> Status[None]:
    """Report progress and log lines of an attempt."""
    pull.note(pull.session(caller(request).tenant, name, report.session), _of(report), report.notes)
    return Status(204, None)


@router.post("/agents/{name}/artifacts", auth=works, response={201: shapes.KeptOut, **REFUSALS}, openapi_extra=ANY_BODY)
def keep_artifact(
    request: HttpRequest,
    name: str,
    session: Query[shapes.SessionId],
    task: Query[UUID],
    attempt: Annotated[int, Query(ge=1, le=1_000_000)],
    file_name: Query[str],
) -> Status[dict[str, Any]]:
    """Keep the body, of any media type, as a file of the task."""
    mine = pull.session(caller(request).tenant, name, session)
    media_type = request.content_type or MEDIA_TYPE
    data: Any = request  # it reads as a file
    return Status(201, pull.keep(mine, (str(task), attempt), file_name, data, media_type))


@router.post("/agents/{name}/complete", auth=works, response={200: shapes.EndOut, 202: shapes.EndOut, **REFUSALS})
async def complete_attempt(request: HttpRequest, name: str, report: shapes.CompleteIn) -> Status[shapes.EndOut]:
    """Report an attempt's output. 200: committed. 202: told, and committed soon. 409: it was given up before."""
    session = await _session(request, name, report.session)
    await sync_to_async(pull.complete)(session, _of(report), report.output, report.usage)
    return await _recorded(report, AttemptState.COMPLETED)


@router.post("/agents/{name}/fail", auth=works, response={200: shapes.EndOut, 202: shapes.EndOut, **REFUSALS})
async def fail_attempt(request: HttpRequest, name: str, report: shapes.FailIn) -> Status[shapes.EndOut]:
    """Report that an attempt did not succeed; the task's rules decide whether another follows."""
    session = await _session(request, name, report.session)
    error = report.error.model_dump(exclude_none=True)
    await sync_to_async(pull.fail)(session, _of(report), error, report.usage, report.retry_in_s)
    return await _recorded(report)


@router.post("/agents/{name}/leave", auth=works, response={204: None, **REFUSALS})
def leave(request: HttpRequest, name: str, wish: shapes.LeaveIn) -> Status[None]:
    """End a session: what it holds is offered to others at once, without blame."""
    pull.leave(pull.session(caller(request).tenant, name, wish.session), _keys(wish.holds))
    return Status(204, None)


async def _session(request: HttpRequest, name: str, id: str) -> pull.Session:
    return await sync_to_async(pull.session)(caller(request).tenant, name, id)


async def _renew(session: pull.Session, keys: list[pull.Key], wish: shapes.SessionIn) -> list[shapes.StopOut]:
    return await sync_to_async(pull.renew)(session, keys, slots=wish.slots, draining=wish.draining)


async def _recorded(report: shapes.Report, wanted: str = "") -> Status[shapes.EndOut]:
    """Return 200 once the attempt's end is committed. Raises ``NotYours`` if it had ended otherwise before."""
    give_up, pause_s = time.monotonic() + RECORD_S, FIRST_LOOK_S
    while (state := await sync_to_async(pull.state_of)(_of(report))) in pull.LIVE and time.monotonic() < give_up:
        await asyncio.sleep(pause_s)
        pause_s = min(MOST_LOOK_S, pause_s * 2)
    if wanted and state not in (*pull.LIVE, wanted):
        raise errors.NotYours(task=report.task, attempt=report.attempt, why=f"it is {state}")
    out = shapes.EndOut(task=report.task, attempt=report.attempt, state=state)
    return Status(202 if state in pull.LIVE else 200, out)


def _of(report: shapes.Report) -> pull.Key:
    return str(report.task), report.attempt


def _keys(holds: list[shapes.Hold]) -> list[pull.Key]:
    return [(str(hold.task), hold.attempt) for hold in holds]
