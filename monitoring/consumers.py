"""WebSockets of the live pages.

    server → client   {"type": "snapshot", …}  everything, replaces what the page shows
                      {"type": "delta", …}     what changed since
                      {"type": "events", …}    a task's new events
                      {"type": "stale", "why": "redis" | "controller", "text": …}   figures would be old
                      {"type": "ok"}           they are current again

Nothing is expected from the client. It resumes with ``?seq=`` of the last commit (or event) it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from importlib import import_module
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import orjson
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from redis.exceptions import RedisError

from monitoring import live, queries
from monitoring.overview import NO_REDIS, SILENT, vitals

log = logging.getLogger(__name__)

PACE_S = 0.25  # between two messages with news: four a second
TASKS_EVERY_S = 1.0  # when more events happen than are sent, the newest tasks are read so often
WATCH_S = 10.0  # between two looks whether the user may still see this
NOT_ALLOWED = 4401  # close code: log in
STALE_TEXT = {live.NO_REDIS: NO_REDIS, live.SILENT: SILENT}


class LiveSocket(AsyncJsonWebsocketConsumer):
    """Accepts logged-in users of this site, pushes until they leave, and closes when they may not look any more."""

    async def connect(self) -> None:
        """Begin to push, or close with 4401."""
        self._work: list[asyncio.Task[None]] = []
        if not is_same_origin(self.scope):
            await self.close()
            return
        await self.accept()  # before refusing: a browser is told no reason for a refused handshake
        user = self.scope["user"]
        if user is None or not user.is_authenticated:
            await self.close(NOT_ALLOWED)
            return
        self._work = [asyncio.create_task(self._until_broken(work)) for work in (self.push(), self._watch())]

    async def push(self) -> None:
        """Send news until cancelled."""
        raise NotImplementedError

    async def disconnect(self, code: int) -> None:
        """Stop pushing."""
        for task in self._work:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Ignore what the client says."""

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        """Return the message as JSON text."""
        return orjson.dumps(content).decode()

    async def _until_broken(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            log.exception("a live page's connection broke; it will connect again")
            with contextlib.suppress(Exception):
                await self.close(1011)

    async def _watch(self) -> None:
        """Close when the session has ended, or the user was deactivated or has a new password."""
        store = import_module(settings.SESSION_ENGINE).SessionStore
        while True:
            await asyncio.sleep(WATCH_S)
            session = store(session_key=self.scope["session"].session_key)
            user = await get_user(cast("Any", {"session": session}))
            if not user.is_authenticated:
                await self.close(NOT_ALLOWED)
                return

    async def _send_status(self, box: live.Mailbox) -> None:
        status = box.take_status()
        if status == live.OK:
            await self.send_json({"type": "ok"})
        elif status is not None:
            await self.send_json({"type": "stale", "why": status, "text": STALE_TEXT[status]})

    def _asked_seq(self) -> int | None:
        """Return what the client already has, None if it has nothing (or nonsense)."""
        text = parse_qs(self.scope["query_string"].decode("latin-1")).get("seq", [""])[0]
        return int(text) if text.isdecimal() and len(text) < 19 else None


class OverviewSocket(LiveSocket):
    """Pushes the fleet, lanes, workers, counters and recent tasks to the live page."""

    _owes_tasks = False
    _tasks_sent_at = float("-inf")

    async def push(self) -> None:
        """Send a snapshot, or what was missed, and then deltas."""
        async with live.reader().mailbox() as box:
            await self._send_status(box)
            if box.status == live.OK:
                await self._begin(box)
            while True:
                await box.wait()
                if box.resync and box.status == live.OK:
                    await self._send_snapshot(box)
                else:
                    await self._send_delta(box.take())
                if box.status != live.OK or not box.resync:
                    await self._send_status(box)  # after the figures: a live page shows no old ones
                await asyncio.sleep(PACE_S)

    async def _begin(self, box: live.Mailbox) -> None:
        """Send everything; to a page that comes back the events it missed instead of the tasks, if they are there."""
        seq, upto = self._asked_seq(), box.seq
        missed = None if seq is None else await self._commits(seq, upto)
        await self._send_snapshot(box, events=None if missed is None else live.merged(missed))

    async def _commits(self, after: int, upto: int) -> list[dict[str, Any]] | None:
        try:
            return await live.reader().between(after, upto)
        except (RedisError, OSError):
            return None

    async def _send_snapshot(self, box: live.Mailbox, *, events: dict[str, Any] | None = None) -> None:
        """Send everything as it is now: the controller's snapshot, and the commits since then on top of it."""
        upto = box.seq
        box.take()
        snapshot, since = await self._snapshot(), None
        if snapshot is not None:
            since = [] if snapshot["seq"] >= upto else await self._commits(snapshot["seq"], upto)
        if snapshot is None or since is None:
            box.start_again()  # try again soon: the controller writes a new one every second
            return
        message = {kind: snapshot.get(kind, []) for kind in live.BY_NAME} | {"vitals": vitals(snapshot)}
        if events is not None and not events["more"]:
            message["events"] = events["events"]
        else:
            message["tasks"] = await database_sync_to_async(queries.recent_tasks)()
        await self.send_json({"type": "snapshot", "seq": snapshot["seq"], **message})
        await self._send_delta(live.merged(since))

    async def _snapshot(self) -> dict[str, Any] | None:
        try:
            return await live.reader().snapshot()
        except (RedisError, OSError):
            return None

    async def _send_delta(self, delta: dict[str, Any]) -> None:
        """Send what changed; where events were left out, the newest tasks."""
        self._owes_tasks = self._owes_tasks or delta["more"] > 0
        now = asyncio.get_running_loop().time()
        if self._owes_tasks and now - self._tasks_sent_at > TASKS_EVERY_S:
            delta["tasks"] = await database_sync_to_async(queries.recent_tasks)()
            self._owes_tasks, self._tasks_sent_at = False, now
        if any(value for key, value in delta.items() if key not in {"seq", "at", "more"}):
            await self.send_json({"type": "delta", **delta})


class TaskSocket(LiveSocket):
    """Pushes a task's new events to its page. They are read from the ledger, so none is missing."""

    async def push(self) -> None:
        """Send all events after ``?seq=``, and each new one."""
        task, sent = str(self.scope["url_route"]["kwargs"]["task"]), self._asked_seq() or 0
        async with live.reader().mailbox(task=task) as box:
            if box.status == live.OK:
                await self.send_json({"type": "ok"})
            while True:
                await self._send_status(box)
                box.take()
                events = await database_sync_to_async(queries.events_after)(task, sent)
                if events:
                    sent = events[-1]["seq"]
                    await self.send_json({"type": "events", "seq": sent, "events": events})
                await asyncio.sleep(PACE_S)
                if len(events) < queries.EVENTS_AT_ONCE:
                    await box.wait()


def is_same_origin(scope: Any) -> bool:
    """Return whether the page that opens this WebSocket is one of ours.

    ``AllowedHostsOriginValidator`` compares host names only: another server on this machine, on another port, would
    pass and could use the cookie. A trusted origin (``CSRF_TRUSTED_ORIGINS``) passes as in forms.
    """
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return urlsplit(origin).netloc == host or origin in settings.CSRF_TRUSTED_ORIGINS
