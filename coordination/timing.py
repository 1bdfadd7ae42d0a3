"""When a signature's options let it begin, and how long it may take.  Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from coordination.graph import Pause

LONGEST_S = 366 * 86_400.0
_IGNORED = frozenset(
    {"task_id", "root_id", "parent_id", "group_id", "group_index", "reply_to", "chord", "chain", "stamped_headers"}
    | {"serializer", "compression", "ignore_result", "producer", "publisher", "connection", "add_to_parent", "shadow"}
    | {"headers", "exchange", "exchange_type", "routing_key", "delivery_mode", "mandatory", "immediate", "retry"}
    | {"retry_policy", "argsrepr", "kwargsrepr", "origin", "replaced_task_nesting", "stamps", "use_link", "interval"}
    | {"max_retries", "propagate", "link", "link_error", "route_name"}
)  # of Celery's transport, or made anew for each run


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What of a signature's options means something in a run. None is not given."""

    countdown_s: float | None = None  # it begins so long after what comes before it
    eta: str | None = None  # it does not begin before this moment, ISO 8601 with a zone
    priority: int | None = None  # 0..9, higher goes first
    queue: str | None = None
    expires_s: float | None = None  # it is not begun any more after waiting so long
    limit_s: float | None = None  # one attempt may take so long

    def over(self, other: Timing) -> Timing:
        """Return this one, with what it leaves open taken from ``other``."""
        own = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(other, **{name: value for name, value in own.items() if value is not None})

    def pauses(self) -> list[Pause]:
        """Return the waits before it begins."""
        waits = [Pause(seconds=self.countdown_s)] if self.countdown_s else []
        return [*waits, Pause(until=self.eta)] if self.eta else waits

    def within(self) -> Timing:
        """Return what holds for the members of a signature with this timing: the wait is before all of them."""
        return replace(self, countdown_s=None, eta=None)


def read_timing(options: Mapping[str, Any], path: str, error: Callable[[str], Exception]) -> Timing:
    """Return the timing of a signature's options. Raises what ``error`` makes of the words."""
    stamps = options.get("stamped_headers") or ()
    unknown = sorted(set(options) - _IGNORED - set(stamps) - _READ)
    if unknown:
        raise error(f"{path}: the option {unknown[0]!r} means nothing in a run. Leave it out.")
    limits = [_seconds(options, name, path, error) for name in ("soft_time_limit", "time_limit")]
    return Timing(
        countdown_s=_seconds(options, "countdown", path, error) or None,
        eta=_moment(options.get("eta"), path, error),
        priority=_priority(options.get("priority"), path, error),
        queue=_queue(options.get("queue"), path, error),
        expires_s=_seconds(options, "expires", path, error) or None,
        limit_s=min((limit for limit in limits if limit), default=None),
    )


_READ = frozenset({"countdown", "eta", "priority", "queue", "expires", "soft_time_limit", "time_limit"})


def _seconds(options: Mapping[str, Any], name: str, path: str, error: Callable[[str], Exception]) -> float | None:
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise error(f"{path}.{name} must be a number of seconds.")
    if not 0 <= value <= LONGEST_S:
        raise error(f"{path}.{name} must lie between 0 and {LONGEST_S:.0f} seconds.")
    return float(value)


def _moment(value: Any, path: str, error: Callable[[str], Exception]) -> str | None:
    if isinstance(value, Mapping) and value.get("__type__") == "datetime":  # as kombu writes it
        value = value.get("__value__")
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise error(f"{path}.eta must be a moment such as 2026-01-31T12:00:00Z.") from None
    if moment.tzinfo is None:
        raise error(f"{path}.eta must say its zone, as in 2026-01-31T12:00:00Z.")
    return moment.isoformat()


def _priority(value: Any, path: str, error: Callable[[str], Exception]) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 9:
        raise error(f"{path}.priority must be a whole number from 0 to 9.")
    return value


def _queue(value: Any, path: str, error: Callable[[str], Exception]) -> str | None:
    if isinstance(value, Mapping):  # a kombu Queue has no JSON; its name may stand in an object
        value = value.get("name")
    if value is not None and (not isinstance(value, str) or not value):
        raise error(f"{path}.queue must be the name of a queue.")
    return value
