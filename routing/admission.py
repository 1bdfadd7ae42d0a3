"""What else is known of a submission at the door: who lives already, who came lately, what is contained."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from routing import errors, rulebook
from routing.models import TERMINAL, Command, Task, TaskState
from routing.throttle import admit


def living(tenant: str, singleton: str) -> Task | None:
    """Return the tenant's task with this singleton key that has not ended, if there is one."""
    rows = Task.objects.filter(tenant_id=tenant, singleton_key=singleton).exclude(state__in=TERMINAL)
    return rows.first()


def refuse_contained(tenant: str, skill: str) -> None:
    """Raise ``Contained`` if a switch holds all such work back. One for an agent does not count: others may take it."""
    held = rulebook.containment_of(tenant, skill)
    if held is not None:
        now = timezone.now().timestamp()
        retry_after_s = 60.0 if held.release_at is None else held.release_at - now
        raise errors.Contained(why=held.refusal(), retry_after_s=max(retry_after_s, 1.0), pointer="/skill")


def take_turn(tenant: str, key: str) -> None:
    """Wait for every other submission under the same key. Only in a transaction; it holds until that ends."""
    if connection.vendor == "postgresql":  # SQLite has one writer at a time anyway
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{tenant}/{key}"])


def throttle(tenant: str, key: str, limit: int, period_s: float) -> None:
    """Raise ``Throttled`` if ``limit`` tasks with the key came within the last ``period_s`` seconds."""
    now = timezone.now()
    lately = Task.objects.filter(tenant_id=tenant, throttle_key=key, created_at__gt=now - timedelta(seconds=period_s))
    # Of those that count, the oldest decides when there is room again.
    oldest = [
        at.timestamp() for at in lately.order_by("-created_at").values_list("created_at", flat=True)[limit - 1 : limit]
    ]
    wait_s = admit(oldest, now.timestamp(), 1, period_s)
    if wait_s > 0:
        raise errors.Throttled(
            key=key,
            limit=limit,
            period=f"{period_s:g}",
            wait=f"{wait_s:.1f}",
            retry_after_s=wait_s,
            pointer="/throttle",
        )


def supersede(task: Task) -> None:
    """Ask for the end of the task that waits under the same debounce key, in favour of ``task``.

    Only the latest can be waiting still: it has superseded those before it. One that was given to an agent goes on.
    """
    rows = Task.objects.filter(tenant_id=task.tenant_id, debounce_key=task.debounce_key, state=TaskState.SUBMITTED)
    last: Any = rows.only("attempt", "cancel_requested_at").order_by("-created_at").first()
    if last is None or last.attempt or last.cancel_requested_at:
        return
    Command.objects.create(
        tenant_id=task.tenant_id,
        kind=Command.Kind.CANCEL,
        task_id=last.pk,
        by="debounce",
        reason=f"superseded by {task.pk}",
    )
