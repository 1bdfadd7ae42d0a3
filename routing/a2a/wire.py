"""Rows of the ledger as A2A's messages, and A2A's messages as inputs.  Pure.

A task's *updates* follow from its events alone, numbered from 1: the *generation*, which every update carries in its
metadata. So every replica tells the same updates with the same numbers, and a client that comes back says which one it
had last.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct, Value

EXTENSION = "urn:a2a-mission-control:routing:1"  # names skill and agent in a message's metadata
GENERATION = "generation"
DIRECT = "a2a:message"  # an output {DIRECT: message} is a message in place of a task
OUTPUT = "output"  # the artifact that holds a task's output
FILE_LIST = "text/uri-list"  # an artifact of this type is an address

STATES = {
    "submitted": pb.TASK_STATE_SUBMITTED,
    "working": pb.TASK_STATE_WORKING,
    "completed": pb.TASK_STATE_COMPLETED,
    "failed": pb.TASK_STATE_FAILED,
    "canceled": pb.TASK_STATE_CANCELED,
    "rejected": pb.TASK_STATE_REJECTED,
    "input-required": pb.TASK_STATE_INPUT_REQUIRED,
    "auth-required": pb.TASK_STATE_AUTH_REQUIRED,
}
NAMES = {number: name for name, number in STATES.items()}
ENDS = frozenset({"completed", "failed", "canceled", "rejected"})
ASKS = frozenset({"input-required", "auth-required"})

Update = pb.TaskStatusUpdateEvent | pb.TaskArtifactUpdateEvent
Content = Callable[[Mapping[str, Any], int], pb.Part]  # an artifact event's data and seq → what is in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a task's history."""

    seq: int
    kind: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message that came for a task."""

    seq: int  # of the task's last event before it
    message: Mapping[str, Any] | None  # as it came by A2A
    input: Any = None  # where it came by another door


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that A2A tells of a task."""

    id: str
    context: str
    created_at: datetime
    output: Any
    events: Sequence[Event]
    said: Sequence[Said] = ()
    content: Content = field(repr=False)


# ---- what is told -------------------------------------------------------------------------------------------------


def updates(story: Story) -> list[tuple[int, Update]]:
    """Return (seq of the event, update) of everything that is told of the task, in order."""
    told: list[tuple[int, Update]] = []
    working, chunks = False, set()
    for event in story.events:
        match event.kind:
            case "working" | "answered" if not working:
                working = True
                told.append((event.seq, _status(story, event, "working")))
            case "progress":
                told.append((event.seq, _status(story, event, "working", str(event.data.get("message") or ""))))
            case "artifact":
                told.append((event.seq, _artifact(story, event, is_begun=event.data["name"] in chunks)))
                chunks.add(event.data["name"])
            case "input-required" | "auth-required":
                working = False
                told.append((event.seq, _status(story, event, event.kind, _question(event))))
            case "completed":
                if (output := _output(story)) is not None:
                    told.append((event.seq, output))
                told.append((event.seq, _status(story, event, "completed")))
            case "failed" | "rejected":
                told.append((event.seq, _status(story, event, event.kind, _trouble(event.data))))
            case "canceled":
                told.append((event.seq, _status(story, event, "canceled", str(event.data.get("reason") or ""))))
    for generation, (_, update) in enumerate(told, 1):
        update.metadata[GENERATION] = generation
    return told


def before(story: Story, seq: int) -> Story:
    """Return the story as it stood after the event with this number."""
    events = tuple(event for event in story.events if event.seq <= seq)
    return replace(story, events=events, output=story.output if len(events) == len(story.events) else None)


def task(story: Story, *, history: int | None = None, with_artifacts: bool = True) -> pb.Task:
    """Return the task as it stands; ``history`` is how many of the last messages go with it, None for all."""
    found = pb.Task(id=story.id, context_id=story.context)
    found.status.state = pb.TASK_STATE_SUBMITTED
    found.status.timestamp.FromDatetime(story.created_at)
    told = updates(story)
    for _, update in told:
        if isinstance(update, pb.TaskStatusUpdateEvent):
            found.status.CopyFrom(update.status)
        elif with_artifacts:
            _merge(found, update)
    said = messages(story)
    found.history.extend(said if history is None else said[len(said) - history :] if history else [])
    found.metadata[GENERATION] = len(told)
    return found


def messages(story: Story) -> list[pb.Message]:
    """Return what was said by both sides, in order."""
    found = [(said.seq, 0, number, _user(story, said, number)) for number, said in enumerate(story.said)]
    asked = ((event.seq, _question(event)) for event in story.events if event.kind in ASKS)
    found += ((seq, -1, 0, _agent(story, seq, text)) for seq, text in asked)
    return [message for *_, message in sorted(found, key=lambda each: each[:3])]


def direct(story: Story) -> pb.Message | None:
    """Return the message that the agent answered with in place of a task, None if it did not."""
    if not isinstance(story.output, Mapping) or DIRECT not in story.output:
        return None
    made = pb.Message(message_id=str(uuid.uuid5(uuid.UUID(story.id), "message")), context_id=story.context)
    made.role = pb.ROLE_AGENT
    made.parts.extend(_parts(story.output[DIRECT]))
    return made


def _status(story: Story, event: Event, state: str, text: str = "") -> pb.TaskStatusUpdateEvent:
    made = pb.TaskStatusUpdateEvent(task_id=story.id, context_id=story.context)
    made.status.state = STATES[state]
    made.status.timestamp.FromDatetime(event.at)
    if text:
        made.status.message.CopyFrom(_agent(story, event.seq, text))
    if event.kind == "progress" and event.data.get("fraction") is not None:
        made.metadata["progress"] = event.data["fraction"]
    if event.kind in ASKS and (schema := (event.data.get("detail") or {}).get("schema")):
        made.metadata["schema"] = schema
    return made


def _agent(story: Story, seq: int, text: str) -> pb.Message:
    message = pb.Message(message_id=str(uuid.uuid5(uuid.UUID(story.id), f"event {seq}")), role=pb.ROLE_AGENT)
    message.task_id, message.context_id = story.id, story.context
    message.parts.append(pb.Part(text=text))
    return message


def _user(story: Story, said: Said, number: int) -> pb.Message:
    if said.message is not None:
        message = pb.Message()
        ParseDict(dict(said.message), message, ignore_unknown_fields=True)
    else:
        message = pb.Message(message_id=str(uuid.uuid5(uuid.UUID(story.id), f"said {number}")), role=pb.ROLE_USER)
        message.parts.extend(_parts(said.input))
    message.task_id, message.context_id = story.id, story.context
    return message


def _question(event: Event) -> str:
    return str(event.data.get("message", ""))


def _trouble(data: Mapping[str, Any]) -> str:
    return str((data.get("error") or {}).get("message") or "")


def _artifact(story: Story, event: Event, *, is_begun: bool) -> pb.TaskArtifactUpdateEvent:
    made = pb.TaskArtifactUpdateEvent(task_id=story.id, context_id=story.context)
    name, is_chunk = str(event.data["name"]), "last" in event.data
    made.artifact.artifact_id = name if is_chunk else f"{name}-{event.seq}"
    made.artifact.name = name
    made.artifact.parts.append(story.content(event.data, event.seq))
    made.append = is_chunk and is_begun
    made.last_chunk = bool(event.data.get("last", True))
    return made


def _output(story: Story) -> pb.TaskArtifactUpdateEvent | None:
    if story.output is None or direct(story) is not None:
        return None
    made = pb.TaskArtifactUpdateEvent(task_id=story.id, context_id=story.context, last_chunk=True)
    made.artifact.artifact_id = made.artifact.name = OUTPUT
    made.artifact.parts.extend(_parts(story.output))
    return made


def _merge(task: pb.Task, update: pb.TaskArtifactUpdateEvent) -> None:
    """Put an artifact, or a chunk of one, in its place."""
    known = next((each for each in task.artifacts if each.artifact_id == update.artifact.artifact_id), None)
    if known is not None and update.append:
        known.parts.extend(update.artifact.parts)
    elif known is not None:
        known.CopyFrom(update.artifact)
    else:
        task.artifacts.append(update.artifact)


def _parts(value: Any) -> list[pb.Part]:
    """Return a JSON value as parts: text as text, everything else as data."""
    if isinstance(value, str):
        return [pb.Part(text=value, media_type="text/plain")]
    part = pb.Part(media_type="application/json")
    part.data.CopyFrom(ParseDict(value, Value()))
    return [part]


# ---- what comes ---------------------------------------------------------------------------------------------------


def value_of(message: pb.Message, *, whole: bool = False) -> Any:
    """Return what the agent gets of a message.

    One text alone is that text, one piece of data alone that data. Else ``{"parts": […]}`` with ``text``, ``data``,
    ``url`` or ``raw`` (base64) each, and ``media_type`` and ``filename`` where they are known. ``whole`` is the
    message in A2A's JSON.
    """
    if whole:
        return MessageToDict(message)
    if len(message.parts) == 1 and message.parts[0].WhichOneof("content") in ("text", "data"):
        return _value(message.parts[0])
    return {"parts": [_part(part) for part in message.parts]}


def _value(part: pb.Part) -> Any:
    kind = part.WhichOneof("content")
    if kind == "data":
        return MessageToDict(part)["data"]
    if kind == "raw":
        return base64.b64encode(part.raw).decode()
    return getattr(part, kind)


def _part(part: pb.Part) -> dict[str, Any]:
    more = {name: value for name in ("media_type", "filename") if (value := getattr(part, name))}
    return {part.WhichOneof("content"): _value(part), **more}


def routing_of(metadata: Iterable[Struct]) -> dict[str, Any]:
    """Return what the extension says in the first of the metadata that has it."""
    for each in metadata:
        told = MessageToDict(each).get(EXTENSION)
        if told is not None:
            return told if isinstance(told, dict) else {"": told}
    return {}
