"""Wakes requests that wait for a pull agent's attempts: one subscription a process, no thread, nothing lost.

A ring that is missed costs time only: whoever waits looks again by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import orjson
import redis
import redis.asyncio
from django.conf import settings

from routing import broker

log = logging.getLogger(__name__)

AGAIN_S = 0.5


@dataclass(eq=False)
class Waiter:
    """A request that waits for an agent's attempts, or for one that it holds to be stopped."""

    agent: str
    holds: frozenset[tuple[str, int]]
    rung: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, seconds: float) -> bool:
        """Return True as soon as it is rung, False after so long."""
        try:
            await asyncio.wait_for(self.rung.wait(), seconds)
        except TimeoutError:
            return False
        self.rung.clear()
        return True


class Bell:
    """The waiters of one event loop. It listens while there are any."""

    def __init__(self) -> None:
        self._waiters: set[Waiter] = set()
        self._listening: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def waiter(self, agent: str, holds: Iterable[tuple[str, int]]) -> AsyncIterator[Waiter]:
        """Yield a waiter that is rung from now on."""
        made = Waiter(agent, frozenset(holds))
        self._waiters.add(made)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            yield made
        finally:
            self._waiters.discard(made)

    async def _listen(self) -> None:
        while self._waiters:
            try:
                await self._follow()
            except (redis.RedisError, OSError) as error:
                log.debug("pull agents: no rings now (%s)", error)
                await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        client = redis.asyncio.Redis.from_url(settings.A2A_REDIS_URL)
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(broker.PULL, broker.WORKERS)
            self._ring(self._waiters)  # what came before is seen by their next look
            while self._waiters:
                said = await pubsub.get_message(timeout=5.0)
                if said is not None:
                    self._hear(said["channel"].decode(), orjson.loads(said["data"]))
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await client.aclose()

    def _hear(self, channel: str, said: Any) -> None:
        if channel == broker.PULL:
            self._ring(w for w in self._waiters if w.agent in said)
            return
        stops = {(task, attempt) for task, attempt, _ in said.get("stop", ())}
        self._ring(w for w in self._waiters if not stops.isdisjoint(w.holds))

    def _ring(self, waiters: Iterable[Waiter]) -> None:
        for waiter in list(waiters):
            waiter.rung.set()


_bells: WeakKeyDictionary[asyncio.AbstractEventLoop, Bell] = WeakKeyDictionary()


def bell() -> Bell:
    """Return the running loop's bell."""
    return _bells.setdefault(asyncio.get_running_loop(), Bell())
