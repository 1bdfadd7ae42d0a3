"""The client that is awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from a2a_client import calls, errors, following, wire
from a2a_client.calls import Call, Id, Page
from a2a_client.models import Artifact, Event, Run, Task
from a2a_client.retrying import Retrying
from a2a_client.surface import Surface

T = TypeVar("T")


class AsyncClient(Surface):
    """Talks to Mission Control. One belongs to one event loop. Use it in an ``async with``, or await ``close``.

    ``url`` and ``key`` are taken from ``A2A_URL`` and ``A2A_KEY`` when they are not given; ``timeout_s`` is for one
    answer. What fails on the way is sent again under the same idempotency key, as ``retrying`` says.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 30.0,
        retrying: Retrying | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.place = wire.Place.of(url, key)
        self.retrying = retrying or Retrying()
        self._http = httpx.AsyncClient(
            base_url=self.place.url, headers=self.place.headers(), timeout=timeout_s, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Return the answer to a call. Raises ``Problem``, ``Unreachable`` or ``NotOurs``."""
        attempt = 0
        while True:
            status, after, told = await self._try(call)
            pause_s = self.retrying.pause_s(attempt, status, after) if call.is_safe else None
            if pause_s is None:
                return wire.outcome(call, status, told, self.place.url)
            await asyncio.sleep(pause_s)
            attempt += 1

    async def _try(self, call: Call[T]) -> tuple[int | None, str | None, bytes | Exception]:
        """Return (status, Retry-After, body); status None and the error when no answer came."""
        try:
            answer = await self._http.request(
                call.method,
                call.path,
                content=wire.content(call),
                params=call.params or None,
                headers=wire.headers(call),
                timeout=call.timeout_s if call.timeout_s is not None else httpx.USE_CLIENT_DEFAULT,
            )
        except httpx.TransportError as error:
            return None, None, error
        return answer.status_code, answer.headers.get("Retry-After"), answer.content

    def each_task(self, **filters: Any) -> AsyncIterator[Task]:
        """Yield every task that ``tasks`` would list, page after page."""
        return self._each(calls.tasks(**filters))

    def each_run(self, **filters: Any) -> AsyncIterator[Run]:
        """Yield every run that ``runs`` would list, page after page."""
        return self._each(calls.runs(**filters))

    async def _each(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        page = await self.send(call)
        for item in page.items:
            yield item
        while page.next:
            page = await self.send(calls.following(page.next, call.read))
            for item in page.items:
                yield item

    async def events(self, id: Id, *, after: int = 0, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """Yield a task's events from the one after ``after``, as they are committed, until it has ended.

        A lost connection is made again after the last event that came: none is missed, none comes twice.
        Raises ``TaskTimeout`` after ``timeout_s``; None waits as long as it takes.
        """
        follow = following.Following(after=after, timeout_s=timeout_s, began=time.monotonic())
        while not follow.has_ended:
            try:
                async for event in self._stream(id, follow):
                    yield event
            except (httpx.TransportError, SSEError):
                await asyncio.sleep(follow.pause_s())
            follow.check(time.monotonic())

    async def _stream(self, id: Id, follow: following.Following) -> AsyncIterator[Event]:
        address = f"{calls.BASE}/tasks/{id}/events"
        async with self._http.stream("GET", address, **follow.options()) as got:
            if got.status_code == 204:
                follow.has_ended = True
                return
            if got.status_code != 200:
                pause_s = self.retrying.pause_s(follow.failures, got.status_code, got.headers.get("Retry-After"))
                if pause_s is None:
                    wire.outcome(calls.task(id), got.status_code, await got.aread(), self.place.url)
                await asyncio.sleep(pause_s or 0.0)
                follow.failures += 1
                return
            if not got.headers.get("Content-Type", "").startswith("text/event-stream"):
                for paged in follow.take_page(await got.aread()):
                    yield paged
                await asyncio.sleep(0 if follow.has_ended else following.POLL_S)
                return
            async for sent in EventSource(got).aiter_sse():
                event = follow.take(sent.event, sent.data)
                if event is not None:
                    yield event
                if follow.has_ended:
                    return
                follow.check(time.monotonic())

    async def wait(self, id: Id, *, timeout_s: float | None = None, check: bool = True) -> Task:
        """Return the task once it has ended.

        Raises ``TaskTimeout`` after ``timeout_s``, and with ``check`` ``TaskFailed`` if it ended without an output.
        """
        task = await self.task(id)
        if not task.has_ended:
            last = following.before_the_end(task.events)
            async for _ in self.events(id, after=last, timeout_s=timeout_s):
                pass
            task = await self.task(id)
        return wire.checked(task) if check else task

    async def wait_run(self, id: Id, *, timeout_s: float | None = None, every_s: float = 0.5) -> Run:
        """Return the run once it has ended. Raises ``TaskTimeout``."""
        began = time.monotonic()
        while not (run := await self.run(id)).has_ended:
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                raise errors.TaskTimeout(f"Run {id} is {run.state} after {timeout_s:g} s. It goes on.")
            await asyncio.sleep(every_s)
        return run

    async def upload(self, path: str, params: dict[str, Any], data: bytes, media_type: str) -> None:
        """Post a file. What fails on the way is sent again: the server keeps files by what is in them.

        Raises ``Problem`` or ``Unreachable``.
        """
        call: Call[None] = Call(method="POST", path=path, read=lambda answer: None)
        attempt = 0
        while True:
            status, after, told = await self._post(path, params, data, media_type)
            pause_s = self.retrying.pause_s(attempt, status, after)
            if pause_s is None:
                return wire.outcome(call, status, told, self.place.url)
            await asyncio.sleep(pause_s)
            attempt += 1

    async def _post(
        self, path: str, params: dict[str, Any], data: bytes, media_type: str
    ) -> tuple[int | None, str | None, bytes | Exception]:
        try:
            headers = {"Content-Type": media_type}
            answer = await self._http.post(path, params=params, content=data, headers=headers)
        except httpx.TransportError as error:
            return None, None, error
        return answer.status_code, answer.headers.get("Retry-After"), answer.content

    async def download(self, artifact: Artifact, to: Path) -> Path:
        """Write an artifact to the file ``to``, or into the folder ``to`` under its own name, and return the file."""
        target = wire.target(artifact, to)
        async with self._http.stream("GET", artifact.href) as got:
            if got.status_code != 200:
                wire.outcome(calls.agents(), got.status_code, await got.aread(), self.place.url)
            with target.open("wb") as file:
                async for chunk in got.aiter_bytes():
                    file.write(chunk)
        return target
