"""Runs handlers as a pull agent: an agent anywhere that can reach Mission Control, behind a firewall or not.

    claim ─▶ run the handler ─▶ report          beside it: a renewal every third of the lease, notes in batches

What the process holds is leased to it. Killed, it loses its leases, and others get its attempts; on SIGTERM it takes
nothing new, finishes within ``drain_s``, and gives the rest back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import uuid
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from a2a_client import errors, wire
from a2a_client.asynchronous import AsyncClient
from a2a_client.calls import Call
from a2a_client.pull_calls import Claim, Key, Me, Stop
from a2a_client.working import Canceled, Context, Handler, HandlerError, by_skill

log = logging.getLogger(__name__)
T = TypeVar("T")

WAIT_S = 20.0  # that a claim may stay unanswered
NOTES_EVERY_S = 0.2
NOTES_AT_ONCE = 200
PATIENCE_S = 300.0  # a report is sent again for so long
FIRST_PAUSE_S, MOST_PAUSE_S = 0.2, 5.0
PASSING = (errors.Unreachable, errors.ServerTrouble, errors.TooMany, errors.NotOurs)  # what may mend itself


def serve(
    name: str,
    *handlers: Handler,
    url: str | None = None,
    key: str | None = None,
    concurrency: int = 4,
    drain_s: float = 30.0,
    **registration: Any,
) -> None:
    """Work as the agent ``name`` until SIGTERM or SIGINT, then finish what runs; a second signal does not wait.

    ``url`` and ``key`` are taken from ``A2A_URL`` and ``A2A_KEY`` when they are not given; the key needs the scope
    ``agents:work``. ``registration`` may have description, capacity (of all processes together; ``concurrency``
    unless given), labels and cost_usd. Raises ``Problem`` when the server refuses the registration.
    """
    asyncio.run(
        serve_async(
            name, *handlers, url=url, key=key, concurrency=concurrency, drain_s=drain_s, signals=True, **registration
        )
    )


async def serve_async(
    name: str,
    *handlers: Handler,
    url: str | None = None,
    key: str | None = None,
    concurrency: int = 4,
    drain_s: float = 30.0,
    stop: asyncio.Event | None = None,
    signals: bool = False,
    **registration: Any,
) -> None:
    """As ``serve``, in the running event loop, until ``stop`` is set; ``signals`` lets SIGTERM and SIGINT set it."""
    ending = stop or asyncio.Event()
    async with AsyncClient(url, key) as client:
        server = Server(client, name, handlers, concurrency=concurrency, drain_s=drain_s)
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, server.interrupt, ending)
        await server.run(ending, registration)


class Server:
    """One process of a pull agent."""

    def __init__(
        self, client: AsyncClient, agent: str, handlers: Sequence[Handler], *, concurrency: int, drain_s: float
    ) -> None:
        if concurrency < 1:
            raise ValueError("concurrency is at least 1.")
        self.agent = agent
        self.me = Me(agent=agent, session=uuid.uuid4().hex, slots=concurrency)
        self._client = client
        self._handlers = by_skill(handlers)
        self._drain_s = drain_s
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=f"a2a-{agent}")
        self._flights: dict[Key, Context] = {}
        self._works: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Future[Any]] = set()  # threads that have not come back
        self._notes: defaultdict[Key, list[Mapping[str, Any]]] = defaultdict(list)
        self._freed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._draining = False
        self._lease_s = 10.0

    def interrupt(self, ending: asyncio.Event) -> None:
        """Drain; asked a second time, do not wait for what runs."""
        (self._hurry if ending.is_set() else ending).set()

    async def run(self, ending: asyncio.Event, registration: Mapping[str, Any]) -> None:
        """Work until ``ending`` is set, then drain and leave."""
        await self._register(registration)
        log.info("%s: at work for %s, %d at once", self.agent, self._client.place.url, self.me.slots)
        beside = [asyncio.create_task(self._renew_loop()), asyncio.create_task(self._notes_loop())]
        try:
            await self._claim_loop(ending)
            await self._drain()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _register(self, registration: Mapping[str, Any]) -> None:
        skills = [handler.described() for handler in self._handlers.values()]
        about = {"capacity": self.me.slots, **registration, "skills": skills}
        await self._insist(self.me.register(about), patience_s=PATIENCE_S)

    # ---- claiming -----------------------------------------------------------------------------------------------

    async def _claim_loop(self, ending: asyncio.Event) -> None:
        pause_s = FIRST_PAUSE_S
        while not ending.is_set():
            self._freed.clear()
            room = max(0, self.me.slots - max(len(self._flights), len(self._busy)))
            call = self.me.claim(list(self._flights), most=room, wait_s=WAIT_S)
            interrupts = [ending.wait()] if room else [ending.wait(), self._freed.wait()]
            try:
                turn = await _unless(self._client.send(call), interrupts)
            except PASSING as error:
                log.warning("%s: no attempts can be fetched now: %s", self.agent, error)
                await _unless(asyncio.sleep(pause_s * random.uniform(0.5, 1)), [ending.wait()])
                pause_s = min(MOST_PAUSE_S, pause_s * 2)
                continue
            pause_s = FIRST_PAUSE_S
            if turn is not None:
                self._heed(turn.stop)
                for claim in turn.claims:
                    self._begin(claim)

    def _begin(self, claim: Claim) -> None:
        context = Context(claim, self)
        if context.key in self._flights:
            return
        self._flights[context.key] = context
        work = asyncio.create_task(self._work(claim, context))
        self._works.add(work)
        work.add_done_callback(self._works.discard)

    async def _renew_loop(self) -> None:
        while True:
            try:
                turn = await self._client.send(self.me.renew(list(self._flights), draining=self._draining))
                self._lease_s = turn.lease_s
                self._heed(turn.stop)
            except errors.MissionControlError as error:
                log.warning("%s: its leases could not be renewed: %s", self.agent, error)
            await asyncio.sleep(min(3.0, self._lease_s / 3))

    def _heed(self, stops: Sequence[Stop]) -> None:
        for stop in stops:
            flight = self._flights.get((stop.task, stop.attempt))
            if flight is not None:
                flight.stop(stop.reason)

    # ---- one attempt --------------------------------------------------------------------------------------------

    async def _work(self, claim: Claim, context: Context) -> None:
        """Run the handler and report what became of it. The slot is free when this returns."""
        try:
            end = await self._ended(claim, context)
            await self._tell_notes(context.key)
            if end is not None:
                await self._report(context, end)
        except Exception:
            log.exception("%s: task %s", self.agent, context.task_id)
        finally:
            self._flights.pop(context.key, None)
            self._freed.set()

    async def _ended(self, claim: Claim, context: Context) -> Call[None] | None:
        """Return how to report the attempt's end, None for one that nobody wants to hear of."""
        running = asyncio.ensure_future(self._run(claim, context))
        context.on_cancel(lambda: self._loop.call_soon_threadsafe(running.cancel))
        try:
            async with asyncio.timeout(context.timeout_s):
                output = await running
        except TimeoutError:
            context.stop("timeout")
            return self._failed(context, "timeout", f"did not end within {context.timeout_s:g} s", retryable=True)
        except asyncio.CancelledError:
            if not context.cancelled:
                raise
            return self._stopped(context)
        except HandlerError as error:
            if context.cancelled:
                return self._stopped(context)
            told = {"kind": error.kind, "message": str(error)[:4000], "retryable": error.retryable}
            return self.me.fail(context.key, told, context.used, error.retry_in_s)
        except Exception as error:  # whatever a handler raises ends its attempt, and nothing more
            log.exception("%s: task %s failed", self.agent, context.task_id)
            return self._failed(context, "agent", f"{type(error).__name__}: {error}"[:4000])
        return self._stopped(context) if context.stop_reason == "stale" else self._done(context, output)

    async def _run(self, claim: Claim, context: Context) -> Any:
        handler = self._handlers.get(claim.skill)
        if handler is None:
            raise HandlerError(f"{self.agent} has no handler for {claim.skill}.", kind="unavailable", retryable=True)
        if handler.is_async:
            return await handler.run(claim.input, context)
        # A thread cannot be ended from outside: its slot stays taken until the handler heeds ``ctx.cancelled``.
        thread = self._loop.run_in_executor(self._threads, handler.run, claim.input, context)
        self._busy.add(thread)
        thread.add_done_callback(self._came_back)
        return await asyncio.shield(thread)

    def _came_back(self, thread: asyncio.Future[Any]) -> None:
        self._busy.discard(thread)
        self._freed.set()
        if not thread.cancelled():
            thread.exception()  # it was told of, or nobody waits for it any more

    def _done(self, context: Context, output: Any) -> Call[None]:
        call = self.me.complete(context.key, output, context.used)
        try:
            wire.content(call)
        except (TypeError, ValueError) as error:
            return self._failed(context, "bad_output", f"The output is not JSON: {error}")
        return call

    def _stopped(self, context: Context) -> Call[None] | None:
        if context.stop_reason in ("stale", "shutdown"):
            return None
        if context.stop_reason == "timeout":
            return self._failed(context, "timeout", f"did not end within {context.timeout_s:g} s", retryable=True)
        return self._failed(context, "canceled", "stopped: canceled")

    def _failed(self, context: Context, kind: str, message: str, *, retryable: bool = False) -> Call[None]:
        return self.me.fail(context.key, {"kind": kind, "message": message, "retryable": retryable}, context.used, None)

    async def _report(self, context: Context, end: Call[None]) -> None:
        """Report until the server has it, or says that it does not want it."""
        try:
            await self._insist(end, patience_s=PATIENCE_S)
        except (errors.Conflict, errors.NotFound) as error:
            log.info("%s: %s", self.agent, error)
        except errors.BadRequest as error:
            await self._insist(self._failed(context, "bad_output", str(error)[:4000]), patience_s=PATIENCE_S)

    async def _insist(self, call: Call[T], *, patience_s: float) -> T:
        """Return the answer; what may mend itself is tried again."""
        pause_s, give_up = FIRST_PAUSE_S, self._loop.time() + patience_s
        while True:
            try:
                return await self._client.send(call)
            except PASSING as error:
                if self._loop.time() > give_up or self._hurry.is_set():
                    raise
                log.warning("%s: %s; trying again", self.agent, error)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1))
                pause_s = min(MOST_PAUSE_S, pause_s * 2)

    # ---- what contexts say --------------------------------------------------------------------------------------

    def note(self, key: Key, note: Mapping[str, Any]) -> None:
        """Take a progress report or a log line, from any thread."""
        self._loop.call_soon_threadsafe(self._notes[key].append, note)

    def call(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the server's loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def keep(self, key: Key, name: str, data: bytes, media_type: str) -> None:
        """Keep a file. Raises ``Problem``."""
        await self._client.upload(*self.me.artifacts(key, name), data, media_type)

    async def _notes_loop(self) -> None:
        while True:
            await asyncio.sleep(NOTES_EVERY_S)
            for key in list(self._notes):
                await self._tell_notes(key)

    async def _tell_notes(self, key: Key) -> None:
        notes = self._notes.pop(key, [])
        for first in range(0, len(notes), NOTES_AT_ONCE):
            try:
                await self._client.send(self.me.notes(key, notes[first : first + NOTES_AT_ONCE]))
            except errors.MissionControlError as error:
                log.warning("%s: notes of task %s are lost: %s", self.agent, key[0], error)

    # ---- the end ------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Finish what runs, as long as there is patience for it, and give back the rest."""
        self._draining = True
        log.info("%s: draining, %d still running", self.agent, len(self._works))
        with contextlib.suppress(errors.MissionControlError):
            await self._client.send(self.me.renew(list(self._flights), draining=True))
        if self._works:
            done = asyncio.gather(*self._works, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_unless(asyncio.shield(done), [self._hurry.wait()]), self._drain_s)
        left = list(self._flights)
        with contextlib.suppress(errors.MissionControlError):
            await self._client.send(self.me.leave(left))
        for flight in list(self._flights.values()):
            flight.stop("shutdown")


async def _unless(work: Any, interrupts: Sequence[Coroutine[Any, Any, Any]]) -> Any:
    """Return what ``work`` gives, or None when one of the interrupts comes before; then it is cancelled."""
    main = asyncio.ensure_future(work)
    others = [asyncio.ensure_future(each) for each in interrupts]
    try:
        await asyncio.wait([main, *others], return_when=asyncio.FIRST_COMPLETED)
        return main.result() if main.done() else None
    finally:
        for task in (main, *others):
            if not task.done():
                task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


__all__ = ["Canceled", "Server", "serve", "serve_async"]
