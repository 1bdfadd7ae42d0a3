"""May one more be submitted now?  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from routing.matching import is_number, is_whole


def admit(times: Sequence[float], now: float, limit: int, period_s: float) -> float:
    """Return in how many seconds the next submission is allowed, 0 for now, if ``limit`` are within any ``period_s``.

    ``times`` are those of earlier submissions, rising; ones that are too old do not matter. Each counts in
    [time, time + period).
    """
    if len(times) < limit:
        return 0.0
    return max(0.0, times[-limit] + period_s - now)


def throttle_problems(limit: int, period_s: float) -> list[str]:
    """Return in words what is wrong with "at most ``limit`` submissions per ``period_s``"."""
    found = []
    if not is_whole(limit) or limit < 1:
        found.append(f"limit: use a whole number of 1 or more, not {limit}")
    if not is_number(period_s) or period_s <= 0:
        found.append(f"period_s: use seconds above 0, not {period_s}")
    return found
