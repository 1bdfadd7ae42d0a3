"""Live state for pages: one reader of the committed stream per web process, a mailbox per client.

    a2a:committed ──▶ Reader ──▶ Mailbox (one a client, merged, bounded) ──▶ WebSocket

A client that is slow, or was away, never holds anything up: what it has not been sent yet is merged under its name, and
where that grows too large it is told to start again from a snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import orjson
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from monitoring.overview import vitals
from routing.broker import COMMITTED, SNAPSHOT

log = logging.getLogger(__name__)

BLOCK_MS = 250
SNAPSHOT_EVERY_S = 0.5
SILENT_AFTER_S = 4.0  # a snapshot that has not changed for so long: the controller is silent
RETRY_S = (0.1, 0.25, 0.5, 1.0)  # the last one again and again
REPLAY_LIMIT = 2_000  # commits; who is farther behind gets a snapshot
EVENTS_KEPT = 200  # task events of one delta; of more than that the newest are sent
NAMES_KEPT = 20_000  # rows of one delta; beyond that a snapshot is smaller
OK, NO_REDIS, SILENT = "ok", "redis", "controller"
BY_NAME = {"fleet": "agent", "lanes": "lane", "workers": "worker"}


class Mailbox:
    """What one client has not been sent yet.

    ``status`` is ok, redis (out of reach) or controller (silent). ``resync``: start again from a snapshot.
    """

    def __init__(self, *, task: str = "") -> None:
        self.task = task  # "" hears everything; else only that something happened to this task
        self.status = OK
        self.resync = False
        self.seq = 0  # last commit that is in here or was taken
        self._told = OK
        self._news = asyncio.Event()
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {kind: {} for kind in BY_NAME}
        self._events: list[Any] = []
        self._more = 0
        self._vitals: dict[str, Any] | None = None
        self._at: str | None = None

    def push(self, delta: Mapping[str, Any]) -> None:
        """Merge one commit into what waits; one that is in here already changes nothing."""
        if delta["seq"] <= self.seq:
            return
        self.seq, self._at = delta["seq"], delta.get("at")
        if self.task:
            if any(event["task"] == self.task for event in delta.get("events", ())):
                self._news.set()
            return
        self._events.extend(delta.get("events", ()))
        surplus = max(len(self._events) - EVENTS_KEPT, 0)
        self._more += surplus
        del self._events[:surplus]
        self._merge(delta)

    def push_state(self, figures: dict[str, Any], changes: Mapping[str, list[Any]]) -> None:
        """Keep the newest counters, and rows that changed without a commit."""
        if not self.task:
            self._vitals = figures
            self._merge(changes)

    def _merge(self, rows: Mapping[str, Any]) -> None:
        for kind, name in BY_NAME.items():
            self._rows[kind].update((row[name], row) for row in rows.get(kind, ()))
        if sum(map(len, self._rows.values())) > NAMES_KEPT:
            self.start_again()
        self._news.set()

    def tell(self, status: str) -> None:
        """Say how the source stands. After an outage everything is fetched again."""
        if status == self.status:
            return
        if status == OK:
            self.start_again()
        self.status = status
        self._news.set()

    def start_again(self) -> None:
        """Forget what waits: the client needs a snapshot."""
        self._clear()
        self.resync = True
        self._news.set()

    async def wait(self) -> None:
        """Return when there is something to take."""
        await self._news.wait()

    def take_status(self) -> str | None:
        """Return the status if it has changed since it was taken last."""
        if self.status == self._told:
            return None
        self._told = self.status
        return self.status

    def heard(self) -> None:
        """Take note that ``wait`` returned: it waits for the next news."""
        self._news.clear()

    def take(self) -> dict[str, Any]:
        """Return all that waits as one delta, and forget it. ``more`` counts events that were left out."""
        self._news.clear()
        delta: dict[str, Any] = {"seq": self.seq, "at": self._at, "events": self._events, "more": self._more}
        delta |= {kind: list(rows.values()) for kind, rows in self._rows.items()}
        if self._vitals is not None:
            delta["vitals"] = self._vitals
        self.resync = False
        self._clear()
        return delta


def merged(deltas: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return several commits as one delta."""
    box = Mailbox()
    for delta in deltas:
        box.push(delta)
    return box.take()


class Reader:
    """Reads the committed stream while somebody listens, and puts each commit into every mailbox."""

    def __init__(self, url: str) -> None:
        self.status = OK
        self.seq: int | None = None  # of the last commit read
        self._url = url
        self._mailboxes: set[Mailbox] = set()
        self._task: asyncio.Task[None] | None = None
        self._placed = asyncio.Event()
        self._seen: tuple[Any, Any] = (None, None)
        self._seen_at = 0.0
        self._looked_at = 0.0
        self._rows: dict[str, dict[str, Any]] = {kind: {} for kind in BY_NAME}

    @contextlib.asynccontextmanager
    async def mailbox(self, *, task: str = "", box: Mailbox | None = None) -> AsyncIterator[Mailbox]:
        """While inside, a mailbox (``box``, if one is given) that gets every commit after its ``seq``."""
        box = box or Mailbox(task=task)
        self._mailboxes.add(box)
        try:
            if self._task is None or self._task.done():
                self._placed.clear()
                self.seq = None  # where it stopped reading does not matter: nobody was there
                self._task = asyncio.create_task(self._run(), name="live-reader")
            await self._placed.wait()
            box.seq = max(box.seq, self.seq or 0)
            box.tell(self.status)
            yield box
        finally:
            self._mailboxes.discard(box)
            if not self._mailboxes and self._task is not None:
                self._task.cancel()
                self._task = None

    async def between(self, after: int, upto: int) -> list[dict[str, Any]] | None:
        """Return the commits ``after`` < seq <= ``upto``, or None if the stream does not hold all of them."""
        if after == upto:
            return []
        if not 0 < upto - after <= REPLAY_LIMIT:
            return None
        async with connect(self._url) as bus:
            entries: Any = await bus.xrange(COMMITTED, f"{after + 1}-0", f"{upto}-0", count=REPLAY_LIMIT)
        deltas = [delta for _, fields in entries if (delta := parse(fields)) is not None]
        whole = [delta["seq"] for delta in deltas] == list(range(after + 1, upto + 1))
        return deltas if whole and not any(delta.get("reset") for delta in deltas) else None

    async def snapshot(self) -> dict[str, Any] | None:
        """Return the controller's snapshot, None if it is silent. Raises ``RedisError`` or ``OSError``."""
        async with connect(self._url) as bus:
            return _loads(await bus.get(SNAPSHOT))

    async def _run(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._follow()
            except (RedisError, OSError) as error:
                if self.status != NO_REDIS:
                    log.warning("Redis cannot be reached (%s): live pages say so. Trying again.", error)
            except Exception:
                log.exception("The reader of live state broke. Starting it again.")
            self._tell(NO_REDIS)
            self._placed.set()
            failures = 0 if time.monotonic() - began > 5 else failures + 1
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])

    async def _follow(self) -> None:
        """Read until Redis goes away."""
        async with connect(self._url) as bus:
            await self._find_place(bus)
            await self._look(bus)
            self._placed.set()
            while True:
                streams: Any = await bus.xread({COMMITTED: f"{self.seq}-0"}, count=500, block=BLOCK_MS)
                for _, entries in streams or ():
                    for entry, fields in entries:
                        self._read(entry, fields)
                if time.monotonic() - self._looked_at >= SNAPSHOT_EVERY_S:
                    await self._look(bus)

    async def _find_place(self, bus: redis.asyncio.Redis) -> None:
        """Go on after the last commit read; where the stream stands before that, its numbers began anew."""
        head = await self._head(bus)
        if self.seq is None:
            self.seq = head
        elif 0 < head < self.seq:
            self.seq = head
            self._start_again()

    async def _head(self, bus: redis.asyncio.Redis) -> int:
        newest: Any = await bus.xrevrange(COMMITTED, count=1)
        return commit_number(newest[0][0]) if newest else 0

    def _read(self, entry: bytes, fields: Mapping[bytes, bytes]) -> None:
        delta = parse(fields)
        before, self.seq = self.seq, commit_number(entry)
        if delta is None or delta["seq"] != self.seq or delta.get("reset") or self.seq != (before or 0) + 1:
            self._start_again()
            return
        for kind, name in BY_NAME.items():
            self._rows[kind].update((row[name], row) for row in delta.get(kind, ()))
        for box in self._mailboxes:
            box.push(delta)

    def _start_again(self) -> None:
        for box in self._mailboxes:
            box.seq = self.seq or 0
            box.start_again()

    async def _look(self, bus: redis.asyncio.Redis) -> None:
        """Fetch the snapshot: counters for everyone, and whether a controller lives at all."""
        self._looked_at = time.monotonic()
        snapshot = _loads(await bus.get(SNAPSHOT))
        mark = (snapshot.get("seq"), snapshot.get("at")) if snapshot else (None, None)
        if mark != self._seen:
            self._seen, self._seen_at = mark, self._looked_at
        if snapshot is None or self._looked_at - self._seen_at > SILENT_AFTER_S:
            self._tell(SILENT)
            return
        self._tell(OK)
        changes: dict[str, list[Any]] = {}
        if snapshot.get("seq", 0) >= (self.seq or 0):
            changes = self._changes(snapshot)
        else:
            await self._find_place(bus)  # usually the snapshot only lags a little
        if self._seen_at == self._looked_at:
            figures = vitals(snapshot)
            for box in self._mailboxes:
                box.push_state(figures, changes)

    def _changes(self, snapshot: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return the rows that differ from those pushed so far: not every change comes with a commit."""
        changes: dict[str, list[Any]] = {}
        for kind, name in BY_NAME.items():
            before, self._rows[kind] = self._rows[kind], {row[name]: row for row in snapshot.get(kind, ())}
            changes[kind] = [row for key, row in self._rows[kind].items() if before.get(key) != row]
            changes[kind] += [{name: key, "gone": True} for key in before.keys() - self._rows[kind].keys()]
        return changes

    def _tell(self, status: str) -> None:
        self.status = status
        for box in self._mailboxes:
            box.tell(status)


_readers: WeakKeyDictionary[asyncio.AbstractEventLoop, Reader] = WeakKeyDictionary()


def reader() -> Reader:
    """Return this process's reader (one per event loop, so one in a web process)."""
    loop = asyncio.get_running_loop()
    if loop not in _readers:
        _readers[loop] = Reader(settings.A2A_REDIS_URL)
    return _readers[loop]


@contextlib.asynccontextmanager
async def connect(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """While inside, a connection of our own that fails within 2 s and retries nothing."""
    bus = redis.asyncio.Redis.from_url(
        url, socket_timeout=2, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0), protocol=2
    )
    try:
        yield bus
    finally:
        await bus.aclose()


def commit_number(entry: bytes) -> int:
    """Return the commit's number: the first half of the stream entry's id."""
    return int(entry.split(b"-")[0])


def parse(fields: Mapping[bytes, bytes]) -> dict[str, Any] | None:
    """Return a stream entry's delta, None if it is none of ours."""
    delta = _loads(fields.get(b"d"))
    return delta if delta is not None and isinstance(delta.get("seq"), int) else None


def _loads(text: bytes | str | None) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
