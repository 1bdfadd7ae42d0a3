"""The bus: the stream of facts, the committed deltas, and Celery messages.

Nothing here is the truth. A ring, a message or a delta may be lost or come twice: the ledger makes up for it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import uuid4

import orjson
import redis
from django.conf import settings
from kombu.transport import redis as kombu_redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from routing.executors.conversation import clean
from routing.line import Line

log = logging.getLogger(__name__)

FACTS = "a2a:events"  # stream: what doors and workers tell the controller
COMMITTED = "a2a:committed"  # stream: what the controller has committed, one entry a commit
WORKERS = "a2a:workers"  # channel: stop these attempts; the registry has changed
PULL = "a2a:pull"  # channel: these pull agents have attempts; and before ":<agent>", the lists of these
SNAPSHOT = "a2a:snapshot"  # the live state in one JSON value, gone when the controller is silent
MARKER = "a2a:marker"  # set by the leader; its absence means that Redis lost its data
RING_PAUSE_S = 0.005  # many rings in so short a time become one
RING_PATIENCE_S = 0.01  # whoever submits waits so long for Redis; after that a thread does
RING_REST_S = 1.0  # and for so long at least
CLAIM_S = 24 * 3600  # how long a claim or a fence is kept
FENCED = b"fenced"

Lost = (redis.ConnectionError, redis.TimeoutError)


@cache
def client(timeout_s: float = 2.0) -> redis.Redis:
    """Return this process's Redis client. A call fails in ``timeout_s`` without an answer; nothing is retried."""
    return redis.Redis.from_url(
        settings.A2A_REDIS_URL,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(1.0, timeout_s),
        health_check_interval=5,
        retry=Retry(NoBackoff(), 0),
    )


_lines = threading.local()


def line() -> Line:
    """Return this thread's line to Redis."""
    known: Line | None = getattr(_lines, "line", None)
    pool = client().connection_pool
    if known is None or known.pool is not pool or known.process != os.getpid():
        known = _lines.line = Line(pool)
    return known


def claim_key(task: str, attempt: int) -> str:
    """Return the key that a worker sets to begin an attempt, and the controller to forbid it."""
    return f"a2a:claim:{task}:{attempt}"


# One command, so that no attempt begins unheard of; its answer is whose the attempt is.
_CLAIM = """
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  redis.call('xadd', KEYS[2], '*', 'e', ARGV[3])
  return ARGV[1]
end
return redis.call('get', KEYS[1])
"""


def claim(key: str, token: str, started: bytes) -> bool:
    """Return True if the attempt is the token's from now on, or was before; the ``started`` facts go to the stream."""
    return bool(line().ask("EVAL", _CLAIM, 2, key, FACTS, token, CLAIM_S, started) == token.encode())


def is_fenced(key: str) -> bool:
    """Return True if the attempt with this claim was given up."""
    return bool(line().ask("GET", key) == FENCED)


def tell(facts: bytes) -> None:
    """Append an entry, a JSON array of facts, to the stream."""
    line().ask("XADD", FACTS, "*", "e", facts)


# ---- attempts of pull agents --------------------------------------------------------------------------------------

PULL_KEPT_S = 3600  # attempts that nobody fetches are offered again much earlier


def offer(offers: Iterable[tuple[str, str, int]]) -> None:
    """Put (agent, task, attempt) where the agent fetches it, and ring. Raises ``redis.RedisError``."""
    listed = list(offers)
    commands: list[tuple[Any, ...]] = []
    for agent, task, attempt in listed:
        commands.append(("RPUSH", f"{PULL}:{agent}", orjson.dumps([task, attempt])))
        commands.append(("EXPIRE", f"{PULL}:{agent}", PULL_KEPT_S))
    commands.append(("PUBLISH", PULL, orjson.dumps(sorted({agent for agent, _, _ in listed}))))
    line().ask_all(commands)


def fetch(agent: str, count: int) -> list[tuple[str, int]]:
    """Return up to ``count`` attempts offered to the agent, as (task, attempt); nobody else gets them."""
    found = line().ask("LPOP", f"{PULL}:{agent}", count) or []
    return [(str(task), int(attempt)) for task, attempt in map(orjson.loads, found)]


# ---- ringing the controller -------------------------------------------------------------------------------------


class News(StrEnum):
    """What the controller is rung for."""

    TASKS = "tasks"  # to be accepted
    ANY = "any"  # requests, a changed registry


_RINGS = {News.TASKS: b'[{"k":"ring","w":"tasks"}]', News.ANY: b'[{"k":"ring"}]'}


class _Bell(threading.Thread):
    """Rings at once, and again no sooner than ``RING_PAUSE_S`` after that.

    The caller rings itself, which takes less than waking a thread. While Redis is slow or away, and for what comes
    in the pause, this thread does.
    """

    def __init__(self) -> None:
        super().__init__(name="bell", daemon=True)
        self._pulled = threading.Event()
        self._news: set[News] = set()
        self._quick: Line | None = None
        self._is_quick = threading.Lock()  # held while a caller rings
        self._is_well = True  # Redis answered last time
        self._rung_at = 0.0
        self._quick_again_at = 0.0  # callers that found it slow leave it to the thread until then

    def pull(self, news: News) -> None:
        """Ring for ``news``. Never fails, and takes ``RING_PATIENCE_S`` at most."""
        if not (self._is_well and self._may_ring() and self._ring_quickly(news)):
            self._news.add(news)
            self._pulled.set()

    def run(self) -> None:
        while True:
            self._pulled.wait()
            time.sleep(max(0.0, self._rung_at + RING_PAUSE_S - time.monotonic()))
            self._pulled.clear()
            news = set(self._news)
            self._news -= news  # what was added since pulls again
            try:
                tell(_RINGS[News.ANY if News.ANY in news else News.TASKS])
                self._rung_at, self._is_well = time.monotonic(), True
            except redis.RedisError:
                self._is_well = False
                time.sleep(0.1)  # the controller looks into the ledger by itself meanwhile

    def _may_ring(self) -> bool:
        free_at = max(self._rung_at + RING_PAUSE_S, self._quick_again_at)
        return not self._pulled.is_set() and time.monotonic() > free_at

    def _ring_quickly(self, news: News) -> bool:
        """Return True if the ring is in the stream; False if another caller rings now, or Redis does not answer."""
        if not self._is_quick.acquire(blocking=False):
            return False
        try:
            pool = client(RING_PATIENCE_S).connection_pool
            if self._quick is None or self._quick.pool is not pool:
                self._quick = Line(pool)
            self._quick.ask("XADD", FACTS, "*", "e", _RINGS[news])
            self._rung_at = time.monotonic()
            return True
        except redis.RedisError:
            self._is_well, self._quick_again_at = False, time.monotonic() + RING_REST_S
            return False
        finally:
            self._is_quick.release()


_bell: _Bell | None = None
_bell_lock = threading.Lock()


def ring(news: News = News.ANY) -> None:
    """Tell the controller that there is something new in the ledger. Never fails, and hardly waits."""
    global _bell
    if _bell is None or not _bell.is_alive():  # a forked child has no threads
        with _bell_lock:
            if _bell is None or not _bell.is_alive():
                _bell = _Bell()
                _bell.start()
    _bell.pull(news)


def ring_for_tasks() -> None:
    """Tell the controller that there are new tasks. Never fails, and hardly waits."""
    ring(News.TASKS)


# ---- what workers report ----------------------------------------------------------------------------------------


class Reporter:
    """Writes facts to the stream, many threads' facts in one entry.

    It writes at once when idle; what comes while a write is under way goes together in the next one.
    """

    def __init__(self, *, patience_s: float = 120.0) -> None:
        self._patience_s = patience_s
        self._queue: list[tuple[bytes, Future[None] | None]] = []
        self._ready = threading.Condition()
        threading.Thread(target=self._run, name="reporter", daemon=True).start()

    def tell(self, fact: dict[str, Any]) -> None:
        """Report without waiting. In an outage facts are kept, the oldest of more than 50,000 are dropped."""
        entry = encode(fact)
        with self._ready:
            if len(self._queue) > 50_000:
                del self._queue[:1000]
            self._queue.append((entry, None))
            self._ready.notify()

    def tell_and_wait(self, fact: dict[str, Any]) -> bool:
        """Report, and return True once the stream has it, or False when it could not be written in time."""
        done: Future[None] = Future()
        entry = encode(fact)
        with self._ready:
            self._queue.append((entry, done))
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

    def _write(self, batch: Sequence[tuple[bytes, Future[None] | None]]) -> None:
        entry = b"[" + b",".join(fact for fact, _ in batch) + b"]"
        while True:
            try:
                tell(entry)
                break
            except redis.RedisError as error:
                # A write whose answer was lost may have happened: facts may come twice, and twice does no harm.
                log.warning("the event stream cannot be written (%s); trying again", error)
                time.sleep(0.25)
        for _, done in batch:
            if done is not None:
                done.set_result(None)


def encode(fact: Any) -> bytes:
    """Return the fact as JSON that every reader and every database can hold; never fails.

    It is called by whoever has something to tell: an agent's log line with half a character in it must not end the
    thread that speaks for the whole worker, nor a NUL stop the controller at a database that refuses it.
    """
    try:
        entry = orjson.dumps(fact)
        return entry if b"\\u0000" not in entry else orjson.dumps(_cleaned(fact))
    except TypeError:
        return orjson.dumps(_cleaned(fact))


def _cleaned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {clean(str(key)): _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(inner) for inner in value]
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    return clean(str(value))


# ---- Celery messages --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A Celery message (protocol 2) and where it goes."""

    queue: str
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    body: Any


def envelope(message: Message) -> dict[str, Any]:
    """Return the message as kombu's Redis transport puts it into a queue's list; the oldest is at the list's right."""
    return {
        "body": _json(message.body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": message.headers,
        "properties": {
            **message.properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": message.queue},
            "delivery_tag": uuid4().hex,
            "priority": 0,
        },
    }


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a Celery call may hold what orjson refuses, such as an integer beyond 64 bits
        return json.dumps(value).encode()


class Publisher:
    """Sends Celery messages over one connection, many in one round trip where the broker can."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._connection: Any = None
        self._producer: Any = None
        self._line: Line | None = None

    def publish(self, messages: Iterable[Message]) -> None:
        """Send all messages. Raises ``kombu.exceptions.OperationalError`` when the broker is out of reach."""
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            options = self._connection.transport_options
            if "socket_timeout" in options:  # the leader must not stand still longer than its lead lasts
                self._connection.transport_options = {**options, "socket_timeout": 1}
            self._producer = self._connection.Producer(auto_declare=False)
        try:
            with self._connection._reraise_as_library_errors():
                if self._connection.transport.driver_type == "redis":
                    self._push(messages)
                else:
                    with self._producer.batch():
                        for message in messages:
                            self._send(message)
        except Exception:
            self.close()
            raise

    def _push(self, messages: Iterable[Message]) -> None:
        """Send to Redis what kombu would send, which takes kombu ten times as long."""
        queues: dict[str, list[bytes]] = {}
        for message in messages:
            queues.setdefault(message.queue, []).append(_json(envelope(message)))
        if self._line is None:
            self._line = Line(self._producer.channel.client.connection_pool)
        self._line.ask_all([("LPUSH", queue, *envelopes) for queue, envelopes in queues.items()])

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
        line, connection = self._line, self._connection
        self._line = self._connection = self._producer = None
        if line is not None:
            line.close()
        if connection is not None:
            try:
                connection.release()
            except Exception as error:
                log.debug("closing a broken broker connection: %s", error)


# ---- guards around kombu ----------------------------------------------------------------------------------------


def guard_kombu() -> None:
    """Mend kombu's Redis transport in this process (kombu 5.7.0)."""
    channel: Any = kombu_redis.Channel
    if getattr(channel._connparams, "guarded", False):
        return
    _guard_closed_channels()
    _guard_acknowledgements()


def _guard_closed_channels() -> None:
    """Make a channel without a connection raise ``redis.ConnectionError``, which workers survive.

    When Redis goes away while a channel is being torn down, ``Channel._connparams`` meets ``connection.client`` None
    and dies of an AttributeError that ends the worker. tests/routing/test_broker.py fails once kombu has mended it.
    """
    channel: Any = kombu_redis.Channel
    stock = channel._connparams

    def _connparams(self: Any, asynchronous: bool = False) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise redis.ConnectionError("the channel's connection was closed")
        return stock(self, asynchronous)

    _connparams.guarded = True  # type: ignore[attr-defined]
    channel._connparams = _connparams


def _guard_acknowledgements() -> None:
    """Make the acknowledgement of a message from a ``no_ack`` queue do nothing.

    kombu asks Redis to forget messages that it never told Redis to remember: a third of a worker's time.
    """
    qos: Any = kombu_redis.QoS
    stock = qos.ack

    def ack(self: Any, delivery_tag: str) -> None:
        if delivery_tag in self._delivered:
            stock(self, delivery_tag)

    qos.ack = ack
