"""Celery's thread pool, mended: an attempt that breaks Celery itself frees its thread's place all the same."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency import thread
from celery.concurrency.base import apply_target

log = logging.getLogger(__name__)


_stock: Any = thread  # its stubs lack the executor and the result


class ThreadPool(_stock.TaskPool):  # type: ignore[misc]
    """Worker pool ``routing.pool:ThreadPool``.

    In Celery 5.7.0 an exception that escapes the tracer (a result backend that fails, say) is kept in a future that
    nobody reads: the request counts as active for ever, and with prefetch disabled the worker goes deaf after as many
    of them as it has threads.
    """

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

        return _stock.ApplyResult(self.executor.submit(run))
