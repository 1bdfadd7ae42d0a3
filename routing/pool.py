"""Celery's thread pool, mended: a thread's place is free as soon as its attempt ends, however it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency import thread
from celery.concurrency.base import apply_target
from celery.worker import state

log = logging.getLogger(__name__)


_stock: Any = thread  # its stubs lack the executor and the result


class ThreadPool(_stock.TaskPool):  # type: ignore[misc]
    """Worker pool ``routing.pool:ThreadPool``.

    In Celery 5.7.0 an exception that escapes the tracer (a result backend that fails, say) is kept in a future that
    nobody reads: the request counts as active for ever, and with prefetch disabled the worker goes deaf after as many
    of them as it has threads.

    And with prefetch disabled a worker whose threads are all busy asks the broker for nothing; when one of them ends,
    nobody tells the event loop, which sleeps until its next timer, up to a second: two workers with 8 threads each
    did 23 tasks of 20 ms a second.
    """

    limit: int
    _loop: Any = None  # Celery's event loop; kombu's own memory of it is gone after the first lost connection

    def register_with_event_loop(self, loop: Any) -> None:
        """Take note of the loop; Celery calls this again after every reconnection."""
        self._loop = loop

    def grow(self, n: int = 1) -> None:
        """Work on ``n`` more tasks at once, from now on. Celery's own thread pool cannot."""
        self.limit += n
        self.executor._max_workers = max(self.executor._max_workers, self.limit)

    def shrink(self, n: int = 1) -> None:
        """Work on ``n`` fewer tasks at once, at least one; what runs goes on, and idle threads stay."""
        self.limit = max(1, self.limit - n)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> Any:
        """Run ``target`` in a thread, and always call back."""

        def run() -> None:
            try:
                apply_target(target, args, kwargs, callback, accept_callback)
            except Exception:
                log.exception("a task broke out of Celery's tracer")
                if callback is not None:
                    callback((1, ExceptionInfo(), 0.0))
            finally:
                self._look_for_more()

        return _stock.ApplyResult(self.executor.submit(run))

    def _look_for_more(self) -> None:
        """Wake the event loop if it may have stopped asking for messages because every thread was busy."""
        if self._loop is not None and len(state.reserved_requests) + 1 >= self.limit:
            self._loop.call_soon(_nothing)


def _nothing() -> None:
    """Waking the loop is enough: before it sleeps again, it asks for messages."""
