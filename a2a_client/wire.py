"""What both clients agree on: where the server is, who calls, and what an answer means.  Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from a2a_client import errors, models
from a2a_client.calls import Call

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server and the key for it."""

    url: str  # without a path at its end
    key: str

    @classmethod
    def of(cls, url: str | None, key: str | None, environment: Mapping[str, str] | None = None) -> Place:
        """Return the place; what is None comes from ``A2A_URL`` and ``A2A_KEY``. Raises ValueError."""
        known = os.environ if environment is None else environment
        chosen = (url or known.get("A2A_URL") or DEFAULT_URL).rstrip("/")
        parts = urlsplit(chosen)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"The address of Mission Control has to look like {DEFAULT_URL}, not {chosen!r}.")
        return cls(url=chosen, key=key if key is not None else known.get("A2A_KEY", ""))

    def headers(self) -> dict[str, str]:
        """Return what every request carries."""
        own = {"User-Agent": "a2a-client/0.1", "Accept": "application/json"}
        return {**own, "Authorization": f"Bearer {self.key}"} if self.key else own


def headers(call: Call[Any]) -> dict[str, str]:
    """Return the headers of one call."""
    found = {"Idempotency-Key": call.key} if call.key else {}
    return {**found, "Content-Type": "application/json"} if call.body is not None else found


def content(call: Call[Any]) -> bytes | None:
    """Return the body. Raises TypeError or ValueError for what is not JSON, NaN among it."""
    if call.body is None:
        return None
    return json.dumps(call.body, allow_nan=False, ensure_ascii=False, default=_word).encode()


def _word(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON.")


def answer(call: Call[T], status: int, text: bytes) -> T:
    """Return what the call gives. Raises ``Problem`` for a refusal, ``NotOurs`` for what is no answer of ours."""
    if status == 204:
        return call.read(None)
    document = _json(text)
    if status >= 400:
        raise errors.problem(status, document if isinstance(document, dict) else {"title": f"HTTP {status}"})
    try:
        return call.read(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.NotOurs(f"{call.method} {call.path} was answered by something else ({status}): {error}") from None


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def outcome(call: Call[T], status: int | None, told: bytes | Exception, url: str) -> T:
    """Return what the call gives. Raises ``Unreachable`` when no answer came, else as ``answer`` does."""
    if status is None or not isinstance(told, bytes):
        raise errors.Unreachable(f"{url} does not answer ({type(told).__name__}: {told!s}). Does `manage.py up` run?")
    return answer(call, status, told)


def checked(task: models.Task) -> models.Task:
    """Return the task if it completed. Raises ``TaskFailed``."""
    if task.state != "completed":
        raise errors.TaskFailed(f"Task {task.id} {task.state}: {task.why or 'no reason was given'}", task)
    return task


def target(artifact: models.Artifact, to: Path) -> Path:
    """Return the file to write: ``to`` itself, or the artifact's own name in the folder ``to``."""
    return to / file_name(artifact) if to.is_dir() else to


def file_name(artifact: models.Artifact) -> str:
    """Return a name that stays in its folder, whatever the agent called the file."""
    plain = artifact.name.replace("\\", "/").rpartition("/")[2].strip(". ")
    return plain or f"artifact-{artifact.seq}"
