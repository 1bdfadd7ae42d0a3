"""A thread's place is free again however its attempt ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery.concurrency.thread import TaskPool

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
