"""What becomes of two writers of one key.  Pure.

A write that names the version that stands there replaces it. Any other collides, and the key's rule decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Rule(StrEnum):
    """What happens when writers of a key collide."""

    REJECT = "reject"
    LAST_WRITE = "last_write"
    MERGE = "merge"
    APPEND = "append"
    MAX = "max"
    MIN = "min"


class Collision(Exception):
    """The rule keeps the value that is there."""


class Unfit(ValueError):
    """The rule cannot join these two values; the message says why."""


def joined(rule: Rule, there: Any, new: Any) -> Any:
    """Return the value after a write of ``new`` that did not know of ``there``. Raises ``Collision`` or ``Unfit``."""
    if rule == Rule.REJECT:
        raise Collision
    if rule == Rule.LAST_WRITE:
        return new
    if rule == Rule.MERGE:
        return merged(there, new)
    if rule == Rule.APPEND:
        return [*_list(there), *_list(new)]
    numbers = _number(there), _number(new)
    return max(numbers) if rule == Rule.MAX else min(numbers)


def merged(there: Any, change: Any) -> Any:
    """Return the value with the change merged in (RFC 7396: null removes, lists are replaced)."""
    if not isinstance(change, Mapping):
        return change
    found = dict(there) if isinstance(there, Mapping) else {}
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _number(value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unfit(f"max and min compare numbers; {str(value)[:40]!r} is none.")
    return value
