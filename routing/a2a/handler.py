"""The eleven methods of A2A, answered from the ledger. No agent runs in here, and nothing is kept between requests.

A message becomes a task by ``lifecycle.submit``, or an answer by ``messages.answer``; what is told afterwards was
committed before. So any web process answers for any task, and one that dies loses nothing.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from a2a.server.context import ServerCallContext
from a2a.server.events import Event
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from routing import errors, feed, lifecycle, registry
from routing.a2a import cards, push, wire
from routing.a2a.database import ask
from routing.a2a.reading import Viewer, find, history_length, page, story
from routing.a2a.taking import take
from routing.models import Scope

log = logging.getLogger(__name__)

CANCEL_WAIT_S = 5.0
RESUME = "last-event-id"  # header: the generation that a subscriber had last
READS, WRITES = Scope.TASKS_READ.value, Scope.TASKS_WRITE.value


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method with our errors as A2A's, and without internals in those nobody foresaw."""
    if inspect.isasyncgenfunction(method):

        @functools.wraps(method)
        async def stream(self: Any, params: Any, context: ServerCallContext) -> Any:
            told = method(self, params, context)
            try:
                async for item in told:
                    yield item
            except Exception as error:
                raise _as_a2a(error) from error
            finally:
                await told.aclose()

        return stream

    @functools.wraps(method)
    async def call(self: Any, params: Any, context: ServerCallContext) -> Any:
        try:
            return await method(self, params, context)
        except Exception as error:
            raise _as_a2a(error) from error

    return call


def _as_a2a(error: Exception) -> A2AError:
    if isinstance(error, A2AError):
        return error
    if isinstance(error, errors.NoSuchTask):
        return TaskNotFoundError()
    if isinstance(error, errors.AlreadyEnded):
        return TaskNotCancelableError(str(error))
    if isinstance(error, errors.NothingAsked):
        return UnsupportedOperationError(str(error))
    if isinstance(error, errors.RoutingError):
        return InvalidParamsError(str(error), data={"errors": [{"field": error.pointer or "/", "message": str(error)}]})
    number = uuid4().hex[:12]
    log.exception("request %s of A2A broke", number, exc_info=error)
    return InternalError(f"Something broke here. The log tells of it under request {number}.")


class Handler(RequestHandler):
    """Answers for every tenant, every agent and every binding."""

    @guarded
    @validate_request_params
    async def on_message_send(self, params: pb.SendMessageRequest, context: ServerCallContext) -> pb.Task | pb.Message:
        """Return the task once it has ended or asks, or as it is where the client does not wait; or a message."""
        viewer = _viewer(context, WRITES)
        history = history_length(params.configuration)
        task_id, after = await ask(take, viewer, params)
        if not params.configuration.return_immediately:
            async for _ in _followed(viewer, task_id, after):
                pass
        told = await ask(_story, viewer, task_id)
        return wire.direct(told) or wire.task(told, history=history)

    @guarded
    @validate_request_params
    async def on_message_send_stream(
        self, params: pb.SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Yield the task as the message found it, and then every update until it has ended or asks."""
        viewer = _viewer(context, WRITES)
        history = history_length(params.configuration)
        task_id, after = await ask(take, viewer, params)
        found = wire.before(await ask(_story, viewer, task_id), after)
        yield wire.task(found, history=history)
        async for update in _followed(viewer, task_id, after, generation=len(wire.updates(found))):
            yield update

    @guarded
    @validate_request_params
    async def on_subscribe_to_task(
        self, params: pb.SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Yield the task, and then every update until it has ended.

        A subscriber that says which generation it had last (``Last-Event-ID``) gets those after it as well.
        """
        viewer = _viewer(context, READS)
        first = await ask(_story, viewer, params.id)
        told = wire.updates(first)
        if first.events and first.events[-1].kind in wire.ENDS and _resumes_at(context) is None:
            raise UnsupportedOperationError("The task has ended: there is nothing to follow.")
        yield wire.task(first)
        generation = min(_resumes_at(context) or len(told), len(told))
        for _, update in told[generation:]:
            yield update
        async for update in _followed(viewer, first.id, None, generation=len(told)):
            yield update

    @guarded
    @validate_request_params
    async def on_get_task(self, params: pb.GetTaskRequest, context: ServerCallContext) -> pb.Task:
        """Return the task."""
        viewer = _viewer(context, READS)
        history = history_length(params)
        return wire.task(await ask(_story, viewer, params.id), history=history)

    @guarded
    @validate_request_params
    async def on_list_tasks(self, params: pb.ListTasksRequest, context: ServerCallContext) -> pb.ListTasksResponse:
        """Return a page of the client's tasks."""
        return await ask(page, _viewer(context, READS), params)

    @guarded
    @validate_request_params
    async def on_cancel_task(self, params: pb.CancelTaskRequest, context: ServerCallContext) -> pb.Task:
        """Return the task, canceled; or as it is where its agent takes longer to stop."""
        viewer = _viewer(context, WRITES)
        row = await ask(find, viewer, params.id)
        await ask(lifecycle.cancel, row.pk, tenant=viewer.tenant, by=viewer.owner, reason="by A2A")
        patience = time.monotonic() + CANCEL_WAIT_S
        async with feed.feed().listen(str(row.pk)) as bell:
            told = await ask(_story, viewer, params.id)
            while not _is_over(told) and time.monotonic() < patience:
                await bell.wait()
                told = await ask(_story, viewer, params.id)
        return wire.task(told)

    @guarded
    async def on_get_extended_agent_card(
        self, params: pb.GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> pb.AgentCard:
        """Return the card with what only clients see: the schemas of the skills."""
        viewer = _viewer(context, READS)
        offered = await ask(cards.offer, viewer.tenant, viewer.agent)
        if offered is None:
            raise TaskNotFoundError(f"There is no agent {viewer.agent!r}.")
        return cards.signed(await ask(cards.card, offered, viewer.base, extended=True))

    @guarded
    @validate_request_params
    async def on_create_task_push_notification_config(
        self, params: pb.TaskPushNotificationConfig, context: ServerCallContext
    ) -> pb.TaskPushNotificationConfig:
        """Return the configuration as it is kept."""
        viewer = _viewer(context, WRITES)
        row = await ask(find, viewer, params.task_id)
        return await ask(push.keep, row, params)

    @guarded
    @validate_request_params
    async def on_get_task_push_notification_config(
        self, params: pb.GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> pb.TaskPushNotificationConfig:
        """Return the configuration."""
        row = await ask(find, _viewer(context, READS), params.task_id)
        return await ask(push.get, row, params.id)

    @guarded
    @validate_request_params
    async def on_list_task_push_notification_configs(
        self, params: pb.ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> pb.ListTaskPushNotificationConfigsResponse:
        """Return the task's configurations."""
        row = await ask(find, _viewer(context, READS), params.task_id)
        return await ask(push.page, row)

    @guarded
    @validate_request_params
    async def on_delete_task_push_notification_config(
        self, params: pb.DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        """Delete the configuration; one that is gone is as it should be."""
        row = await ask(find, _viewer(context, WRITES), params.task_id)
        await ask(push.delete, row, params.id)


# ---- following ----------------------------------------------------------------------------------------------------


async def _followed(
    viewer: Viewer, task_id: str, after: int | None, *, generation: int = 0
) -> AsyncGenerator[wire.Update, None]:
    """Yield the updates after ``generation`` until the task has ended, or asks by an event after ``after``."""
    async with feed.feed().listen(task_id) as bell:
        while True:
            told = await _read(viewer, task_id, bell)
            news = wire.updates(told)[generation:]
            for _, update in news:
                yield update
            generation += len(news)
            if _is_done(told, after):
                return
            await bell.wait()


_reads: dict[tuple[Viewer, str, int], asyncio.Task[wire.Story]] = {}


async def _read(viewer: Viewer, task_id: str, bell: feed.Bell) -> wire.Story:
    """Return the task's story as of the bell's last ring. Many who follow one task read it once for all of them."""
    key = (viewer, task_id, bell.rings)
    if not bell.rings:  # has not rung yet: nobody knows how old another's reading is
        return await ask(_story, viewer, task_id)
    reading = _reads.get(key)
    if reading is None:
        reading = _reads[key] = asyncio.create_task(ask(_story, viewer, task_id))
        reading.add_done_callback(lambda _: _reads.pop(key, None))
    return await asyncio.shield(reading)


def _is_done(told: wire.Story, after: int | None) -> bool:
    """Return whether there is nothing more to wait for; where ``after`` is None only the end counts."""
    if _is_over(told):
        return True
    asked = [event.seq for event in told.events if event.kind in wire.ASKS]
    return after is not None and bool(asked) and asked[-1] > after and not _is_answered(told, asked[-1])


def _is_answered(told: wire.Story, seq: int) -> bool:
    return any(event.seq > seq and event.kind in ("answered", "working") for event in told.events)


def _is_over(told: wire.Story) -> bool:
    return bool(told.events) and told.events[-1].kind in wire.ENDS


def _story(viewer: Viewer, task_id: str) -> wire.Story:
    return story(viewer, find(viewer, task_id))


def _resumes_at(context: ServerCallContext) -> int | None:
    said = str(context.state.get("headers", {}).get(RESUME, ""))
    return int(said) if said.isdecimal() and len(said) < 10 else None


def _viewer(context: ServerCallContext, scope: str) -> Viewer:
    """Return who calls. Raises ``UnsupportedOperationError`` where its key may not do this."""
    viewer: Viewer = context.state["viewer"]
    if scope not in viewer.scopes:
        raise UnsupportedOperationError(f"The key has not the scope {scope}.")
    agent = context.tenant or viewer.agent
    if agent and registry.known_agent(viewer.tenant, agent) is None:
        raise InvalidParamsError(f"There is no agent {agent[:64]!r}.")
    return replace(viewer, agent=agent)
