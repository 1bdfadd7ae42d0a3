"""What a handler is, and what it gets while it works on an attempt."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from a2a_client.pull_calls import Claim, Key

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 0.25
T = TypeVar("T")


class HandlerError(Exception):
    """Raise it in a handler to say what kind of failure it is.

    ``kind`` is agent, bad_input, limit or unavailable; ``retry_in_s`` asks for another attempt after so many seconds.
    """

    def __init__(
        self, message: str, *, kind: str = "agent", retryable: bool = False, retry_in_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind, self.retryable, self.retry_in_s = kind, retryable, retry_in_s


class Canceled(HandlerError):
    """Raise it when ``ctx.cancelled`` made you stop."""

    def __init__(self, message: str = "stopped as it was told to") -> None:
        super().__init__(message, kind="canceled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function that does one skill. It takes (input, ctx), and may be a coroutine function."""

    skill: str
    run: Callable[..., Any]
    about: Mapping[str, Any] = field(default_factory=dict)  # of the skill, for its registration

    @property
    def is_async(self) -> bool:
        """Whether it is awaited, instead of run in a thread."""
        return inspect.iscoroutinefunction(self.run)

    def described(self) -> dict[str, Any]:
        """Return the skill as it is registered: named, or described and made where it is not there yet."""
        doc = (inspect.getdoc(self.run) or "").partition("\n")[0]
        return {"name": self.skill, "description": doc or self.skill, **self.about}


def handler(skill: str, **about: Any) -> Callable[[Callable[..., Any]], Handler]:
    """Return a decorator that makes a function the handler of a skill.

    ``about`` describes the skill where it is not registered yet: description, version, input_schema, output_schema,
    timeout_s, max_attempts, idempotent.
    """
    return lambda run: Handler(skill=skill, run=run, about=about)


class Desk(Protocol):
    """Who passes on what a context says; its calls come from any thread."""

    agent: str

    def note(self, key: Key, note: Mapping[str, Any]) -> None: ...
    def keep(self, key: Key, name: str, data: bytes, media_type: str) -> Coroutine[Any, Any, None]: ...
    def call(self, work: Coroutine[Any, Any, T]) -> Future[T]: ...


class Context:
    """One attempt, as its handler sees it."""

    def __init__(self, claim: Claim, desk: Desk) -> None:
        self.task_id, self.attempt = claim.task, claim.attempt
        self.skill, self.version, self.labels = claim.skill, claim.version, claim.labels
        self.context = claim.context  # id of the piece of work that the task is part of, or None
        self.idempotency_key = claim.idempotency_key  # the same for every attempt of the task
        self.timeout_s = claim.timeout_s
        self.agent = desk.agent
        self.used: dict[str, float] = {}
        self.stop_reason = ""  # canceled | stale | timeout | shutdown
        self._desk = desk
        self._callbacks: list[Callable[[], Any]] = []
        self._lock = threading.Lock()
        self._progress_at = 0.0

    @property
    def key(self) -> Key:
        """Return what tells this attempt from all others."""
        return self.task_id, self.attempt

    @property
    def cancelled(self) -> bool:
        """True once the attempt should stop. A coroutine is cancelled besides."""
        return bool(self.stop_reason)

    def on_cancel(self, callback: Callable[[], Any]) -> None:
        """Have ``callback`` called once when the attempt should stop; at once if it already should."""
        with self._lock:
            if not self.stop_reason:
                self._callbacks.append(callback)
                return
        callback()

    def stop(self, reason: str) -> None:
        """Ask the handler to stop. The first reason stays."""
        with self._lock:
            if self.stop_reason:
                return
            self.stop_reason = reason
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:  # a handler's own; the others and the attempt's lease do not depend on it
                log.exception("%s: what task %s asked for on cancel failed", self.agent, self.task_id)

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Report how far the work is (0..1, None if unknown). More than four reports a second are thinned out."""
        now = time.monotonic()
        if now - self._progress_at >= PROGRESS_EVERY_S or fraction == 1:
            self._progress_at = now
            share = None if fraction is None else min(1.0, max(0.0, float(fraction)))
            self._desk.note(self.key, {"kind": "progress", "fraction": share, "message": str(message)[:500]})

    def log(self, message: str, level: str = "info") -> None:
        """Keep a line with the task; ``level`` is debug, info, warning or error."""
        self._desk.note(self.key, {"kind": "log", "level": level, "message": str(message)[:4000]})

    def usage(self, *, usd: float = 0.0, tokens: float = 0.0) -> None:
        """Add to what the attempt has used."""
        for unit, amount in (("usd", usd), ("tokens", tokens)):
            if amount:
                self.used[unit] = self.used.get(unit, 0.0) + amount

    def artifact(self, name: str, data: bytes | str | Path, media_type: str = "application/octet-stream") -> None:
        """Keep a file with the task; returns when it is kept. In a coroutine await ``artifact_async`` instead."""
        self._desk.call(self._desk.keep(self.key, name, _bytes(data), media_type)).result()

    async def artifact_async(
        self, name: str, data: bytes | str | Path, media_type: str = "application/octet-stream"
    ) -> None:
        """Keep a file with the task."""
        await self._desk.keep(self.key, name, await asyncio.to_thread(_bytes, data), media_type)


def _bytes(data: bytes | str | Path) -> bytes:
    if isinstance(data, Path):
        return data.read_bytes()
    return data.encode() if isinstance(data, str) else data


def by_skill(handlers: Sequence[Handler]) -> dict[str, Handler]:
    """Return the handlers by skill. Raises ValueError if there is none, or two for one."""
    found = {each.skill: each for each in handlers}
    if len(found) != len(handlers) or not found:
        raise ValueError("Give serve() at least one handler, and one for each skill only.")
    return found
