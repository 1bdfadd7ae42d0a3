"""REST for events: by pages, or as streams of Server-Sent Events."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query, Router

from monitoring import streams
from routing import errors, schemas
from routing.access import Needs, caller
from routing.models import Scope
from routing.parameters import refuse_unknown

router = Router()
REFUSALS = {frozenset({400, 401, 403, 404, 406, 409, 422, 429, 503}): schemas.Problem}
reads = Needs(Scope.TASKS_READ)
STREAM = {streams.MEDIA_TYPE: {"schema": {"type": "string"}}}
RESUME = {
    "in": "header",
    "name": "Last-Event-ID",
    "required": False,
    "schema": {"type": "string"},
    "description": "The id of the last event that the caller has; the stream begins after it.",
}
ALSO_A_STREAM = {"parameters": [RESUME], "responses": {200: {"content": STREAM}, 204: {"description": "It has ended."}}}
A_STREAM = {"parameters": [RESUME], "responses": {200: {"description": "Events.", "content": STREAM}}}


@router.get(
    "/tasks/{uuid:task_id}/events",
    auth=reads,
    response={200: schemas.EventPage, **REFUSALS},
    openapi_extra=ALSO_A_STREAM,
)
async def list_events(
    request: HttpRequest, task_id: UUID, query: Query[schemas.EventQuery]
) -> schemas.EventPage | StreamingHttpResponse:
    """List a task's events in order, from the one after ``after``.

    With ``Accept: text/event-stream`` they are streamed as they are committed, until the task has ended.
    """
    refuse_unknown(request, schemas.EventQuery)
    if streams.wants_stream(request):
        return await streams.task_stream(request, task_id, query.after)
    return await streams.page(task_id, caller(request).tenant, query)


@router.get("/events", auth=reads, response=REFUSALS, openapi_extra=A_STREAM)
async def follow_events(request: HttpRequest) -> StreamingHttpResponse:
    """Stream the events of all tasks as they are committed (``Accept: text/event-stream``).

    The event ``resync`` says that some were missed: list the tasks again.
    """
    if not streams.wants_stream(request):
        raise errors.NotAcceptable()
    return await streams.tenant_stream(request)
