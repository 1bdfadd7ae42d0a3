"""Several agents, one piece of work: workflows, runs, schedules, shared state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from coordination.models import Run


def start(
    canvas: Any,
    *,
    name: str = "canvas",
    input: Any = None,
    tenant: str | None = None,
    priority: int | None = None,
    context: UUID | None = None,
    idempotency_key: str | None = None,
    by: str = "",
) -> Run:
    """Return a run of a Celery canvas: any nesting of chain, group, chord, map, starmap, chunks and links.

    It is inserted in the caller's own transaction. Raises ``coordination.errors.BadWorkflow`` for what no graph can be
    made of, or what ``coordination.runs.start`` raises.
    """
    from coordination import live_canvas, runs
    from routing.models import DEFAULT_TENANT

    request = runs.Request(
        graph=live_canvas.checked(canvas, name=name),
        input=input,
        tenant=tenant or DEFAULT_TENANT,
        priority=priority,
        context=context,
        idempotency_key=idempotency_key,
        by=by,
    )
    return runs.start(request).run
