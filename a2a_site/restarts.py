"""When is a process that ended started again?  Pure."""

from dataclasses import dataclass

WINDOW_S = 60.0
FIRST_DELAY_S = 0.25  # doubled with each further exit in the window


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """The recent exits of one process."""

    limit: int = 5  # this many exits within WINDOW_S and we give up
    exits: tuple[float, ...] = ()  # times, seconds on any steady clock, rising

    def after_exit(self, now: float) -> "Restarts":
        """Return the history with one more exit; what is older than the window is forgotten."""
        recent = tuple(at for at in self.exits if now - at < WINDOW_S)
        return Restarts(limit=self.limit, exits=(*recent, now))

    @property
    def delay_s(self) -> float | None:
        """Seconds to wait after the latest exit before the next start; None: give up."""
        if len(self.exits) >= self.limit:
            return None
        return FIRST_DELAY_S * float(2 ** max(len(self.exits) - 1, 0))
