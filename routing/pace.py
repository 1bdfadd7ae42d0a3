"""Is spending ahead of time?  The pressure of a soft budget.  Pure."""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import Generic, TypeVar

PACE_GAIN = 10.0  # a tenth of a budget spent ahead of time raises the pressure by 1

K = TypeVar("K", bound=Hashable)


class Pace(Generic[K]):
    """The pressure λ of each budget, λ ← max(0, λ + η(spend − pace)), with spend and pace as shares of the budget.

    It is the dual variable of a budget under online gradient steps: it rises with what is spent, falls with the time in
    which as much could have been spent, and is never below 0.
    """

    def __init__(self, gain: float = PACE_GAIN) -> None:
        self.gain = gain  # η
        self._known: dict[K, tuple[float, float]] = {}  # (pressure, as of)

    def pressure(self, key: K, period_s: float, now: float) -> float:
        """Return λ, >= 0, for a budget that lasts for a period of so many seconds."""
        pressure, at = self._known.get(key, (0.0, now))
        return max(0.0, pressure - self.gain * max(0.0, now - at) / period_s)

    def spend(self, key: K, part: float, period_s: float, now: float) -> None:
        """Count that so large a part of the budget was spent, 1 for all of it."""
        self._known[key] = (self.pressure(key, period_s, now) + self.gain * part, now)

    def drop(self, key: K) -> None:
        """Forget the budget."""
        self._known.pop(key, None)

    def keep(self, keys: Container[K]) -> None:
        """Forget all budgets but these."""
        self._known = {key: known for key, known in self._known.items() if key in keys}


def share(used: int, amount: int) -> float:
    """Return which part of the amount was used; anything at all of nothing is the whole."""
    return used / amount if amount else float(used > 0)
