"""Whether a call is sent again, and after how long.  Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

AGAIN = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """Full jitter (Brooker 2015, "Exponential Backoff And Jitter") under a ceiling that doubles."""

    times: int = 4  # besides the first, >= 0
    first_s: float = 0.2
    most_s: float = 10.0
    chance: random.Random = field(default_factory=random.Random)

    def pause_s(self, attempt: int, status: int | None, retry_after: str | None) -> float | None:
        """Return the seconds until the next try, or None if there is none.

        ``attempt`` counts from 0; ``status`` is None when no answer came; ``retry_after`` is the header in seconds.
        """
        if attempt >= self.times or (status is not None and status not in AGAIN):
            return None
        asked = _seconds(retry_after)
        if asked is not None:
            return asked if asked <= self.most_s else None
        return self.chance.uniform(0, min(self.most_s, self.first_s * 2**attempt))


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
