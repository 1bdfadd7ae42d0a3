"""What happens inside a Celery worker: claim an attempt, run its agent, report, and be heard of meanwhile."""

from __future__ import annotations

import gc
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import redis
from celery import bootsteps, signals
from celery.exceptions import Ignore
from celery.worker.consumer import Consumer as CeleryConsumer
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.utils.module_loading import autodiscover_modules

from routing import broker, celery_task, errors, executors, messages, payloads, registry
from routing.artifacts import Store, safe_name
from routing.executors import asking, sharing

log = logging.getLogger(__name__)

BEAT_S = 3.0
WATCH_S = 0.2
STOP_GRACE_S = 5.0  # an executor that was asked to stop has so long; after that its thread counts as stuck
CLAIM_PATIENCE_S = 10.0  # an assignment's lease: later than this the attempt is somebody else's
HAND_BACK_S = 8.0  # after SIGTERM, before attempts still running are handed back
DRAIN_S = 30.0  # a worker with a stuck thread ends after so long at the latest
MAX_NOTES = 2_000  # log lines and progress reports kept of one attempt
MOST_USED = 1e15  # dollars or tokens of one attempt
PROGRESS_EVERY_S = 0.25
OWN_QUEUES = ("intake", "control", "push")  # besides those of agents
HEADERS = (
    *("task", "id", "root_id", "parent_id", "group", "group_index", "eta", "expires", "retries", "timelimit"),
    *("origin", "ignore_result", "replaced_task_nesting", "stamps", "stamped_headers", "argsrepr", "kwargsrepr"),
)  # of a Celery message (protocol 2)


class Flight(sharing.Shares, asking.Asks):
    """One attempt that this process is running; what executors see as their context."""

    def __init__(self, runtime: Runtime, facts: Mapping[str, Any], value: Any) -> None:
        self.task_id: str = facts["task"]
        self.attempt: int = facts["attempt"]
        self.agent: str = facts["agent"]
        self.skill: str = facts["skill"]
        self.version: str = facts["version"]
        self.tenant: str = facts["tenant"]
        self.timeout_s: float = facts["timeout_s"]
        self.idempotency_key = celery_task.step_key(self.task_id)
        self.input = value
        self.token: str = facts.get("token") or uuid4().hex
        self.deadline = time.monotonic() + self.timeout_s
        self.stop_reason = ""  # canceled | timeout | stale | shutdown
        self.stopped_at = 0.0
        self.is_over = False  # its end was reported (or is not wanted): nothing it does counts any more
        self.used: dict[str, float] = {}  # by unit, as the agent has told
        self._runtime = runtime
        self._callbacks: list[Callable[[], None]] = []
        self._notes = 0
        self._progress_at = 0.0
        self._lock = threading.Lock()

    @property
    def key(self) -> tuple[str, int]:
        """Return what tells this attempt from all others."""
        return self.task_id, self.attempt

    @property
    def answers(self) -> list[Any]:
        """Return what was said to the task since it was submitted, in order."""
        return messages.answers(self.task_id)

    @property
    def cancelled(self) -> bool:
        """Return True once the attempt should stop."""
        return bool(self.stop_reason)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once when the attempt should stop, at once if it already should."""
        with self._lock:
            if not self.stop_reason:
                self._callbacks.append(callback)
                return
        callback()

    def stop(self, reason: str) -> None:
        """Ask the executor to stop."""
        with self._lock:
            if self.stop_reason:
                return
            self.stop_reason, self.stopped_at = reason, time.monotonic()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                log.exception("stopping task %s", self.task_id)

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Report how far the work is (0..1, None if unknown). More than four reports a second are thinned out."""
        now = time.monotonic()
        if now - self._progress_at < PROGRESS_EVERY_S and fraction != 1:
            return
        self._progress_at = now
        share = None if fraction is None else min(1.0, max(0.0, float(fraction)))
        self._note("progress", {"fraction": share, "message": str(message)[:500]})

    def log(self, message: str, level: str = "info") -> None:
        """Keep a line with the task. After 2,000 lines the rest is left out, and a line says so."""
        self._note("log", {"level": str(level)[:16], "message": str(message).replace("\0", "\ufffd")[:4000]})

    def usage(self, *, usd: float = 0.0, tokens: float = 0.0) -> None:
        """Add to what the attempt has used. Raises ``ValueError`` for what is no amount."""
        for unit, amount in (("usd", usd), ("tokens", tokens)):
            if not 0 <= amount < MOST_USED:
                raise ValueError(f"An attempt uses 0 or more {unit}, not {amount!r}.")
            if amount:
                with self._lock:
                    self.used[unit] = self.used.get(unit, 0.0) + amount

    def artifact(self, name: str, data: bytes | str | Path, media_type: str = "") -> dict[str, Any]:
        """Keep a file with the task and return {"name", "sha256", "size", "media_type"}."""
        entry = self._kept(safe_name(name), data.encode() if isinstance(data, str) else data, media_type)
        self._runtime.tell_of(self, "artifact", d=entry)
        return entry

    def _kept(self, name: str, content: bytes | Path, media_type: str) -> dict[str, Any]:
        ref = self._runtime.store.put(content, media_type=media_type)
        return {"name": name, "sha256": ref.sha256, "size": ref.size, "media_type": ref.media_type}

    def stream(self, text: str, *, name: str = "output", last: bool = False) -> None:
        """Tell a piece of a text as soon as there is one; pieces of the same name belong together."""
        entry = self._kept(safe_name(name), text.encode(), "text/plain")
        self._runtime.tell_of(self, "artifact", d={**entry, "last": last})

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        if self.is_over or self._notes > MAX_NOTES:
            return
        self._notes += 1
        if self._notes > MAX_NOTES:
            kind, data = "log", {"level": "warning", "message": f"more than {MAX_NOTES} lines; the rest is left out"}
        self._runtime.tell_of(self, kind, d=data)


class Runtime:
    """The attempts of this worker process, and the threads that keep the controller informed of them."""

    def __init__(self) -> None:
        self.name = f"worker@{socket.gethostname()}"
        self.incarnation = uuid4().hex
        self.threads = settings.A2A_THREADS
        self.draining = False
        self.store = Store(settings.A2A_ARTIFACTS_DIR)
        self.bus = broker.client()
        self.reporter = broker.Reporter()
        self.store.sweep()  # what a killed process left unfinished
        autodiscover_modules("agents")
        executors.load(settings.A2A_AGENT_MODULES)
        self._flights: dict[tuple[str, int], Flight] = {}
        self._abandoned: set[Flight] = set()  # given up, and their threads have not come back
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._beat_now = threading.Event()
        self._revision = -1
        self._is_announced = False  # that this worker runs the project's own Celery tasks
        self._serves: frozenset[str] | None = None  # agents, as A2A_AGENTS names them; None for all

    # ---- one attempt --------------------------------------------------------------------------------------------

    def execute(self, request: Any) -> Any:
        """Return the output of the attempt that a message brought. Raises ``Ignore`` where there is none to return."""
        facts = request.get("a2a")
        if facts is None:
            self._take_in(request)
            raise Ignore
        _, value, _ = celery_task.bind(*request.args, **request.kwargs)
        flight = Flight(self, facts, value)
        if not self._claim(flight) or not self._takes_off(flight):
            raise Ignore
        request.flight = flight
        try:
            output = facts["output"] if "output" in facts else self._run(flight)  # a pull agent has run it
        except BaseException as error:  # whatever it is, the attempt is over
            self._failed(flight, error)
            raise Ignore from None
        if flight.is_over or self._is_fenced(request, flight):
            self._land(flight)
            raise Ignore
        return output

    def returned(self, request: Any, status: str, retval: Any) -> None:
        """Report the end of an attempt whose continuation (if any) has been submitted by Celery."""
        flight = self._flight_of(request)
        if flight is None:
            return
        if status == "SUCCESS":
            self._end(flight, o=retval)
        else:
            self._continuation_failed(flight, str(retval), retryable=False)
        self._land(flight)

    def left(self, request: Any, why: str) -> None:
        """Report an attempt that Celery ended without telling its end: what should have followed it failed."""
        flight = self._flight_of(request)
        if flight is not None:
            self._continuation_failed(flight, why, retryable=True)
            self._land(flight)

    def _takes_off(self, flight: Flight) -> bool:
        """Note the flight; False if this process runs the attempt already, and Redis has forgotten its claim."""
        with self._lock:
            return self._flights.setdefault(flight.key, flight) is flight

    def _flight_of(self, request: Any) -> Flight | None:
        """Return the flight of this very delivery: a duplicate's end must not end the one that is under way."""
        flight = getattr(request, "flight", None)
        return flight if isinstance(flight, Flight) and self._flights.get(flight.key) is flight else None

    def _continuation_failed(self, flight: Flight, why: str, *, retryable: bool) -> None:
        message = f"it succeeded, and what follows it could not be submitted: {why}"
        self._end(flight, e={"kind": "unavailable", "message": message, "retryable": retryable})

    def ask_again(self, request: Any, call: dict[str, Any], *, in_s: float) -> None:
        """Ask for another attempt: Celery's ``retry`` and ``replace`` inside an agent's function come here."""
        flight = request.flight
        error = {"kind": "agent", "message": "the agent asked to be tried again", "retryable": True}
        self._end(flight, e=error, r=in_s, c=call)

    def _take_in(self, request: Any) -> None:
        """Submit a message that somebody sent to a queue by name, without our code."""
        embed = {
            "callbacks": request.callbacks,
            "errbacks": request.errbacks,
            "chain": request.chain,
            "chord": request.chord,
        }
        headers = {k: v for k, v in (request.headers or {}).items() if k != "delivery_info"}
        for name in HEADERS:
            headers.setdefault(name, request.get(name))
        headers["lang"] = headers.get("lang") or "py"
        call: dict[str, Any] = {
            "body": [list(request.args), dict(request.kwargs), embed],
            "headers": headers,
            "properties": {},
        }
        if request.reply_to:
            call["properties"]["reply_to"] = request.reply_to
        try:
            celery_task.submit_call(call, origin="intake")
        except (errors.RoutingError, TypeError) as error:
            log.warning("refused %s from the queue: %s", request.id, error)
            celery_task.refuse(request, error)

    def _claim(self, flight: Flight) -> bool:
        """Return True if this process may run the attempt: it was not claimed and not fenced before."""
        key = broker.claim_key(flight.task_id, flight.attempt)
        fact = {"k": "started", "t": flight.task_id, "a": flight.attempt, "w": self.name, "i": self.incarnation}
        started = orjson.dumps([fact])
        give_up = time.monotonic() + CLAIM_PATIENCE_S
        while True:
            try:
                return broker.claim(key, flight.token, started)
            except redis.RedisError as error:
                if time.monotonic() > give_up:
                    log.warning("could not claim %s: %s", flight.task_id, error)
                    return False
                time.sleep(0.2)

    def _is_fenced(self, request: Any, flight: Flight) -> bool:
        """Return True if the attempt was given up meanwhile. Asked only where a result has consequences in Celery."""
        if not (request.callbacks or request.chain or request.chord):
            return False
        try:
            return broker.is_fenced(broker.claim_key(flight.task_id, flight.attempt))
        except redis.RedisError:
            return False  # the steps that follow have ids of their own, so submitting them twice does no harm

    def _run(self, flight: Flight) -> Any:
        name, options = registry.executor_of(flight.agent)
        work_dir = settings.A2A_WORK_DIR / f"{flight.task_id}-{flight.attempt}"
        job = executors.Job(
            task_id=flight.task_id,
            attempt=flight.attempt,
            agent=flight.agent,
            skill=flight.skill,
            input=flight.input,
            options=options,
            timeout_s=flight.timeout_s,
            idempotency_key=flight.idempotency_key,
            work_dir=work_dir,
        )
        output = executors.get(name).run(job, flight)
        try:
            payloads.check(output, max_bytes=settings.A2A_MAX_INPUT_BYTES)
        except errors.RoutingError as error:
            raise executors.BadOutput(f"The output cannot be kept. {error}") from None
        skill = registry.known_skill(flight.tenant, flight.skill, flight.version)
        wrong = payloads.mismatch(skill.output_schema, output) if skill is not None else None
        if wrong is not None:
            raise executors.BadOutput(
                f"The output does not fit the skill's schema: at {wrong[0] or 'the top'}, {wrong[1]}"
            )
        return output

    def _failed(self, flight: Flight, error: BaseException) -> None:
        if not flight.is_over:
            wanted = None if flight.stop_reason else getattr(error, "retry_in_s", None)
            again = {} if wanted is None else {"r": wanted}
            self._end(flight, e=self._error_of(flight, error), **again)
        self._land(flight)

    def _error_of(self, flight: Flight, error: BaseException) -> dict[str, Any]:
        if flight.stop_reason == "timeout":
            message = f"did not end within {flight.timeout_s:g} s"
            return {"kind": "timeout", "message": message, "retryable": True}
        if flight.stop_reason:
            return {"kind": "canceled", "message": f"stopped: {flight.stop_reason}", "retryable": False}
        if isinstance(error, executors.ExecutorError):
            return dict(error.error)
        log.exception("running task %s on %s", flight.task_id, flight.agent, exc_info=error)
        return {"kind": "unavailable", "message": f"{type(error).__name__}: {error}", "retryable": True}

    def _end(self, flight: Flight, **end: Any) -> None:
        """Report the end once, and return when the stream has it."""
        with self._lock:
            if flight.is_over:
                return
            flight.is_over = True
        if flight.stop_reason == "stale":
            return
        used = {"u": flight.used} if flight.used else {}
        self.reporter.tell_and_wait({"k": "finished", "t": flight.task_id, "a": flight.attempt, **used, **end})

    def _land(self, flight: Flight) -> None:
        with self._lock:
            self._flights.pop(flight.key, None)
            self._abandoned.discard(flight)

    def tell_of(self, flight: Flight, kind: str, **data: Any) -> None:
        """Report something about a running attempt."""
        if not flight.is_over:
            self.reporter.tell({"k": kind, "t": flight.task_id, "a": flight.attempt, **data})

    # ---- being heard of -----------------------------------------------------------------------------------------

    def attach(self, consumer: Any) -> None:
        """Begin, or begin again after the broker was lost: serve every agent's queue, and say so."""
        first = self._consumer is None
        self._consumer = consumer
        self.name = consumer.hostname
        self.threads = int(consumer.pool.num_processes)
        self._revision = -1
        self._serves = frozenset(settings.A2A_AGENTS) or None
        try:
            self._follow_registry()
        except DatabaseError as error:  # this process must not end for it: the next beat asks again
            log.warning("the registry could not be read: %s", error)
        if first:
            for run in (self._beat_loop, self._watch_loop, self._listen_loop):
                threading.Thread(target=run, name=run.__name__, daemon=True).start()
        self._beat_now.set()

    def beat(self) -> None:
        """Say that this process lives, and exactly which attempts it has in flight."""
        with self._lock:
            attempts = [[f.task_id, f.attempt] for f in self._flights.values() if not f.is_over]
            threads = max(0, self.threads - len(self._abandoned))
        beat = {"k": "beat", "w": self.name, "i": self.incarnation, "n": threads, "f": attempts, "d": self.draining}
        self.reporter.tell(beat if self._serves is None else {**beat, "s": sorted(self._serves)})

    def gone(self) -> None:
        """Say that this process ends."""
        self.reporter.tell_and_wait({"k": "gone", "w": self.name, "i": self.incarnation})

    def _beat_loop(self) -> None:
        while True:
            self.beat()
            self._beat_now.wait(BEAT_S)
            self._beat_now.clear()
            try:
                self._follow_registry()
            except Exception as error:
                log.warning("the registry could not be read: %s", error)

    def _follow_registry(self) -> None:
        """Serve the queues of the agents that are registered now, or of those that A2A_AGENTS names."""
        close_old_connections()
        if not self._is_announced:
            registry.ensure_celery_tasks()
            self._is_announced = True
        revision = registry.revision()
        if revision == self._revision:
            return
        self._revision = revision
        registry.forget()
        capacities = {name: n for name, n in registry.capacities().items() if self._is_served(name)}
        if self._serves is not None and (missing := sorted(self._serves - capacities.keys())):
            log.warning("A2A_AGENTS names %s, registered nowhere yet: served as soon as it is", ", ".join(missing))
        consumer = self._consumer
        consumer.call_soon(self._serve, consumer, {*OWN_QUEUES, *(f"agent.{name}" for name in capacities)})
        consumer.call_soon(self._fit_pool, consumer, sum(capacities.values()))

    def _is_served(self, agent: str) -> bool:
        return self._serves is None or agent in self._serves

    def _fit_pool(self, consumer: Any, capacity: int) -> None:
        """Have as many threads as this process needs for its share of ``capacity`` slots; at least A2A_THREADS."""
        share = math.ceil(capacity / (settings.A2A_WORKERS if self._serves is None else 1))
        wanted = min(settings.A2A_MAX_THREADS, max(settings.A2A_THREADS, share))
        change = wanted - self.threads
        if consumer is not self._consumer or not change or not hasattr(consumer.pool, "grow"):
            return
        if change > 0:
            consumer.pool.grow(change)
        else:
            consumer.pool.shrink(-change)
        self.threads = int(consumer.pool.num_processes)
        consumer._update_prefetch_count(change)
        log.info("worker: %d threads for %d slots of its agents", self.threads, capacity)
        self._beat_now.set()

    def _serve(self, consumer: Any, wanted: set[str]) -> None:
        if consumer is not self._consumer or self.draining or consumer.task_consumer is None:
            return
        serving = {queue.name for queue in consumer.task_consumer.queues}
        for name in sorted(wanted - serving):
            # An attempt's message is a doorbell: the ledger offers again what got lost, so it needs no acknowledgement.
            consumer.add_task_queue(name, no_ack=name.startswith("agent."))
        for name in sorted(n for n in serving - wanted if n.startswith("agent.")):
            consumer.cancel_task_queue(name)

    def _listen_loop(self) -> None:
        """Follow the channel on which the controller calls out to workers."""
        while True:
            try:
                bus: Any = self.bus  # redis-py leaves pubsub untyped
                listener = bus.pubsub(ignore_subscribe_messages=True)
                listener.subscribe(broker.WORKERS)
                while True:
                    said = listener.get_message(timeout=1.0)
                    if said is not None:
                        self._hear(orjson.loads(said["data"]))
            except redis.RedisError:
                time.sleep(0.5)  # nothing is lost: a beat with a stale or canceled attempt is answered again
            except Exception:  # without this thread no attempt could be stopped any more
                log.exception("the controller's call could not be followed")
                time.sleep(0.5)

    def _hear(self, said: Mapping[str, Any]) -> None:
        wanted = {(task, attempt): reason for task, attempt, reason in said.get("stop", ())}
        with self._lock:
            flights = [f for f in self._flights.values() if (f.task_id, f.attempt) in wanted]
        for flight in flights:
            flight.stop(wanted[flight.task_id, flight.attempt])
        if "revision" in said:
            self._beat_now.set()

    # ---- time-outs and the end ----------------------------------------------------------------------------------

    def _watch_loop(self) -> None:
        while True:
            time.sleep(WATCH_S)
            try:
                self._watch(time.monotonic())
            except Exception:
                log.exception("watching over running attempts")

    def _watch(self, now: float) -> None:
        with self._lock:
            flights, abandoned = list(self._flights.values()), list(self._abandoned)
        for flight in flights:
            if now > flight.deadline:
                flight.stop("timeout")
            if flight.stop_reason and now > flight.stopped_at + STOP_GRACE_S and not flight.is_over:
                self._abandon(flight)
        if not self.draining and any(now > flight.deadline + STOP_GRACE_S for flight in abandoned):
            log.error("a thread does not come back after its time-out; this worker drains and restarts")
            threading.Thread(target=self._drain_and_exit, name="drain", daemon=True).start()

    def _abandon(self, flight: Flight) -> None:
        """Give up on an attempt that does not stop: its slot is free, its thread is when it comes back."""
        log.warning("task %s on %s does not stop (%s)", flight.task_id, flight.agent, flight.stop_reason)
        with self._lock:
            if self._flights.pop(flight.key, None) is None:
                return
            self._abandoned.add(flight)
        self._end(flight, e=self._error_of(flight, Exception()))
        self._beat_now.set()

    def _drain_and_exit(self) -> None:
        """Take nothing new, let the others finish, end the process. Whoever started it starts it again."""
        self._drain()
        give_up = time.monotonic() + DRAIN_S
        while self._flights and time.monotonic() < give_up:
            time.sleep(WATCH_S)
        self.hand_back()
        os._exit(70)

    def _drain(self) -> None:
        self.draining = True
        self.beat()
        consumer = self._consumer
        if consumer is not None and consumer.task_consumer is not None:
            consumer.call_soon(consumer.task_consumer.cancel)

    def shut_down(self) -> None:
        """On SIGTERM: finish what is running within ``HAND_BACK_S``, then hand the rest back and end."""
        self.draining = True
        self.beat()
        threading.Thread(target=self._hand_back_later, name="hand-back", daemon=True).start()

    def _hand_back_later(self) -> None:
        give_up = time.monotonic() + HAND_BACK_S
        while time.monotonic() < give_up:
            time.sleep(WATCH_S)
        self.hand_back()
        os._exit(0)

    def hand_back(self) -> None:
        """Give back every attempt still running, without blame, and say goodbye."""
        with self._lock:
            flights = [f for f in self._flights.values() if not f.is_over]
            for flight in flights:
                flight.is_over = True
        for flight in flights:
            self.reporter.tell({"k": "returned", "t": flight.task_id, "a": flight.attempt})
            flight.stop("shutdown")
        self.gone()


@cache
def runtime() -> Runtime:
    """Return this process's runtime."""
    return Runtime()


class Serve(bootsteps.StartStopStep):
    """Consumer step: serve the agents' queues."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        runtime().attach(consumer)


class Consumer(CeleryConsumer):
    """Celery's consumer, which is back within a second after an outage instead of up to thirty."""

    def ensure_connected(self, conn: Any) -> Any:
        stock = conn.ensure_connection

        def ensure_connection(*args: Any, **kwargs: Any) -> Any:
            return stock(*args, **{**kwargs, "interval_start": 0.5, "interval_step": 0.25, "interval_max": 1.0})

        conn.ensure_connection = ensure_connection
        return super().ensure_connected(conn)


@signals.task_prerun.connect
def _renew_connections(**_: Any) -> None:
    """Close database connections that broke or are too old, instead of all after every task as Celery would."""
    if not connection.in_atomic_block:  # as it is for a task that is called eagerly
        close_old_connections()


@signals.task_postrun.connect
def _left(task: Any = None, retval: Any = None, **_: Any) -> None:
    if runtime.cache_info().currsize:
        runtime().left(task.request, str(retval))


@signals.worker_ready.connect
def _freeze(**_: Any) -> None:
    """Keep what was loaded out of the garbage collector, whose full collection would halt every thread for long."""
    gc.collect()
    gc.freeze()


@signals.worker_shutting_down.connect
def _shutting_down(**_: Any) -> None:
    if runtime.cache_info().currsize:
        runtime().shut_down()


@signals.worker_shutdown.connect
def _shut_down(**_: Any) -> None:
    if runtime.cache_info().currsize:
        runtime().gone()
