"""A message that comes by A2A becomes a task, or an answer to one that asks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any
from uuid import UUID

from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import ContentTypeNotSupportedError, InvalidParamsError
from django.db import transaction
from google.protobuf.json_format import MessageToDict

from routing import lifecycle, messages, registry
from routing.a2a import cards, conformance, push, wire
from routing.a2a.reading import Viewer, context_id, find, is_foreign, story
from routing.artifacts import UnsafeName, safe_name
from routing.models import Task, new_id

MAX_NAME = 200  # characters of a message's id, and of a context's
ROUTING = {"skill": str, "version": str, "agent": str, "priority": int, "labels": dict}  # what the extension may say
KINDS = {"text": "text/plain", "data": "application/json"}  # of parts that do not say


def take(viewer: Viewer, params: pb.SendMessageRequest) -> tuple[str, int]:
    """Return the task's id and the number of its last event before the message, which is in the ledger now."""
    _check(params)
    taken = _answer(viewer, params) if params.message.task_id else _begin(viewer, params)
    if params.configuration.HasField("task_push_notification_config"):
        push.keep(find(viewer, taken[0]), params.configuration.task_push_notification_config)
    return taken


def _check(params: pb.SendMessageRequest) -> None:
    """Raise ``InvalidParamsError`` or ``ContentTypeNotSupportedError`` for a message that nobody could take."""
    if params.message.role == pb.ROLE_AGENT:
        raise InvalidParamsError("A message to an agent has the role ROLE_USER.")
    if max(len(params.message.message_id), len(params.message.context_id)) > MAX_NAME:
        raise InvalidParamsError(f"messageId and contextId have at most {MAX_NAME} characters.")
    modes = conformance.MODES if conformance.is_on() else cards.MODES
    for part in params.message.parts:
        kind = part.WhichOneof("content")
        if kind is None:
            raise InvalidParamsError("A part has one of text, data, url and raw.")
        if part.filename:
            _check_name(part.filename)
        media_type = part.media_type or KINDS.get(kind, "")
        if not _fits(media_type, modes):
            raise ContentTypeNotSupportedError(
                f"This is {media_type or 'of no stated type'}; accepted: {', '.join(modes)}."
            )
    wanted = params.configuration.accepted_output_modes
    if wanted and not any(_fits(mode, wanted) for mode in (*cards.MODES, "application/octet-stream")):
        raise ContentTypeNotSupportedError(f"Nothing here answers in {', '.join(wanted)[:200]}.")


def _check_name(name: str) -> None:
    try:
        safe_name(name)
    except UnsafeName as error:
        raise InvalidParamsError(str(error)) from None


def _fits(media_type: str, modes: Any) -> bool:
    """Return whether a media type is among the modes, of which ``text/*`` and ``*/*`` stand for many."""
    plain = media_type.partition(";")[0].strip().lower()
    return any(mode in ("*/*", plain) or (mode.endswith("/*") and plain.startswith(mode[:-1])) for mode in modes)


def _begin(viewer: Viewer, params: pb.SendMessageRequest) -> tuple[str, int]:
    """Make a task of the message; the same message again is the same task."""
    message = params.message
    routing = _routing(viewer, params)
    context = context_id(viewer, message.context_id) if message.context_id else new_id()
    if is_foreign(viewer, context):
        raise InvalidParamsError("There is no such context.")
    request = lifecycle.Request(
        **routing,
        input=_input(viewer, message, routing["skill"], routing.get("version", "")),
        tenant=viewer.tenant,
        context=context,
        origin="a2a",
        owner=viewer.owner,
        idempotency_key=None if conformance.is_on() else _key(viewer, message.message_id),
    )
    with transaction.atomic():
        done = _submit(request, message)
        if done.created:
            kept = MessageToDict(message)
            messages.begin(done.task, message_id=message.message_id, message=kept, by=viewer.owner)
    return str(done.task.pk), 0


def _input(viewer: Viewer, message: pb.Message, skill: str, version: str) -> Any:
    """Return what the agent gets: the message as it came where the skill's schema says so by ``x-a2a-input``."""
    known = registry.known_skill(viewer.tenant, skill, version)
    return wire.value_of(message, whole=known is not None and known.input_schema.get("x-a2a-input") == "message")


def _submit(request: lifecycle.Request, message: pb.Message) -> lifecycle.Submitted:
    """Return the task; where the same message had made one in a context that we named, that one."""
    if request.idempotency_key is None or message.context_id:
        return lifecycle.submit(request)
    known = Task.objects.filter(tenant_id=request.tenant, idempotency_key=request.idempotency_key).first()
    if known is None:
        return lifecycle.submit(request)
    return lifecycle.submit(replace(request, context=known.context))


def _routing(viewer: Viewer, params: pb.SendMessageRequest) -> dict[str, Any]:
    """Return the fields of a request that say who is to do it. Raises ``InvalidParamsError``."""
    told = wire.routing_of((params.message.metadata, params.metadata))
    for name, value in told.items():
        if name not in ROUTING or not isinstance(value, (int, float) if ROUTING[name] is int else ROUTING[name]):
            raise InvalidParamsError(
                f"The extension {wire.EXTENSION} knows {', '.join(ROUTING)}, not {name[:50]!r} so."
            )
    if "priority" in told:
        told["priority"] = int(told["priority"])
    if viewer.agent:
        if told.get("agent", viewer.agent) != viewer.agent:
            raise InvalidParamsError(f"This is the address of the agent {viewer.agent}.")
        told["agent"] = viewer.agent
    if not told.get("skill"):
        offered = cards.offer(viewer.tenant, viewer.agent)
        told["skill"] = offered.default_skill if offered is not None else ""
    if not told["skill"]:
        raise InvalidParamsError(
            f"Say which skill the message is for, in its metadata: {{{wire.EXTENSION!r}: {{'skill': …}}}}. "
            f"There are {', '.join(registry.skill_names(viewer.tenant)[:20]) or 'none'}."
        )
    return told


def _key(viewer: Viewer, message_id: str) -> str:
    """Return the idempotency key of a client's message."""
    return "a2a " + hashlib.sha256(f"{viewer.owner}\0{message_id}".encode()).hexdigest()


def _answer(viewer: Viewer, params: pb.SendMessageRequest) -> tuple[str, int]:
    """Give the message to the task that it names."""
    message = params.message
    row = find(viewer, message.task_id)
    if message.context_id and message.context_id != story(viewer, row).context:
        raise InvalidParamsError("The task belongs to another context.")
    said, _ = messages.answer(
        UUID(message.task_id),
        tenant=viewer.tenant,
        by=viewer.owner,
        input=_input(viewer, message, row.skill, row.version),
        message_id=message.message_id,
        message=MessageToDict(message),
        must_ask=False,
    )
    return str(row.pk), said.seq
