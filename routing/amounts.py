"""Amounts of money, tokens, time and attempts: exact sums, periods, and how a person reads them.  Pure."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Literal

MICRO = 1_000_000  # amounts are kept in whole millionths, so that what is added and taken away again leaves nothing
MOST = 1e12  # of any unit
DAY_S = 86_400.0

Unit = Literal["usd", "tokens", "wall_s", "attempts"]
_NOUNS: dict[Unit, str] = {"usd": "", "tokens": " tokens", "wall_s": " s", "attempts": " attempts"}


def micros(amounts: Mapping[str, float], unit: Unit) -> int | None:
    """Return the amount of the unit in millionths, 0 or more; None if it is not given or no number."""
    amount = amounts.get(unit)
    if amount is None or not math.isfinite(amount):
        return None
    return round(min(max(amount, 0.0), MOST) * MICRO)


def window(period_s: float | None, now: float) -> float:
    """Return when the period that ``now`` is in began: periods are [k·period, (k+1)·period) UTC; 0 if there are none.

    The end of a period, as ``window_end`` returns it, is always in the next one.
    """
    if period_s is None:
        return 0.0
    k = math.floor(now / period_s)
    if (k + 1) * period_s <= now:  # the division was rounded
        k += 1
    elif k * period_s > now:
        k -= 1
    return k * period_s


def window_end(period_s: float | None, now: float) -> float | None:
    """Return when the period that ``now`` is in ends, None if it never does."""
    if period_s is None:
        return None
    return (round(window(period_s, now) / period_s) + 1) * period_s


def left_of(left: int, amount: int, unit: Unit) -> str:
    """Return "$0.40 of $5.00", "3 of 10 attempts" for millionths; what is left is rounded down."""
    return f"{figure(max(left, 0), unit)} of {figure(amount, unit)}{_NOUNS[unit]}"


def figure(amount: int, unit: Unit, *, up: bool = False) -> str:
    """Return the millionths as "$0.40", "1,200" or "2.5", rounded down, or up if asked to."""
    if unit == "usd":
        places = 2 if amount >= MICRO or amount % 10_000 == 0 else 4 if amount >= 10_000 else 6
        return f"${_rounded(amount, places, up):,.{places}f}"
    if unit == "wall_s":
        return f"{_rounded(amount, 1, up):,.1f}".removesuffix(".0")
    return f"{_rounded(amount, 0, up):,.0f}"


def moment(at: float, now: float) -> str:
    """Return "00:00 UTC", with the date if that is more than a day ahead and the seconds if there are any."""
    when = dt.datetime.fromtimestamp(at, dt.UTC)
    clock = f"{when:%H:%M:%S}" if when.second else f"{when:%H:%M}"
    return f"{clock} UTC" if at - now <= DAY_S else f"{when:%Y-%m-%d} {clock} UTC"


def _rounded(amount: int, places: int, up: bool) -> float:
    scale = 10.0**places
    step = MICRO // int(scale)
    return (-(-amount // step) if up else amount // step) / scale
