"""The bus: the stream of facts, the committed deltas, and Celery messages.

Nothing here is the truth. A ring, a message or a delta may be lost or come twice: the ledger makes up for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
import redis
from django.conf import settings
from kombu.transport import redis as kombu_redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

FACTS = "a2a:events"  # stream: what doors and workers tell the controller
COMMITTED = "a2a:committed"  # stream: what the controller has committed, one entry a commit
WORKERS = "a2a:workers"  # channel: stop these attempts; the registry has changed
SNAPSHOT = "a2a:snapshot"  # the live state in one JSON value, gone when the controller is silent
MARKER = "a2a:marker"  # set by the leader; its absence means that Redis lost its data
CLAIM_S = 24 * 3600  # how long a claim or a fence is kept
FENCED = b"fenced"

Lost = (redis.ConnectionError, redis.TimeoutError)


@cache
def client() -> redis.Redis:
    """Return this process's Redis client. A call fails within 2 s if Redis does not answer; nothing is retried."""
    return redis.Redis.from_url(
        settings.A2A_REDIS_URL,
        socket_timeout=2,
        socket_connect_timeout=1,
        health_check_interval=5,
        retry=Retry(NoBackoff(), 0),
    )


def claim_key(task: str, attempt: int) -> str:
    """Return the key that a worker sets to begin an attempt, and the controller to forbid it."""
    return f"a2a:claim:{task}:{attempt}"


# ---- ringing the controller -------------------------------------------------------------------------------------


class _Bell(threading.Thread):
    """Rings without making the caller wait: many rings in a short time become one."""

    def __init__(self) -> None:
        super().__init__(name="bell", daemon=True)
        self.pulled = threading.Event()

    def run(self) -> None:
        while True:
            self.pulled.wait()
            self.pulled.clear()
            try:
                client().xadd(FACTS, {"e": b'[{"k":"ring"}]'})
            except redis.RedisError:
                time.sleep(0.1)  # the controller looks into the ledger by itself meanwhile


_bell: _Bell | None = None
_bell_lock = threading.Lock()


def ring() -> None:
    """Tell the controller that there is something new in the ledger. Never fails and never waits."""
    global _bell
    if _bell is None or not _bell.is_alive():  # a forked child has no threads
        with _bell_lock:
            if _bell is None or not _bell.is_alive():
                _bell = _Bell()
                _bell.start()
    _bell.pulled.set()


# ---- what workers report ----------------------------------------------------------------------------------------


class Reporter:
    """Writes facts to the stream, many threads' facts in one entry.

    It writes at once when idle; what comes while a write is under way goes together in the next one.
    """

    def __init__(self, bus: redis.Redis, *, patience_s: float = 120.0) -> None:
        self._bus = bus
        self._patience_s = patience_s
        self._queue: list[tuple[dict[str, Any], Future[None] | None]] = []
        self._ready = threading.Condition()
        threading.Thread(target=self._run, name="reporter", daemon=True).start()

    def tell(self, fact: dict[str, Any]) -> None:
        """Report without waiting. In an outage facts are kept, the oldest of more than 50,000 are dropped."""
        with self._ready:
            if len(self._queue) > 50_000:
                del self._queue[:1000]
            self._queue.append((fact, None))
            self._ready.notify()

    def tell_and_wait(self, fact: dict[str, Any]) -> bool:
        """Report, and return True once the stream has it, or False when it could not be written in time."""
        done: Future[None] = Future()
        with self._ready:
            self._queue.append((fact, done))
            self._ready.notify()
        try:
            done.result(self._patience_s)
        except TimeoutError:
            return False
        return True

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._queue:
                    self._ready.wait()
                batch, self._queue = self._queue[:500], self._queue[500:]
            self._write(batch)

    def _write(self, batch: Sequence[tuple[dict[str, Any], Future[None] | None]]) -> None:
        entry = orjson.dumps([fact for fact, _ in batch])
        while True:
            try:
                self._bus.xadd(FACTS, {"e": entry})
                break
            except redis.RedisError as error:
                # A write whose answer was lost may have happened: facts may come twice, and twice does no harm.
                log.warning("the event stream cannot be written (%s); trying again", error)
                time.sleep(0.25)
        for _, done in batch:
            if done is not None:
                done.set_result(None)


# ---- Celery messages --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A Celery message (protocol 2) and where it goes."""

    queue: str
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    body: Any


class Publisher:
    """Sends Celery messages over one connection, many in one round trip where the broker can."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._connection: Any = None
        self._producer: Any = None

    def publish(self, messages: Iterable[Message]) -> None:
        """Send all messages. Raises ``kombu.exceptions.OperationalError`` when the broker is out of reach."""
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            self._producer = self._connection.Producer(auto_declare=False)
        try:
            with self._connection._reraise_as_library_errors(), self._producer.batch():
                for message in messages:
                    self._send(message)
        except Exception:
            self.close()
            raise

    def _send(self, message: Message) -> None:
        self._producer.publish(
            message.body,
            exchange="",
            routing_key=message.queue,
            serializer="json",
            headers=dict(message.headers),
            retry=False,
            **message.properties,
        )

    def close(self) -> None:
        """Drop the connection; the next ``publish`` makes a new one."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except Exception as error:
                log.debug("closing a broken broker connection: %s", error)


# ---- guards around kombu ----------------------------------------------------------------------------------------


def guard_kombu() -> None:
    """Make a channel without a connection raise ``redis.ConnectionError``, which workers survive.

    When Redis goes away while a channel is being torn down, ``Channel._connparams`` meets ``connection.client`` None
    and dies of an AttributeError that ends the worker (kombu 5.7.0). tests/routing/test_broker.py fails once kombu
    has mended it.
    """
    channel: Any = kombu_redis.Channel
    stock = channel._connparams
    if getattr(stock, "guarded", False):
        return

    def _connparams(self: Any, asynchronous: bool = False) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise redis.ConnectionError("the channel's connection was closed")
        return stock(self, asynchronous)

    _connparams.guarded = True  # type: ignore[attr-defined]
    channel._connparams = _connparams
