"""News of single tasks for whoever waits in this process: one reader of the committed stream, a bell per waiter.

A bell only says "look": what happened stands in the ledger. So nothing is lost by a bell that did not ring, and while
Redis is away everyone looks by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

import orjson
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from routing.broker import COMMITTED

log = logging.getLogger(__name__)

BLOCK_MS = 1_000
LOOK_S = 5.0  # who hears nothing looks all the same
BLIND_LOOK_S = 0.5  # likewise while Redis is away
RETRY_S = 0.5
IDLE_READS = 60  # of a second each at most: so long it goes on for whoever comes next


class Bell:
    """Rings when something was committed about one task."""

    def __init__(self, feed: Feed) -> None:
        self.rings = 0  # how often; what was read after a ring is as new as any bell of the task can tell
        self._feed = feed
        self._news = asyncio.Event()

    def ring(self, number: int) -> None:
        """Let the waiter look. ``number`` is the same for all bells of a commit, and rises."""
        self.rings = number
        self._news.set()

    async def wait(self) -> None:
        """Return when it is time to look into the ledger again."""
        patience = LOOK_S if self._feed.is_up else BLIND_LOOK_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), patience)
        self._news.clear()


class Feed:
    """Reads the committed stream while somebody listens, and a minute longer."""

    def __init__(self, url: str) -> None:
        self.is_up = False
        self._url = url
        self._bells: dict[str, set[Bell]] = {}
        self._task: asyncio.Task[None] | None = None
        self._placed = asyncio.Event()
        self._position = ""
        self._number = 0

    @contextlib.asynccontextmanager
    async def listen(self, task: str) -> AsyncIterator[Bell]:
        """While inside, a bell that rings for every commit about the task from now on."""
        bell = Bell(self)
        self._bells.setdefault(task, set()).add(bell)
        try:
            if self._task is None or self._task.done():
                self._placed.clear()
                self._position = ""
                self._task = asyncio.create_task(self._run(), name="feed")
            await self._placed.wait()
            yield bell
        finally:
            self._forget(task, bell)

    def _forget(self, task: str, bell: Bell) -> None:
        bells = self._bells.get(task, set())
        bells.discard(bell)
        if not bells:
            self._bells.pop(task, None)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
                if not self._bells:
                    return
            except (RedisError, OSError) as error:
                log.debug("the feed of tasks is away: %s", error)
            except Exception:
                log.exception("the feed of tasks broke; starting it again")
            self.is_up = False
            self._placed.set()
            self._ring_all()
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        """Read until Redis goes away, or nobody has listened for a while."""
        bus = redis.asyncio.Redis.from_url(
            self._url, socket_timeout=BLOCK_MS / 1000 + 2, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0),
            protocol=2,
        )  # fmt: skip
        async with contextlib.aclosing(bus):
            if not self._position:
                newest: Any = await bus.xrevrange(COMMITTED, count=1)
                self._position = newest[0][0].decode() if newest else "0-0"
            self.is_up = True
            self._placed.set()
            self._ring_all()
            idle = 0
            while idle < IDLE_READS:
                idle = 0 if self._bells else idle + 1
                streams: Any = await bus.xread({COMMITTED: self._position}, count=500, block=BLOCK_MS)
                for _, entries in streams or ():
                    for entry, fields in entries:
                        self._position = entry.decode()
                        self._tell(fields.get(b"d", b""))

    def _tell(self, text: bytes) -> None:
        try:
            delta = orjson.loads(text)
            tasks = {event["task"] for event in delta["events"]}
        except (orjson.JSONDecodeError, KeyError, TypeError):
            tasks, delta = set(), {"reset": True}
        if delta.get("reset"):
            self._ring_all()
        self._number += 1
        for task in tasks & self._bells.keys():
            for bell in self._bells[task]:
                bell.ring(self._number)

    def _ring_all(self) -> None:
        self._number += 1
        for bells in self._bells.values():
            for bell in bells:
                bell.ring(self._number)


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, Feed] = WeakKeyDictionary()


def feed() -> Feed:
    """Return this process's feed: one per event loop, so one in a web process."""
    loop = asyncio.get_running_loop()
    if loop not in _feeds:
        _feeds[loop] = Feed(settings.A2A_REDIS_URL)
    return _feeds[loop]
