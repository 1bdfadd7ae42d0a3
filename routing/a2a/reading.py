"""What A2A shows of the ledger. Every query names the tenant and the owner."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from django.conf import settings
from django.core import signing
from django.db.models import Q, QuerySet
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from routing.a2a import wire
from routing.artifacts import ArtifactError, Store
from routing.models import Task, TaskEvent, TaskMessage

SHOWN_BYTES = 1_048_576  # of one file; a larger one is told by its address
LOOKED_AT = ("working", "answered", "progress", "artifact", *wire.ASKS, *wire.ENDS)
PAGE, MOST = 50, 100
CONTEXTS = UUID("6f0cdb0a-6b0f-5b5c-9b3d-2f9b8b0f4a61")  # names of contexts that are no UUIDs become UUIDs in here
SALT = "a2a.tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who looks: a tenant's client, through the path of an agent or of the fleet."""

    tenant: str
    owner: str
    agent: str = ""  # "" is the fleet
    base: str = ""  # the site's address
    scopes: frozenset[str] = frozenset()


def tasks(viewer: Viewer) -> QuerySet[Task]:
    """Return all tasks that the viewer may know of."""
    rows = Task.objects.filter(tenant_id=viewer.tenant, owner=viewer.owner)
    return rows.filter(agent_pinned=viewer.agent) if viewer.agent else rows


def find(viewer: Viewer, task_id: str) -> Task:
    """Return the task. Raises ``TaskNotFoundError``, for somebody else's just the same."""
    try:
        row = tasks(viewer).filter(id=UUID(task_id)).first()
    except ValueError:
        row = None
    if row is None:
        raise TaskNotFoundError
    return row


def story(viewer: Viewer, row: Task) -> wire.Story:
    """Return all that is told of the task, as of one moment."""
    return stories(viewer, [row])[0]


def stories(viewer: Viewer, rows: Iterable[Task]) -> list[wire.Story]:
    """Return all that is told of the tasks."""
    rows = list(rows)
    ids = [row.pk for row in rows]
    events: dict[UUID, list[wire.Event]] = {id: [] for id in ids}
    for event in TaskEvent.objects.filter(task_id__in=ids, kind__in=LOOKED_AT).order_by("task_id", "seq"):
        told = wire.Event(seq=event.seq, kind=event.kind, at=event.at, data=event.data)
        events[event.task_id].append(told)
    said: dict[UUID, list[wire.Said]] = {id: [] for id in ids}
    for message in TaskMessage.objects.filter(task_id__in=ids).order_by("task_id", "number"):
        said[message.task_id].append(wire.Said(seq=message.seq, message=message.message, input=message.input))
    return [_story(viewer, row, events[row.pk], said[row.pk]) for row in rows]


def _story(viewer: Viewer, row: Task, events: list[wire.Event], said: list[wire.Said]) -> wire.Story:
    events = [event for event in events if event.seq <= row.seq]  # the row was read before them
    if not said:
        said = [wire.Said(seq=0, message=None, input=row.input)]
    return wire.Story(
        id=str(row.pk),
        context=name_of_context(row, said),
        created_at=row.created_at,
        output=row.output,
        events=events,
        said=said,
        content=lambda data, seq: _content(viewer, row, data, seq),
    )


def name_of_context(row: Task, said: Iterable[wire.Said]) -> str:
    """Return the context's name as its client calls it."""
    named = (str(each.message.get("contextId", "")) for each in said if each.message)
    return next((name for name in named if name), "") or str(row.context or row.pk)


def context_id(viewer: Viewer, name: str) -> UUID:
    """Return the id of the viewer's context with this name."""
    try:
        return UUID(name)
    except ValueError:
        return uuid.uuid5(CONTEXTS, orjson.dumps([viewer.tenant, viewer.owner, name]).decode())


def is_foreign(viewer: Viewer, context: UUID) -> bool:
    """Return whether somebody else has tasks in the context."""
    theirs = Task.objects.filter(context=context).exclude(tenant_id=viewer.tenant, owner=viewer.owner)
    return theirs.exists()


def _content(viewer: Viewer, row: Task, data: Mapping[str, Any], seq: int) -> pb.Part:
    """Return a file as a part: text, data, an address or bytes; of a large one, or one that is gone, its address."""
    kind, name = str(data.get("media_type") or ""), str(data["name"])
    part = pb.Part(media_type=kind or "application/octet-stream", filename=name)
    content = _bytes(data)
    if content is None:
        part.url = f"{viewer.base}/api/v1/tasks/{row.pk}/artifacts/{seq}"
        return part
    try:
        if kind == wire.FILE_LIST:
            part.url = content.decode().strip()
        elif kind == "application/json":
            part.data.CopyFrom(ParseDict(orjson.loads(content), Value()))
        elif kind.startswith("text/"):
            part.text = content.decode()
        else:
            part.raw = content
    except ValueError:
        part.raw = content
    return part


def _bytes(data: Mapping[str, Any]) -> bytes | None:
    if int(data["size"]) > SHOWN_BYTES:
        return None
    try:
        with Store(settings.A2A_ARTIFACTS_DIR).open(data["sha256"]) as file:
            return file.read()
    except (OSError, ArtifactError):
        return None


# ---- lists --------------------------------------------------------------------------------------------------------


def page(viewer: Viewer, params: pb.ListTasksRequest) -> pb.ListTasksResponse:
    """Return one page of the viewer's tasks, those with the newest status first. Raises ``InvalidParamsError``."""
    size = _page_size(params)
    history = history_length(params)
    rows = _filtered(viewer, params)
    total = rows.count()
    if params.page_token:
        at, last = _cursor(params.page_token)
        rows = rows.filter(Q(status_at__lt=at) | Q(status_at=at, id__lt=last))
    found = list(rows.order_by("-status_at", "-id")[: size + 1])
    shown = found[:size]
    told = [
        wire.task(each, history=history, with_artifacts=params.include_artifacts) for each in stories(viewer, shown)
    ]
    answer = pb.ListTasksResponse(tasks=told, page_size=len(shown), total_size=total)
    if len(found) > size:
        answer.next_page_token = signing.dumps([shown[-1].status_at.isoformat(), str(shown[-1].pk)], salt=SALT)
    return answer


def history_length(params: Any) -> int | None:
    """Return how many messages are wanted, None for all. Raises ``InvalidParamsError``."""
    if not params.HasField("history_length"):
        return None
    if params.history_length < 0:
        raise InvalidParamsError("historyLength has to be 0 or more.")
    return int(params.history_length)


def _page_size(params: pb.ListTasksRequest) -> int:
    if not params.HasField("page_size"):
        return PAGE
    if not 1 <= params.page_size <= MOST:
        raise InvalidParamsError(f"pageSize has to be from 1 to {MOST}.")
    return int(params.page_size)


def _filtered(viewer: Viewer, params: pb.ListTasksRequest) -> QuerySet[Task]:
    rows = tasks(viewer)
    if params.context_id:
        rows = rows.filter(context=context_id(viewer, params.context_id))
    if params.status:
        rows = rows.filter(state=wire.NAMES[params.status])
    if params.HasField("status_timestamp_after"):
        rows = rows.filter(status_at__gte=params.status_timestamp_after.ToDatetime(tzinfo=UTC))
    return rows


def _cursor(token: str) -> tuple[datetime, UUID]:
    try:
        at, last = signing.loads(token, salt=SALT)
        return datetime.fromisoformat(at), UUID(last)
    except (signing.BadSignature, ValueError, TypeError):
        raise InvalidParamsError("pageToken is none that this server gave out.") from None
