"""The two sides of every comparison: how tasks are put in, and how one sees that all are done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from django.db.models import Q

from routing import broker, lifecycle
from routing.models import TERMINAL, Task
from tests.bench import bare

LOOK_S = 0.01
PATIENCE_S = 120.0


class NotDone(Exception):
    """The tasks did not end in time."""


class Side(Protocol):
    """One of the two systems."""

    name: str

    def send(self, body: str, input: Any) -> None:
        """Put in one task that runs ``body`` (noop or stamp)."""

    def settle(self) -> None:
        """Return when everything that was put in is done."""


class Ours:
    """Submitted, routed, executed, and recorded in the ledger."""

    name = "ours"

    def send(self, body: str, input: Any) -> None:
        """Submit a task in a transaction of its own."""
        lifecycle.submit(lifecycle.Request(skill=f"bench.{body}", input=input))

    def settle(self) -> None:
        """Return when the ledger has every end."""
        wait(lambda: not Task.objects.filter(~Q(state__in=TERMINAL)).exists())


class Batches(Ours):
    """The same through the door for many."""

    name = "ours, submit_many of 100"

    def __init__(self) -> None:
        self._kept: list[lifecycle.Request] = []

    def send(self, body: str, input: Any) -> None:
        """Keep the request until there are 100, and submit those."""
        self._kept.append(lifecycle.Request(skill=f"bench.{body}", input=input))
        if len(self._kept) == 100:
            self._submit()

    def settle(self) -> None:
        """Submit the rest, and return when the ledger has every end."""
        if self._kept:
            self._submit()
        super().settle()

    def _submit(self) -> None:
        lifecycle.submit_many(self._kept)
        self._kept = []


class Bare:
    """A plain Celery task: early acknowledgement, nothing kept of it."""

    name = "bare Celery"

    def __init__(self) -> None:
        self._bodies = {"noop": bare.noop, "stamp": bare.stamp}
        self._bus = broker.client()

    def send(self, body: str, input: Any) -> None:
        """Publish a message."""
        self._bodies[body].apply_async((input,))

    def settle(self) -> None:
        """Return when the last message has been taken and acknowledged, which is just before its task runs."""
        wait(lambda: not self._bus.llen(bare.QUEUE) and not self._bus.hlen("unacked"))


def wait(is_done: Callable[[], bool]) -> None:
    """Return when ``is_done`` says so. Raises ``NotDone`` after two minutes."""
    give_up = time.monotonic() + PATIENCE_S
    while not is_done():
        if time.monotonic() > give_up:
            raise NotDone(f"not all tasks ended within {PATIENCE_S:g} s")
        time.sleep(LOOK_S)
