"""Which tenant is next?  Pure.

Start-time fair queueing (Goyal, Vin and Cheng 1996, SIGCOMM): each tenant has a start tag, which moves on by the
predicted seconds of each of its tasks divided by the tenant's weight. The tenant with the smallest tag is served; one
that had nothing to do begins at the present, so it neither saves up nor pays for what it did not use.
"""

from __future__ import annotations

from collections.abc import Mapping

KEPT_TENANTS = 10_000


class FairShare:
    """The tenants' start tags."""

    def __init__(self) -> None:
        self.weights: Mapping[str, float] = {}  # tenant → share, > 0; 1 where none is given
        self._finish: dict[str, float] = {}
        self._present = 0.0  # start tag of what was served last

    def start_tag(self, tenant: str) -> float:
        """Return the tag that the tenant's next task would start at; smaller goes first."""
        return max(self._present, self._finish.get(tenant, 0.0))

    def serve(self, tenant: str, seconds: float) -> None:
        """Count a task of so many predicted seconds for the tenant."""
        start = self.start_tag(tenant)
        self._present = start
        self._finish[tenant] = start + seconds / self.weights.get(tenant, 1.0)
        if len(self._finish) > KEPT_TENANTS:
            self._finish = {name: at for name, at in self._finish.items() if at > self._present}
