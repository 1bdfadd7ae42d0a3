"""Runs coroutines one after another on the calling thread; a cancel and the deadline interrupt the one under way.

Between two of them no loop runs, so the caller may use the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from routing.executors.contract import Canceled, Context, TimedOut

T = TypeVar("T")


class Interruptible:
    """One loop of its own; ``with`` closes it and whatever is left in it."""

    def __init__(self, context: Context, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._runner = asyncio.Runner()
        self._task: asyncio.Task[Any] | None = None
        self._loop = self._runner.get_loop()
        self._cancelled = False
        context.on_cancel(self._cancel)

    def __enter__(self) -> Interruptible:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns. Raises what it raises, Canceled, or TimedOut at the attempt's deadline."""
        return self._runner.run(self._attend(coroutine))

    def wait_regardless(self, coroutine: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
        """Return what the coroutine returns, for the last things after a cancel. Raises TimeoutError after so long."""
        return self._runner.run(asyncio.wait_for(coroutine, timeout_s))

    async def _attend(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._cancelled:
            coroutine.close()
            raise Canceled("The task was cancelled.")
        self._task = asyncio.current_task()
        if self.is_cancelled():  # it came between the look and the line above
            self._interrupt()
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()) as patience:
                return await coroutine
        except asyncio.CancelledError:
            if self._cancelled:
                raise Canceled("The task was cancelled.") from None
            raise
        except TimeoutError:
            if patience.expired():
                raise TimedOut(f"It took longer than {self._timeout_s:g} s.", retryable=True) from None
            raise
        finally:
            self._task = None

    def is_cancelled(self) -> bool:
        """Return whether a cancel came."""
        return self._cancelled

    def _cancel(self) -> None:
        self._cancelled = True
        with suppress(RuntimeError):  # the loop has closed: too late to cancel
            self._loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self) -> None:
        if self._task is not None:
            self._task.cancel()
