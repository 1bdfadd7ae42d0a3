"""Spans of time as people write them: ``90s``, ``5m``, ``1h30m``, ``2d``.  Pure."""

from __future__ import annotations

import re

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
# For schemas; "" is no span though it matches.
PATTERN = r"^(?:\d{1,6}d)?(?:\d{1,6}h)?(?:\d{1,6}m)?(?:\d{1,6}(?:\.\d{1,6})?s)?$"
_SPAN = re.compile(r"(?=\d)(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6}(?:\.\d{1,6})?)s)?")
_WHOLE = 1_000_000 * 86_400


def seconds(span: str | float) -> float:
    """Return the seconds of a span; a bare number is seconds. Raises ``ValueError`` with words."""
    if not isinstance(span, str):
        return float(span)
    found = _SPAN.fullmatch(span.strip())
    if found is None:
        raise ValueError(f"{span!r} is no span of time. Write 90s, 5m, 1h30m or 2d, or a number of seconds.")
    return float(sum(float(part) * size for part, (_, size) in zip(found.groups(), _UNITS, strict=True) if part))


def written(span_s: float) -> str | float:
    """Return the span in units; one that is not a whole number of seconds stays a number."""
    if span_s != int(span_s) or not 0 < span_s < _WHOLE:
        return span_s
    left, text = int(span_s), ""
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text
