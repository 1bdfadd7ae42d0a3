"""What the tasks of one context share, as ``ctx.state`` and ``ctx.lock``. An app above provides it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from routing.executors.contract import Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned:
    """A value and the number of the write that made it, from 1."""

    value: Any  # JSON
    version: int


class Held(Protocol):
    """A lock that is held. ``token`` is larger than that of everyone who held it before."""

    @property
    def token(self) -> int: ...
    @property
    def is_lost(self) -> bool:
        """True once the lease ran out before it could be renewed: somebody else may hold it."""


class State(Protocol):
    """Values by key. Keys of one context are seen by all of its tasks, and by nobody of another tenant."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, ``default`` where there is none."""

    def read(self, key: str) -> Versioned | None:
        """Return the value with its version, for a write that must not overwrite another."""

    def put(
        self, key: str, value: Any, *, version: int | None = None, rule: str | None = None, lock: Held | None = None
    ) -> Versioned:
        """Write, and return what stands there now.

        ``version`` is the one that was read, 0 for a key that must not be there. Another one, or None where there is a
        value, collides; then the key's ``rule`` decides: reject (raises ``Conflict``), last_write, merge, append, max
        or min. ``lock`` refuses the write if somebody else has got the lock meanwhile.
        """

    def patch(self, key: str, change: Any, *, version: int | None = None, lock: Held | None = None) -> Versioned:
        """Merge a change into the value (RFC 7396), and return what stands there now."""

    def delete(self, key: str, *, version: int | None = None) -> None:
        """Remove the key."""

    def keys(self) -> Iterator[str]:
        """Yield the keys, sorted."""


class Provider(Protocol):
    """Makes both for a running attempt."""

    def state(self, task_id: str, attempt: int) -> State: ...
    def lock(self, task_id: str, attempt: int, key: str, lease_s: float, wait_s: float) -> AbstractContextManager[Held]:
        """Return the lock, held from its ``with`` on, renewed while that lasts. Raises after ``wait_s`` seconds."""


_PROVIDERS: list[Callable[[], Provider]] = []


def provide(provider: Callable[[], Provider]) -> None:
    """Have contexts get state and locks from this provider."""
    _PROVIDERS[:] = [provider]


def provider() -> Provider:
    """Return the provider. Raises ``Unavailable`` where there is none."""
    if not _PROVIDERS:
        raise Unavailable("Nothing here keeps a context's state: the app coordination is not installed.")
    return _PROVIDERS[0]()


class Shares:
    """A context that has ``state`` and ``lock``."""

    task_id: str
    attempt: int

    @property
    def state(self) -> State:
        """Return what the tasks of this context share."""
        return provider().state(self.task_id, self.attempt)

    def lock(self, key: str, *, lease_s: float = 30.0, wait_s: float = 60.0) -> AbstractContextManager[Held]:
        """Return an advisory lock of the context, for a ``with``. Raises ``TimeoutError`` if it stays taken."""
        return provider().lock(self.task_id, self.attempt, key, lease_s, wait_s)
