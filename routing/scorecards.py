"""An agent's scorecard, read from what the fleet remembers and from the ledger of the last day."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Avg, Count, Q
from django.utils import timezone

from routing.breaker import WHOLE, Row, Skill
from routing.estimates import Estimates
from routing.models import Agent, Attempt, AttemptState, Feedback, FleetMemory
from routing.scorecard import Rated, Scorecard, Tried, breaker_now, card, skills_of, usd_of

WINDOW = timedelta(days=1)
MOST = 10_000  # attempts that are counted, the newest
COLUMNS = ("task__skill", "task__version", "state", "error__kind", "usage", "started_at", "finished_at", "assigned_at")


def scorecard(agent: Agent, now: datetime | None = None) -> Scorecard:
    """Return what the agent has shown. What the fleet remembers is written every 5 s while it learns."""
    now = now or timezone.now()
    tried, since, is_cut = _tried(agent, now - WINDOW)
    breakers, feedback = _breakers(agent.name), _feedback(agent, since)
    by_skill: dict[Skill, list[Tried]] = defaultdict(list)
    for attempt in tried:
        by_skill[attempt.skill, attempt.version].append(attempt)
    names = [skill.name for skill in agent.skills.all()]
    cells = _cells(agent.name)
    skills = skills_of(names, (skill for _, skill in cells.cells), by_skill, breakers, feedback)
    estimates = _estimates(agent.name, cells, skills)
    at = now.timestamp()
    cards = (
        card(
            agent.name,
            skill,
            estimates=estimates,
            listed_usd=float(agent.cost_usd) or None,
            breaker=breaker_now(breakers.get(skill), at),
            tried=by_skill.get(skill, ()),
            feedback=feedback.get(skill, Rated(mean=None, ratings=0)),
        )
        for skill in skills
    )
    whole = breaker_now(breakers.get(WHOLE), at)
    return Scorecard(agent=agent.name, at=now, since=since, is_cut=is_cut, breaker=whole, cards=tuple(cards))


def _tried(agent: Agent, since: datetime) -> tuple[list[Tried], datetime, bool]:
    """Return the attempts sent since then, or the newest of them; since when those are; and whether that is later."""
    rows = Attempt.objects.filter(agent=agent.name, assigned_at__gte=since, task__tenant=agent.tenant_id)
    found = list(rows.order_by("-assigned_at").values_list(*COLUMNS)[: MOST + 1])
    is_cut = len(found) > MOST
    del found[MOST:]
    tried = [
        Tried(skill, version, state, error, usd_of(usage), started_at, finished_at)
        for skill, version, state, error, usage, started_at, finished_at, _ in found
    ]
    return tried, found[-1][7] if is_cut else since, is_cut


def _cells(agent: str) -> Estimates:
    """Return what was learned of the agent at each of its skills, and nothing else."""
    estimates = Estimates()
    estimates.restore(dict(_remembered("estimate", "cell", agent)))
    return estimates


def _estimates(agent: str, estimates: Estimates, skills: Iterable[Skill]) -> Estimates:
    """Return ``estimates`` with all that the agent's cells borrow from: the agent, the skills and the fleet."""
    keys = [("fleet",), ("agent", agent), *(("skill", *skill) for skill in skills)]
    rows = FleetMemory.objects.filter(kind="estimate", name__in=[json.dumps(key) for key in keys])
    estimates.restore(dict(rows.values_list("name", "data")))
    return estimates


def _breakers(agent: str) -> dict[Skill, Row]:
    return {(row["skill"], row["version"]): row for _, row in _remembered("breaker", agent)}


def _remembered(kind: str, *names: str) -> Iterable[tuple[str, Row]]:
    """Return (name, data) of what is remembered under names that begin so. Agents' names have no capitals."""
    beginning = json.dumps(names)[:-1] + ", "
    return FleetMemory.objects.filter(kind=kind, name__startswith=beginning).values_list("name", "data")


def _feedback(agent: Agent, since: datetime) -> dict[Skill, Rated]:
    """Return what callers said of what the agent has completed since then."""
    completed = Q(task__attempts__agent=agent.name, task__attempts__state=AttemptState.COMPLETED)
    sent = Q(task__attempts__assigned_at__gte=since, task__tenant=agent.tenant_id)
    rows = Feedback.objects.filter(completed & sent).values("task__skill", "task__version")
    found = rows.annotate(mean=Avg("score"), ratings=Count("score")).values_list(
        "task__skill", "task__version", "mean", "ratings"
    )
    return {(skill, version): Rated(mean=mean, ratings=ratings) for skill, version, mean, ratings in found}
