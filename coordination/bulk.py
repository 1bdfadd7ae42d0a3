"""One verb for many runs: those that fit a filter and can be asked for it. Counted first, then asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from coordination import errors, runs
from coordination.models import Run, RunState
from routing.errors import RoutingError

MOST = 10_000  # runs of one call
TOLD = 20  # refusals that are told
Kind = runs.Kind
CAN: Mapping[Kind, tuple[RunState, ...]] = {
    Kind.PAUSE: (RunState.RUNNING,),
    Kind.RESUME: (RunState.PAUSED,),
    Kind.CANCEL: (RunState.PENDING, RunState.RUNNING, RunState.PAUSED),
    Kind.RETRY: (RunState.FAILED,),
}  # a verb to the states in which a run can be asked for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which runs are meant; what is None says nothing. Times are those of creation, since <= time < until."""

    tenant: str | None = None
    state: str | None = None
    workflow: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How many runs fit the filter, how many of them the verb suits and were asked, and who refused."""

    matched: int
    suited: int
    asked: int
    refused: Sequence[str]


def matching(which: Filter) -> QuerySet[Run]:
    """Return the runs that are meant; sub-runs go with theirs."""
    rows = Run.objects.filter(parent__isnull=True)
    given = {
        "tenant_id": which.tenant, "state": which.state, "workflow": which.workflow,
        "created_at__gte": which.since, "created_at__lt": which.until,
    }  # fmt: skip
    return rows.filter(**{name: value for name, value in given.items() if value is not None})


def ask(which: Filter, kind: Kind, *, by: str, reason: str = "", dry_run: bool = False) -> Asked:
    """Ask the verb of every run that fits and that it suits; ``dry_run`` only counts. Asking twice does no harm.

    Raises ``BadBulk`` for a verb that is not asked of many, or too many runs.
    """
    if kind not in CAN:
        raise errors.BadBulk(why=f"{kind} is asked of one run at a time. Of many: {', '.join(CAN)}.")
    rows = matching(which)
    suited = rows.filter(state__in=CAN[kind]).order_by("created_at")
    matched, count = rows.count(), suited.count()
    if count > MOST:
        raise errors.BadBulk(why=f"{count:,} runs fit, and at most {MOST:,} are asked at once. Narrow the filter.")
    if dry_run:
        return Asked(matched=matched, suited=count, asked=0, refused=())
    refused: list[str] = []
    asked = 0
    for run in suited.iterator():
        try:
            runs.ask(run, kind, by=by, reason=reason)
            asked += 1
        except RoutingError as error:  # it ended meanwhile
            refused.append(f"{run.pk}: {error}")
    return Asked(matched=matched, suited=count, asked=asked, refused=refused[:TOLD])
