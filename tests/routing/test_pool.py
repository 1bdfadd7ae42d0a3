"""A thread's place is free again however its attempt ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.concurrency.thread import TaskPool
from celery.worker import state

from routing.pool import ThreadPool


@pytest.fixture(params=[ThreadPool, TaskPool], ids=["ours", "stock"])
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Yield our pool, and then Celery's."""
    made: Any = request.param(2)
    made.start()
    yield made
    made.stop()


class Broken(Exception):
    """What comes out of Celery's tracer when its result backend fails."""


def broken() -> None:
    raise Broken


class TestOnApply:
    def test_calls_back_with_the_result(self, pool: Any) -> None:
        heard: list[Any] = []

        pool.on_apply(lambda: (0, 5, 0.1), (), callback=heard.append).wait(10)

        assert heard == [(0, 5, 0.1)]

    def test_says_when_it_begins(self, pool: Any) -> None:
        began = threading.Event()

        pool.on_apply(lambda: None, (), callback=lambda _: None, accept_callback=lambda *_: began.set()).wait(10)

        assert began.is_set()

    def test_calls_back_when_the_tracer_breaks(self, pool: Any) -> None:
        """Celery counts a request as running until it is called back: without that its place is lost for good.

        The second half fails once Celery has mended it; then routing/pool.py can be thrown away.
        """
        heard: list[Any] = []

        pool.on_apply(broken, (), callback=heard.append).wait(10)

        if isinstance(pool, ThreadPool):
            [(failed, info, _)] = heard
            assert (failed, type(info.exception.exc)) == (1, Broken)
        else:
            assert heard == []

    def test_goes_on_after_more_breaks_than_it_has_threads(self, pool: Any) -> None:
        for _ in range(5):
            pool.on_apply(broken, (), callback=lambda _: None)
        heard: list[Any] = []

        pool.on_apply(lambda: (0, 5, 0.1), (), callback=heard.append).wait(10)

        assert heard == [(0, 5, 0.1)]


class TestGrow:
    def test_lets_more_tasks_run_at_once(self) -> None:
        pool = ThreadPool(1)
        pool.on_start()
        meeting = threading.Barrier(3)
        pool.grow(2)

        results = [pool.on_apply(meeting.wait, (10,)) for _ in range(3)]
        for result in results:
            result.wait(10)

        assert pool.num_processes == 3
        assert not meeting.broken
        pool.on_stop()


class TestShrink:
    def test_leaves_at_least_one_thread(self) -> None:
        pool = ThreadPool(4)
        pool.shrink(3)
        pool.shrink(3)

        assert pool.num_processes == 1


class Loop:
    """Celery's event loop, as far as the pool knows it."""

    def __init__(self) -> None:
        self.woken = 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.woken += 1


class TestRegisterWithEventLoop:
    """With prefetch disabled a loop that had no free thread asks for nothing until somebody wakes it."""

    def test_has_the_loop_woken_when_the_last_busy_thread_gets_free(self, pool: Any) -> None:
        loop = Loop()
        pool.register_with_event_loop(loop)

        with occupied(pool.limit):
            pool.on_apply(lambda: (0, 5, 0.1), (), callback=lambda _: None).wait(10)

        assert loop.woken == (1 if isinstance(pool, ThreadPool) else 0)

    def test_leaves_it_alone_while_threads_are_free(self, pool: Any) -> None:
        loop = Loop()
        pool.register_with_event_loop(loop)

        pool.on_apply(lambda: (0, 5, 0.1), (), callback=lambda _: None).wait(10)

        assert loop.woken == 0

    def test_holds_for_the_loop_of_the_last_reconnection(self, pool: Any) -> None:
        first, second = Loop(), Loop()
        pool.register_with_event_loop(first)
        pool.register_with_event_loop(second)

        with occupied(pool.limit):
            pool.on_apply(lambda: (0, 5, 0.1), (), callback=lambda _: None).wait(10)

        assert first.woken == 0


class Request:
    """What Celery keeps of a message it has taken."""


@contextmanager
def occupied(threads: int) -> Iterator[None]:
    """Have Celery believe that so many messages are being worked on."""
    requests = [Request() for _ in range(threads)]
    for request in requests:
        state.reserved_requests.add(request)
    yield
    for request in requests:
        state.reserved_requests.discard(request)
