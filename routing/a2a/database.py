"""The ledger, for coroutines: a few threads with a connection each, however many streams are open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

THREADS = 4
P = ParamSpec("P")
T = TypeVar("T")

_POOL = ThreadPoolExecutor(THREADS, thread_name_prefix="a2a-ledger")


async def ask(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what the function returns, called in one of the threads."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_POOL, partial(_called, partial(function, *args, **kwargs)))


def _called(call: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return call()
    finally:
        close_old_connections()
