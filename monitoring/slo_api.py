"""REST for what we promise. Every view makes one call, and returns."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Field, Router, Schema

from monitoring import slos
from routing.access import Needs
from routing.models import Scope
from routing.schemas import Problem

router = Router()
REFUSALS = {frozenset({401, 403, 503}): Problem}
reads = Needs(Scope.AGENTS_READ)


class StandingOut(Schema):
    """How a promise was kept over a window; all null where there is nothing to judge by."""

    badness: float | None
    burn: float | None = Field(description="1 uses the error budget up just in time; more is too fast.")
    budget_left: float | None = Field(description="Share of the window's budget, negative if it is overdrawn.")
    is_met: bool | None


class SloOut(Schema):
    """One promise."""

    name: str
    title: str
    allowed: float = Field(description="How bad “badness” may be.")
    unit: str
    windows: dict[str, StandingOut] = Field(description="By 1h, 6h, 3d and 30d.")


class SloList(Schema):
    """What we promise."""

    slos: list[SloOut]


@router.get("/slos", auth=reads, response={200: SloList, **REFUSALS})
def list_slos(request: HttpRequest) -> SloList:
    """Tell how each promise was kept over an hour, six hours, three days and thirty, and how fast its budget goes."""
    return SloList(slos=[_shape(each) for each in slos.OBJECTIVES.values()])


def _shape(objective: slos.Objective) -> SloOut:
    windows = {
        name: StandingOut(badness=each.badness, burn=each.burn, budget_left=each.budget_left, is_met=each.is_met)
        for name, each in slos.standings(objective).items()
    }
    return SloOut(
        name=objective.name, title=objective.title, allowed=objective.allowed, unit=objective.unit, windows=windows
    )
