"""What the tasks of a context share. The only writer of ``ContextKey`` and ``ContextWrite``.

A write is one transaction that holds the key's row, so no two writers miss one another; what both wanted together is
decided by ``merging``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from coordination import errors, locks, merging
from coordination.merging import Rule
from coordination.models import ContextKey, ContextWrite
from routing import payloads

MAX_BYTES = 262_144  # of one value
MAX_KEYS = 1_000  # of one context
MAX_KEY = 200  # characters
KEPT_WRITES = 200  # of one key


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who writes: a task, or somebody at a door."""

    tenant: str
    by: str
    task: UUID | None = None


def find(tenant: str, context: UUID, key: str) -> ContextKey:
    """Return the key's row. Raises ``NoSuchKey``, for another tenant's just the same."""
    row = None if "\0" in key else _rows(tenant, context).filter(key=key, is_there=True).first()
    if row is None:
        raise errors.NoSuchKey(context=context, key=key)
    return row


def keys(tenant: str, context: UUID) -> Iterator[ContextKey]:
    """Yield the keys that are there, sorted."""
    yield from _rows(tenant, context).filter(is_there=True).order_by("key")


def put(
    writer: Writer, context: UUID, key: str, value: Any, *, base: int | None = None, rule: str | None = None,
    fence: locks.Fence | None = None,
) -> ContextKey:  # fmt: skip
    """Write a value and return the key's row. ``base``: the version it was made from, 0 for none, None for unknown.

    Raises ``Conflict`` with both values, ``UnfitValue``, ``TooManyKeys``, ``LockLost`` or what ``payloads`` refuses.
    """
    return _write(writer, context, key, value, verb="put", base=base, rule=rule, fence=fence)


def patch(
    writer: Writer, context: UUID, key: str, change: Any, *, base: int | None = None, fence: locks.Fence | None = None
) -> ContextKey:
    """Merge a change into the value (RFC 7396) and return the key's row. Raises as ``put`` does."""
    return _write(writer, context, key, change, verb="patch", base=base, rule=None, fence=fence)


def delete(writer: Writer, context: UUID, key: str, *, base: int | None = None) -> None:
    """Remove the key. Raises ``NoSuchKey``, or ``Conflict`` where its rule is to reject and the version is another."""
    with transaction.atomic():
        row = _rows(writer.tenant, context).select_for_update().filter(key=key, is_there=True).first()
        if row is None:
            raise errors.NoSuchKey(context=context, key=key)
        if row.rule == Rule.REJECT and base != row.version:
            raise _conflict(row, base, None)
        _keep(row, writer, None, verb="delete", is_there=False)


def _write(
    writer: Writer, context: UUID, key: str, given: Any, *, verb: str, base: int | None, rule: str | None,
    fence: locks.Fence | None,
) -> ContextKey:  # fmt: skip
    _check(key, given, rule)
    with transaction.atomic():
        if fence is not None:
            locks.check(writer.tenant, context, fence)
        row = _row(writer.tenant, context, key, rule)
        try:
            value, collided = _joined(row, given, verb, base)
        except merging.Collision:
            raise _conflict(row, base, given) from None
        except merging.Unfit as error:
            raise errors.UnfitValue(key=key, why=str(error)) from None
        payloads.check(value, max_bytes=MAX_BYTES)
        if rule is not None:
            row.rule = Rule(rule)
        _keep(row, writer, value, verb=verb, collided=collided)
    return row


def _joined(row: ContextKey, given: Any, verb: str, base: int | None) -> tuple[Any, bool]:
    """Return the new value, and whether the rule had to join it with what was there."""
    rule = Rule(row.rule)
    if not row.is_there:
        if base and rule == Rule.REJECT:  # made from a value that was removed meanwhile
            raise merging.Collision
        return (merging.merged(None, given) if verb == "patch" else given), False
    is_blind = base != row.version
    if is_blind and rule == Rule.REJECT:
        raise merging.Collision
    if verb == "patch":
        return merging.merged(row.value, given), is_blind
    return (merging.joined(rule, row.value, given), True) if is_blind else (given, False)


def _row(tenant: str, context: UUID, key: str, rule: str | None) -> ContextKey:
    """Return the key's row, held until the transaction ends; a new one, not saved, where there is none."""
    row = _rows(tenant, context).select_for_update().filter(key=key).first()
    if row is not None:
        return row
    if _rows(tenant, context).filter(is_there=True).count() >= MAX_KEYS:
        raise errors.TooManyKeys(context=context, most=MAX_KEYS)
    fresh = ContextKey(tenant_id=tenant, context=context, key=key, version=0, rule=rule or Rule.REJECT, is_there=False)
    try:
        with transaction.atomic():
            fresh.save(force_insert=True)
    except IntegrityError:  # somebody else was first: theirs is there now
        return _rows(tenant, context).select_for_update().get(key=key)
    return fresh


def _keep(
    row: ContextKey, writer: Writer, value: Any, *, verb: str, is_there: bool = True, collided: bool = False
) -> None:
    row.version, row.value, row.is_there, row.at = row.version + 1, value, is_there, timezone.now()
    row.save()
    ContextWrite.objects.create(
        key=row, version=row.version, verb=verb, value=value, collided=collided, by=writer.by[:150], task=writer.task
    )
    if row.version % KEPT_WRITES == 0:
        ContextWrite.objects.filter(Q(key=row) & Q(version__lte=row.version - KEPT_WRITES)).delete()


def _check(key: str, value: Any, rule: str | None) -> None:
    payloads.check(value, max_bytes=MAX_BYTES)
    if not key or len(key) > MAX_KEY or not key.isprintable():
        raise errors.UnfitValue(key=key[:MAX_KEY], why=f"a key has 1 to {MAX_KEY} printable characters.")
    if rule is not None and rule not in list(Rule):
        raise errors.UnfitValue(key=key, why=f"no rule is called {rule[:40]!r}; there are {', '.join(Rule)}.")


def _conflict(row: ContextKey, base: int | None, yours: Any) -> errors.Conflict:
    words = "your write names none" if base is None else f"not {base}"
    version = row.version if row.is_there else 0
    return errors.Conflict(key=row.key, version=version, base=words, theirs=row.value, yours=yours)


def _rows(tenant: str, context: UUID) -> QuerySet[ContextKey]:
    return ContextKey.objects.filter(tenant_id=tenant, context=context)
