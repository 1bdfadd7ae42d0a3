"""REST for contexts: shared state with versions, and advisory locks. Every view validates, makes one call, returns."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Body, Router, Status
from ninja.params.functions import Header, Query

from coordination import locks, schemas, state
from coordination.models import ContextKey, ContextLock, ContextWrite, Run
from routing.access import Caller, Needs, caller
from routing.errors import BadInput
from routing.models import Scope, Task
from routing.schemas import Problem

router = Router()
REFUSALS = {frozenset({400, 401, 403, 404, 409, 413, 415, 422, 503}): Problem}
reads, writes = Needs(Scope.TASKS_READ), Needs(Scope.TASKS_WRITE)
ETAG = re.compile(r'(?:W/)?"v(\d{1,9})"')
FENCE = re.compile(r"(.{1,200})=(\d{1,18})")
IF_MATCH, IF_NONE_MATCH = Header(None, alias="If-Match"), Header(None, alias="If-None-Match")
FENCING_TOKEN = Header(None, alias="Fencing-Token", description="`LOCK=TOKEN`: refuse unless this lock is still held.")
RULE = Query(None, description="From now on, when writers collide.")
SHOWN = 100
NO_LEASE = schemas.LockIn(lease_s=30.0)
At = "/contexts/{uuid:context}"
Key = At + "/state/{key}"


@router.get(At, auth=reads, response={200: schemas.ContextOut, **REFUSALS})
def get_context(request: HttpRequest, context: UUID) -> schemas.ContextOut:
    """Return what belongs to a context: keys, held locks, the newest tasks and runs. Empty if nothing does."""
    tenant = caller(request).tenant
    mine: dict[str, Any] = {"tenant_id": tenant, "context": context}
    return schemas.ContextOut(
        id=context,
        keys=[_key(row) for row in state.keys(tenant, context)],
        locks=[_lock(row) for row in locks.held(tenant, context)],
        tasks=list(Task.objects.filter(**mine).order_by("-created_at").values_list("id", flat=True)[:SHOWN]),
        runs=list(Run.objects.filter(**mine).order_by("-created_at").values_list("id", flat=True)[:SHOWN]),
    )


@router.get(Key, auth=reads, response={200: schemas.KeyOut, 304: None, **REFUSALS})
def get_key(
    request: HttpRequest, response: HttpResponse, context: UUID, key: str, if_none_match: str | None = IF_NONE_MATCH
) -> Status[schemas.KeyOut] | Status[None]:
    """Return a value with its version as ETag."""
    row = state.find(caller(request).tenant, context, key)
    response["ETag"] = _etag(row)
    if if_none_match is not None and _etag(row) in if_none_match:
        return Status(304, None)
    return Status(200, _key(row))


@router.put(Key, auth=writes, response={200: schemas.KeyOut, 201: schemas.KeyOut, **REFUSALS})
def put_key(
    request: HttpRequest,
    response: HttpResponse,
    context: UUID,
    key: str,
    value: Body[Any],
    rule: str | None = RULE,
    if_match: str | None = IF_MATCH,
    if_none_match: str | None = IF_NONE_MATCH,
    fencing_token: str | None = FENCING_TOKEN,
) -> Status[schemas.KeyOut]:
    """Write a value. With the current version in If-Match (or ``If-None-Match: *`` for a new key) it replaces what is
    there; otherwise the writers collide, and the key's rule decides. 409 holds both values."""
    base, fence = _base(if_match, if_none_match), _fence(fencing_token)
    row = state.put(_writer(request), context, key, value, base=base, rule=rule, fence=fence)
    response["ETag"] = _etag(row)
    return Status(201 if row.version == 1 else 200, _key(row))


@router.patch(Key, auth=writes, response={200: schemas.KeyOut, 201: schemas.KeyOut, **REFUSALS})
def patch_key(
    request: HttpRequest,
    response: HttpResponse,
    context: UUID,
    key: str,
    change: Body[Any],
    if_match: str | None = IF_MATCH,
    fencing_token: str | None = FENCING_TOKEN,
) -> Status[schemas.KeyOut]:
    """Merge a change into the value (RFC 7396)."""
    row = state.patch(_writer(request), context, key, change, base=_base(if_match, None), fence=_fence(fencing_token))
    response["ETag"] = _etag(row)
    return Status(201 if row.version == 1 else 200, _key(row))


@router.delete(Key, auth=writes, response={204: None, **REFUSALS})
def delete_key(request: HttpRequest, context: UUID, key: str, if_match: str | None = IF_MATCH) -> Status[None]:
    """Remove a key. Its versions go on if it comes again."""
    state.delete(_writer(request), context, key, base=_base(if_match, None))
    return Status(204, None)


@router.get(Key + "/writes", auth=reads, response={200: schemas.WriteList, **REFUSALS})
def list_writes(request: HttpRequest, context: UUID, key: str) -> schemas.WriteList:
    """List who wrote the key, what, and when."""
    row = state.find(caller(request).tenant, context, key)
    rows = ContextWrite.objects.filter(key=row).order_by("-version")[: state.KEPT_WRITES]
    fields = schemas.WriteOut.model_fields
    return schemas.WriteList(
        writes=[schemas.WriteOut(**{name: getattr(write, name) for name in fields}) for write in rows]
    )


# ---- locks --------------------------------------------------------------------------------------------------------


@router.post(At + "/locks/{key}:renew", auth=writes, response={200: schemas.LockOut, **REFUSALS})
def renew_lock(request: HttpRequest, context: UUID, key: str, wish: schemas.LockRenewIn) -> schemas.LockOut:
    """Hold the lock for longer. 409: it was lost."""
    fence = locks.Fence(key=key, token=wish.token)
    return _lock(locks.renew(caller(request).tenant, context, fence, lease_s=wish.lease_s))


@router.post(At + "/locks/{key}", auth=writes, response={201: schemas.LockOut, **REFUSALS})
def acquire_lock(
    request: HttpRequest, context: UUID, key: str, wish: Body[schemas.LockIn] = NO_LEASE
) -> Status[schemas.LockOut]:
    """Get an advisory lock for a while. 409: somebody holds it."""
    who = caller(request)
    return Status(201, _lock(locks.acquire(who.tenant, context, key, holder=who.name, lease_s=wish.lease_s)))


@router.delete(At + "/locks/{key}", auth=writes, response={204: None, **REFUSALS})
def release_lock(request: HttpRequest, context: UUID, key: str, token: int) -> Status[None]:
    """Let a lock go. 409: it was lost before."""
    locks.release(caller(request).tenant, context, locks.Fence(key=key, token=token))
    return Status(204, None)


# ---- shapes -------------------------------------------------------------------------------------------------------


def _writer(request: HttpRequest) -> state.Writer:
    who: Caller = caller(request)
    return state.Writer(tenant=who.tenant, by=who.name)


def _base(if_match: str | None, if_none_match: str | None) -> int | None:
    """Return the version that the write was made from. Raises ``BadInput``."""
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise BadInput(why="If-None-Match can only be * in a write: the key must not be there.")
        return 0
    if if_match is None:
        return None
    found = ETAG.fullmatch(if_match.strip())
    if found is None:
        raise BadInput(why=f'If-Match has to be an ETag that was given here, such as "v3", not {if_match[:40]}.')
    return int(found[1])


def _fence(text: str | None) -> locks.Fence | None:
    if text is None:
        return None
    found = FENCE.fullmatch(text)
    if found is None:
        raise BadInput(why="Fencing-Token has to look like LOCK=TOKEN, such as ledger=7.")
    return locks.Fence(key=found[1], token=int(found[2]))


def _etag(row: ContextKey) -> str:
    return f'"v{row.version}"'


def _key(row: ContextKey) -> schemas.KeyOut:
    return schemas.KeyOut(**{name: getattr(row, name) for name in schemas.KeyOut.model_fields})


def _lock(row: ContextLock) -> schemas.LockOut:
    return schemas.LockOut(**{name: getattr(row, name) for name in schemas.LockOut.model_fields})
