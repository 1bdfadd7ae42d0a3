"""Advisory locks of a context. The only writer of ``ContextLock``.

A lock is a lease with a fencing token (Kleppmann 2016, "How to do distributed locking"): whoever gets it has a larger
token than everyone before, so that a holder who was away too long is told from the one who has it now.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from coordination import errors
from coordination.models import ContextLock
from routing.errors import BadInput

MIN_LEASE_S, MAX_LEASE_S = 1.0, 3600.0
MAX_KEY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A lock that a write rests on, and the token it was got with."""

    key: str
    token: int


def acquire(tenant: str, context: UUID, key: str, *, holder: str, lease_s: float) -> ContextLock:
    """Return the lock, held for ``lease_s`` seconds. Raises ``LockTaken`` or ``BadInput``."""
    _check(key, lease_s)
    now = timezone.now()
    fresh = ContextLock(tenant_id=tenant, context=context, key=key, token=1, holder=holder[:200], since=now,
                        expires_at=now + dt.timedelta(seconds=lease_s))  # fmt: skip
    try:
        with transaction.atomic():
            fresh.save(force_insert=True)
        return fresh
    except IntegrityError:
        pass
    with transaction.atomic():
        row = _rows(tenant, context, key).select_for_update().get()
        if row.expires_at > now:
            raise errors.LockTaken(key=key, holder=row.holder, until=row.expires_at.astimezone(dt.UTC))
        row.token, row.holder, row.since, row.expires_at = row.token + 1, fresh.holder, now, fresh.expires_at
        row.save()
    return row


def renew(tenant: str, context: UUID, fence: Fence, *, lease_s: float) -> ContextLock:
    """Return the lock, held for ``lease_s`` seconds from now. Raises ``LockLost``."""
    _check(fence.key, lease_s)
    now = timezone.now()
    held = _rows(tenant, context, fence.key).filter(token=fence.token, expires_at__gt=now)
    if not held.update(expires_at=now + dt.timedelta(seconds=lease_s)):
        raise errors.LockLost(key=fence.key, token=fence.token)
    return _rows(tenant, context, fence.key).get()


def release(tenant: str, context: UUID, fence: Fence) -> None:
    """Let the lock go. Raises ``LockLost``; letting go of what ran out is no success either."""
    now = timezone.now()
    held = _rows(tenant, context, fence.key).filter(token=fence.token, expires_at__gt=now)
    if not held.update(expires_at=now):
        raise errors.LockLost(key=fence.key, token=fence.token)


def check(tenant: str, context: UUID, fence: Fence) -> None:
    """Raise ``LockLost`` unless the lock is held with this token. In a transaction it stays so until its end."""
    row = _rows(tenant, context, fence.key).select_for_update().filter(token=fence.token).first()
    if row is None or row.expires_at <= timezone.now():
        raise errors.LockLost(key=fence.key, token=fence.token)


def held(tenant: str, context: UUID) -> list[ContextLock]:
    """Return the locks of the context that are held, by key."""
    rows = ContextLock.objects.filter(tenant_id=tenant, context=context, expires_at__gt=timezone.now())
    return list(rows.order_by("key"))


def _rows(tenant: str, context: UUID, key: str) -> QuerySet[ContextLock]:
    return ContextLock.objects.filter(tenant_id=tenant, context=context, key=key)


def _check(key: str, lease_s: float) -> None:
    if not MIN_LEASE_S <= lease_s <= MAX_LEASE_S:
        raise BadInput(why=f"A lease lasts from {MIN_LEASE_S:g} to {MAX_LEASE_S:g} seconds.", pointer="/lease_s")
    if not key or len(key) > MAX_KEY or not key.isprintable():
        raise BadInput(why=f"A lock's key has 1 to {MAX_KEY} printable characters.")
