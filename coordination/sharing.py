"""``ctx.state`` and ``ctx.lock`` of a running attempt, in the worker or in a child process of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import DatabaseError, close_old_connections

from coordination import errors, locks, state
from coordination.models import ContextKey
from routing.executors.sharing import Held, Versioned
from routing.models import Task

POLL_S = 0.05
MOST_POLL_S = 0.5


class TaskState:
    """A ``routing.executors.sharing.State``: the state of the task's context; of its own where it has none."""

    def __init__(self, task_id: str, attempt: int) -> None:
        tenant, context, agent = _whereabouts(task_id)
        self._context = context
        self._writer = state.Writer(tenant=tenant, by=f"{agent}, attempt {attempt}", task=UUID(task_id))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, ``default`` where there is none."""
        found = self.read(key)
        return default if found is None else found.value

    def read(self, key: str) -> Versioned | None:
        """Return the value with its version."""
        try:
            return _versioned(state.find(self._writer.tenant, self._context, key))
        except errors.NoSuchKey:
            return None

    def put(
        self, key: str, value: Any, *, version: int | None = None, rule: str | None = None, lock: Held | None = None
    ) -> Versioned:
        """Write, and return what stands there now. Raises ``coordination.errors.Conflict``."""
        fence = _fence(lock)
        return _versioned(state.put(self._writer, self._context, key, value, base=version, rule=rule, fence=fence))

    def patch(self, key: str, change: Any, *, version: int | None = None, lock: Held | None = None) -> Versioned:
        """Merge a change into the value."""
        return _versioned(state.patch(self._writer, self._context, key, change, base=version, fence=_fence(lock)))

    def delete(self, key: str, *, version: int | None = None) -> None:
        """Remove the key."""
        state.delete(self._writer, self._context, key, base=version)

    def keys(self) -> Iterator[str]:
        """Yield the keys, sorted."""
        return (row.key for row in state.keys(self._writer.tenant, self._context))


class Lease:
    """A ``routing.executors.sharing.Held`` that renews itself on a thread until it is let go."""

    def __init__(self, tenant: str, context: UUID, fence: locks.Fence, lease_s: float) -> None:
        self.fence = fence
        self.is_lost = False
        self._where = (tenant, context)
        self._lease_s = lease_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name=f"lock {fence.key}")
        self._thread.start()

    @property
    def token(self) -> int:
        """Return the fencing token."""
        return self.fence.token

    def _renew(self) -> None:
        good_until = time.monotonic() + self._lease_s
        while not self._over.wait(self._lease_s / 3):
            try:
                locks.renew(*self._where, self.fence, lease_s=self._lease_s)
                good_until = time.monotonic() + self._lease_s
            except errors.LockLost:
                self.is_lost = True
                break
            except DatabaseError:
                self.is_lost = time.monotonic() > good_until
        close_old_connections()

    def let_go(self) -> None:
        """Release the lock, if it is still held."""
        self._over.set()
        self._thread.join()
        if not self.is_lost:
            try:
                locks.release(*self._where, self.fence)
            except errors.LockLost:
                self.is_lost = True


class Sharing:
    """The ``routing.executors.sharing.Provider`` over the tables of coordination."""

    def state(self, task_id: str, attempt: int) -> TaskState:
        """Return the state of the task's context."""
        return TaskState(task_id, attempt)

    @contextmanager
    def lock(self, task_id: str, attempt: int, key: str, lease_s: float, wait_s: float) -> Iterator[Lease]:
        """Hold the lock. Raises ``TimeoutError`` if it stays taken for ``wait_s`` seconds."""
        tenant, context, agent = _whereabouts(task_id)
        holder = f"{agent}, task {task_id}, attempt {attempt}"
        row = _acquired(tenant, context, key, holder, lease_s, wait_s)
        lease = Lease(tenant, context, locks.Fence(key=key, token=row.token), lease_s)
        try:
            yield lease
        finally:
            lease.let_go()


def _acquired(tenant: str, context: UUID, key: str, holder: str, lease_s: float, wait_s: float) -> Any:
    give_up, pause_s = time.monotonic() + wait_s, POLL_S
    while True:
        try:
            return locks.acquire(tenant, context, key, holder=holder, lease_s=lease_s)
        except errors.LockTaken as error:
            if time.monotonic() + pause_s > give_up:
                raise TimeoutError(f"{error} It was waited for {wait_s:g} s.") from None
        time.sleep(pause_s)
        pause_s = min(MOST_POLL_S, pause_s * 1.5)


def _whereabouts(task_id: str) -> tuple[str, UUID, str]:
    tenant, context, agent = Task.objects.values_list("tenant_id", "context", "agent").get(id=UUID(task_id))
    return tenant, context or UUID(task_id), agent


def _versioned(row: ContextKey) -> Versioned:
    return Versioned(value=row.value, version=row.version)


def _fence(lock: Held | None) -> locks.Fence | None:
    return lock.fence if isinstance(lock, Lease) else None
