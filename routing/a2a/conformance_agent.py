"""The agent of conformance runs: what it does stands in the first text of a message, or in the message's id."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from routing.a2a.conformance import AGENT
from routing.a2a.wire import DIRECT, FILE_LIST
from routing.executors import AgentFailed, Canceled, NeedsAuth, NeedsInput, Rejected, handler

LOOK_S = 0.05
RESUBSCRIBE_S = 4.0
LONG_S = 30.0
CANCEL_S = 300.0


@handler(AGENT, capacity=64)
def conformance(input: Any, ctx: Any) -> Any:
    """Do what the message's first words say; anything else completes."""
    message = input if isinstance(input, Mapping) else {}
    asked = (_text(message), str(message.get("messageId", "")))
    found = (act for prefix, act in _ACTS for words in asked if words.startswith(prefix))
    act = next(found, None)
    return act(ctx) if act is not None else "Done."


def _text(message: Mapping[str, Any]) -> str:
    parts = message.get("parts") or ()
    return next((str(part["text"]) for part in parts if "text" in part), "")


def _complete(ctx: Any) -> Any:
    return "Done."


def _quietly(ctx: Any) -> Any:
    return None


def _ask(ctx: Any) -> Any:
    if not ctx.answers:
        raise NeedsInput("What else should I know?")
    return "Thank you."


def _authenticate(ctx: Any) -> Any:
    if not ctx.answers:
        raise NeedsAuth("Please let me in.")
    return "Thank you."


def _talk(ctx: Any) -> Any:
    if not any("done" in _text(said).lower() for said in ctx.answers if isinstance(said, Mapping)):
        raise NeedsInput(f"Go on, or say done. I have heard {len(ctx.answers) + 1} messages.")
    return "We are done."


def _reject(ctx: Any) -> Any:
    raise Rejected("I do not do this.")


def _fail(ctx: Any) -> Any:
    raise AgentFailed("I could not do this.")


def _message(ctx: Any) -> Any:
    return {DIRECT: "A message, and no task."}


def _artifact_text(ctx: Any) -> Any:
    ctx.artifact("text.txt", "Some text.", "text/plain")


def _artifact_file(ctx: Any) -> Any:
    ctx.artifact("file.bin", b"Some bytes.", "application/octet-stream")


def _artifact_url(ctx: Any) -> Any:
    ctx.artifact("address.txt", "https://example.com/file.txt", FILE_LIST)


def _artifact_data(ctx: Any) -> Any:
    ctx.artifact("data.json", '{"key": "value"}', "application/json")


def _chunks(ctx: Any) -> Any:
    ctx.stream("One, ", name="chunks.txt")
    ctx.stream("two.", name="chunks.txt", last=True)


def _wait(ctx: Any, seconds: float) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ctx.cancelled:
            raise Canceled("Stopped.")
        time.sleep(LOOK_S)
    return "Done."


_ACTS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("tck-complete-task", _complete),
    ("tck-input-required", _ask),
    ("tck-auth-required", _authenticate),
    ("tck-multi-turn", _talk),
    ("tck-reject-task", _reject),
    ("tck-task-failure", _fail),
    ("tck-message-response", _message),
    ("tck-artifact-text", _artifact_text),
    ("tck-artifact-file-url", _artifact_url),
    ("tck-artifact-file", _artifact_file),
    ("tck-artifact-data", _artifact_data),
    ("tck-stream-artifact-chunked", _chunks),
    ("tck-stream-artifact-file", _artifact_file),
    ("tck-stream-artifact-text", _artifact_text),
    ("tck-stream-001", _artifact_text),
    ("tck-stream-002", _quietly),
    ("tck-stream-003", _artifact_text),
    ("tck-stream-ordering-001", _artifact_text),
    ("test-resubscribe-message-id", lambda ctx: _wait(ctx, RESUBSCRIBE_S)),
    ("tck-cancel", lambda ctx: _wait(ctx, CANCEL_S)),
    ("tck-long-running", lambda ctx: _wait(ctx, LONG_S)),
)
