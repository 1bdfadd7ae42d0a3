"""Filters that say times, durations and sizes in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils import timezone

from routing import quantities

register = template.Library()


def _moment(value: datetime | str | None) -> datetime | None:
    """Return an aware time from a row's value: a datetime, ISO 8601 text, or None."""
    if not value:
        return None
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


@register.filter
def iso(value: datetime | str | None) -> str:
    """Return the time for ``<time datetime>``, "" for None."""
    moment = _moment(value)
    return moment.astimezone(UTC).isoformat() if moment else ""


@register.filter
def utc(value: datetime | str | None) -> str:
    """Return the time with its zone; the page's script writes it in the reader's own."""
    moment = _moment(value)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else "–"


@register.filter
def ago(value: datetime | str | None) -> str:
    """Return how long ago that was."""
    moment = _moment(value)
    return quantities.duration((timezone.now() - moment).total_seconds()) if moment else "–"


@register.filter
def until(start: datetime | None, end: datetime | None) -> str:
    """Return how long it is from ``start`` to ``end``, or to now; "–" if it has not begun."""
    return "–" if not start else quantities.duration(((end or timezone.now()) - start).total_seconds())


@register.filter
def percent(fraction: float | None) -> str:
    """Return 0..1 as per cent."""
    return quantities.percent(fraction)


@register.filter
def tail(value: Any) -> str:
    """Return the end of an id: the beginnings of neighbours are alike, they count time."""
    return str(value)[-8:]


@register.filter
def indent(depth: int) -> str:
    """Return what stands before a line so deep in a tree."""
    return "\u2003" * (depth - 1) + "└" if depth > 0 else ""
