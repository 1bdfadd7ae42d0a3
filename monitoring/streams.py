"""Committed events as Server-Sent Events: one task's, or all of a tenant.

    a2a:committed ──▶ live.Reader (one a process) ──▶ mailbox (one a stream, bounded) ──▶ client

A stream holds no thread and no database connection while it waits. A client resumes with ``Last-Event-ID``: of a task
the event's seq; of the tenant ``<commit>-<place>``. What a slow client's mailbox cannot hold is read from the log.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import orjson
from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from redis.exceptions import RedisError

from monitoring import live
from routing import errors, listing, schemas
from routing.access import caller, identify
from routing.models import TERMINAL, TaskEvent

KEEP_ALIVE_S = 4.0  # between two looks whether the key still counts; a comment then says that we are here
AWAY_S = 1.0  # without the log, the ledger is looked at so often
QUEUED = 5_000  # events that wait for one client
AT_ONCE = 500  # events of one read
MEDIA_TYPE = "text/event-stream"
COMMENT = b": here\n\n"
PLACE = re.compile(r"(\d{1,18})-(\d{1,6})")
Place = tuple[int, int]  # (commit, place in it from 1)


class EventBox(live.Mailbox):
    """The events of one tenant that one client has not been sent yet."""

    def __init__(self, tenant: str) -> None:
        super().__init__()
        self.tenant = tenant
        self.queue: deque[tuple[Place, Mapping[str, Any]]] = deque()

    def push(self, delta: Mapping[str, Any]) -> None:
        """Queue what is the tenant's. Too much of it is forgotten, and read from the log later."""
        if delta["seq"] <= self.seq:
            return
        self.seq = delta["seq"]
        fresh = list(events_of(delta, self.tenant))
        self.queue.extend(fresh)
        if len(self.queue) > QUEUED:
            self.start_again()
        elif fresh:
            self._news.set()

    def push_state(self, figures: dict[str, Any], changes: Mapping[str, list[Any]]) -> None:
        """Ignore what is no event."""

    def start_again(self) -> None:
        """Forget what waits."""
        self.queue.clear()
        super().start_again()


def wants_stream(request: HttpRequest) -> bool:
    """Return whether the caller asks for a stream."""
    return MEDIA_TYPE in request.headers.get("Accept", "")


def events_of(delta: Mapping[str, Any], tenant: str) -> list[tuple[Place, Mapping[str, Any]]]:
    """Return the tenant's events of one commit with their places."""
    numbered = enumerate(delta.get("events", ()), start=1)
    return [((delta["seq"], place), event) for place, event in numbered if event["tenant"] == tenant]


# ---- one task -----------------------------------------------------------------------------------------------------


async def task_stream(request: HttpRequest, task_id: UUID, after: int) -> StreamingHttpResponse:
    """Return the task's events after ``Last-Event-ID``, else ``after``, until it has ended; 204 if nothing can come.

    Raises ``NoSuchTask``, or ``BadInput`` for a seq that the task has not reached.
    """
    tenant = caller(request).tenant
    seen = _seq(request.headers.get("Last-Event-ID"), after)
    task = await sync_to_async(listing.find_task)(tenant, task_id)
    last = await sync_to_async(_last)(task.pk)
    if seen > (last.seq if last else 0):
        raise _future(f"the last event of task {task_id} is {last.seq if last else 0}")
    if last is not None and seen == last.seq and last.kind in TERMINAL:
        return StreamingHttpResponse((), status=204)
    return _answer(_task_events(request, task_id, seen))


async def _task_events(request: HttpRequest, task_id: UUID, seen: int) -> AsyncIterator[bytes]:
    yield COMMENT
    async with live.reader().mailbox(task=str(task_id)) as box:
        while True:
            box.take()
            events = await sync_to_async(listing.events_after)(task_id, after=seen, limit=AT_ONCE)
            for event in events:
                seen = event.seq
                yield _sent(str(seen), event.kind, event.model_dump_json().encode())
            if events and events[-1].kind in TERMINAL:
                return
            if len(events) < AT_ONCE and not await _news(box):
                yield COMMENT
                if not await _may_go_on(request):
                    return


def _last(task_id: UUID) -> TaskEvent | None:
    return TaskEvent.objects.filter(task_id=task_id).order_by("-seq").first()


def _seq(text: str | None, after: int) -> int:
    if not text:
        return after
    if not re.fullmatch(r"\d{1,9}", text):
        raise errors.BadInput(why=f"Last-Event-ID is the seq of a task's event, such as 7, not {text[:40]!r}.")
    return int(text)


# ---- all of a tenant ----------------------------------------------------------------------------------------------


async def tenant_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Return the tenant's events from now on, or from the one after ``Last-Event-ID``.

    Raises ``BadInput`` for an id that was never given out, ``BusAway`` when it cannot be looked for.
    """
    seen = _place(request.headers.get("Last-Event-ID"))
    if seen is not None:
        async with live.reader().mailbox(task="-") as box:
            if box.status == live.NO_REDIS:
                raise errors.BusAway()
            if seen[0] > box.seq:
                raise _future(f"the last commit is {box.seq}")
    return _answer(_tenant_events(request, caller(request).tenant, seen))


async def _tenant_events(request: HttpRequest, tenant: str, seen: Place | None) -> AsyncIterator[bytes]:
    yield COMMENT
    box = EventBox(tenant)
    async with live.reader().mailbox(box=box):
        box.resync = seen is not None  # what came before the box was there
        seen = seen or (box.seq, 0)
        while True:
            if box.resync and box.status != live.NO_REDIS:
                box.resync, upto = False, box.seq
                missed = await _missed(seen[0], upto)
                if missed is None:
                    seen = (upto, 0)
                    yield _sent("", "resync", orjson.dumps({"why": "Older events are not kept here. List the tasks."}))
                older = [event for delta in missed or () for event in events_of(delta, tenant)]
                box.queue.extendleft(reversed(older))  # what came meanwhile stands behind them
            while box.queue:
                place, event = box.queue.popleft()
                if place > seen:
                    seen = place
                    yield _sent(f"{place[0]}-{place[1]}", event["kind"], orjson.dumps(event))
            if not await _news(box):
                yield COMMENT
                if not await _may_go_on(request):
                    return
            box.heard()


async def _missed(after: int, upto: int) -> list[dict[str, Any]] | None:
    """Return the commits from ``after`` itself to ``upto``, None where the log does not hold them all."""
    try:
        return await live.reader().between(max(0, after - 1), upto)
    except (RedisError, OSError):
        return None


def _place(text: str | None) -> Place | None:
    if not text:
        return None
    found = PLACE.fullmatch(text)
    if found is None:
        raise errors.BadInput(why=f"Last-Event-ID is an id that was sent here, such as 815-2, not {text[:40]!r}.")
    return int(found[1]), int(found[2])


# ---- both ---------------------------------------------------------------------------------------------------------


def _answer(events: AsyncIterator[bytes]) -> StreamingHttpResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(events, content_type=MEDIA_TYPE, headers=headers)


def _sent(id: str, kind: str, data: bytes) -> bytes:
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {kind}\n".encode() + b"data: " + data + b"\n\n"


def _future(why: str) -> errors.BadInput:
    return errors.BadInput(why=f"Last-Event-ID is from the future: {why}. Connect again without it.")


async def _news(box: live.Mailbox) -> bool:
    """Return True when there is something, False when it is time to say that we are here."""
    try:
        await asyncio.wait_for(box.wait(), KEEP_ALIVE_S if box.status == live.OK else AWAY_S)
    except TimeoutError:
        return False
    return True


async def _may_go_on(request: HttpRequest) -> bool:
    """Return whether the caller's key or session still counts."""
    try:
        await sync_to_async(identify)(request)
    except errors.RoutingError:
        return False
    return True


async def page(task_id: UUID, tenant: str, query: schemas.EventQuery) -> schemas.EventPage:
    """Return a page of the task's events. Raises ``NoSuchTask``."""
    task = await sync_to_async(listing.find_task)(tenant, task_id)
    return await sync_to_async(listing.event_page)(task, query)
