"""REST, at /api/v1. Every view validates, makes one call, and returns; ``routing.problems`` words what goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, BinaryIO
from uuid import UUID

import pydantic
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path, re_path
from django.utils.http import content_disposition_header
from ninja import Body, Query, Status
from ninja.params.functions import Header
from ninja.parser import Parser

from routing import (
    agent_api,
    artifacts,
    errors,
    feedback,
    lifecycle,
    listing,
    messages,
    payloads,
    problems,
    pull_api,
    schemas,
)
from routing.access import Caller, Needs, caller
from routing.models import Artifact, Scope, Task, TaskState
from routing.openapi import DescribedApi
from routing.parameters import refuse_unknown

ENVELOPE_BYTES = 65_536  # of a request around its input
BATCH_BYTES = 32 * 1024 * 1024
CANCEL_WAIT_S = 5.0
IDEMPOTENCY_KEY = Header(None, alias="Idempotency-Key")
NO_REASON = schemas.CancelIn()
A_FILE = {"responses": {200: {"description": "The file.", "content": {"application/octet-stream": {}}}}}
CHUNK_BYTES = 256 * 1024
FILE_POLICY = "default-src 'none'; sandbox"  # of files that agents made: opened in a browser they may do nothing


class StrictParser(Parser):
    """Reads bodies through ``payloads.loads``."""

    def parse_body(self, request: HttpRequest) -> Any:
        """Return the body's value. Raises ``UnsupportedMediaType``, ``TooLarge`` or ``Malformed``."""
        if request.content_type != "application/json":
            raise errors.UnsupportedMediaType(found=request.content_type or "of no stated type")
        is_batch = request.path.endswith(":batch")
        limit = BATCH_BYTES if is_batch else settings.A2A_MAX_INPUT_BYTES + ENVELOPE_BYTES
        # The limits of depth hold for the input; around it are the request and its list of tasks.
        return payloads.loads(request.body, max_bytes=limit, max_depth=payloads.MAX_DEPTH + 3)


api = DescribedApi(
    title="A2A Mission Control",
    version="1",
    description="Submit tasks to a fleet of agents, follow them, cancel them.",
    docs_url=None,  # ninja's page loads its scripts from elsewhere
    parser=StrictParser(),
    urls_namespace="api",
)
problems.install(api)

REFUSALS = {frozenset({400, 401, 403, 404, 409, 413, 415, 422, 429, 503}): schemas.Problem}
reads_tasks, writes_tasks = Needs(Scope.TASKS_READ), Needs(Scope.TASKS_WRITE)


@api.post("/tasks", auth=writes_tasks, response={201: schemas.TaskOut, 200: schemas.TaskOut, **REFUSALS})
def submit_task(
    request: HttpRequest,
    response: HttpResponse,
    task: schemas.TaskIn,
    idempotency_key: schemas.Key | None = IDEMPOTENCY_KEY,
) -> Status[schemas.TaskOut]:
    """Submit one task. 201: made. 200: the same request with the same idempotency key had made it before."""
    done = lifecycle.submit(_request(caller(request), task, idempotency_key))
    response["Location"] = f"{listing.BASE}/tasks/{done.task.pk}"
    return Status(201 if done.created else 200, listing.task_out(done.task))


@api.post("/tasks:batch", auth=writes_tasks, response={200: schemas.BatchOut, **REFUSALS})
def submit_batch(request: HttpRequest, batch: schemas.BatchIn) -> schemas.BatchOut:
    """Submit up to 1,000 tasks. Each has its own result, in the order they came; one refused keeps none back."""
    who = caller(request)
    results = [_parsed(who, item) for item in batch.tasks]
    places = [place for place, result in enumerate(results) if isinstance(result, lifecycle.Request)]
    wanted = [result for result in results if isinstance(result, lifecycle.Request)]
    for place, done in zip(places, lifecycle.submit_many(wanted), strict=True):
        results[place] = _result(done)
    return schemas.BatchOut(results=[result for result in results if isinstance(result, schemas.Result)])


@api.get("/tasks", auth=reads_tasks, response={200: schemas.TaskPage, **REFUSALS})
def list_tasks(request: HttpRequest, response: HttpResponse, query: Query[schemas.TaskQuery]) -> schemas.TaskPage:
    """List tasks, newest first, without input and output. ``next`` and the Link header lead to the next page."""
    refuse_unknown(request, schemas.TaskQuery)
    page = listing.task_page(caller(request).tenant, query)
    if page.next:
        response["Link"] = f'<{page.next}>; rel="next"'
    return page


@api.get("/tasks/{uuid:task_id}", auth=reads_tasks, response={200: schemas.TaskDetail, **REFUSALS})
def get_task(request: HttpRequest, task_id: UUID) -> schemas.TaskDetail:
    """Return one task with its attempts, events, decision and artifacts."""
    return listing.task_detail(listing.find_task(caller(request).tenant, task_id))


@api.post(
    "/tasks/{uuid:task_id}:cancel",
    auth=writes_tasks,
    response={200: schemas.TaskOut, 202: schemas.TaskOut, **REFUSALS},
)
async def cancel_task(
    request: HttpRequest, task_id: UUID, wish: Body[schemas.CancelIn] = NO_REASON
) -> Status[schemas.TaskOut]:
    """Cancel a task. 200: it has ended. 202: it is asked to stop, and its events will tell when it has."""
    who = caller(request)
    task = await sync_to_async(_cancel)(who, task_id, wish.reason)
    patience = time.monotonic() + CANCEL_WAIT_S
    while not (task.finished_at or task.cancel_requested_at) and time.monotonic() < patience:
        await asyncio.sleep(0.1)
        task = await sync_to_async(listing.find_task)(who.tenant, task_id)
    return Status(200 if task.finished_at else 202, listing.task_out(task))


@api.post("/tasks/{uuid:task_id}:answer", auth=writes_tasks, response={202: schemas.TaskOut, **REFUSALS})
def answer_task(request: HttpRequest, task_id: UUID, said: schemas.AnswerIn) -> Status[schemas.TaskOut]:
    """Answer what a task's agent has asked (state input-required or auth-required); the task goes on with it."""
    who = caller(request)
    messages.answer(task_id, tenant=who.tenant, by=who.name, input=said.input, message_id=said.message_id)
    return Status(202, listing.task_out(listing.find_task(who.tenant, task_id)))


@api.get("/tasks/{uuid:task_id}/decision", auth=reads_tasks, response={200: schemas.DecisionsOut, **REFUSALS})
def get_decision(request: HttpRequest, task_id: UUID) -> schemas.DecisionsOut:
    """Return why each attempt of a task went to its agent: candidates with scores, who was left out and why."""
    return listing.decisions(listing.find_task(caller(request).tenant, task_id))


@api.post("/tasks/{uuid:task_id}/feedback", auth=writes_tasks, response={200: schemas.FeedbackOut, **REFUSALS})
def give_feedback(request: HttpRequest, task_id: UUID, said: schemas.FeedbackIn) -> schemas.FeedbackOut:
    """Say how good a completed task's output is. It counts as quality where agents are chosen."""
    who = caller(request)
    row = feedback.give(task_id, tenant=who.tenant, by=who.name, score=said.score, comment=said.comment)
    return listing.feedback_out(row)


@api.get("/tasks/{uuid:task_id}/artifacts/{int:seq}", auth=reads_tasks, response=REFUSALS, openapi_extra=A_FILE)
async def get_artifact(request: HttpRequest, task_id: UUID, seq: int) -> StreamingHttpResponse:
    """Download a file that an attempt produced, always as an attachment."""
    row, file = await sync_to_async(_open)(caller(request).tenant, task_id, seq)
    headers = {
        "Content-Length": str(row.size),
        "Content-Disposition": content_disposition_header(as_attachment=True, filename=row.name) or "attachment",
        "Content-Security-Policy": FILE_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
        "ETag": f'"{row.sha256}"',
    }
    return StreamingHttpResponse(_chunks(file), content_type="application/octet-stream", headers=headers)


api.add_router("", agent_api.router)
api.add_router("", pull_api.router)


def _request(who: Caller, task: schemas.TaskIn, header_key: str | None = None) -> lifecycle.Request:
    """Return what the caller asks for. Raises ``BadInput`` when header and body name different keys."""
    if header_key and task.idempotency_key and header_key != task.idempotency_key:
        why = "The Idempotency-Key header and idempotency_key in the body differ. Send one of them."
        raise errors.BadInput(why=why, pointer="/idempotency_key")
    asked = {field: getattr(task, field) for field in schemas.TaskIn.model_fields}
    asked["idempotency_key"] = task.idempotency_key or header_key
    asked["throttle"] = lifecycle.Throttle(**task.throttle.model_dump()) if task.throttle else None
    return lifecycle.Request(**asked, tenant=who.tenant, origin=who.origin)


def _parsed(who: Caller, item: Any) -> lifecycle.Request | schemas.Result:
    """Return one item of a batch as a request, or the problem with it."""
    try:
        return _request(who, schemas.TaskIn.model_validate(item))
    except pydantic.ValidationError as error:
        return _problem(problems.of_pydantic(error))


def _result(done: lifecycle.Submitted | errors.RoutingError) -> schemas.Result:
    if isinstance(done, errors.RoutingError):
        return _problem(problems.document(done))
    return schemas.Result(status=201 if done.created else 200, task=listing.task_out(done.task))


def _problem(told: Mapping[str, Any]) -> schemas.Result:
    return schemas.Result(status=told["status"], problem=schemas.Problem(**told))


def _cancel(who: Caller, task_id: UUID, reason: str) -> Task:
    """Return the task after asking for its end. One that is canceled already is as the caller wants it."""
    try:
        lifecycle.cancel(task_id, tenant=who.tenant, by=who.name, reason=reason)
    except errors.AlreadyEnded:
        task = listing.find_task(who.tenant, task_id)
        if task.state != TaskState.CANCELED:
            raise
        return task
    return listing.find_task(who.tenant, task_id)


def _open(tenant: str, task_id: UUID, seq: int) -> tuple[Artifact, BinaryIO]:
    row = listing.find_artifact(listing.find_task(tenant, task_id), seq)
    try:
        return row, artifacts.Store(settings.A2A_ARTIFACTS_DIR).open(row.sha256)
    except (FileNotFoundError, artifacts.BadDigest):
        raise errors.NoSuchArtifact(id=task_id, seq=seq) from None


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the file; under ASGI a plain iterator would be read into memory whole."""
    read = partial(sync_to_async(file.read, thread_sensitive=False), CHUNK_BYTES)
    try:
        while chunk := await read():
            yield chunk
    finally:
        file.close()


def urls() -> tuple[Any, str, str]:
    """Return the addresses of the API, once every app has added its router."""
    known = [path("", problems.not_found), *api.urls[0], re_path(r"^(?P<path>.*)$", problems.not_found)]
    return problems.cover(known), "ninja", "api"
