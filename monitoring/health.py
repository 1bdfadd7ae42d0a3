"""Whether this site can do its work, a word per part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from monitoring.words import several
from routing import broker

SNAPSHOT_MAX_AGE_S = 5.0


class NotReady(Exception):
    """A part does not work; the message says which and why."""


def snapshot() -> dict[str, Any] | None:
    """Return the controller's snapshot, None if it is silent. Raises ``RedisError``."""
    text = broker.client().get(broker.SNAPSHOT)
    return orjson.loads(text) if isinstance(text, bytes) else None


def readiness() -> tuple[bool, dict[str, str]]:
    """Return whether everything works, and a word per part."""
    found = examined()
    return all(is_well for is_well, _ in found.values()), {part: words for part, (_, words) in found.items()}


def examined() -> dict[str, tuple[bool, str]]:
    """Return of each part whether it works, and a word."""
    found: dict[str, tuple[bool, str]] = {}
    for part, check in CHECKS.items():
        try:
            found[part] = (True, check())
        except NotReady as trouble:
            found[part] = (False, str(trouble))
    return found


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        raise NotReady(f"the database does not answer: {_short(error)}") from error
    return "ok"


def _migrations() -> str:
    try:
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except DatabaseError as error:
        raise NotReady(f"cannot be told: {_short(error)}") from error
    if missing:
        raise NotReady(f"{several(missing, 'migration')} not applied: run “python3 manage.py migrate”")
    return "ok"


def _redis() -> str:
    try:
        broker.client().ping()
    except RedisError as error:
        raise NotReady(f"Redis does not answer: {_short(error)}") from error
    return "ok"


def _controller() -> str:
    state = _fresh_snapshot()
    return f"leading, epoch {state.get('controller', {}).get('epoch', '?')}"


def _workers() -> str:
    count = len(_fresh_snapshot().get("workers", []))
    if not count:
        raise NotReady("no worker is running")
    return f"{count} running"


def _fresh_snapshot() -> Mapping[str, Any]:
    try:
        state = snapshot()
    except RedisError as error:
        raise NotReady("cannot be told without Redis") from error
    if state is None:
        raise NotReady("no controller has reported for 10 s")
    age_s = (datetime.now(UTC) - datetime.fromisoformat(state["at"])).total_seconds()
    if age_s > SNAPSHOT_MAX_AGE_S:
        raise NotReady(f"the controller reported {age_s:.0f} s ago, at most {SNAPSHOT_MAX_AGE_S:.0f} s are expected")
    return state


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


CHECKS: dict[str, Callable[[], str]] = {
    "database": _database,
    "migrations": _migrations,
    "redis": _redis,
    "controller": _controller,
    "workers": _workers,
}
