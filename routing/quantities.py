"""Numbers as a person would say them.  Pure."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Return seconds as a person would say them: ``240 ms``, ``3.2 s``, ``4 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit_s, unit, part_s, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit} {rest} {part}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


def number(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", " ")


def percent(fraction: float | None) -> str:
    """Return 0..1 as per cent, "" for None."""
    return "" if fraction is None else f"{fraction * 100:.0f} %"


def several(count: int, one: str, many: str = "") -> str:
    """Return ``1 agent`` or ``3 agents``; ``many`` where an s does not do."""
    return f"{count} {one if count == 1 else many or one + 's'}"
