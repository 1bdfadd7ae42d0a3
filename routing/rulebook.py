"""By which rules tasks are routed: policies, limits, budgets, containments. The only writer of these tables.

A change is a change of the registry: one transaction that raises the Revision's number, told to the controller on
commit and seen by every other process within half a second.
"""

from __future__ import annotations

import fnmatch
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import DatabaseError, connection
from django.db.models import Model
from django.utils import timezone

from routing import events as e
from routing import models, registry, rulespecs
from routing.budget_rules import BudgetSpec
from routing.containment import Containment, Containments
from routing.limit_rules import LimitSpec
from routing.matching import fits
from routing.policies import Policies, PolicySpec
from routing.registry import Problem

log = logging.getLogger(__name__)

TOLD = 20  # names told of those that are known
Row = TypeVar("Row", models.Policy, models.Limit, models.Budget, models.Containment)
M = TypeVar("M", bound=Model)
S = TypeVar("S")


# ---- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesNow:
    """All rules that hold, as they stand in the database."""

    revision: int
    policies: tuple[PolicySpec, ...]
    limits: tuple[LimitSpec, ...]
    budgets: tuple[BudgetSpec, ...]
    containments: tuple[Containment, ...]
    weights: Mapping[str, float]  # tenant → its share, of those whose share is not 1


def rules() -> RulesNow:
    """Return the rules that are enabled. A row that no longer can be read is left out, and the log says why."""
    number = registry.revision()  # before the rows: who sees it change reads again
    return RulesNow(
        revision=number,
        policies=_readable(models.Policy, rulespecs.policy),
        limits=_readable(models.Limit, rulespecs.limit),
        budgets=_readable(models.Budget, rulespecs.budget),
        containments=_readable(models.Containment, rulespecs.containment),
        weights=dict(models.Tenant.objects.exclude(weight=1).values_list("name", "weight")),
    )


def fact() -> e.RegistryChanged:
    """Return agents and rules as the fleet is told of them."""
    now = rules()
    return e.RegistryChanged(
        agents=registry.agent_specs(),
        policies=now.policies,
        limits=now.limits,
        budgets=now.budgets,
        containments=now.containments,
        weights=now.weights,
        revision=now.revision,
    )


def policy_of(tenant: str, skill: str, labels: Mapping[str, str], priority: int) -> PolicySpec:
    """Return the policy that governs such a task, or the default. At most half a second old; costs no query."""
    asked = _Asked(tenant, skill, tuple(sorted(labels.items())), priority)
    return _door().policies.of(asked)


def containment_of(tenant: str, skill: str, now: float | None = None) -> Containment | None:
    """Return what holds such work back from every agent, None if nothing does. Costs no query."""
    containments = _door().containments
    if containments is None:
        return None
    return containments.denies(_Asked(tenant, skill), "", time.time() if now is None else now)


class _Asked(NamedTuple):
    """A task that is not there yet; a tuple, because every submission makes some."""

    tenant: str
    skill: str
    labels: e.Labels = ()
    priority: int = 5


class _Door:
    """The rules as a door asks them."""

    latest: _Door | None = None  # replaced as a whole, so readers need no lock

    def __init__(self, known: registry.Known) -> None:
        self.known = known  # the state of the registry that they belong to
        now = rules()
        self.policies = Policies(now.policies, revision=now.revision)
        self.containments: Containments | None = None  # mostly there is none, and nothing to ask
        if now.containments:
            self.containments = Containments()
            self.containments.replace(now.containments)


def _door() -> _Door:
    """Return the rules that belong to what is known of the registry; while the database is away, those before."""
    known, door = registry.known(), _Door.latest
    if door is not None and door.known is known:
        return door
    try:
        door = _Door(known)
    except DatabaseError:
        if door is None or connection.in_atomic_block:
            raise
        connection.close()  # a broken one does not mend itself
        return door
    _Door.latest = door
    return door


def _readable(model: type[Row], read: Callable[[Row], S]) -> tuple[S, ...]:
    def specs() -> Iterator[S]:
        for row in model._default_manager.filter(enabled=True).order_by("name"):
            try:
                yield read(row)
            except rulespecs.Unreadable as error:
                log.error("The %s %s is left out: %s", model._meta.verbose_name, row.name, error)

    return tuple(specs())


# ---- writing ------------------------------------------------------------------------------------------------------


def save_policy(row: models.Policy) -> models.Policy:
    """Save and return the policy, new or changed. Raises ``BadRegistration`` with all problems in words."""
    return _save(row, policy_problems(row))


def save_limit(row: models.Limit) -> models.Limit:
    """Save and return the limit, new or changed. Raises ``BadRegistration``."""
    return _save(row, limit_problems(row))


def save_budget(row: models.Budget) -> models.Budget:
    """Save and return the budget, new or changed. Raises ``BadRegistration``."""
    return _save(row, budget_problems(row))


def save_containment(row: models.Containment) -> models.Containment:
    """Save and return the switch. One that is new or was released is thrown now. Raises ``BadRegistration``."""
    is_thrown = models.Containment.objects.filter(pk=row.pk, enabled=True).exists()
    if row.enabled and not is_thrown:
        row.since = timezone.now()
    return _save(row, containment_problems(row))


def policy_problems(row: models.Policy) -> list[Problem]:
    """Return what keeps the policy from being saved."""
    return _problems(row, partial(rulespecs.policy, row), _policy_strangers)


def limit_problems(row: models.Limit) -> list[Problem]:
    """Return what keeps the limit from being saved."""
    return _problems(row, partial(rulespecs.limit, row), _rule_strangers)


def budget_problems(row: models.Budget) -> list[Problem]:
    """Return what keeps the budget from being saved."""
    return _problems(row, partial(rulespecs.budget, row), _rule_strangers)


def containment_problems(row: models.Containment) -> list[Problem]:
    """Return what keeps the switch from being saved. One that is released may have ended."""
    now = timezone.now().timestamp() if row.enabled else None
    return _problems(row, partial(rulespecs.containment, row, now), _containment_strangers)


def remove(row: models.Policy | models.Limit | models.Budget | models.Containment) -> None:
    """Remove the rule. Tasks that wait feel it at once."""
    with registry.change():
        row.delete()


def remove_policy(name: str) -> None:
    """Remove the policy of that name, if there is one."""
    _remove(models.Policy, name)


def remove_limit(name: str) -> None:
    """Remove the limit of that name, if there is one."""
    _remove(models.Limit, name)


def remove_budget(name: str) -> None:
    """Remove the budget of that name, if there is one."""
    _remove(models.Budget, name)


def remove_containment(name: str) -> None:
    """Remove the switch of that name, if there is one."""
    _remove(models.Containment, name)


def _remove(model: type[Any], name: str) -> None:
    for row in model.objects.filter(name=name):
        remove(row)


def _save(row: Row, problems: list[Problem]) -> Row:
    registry.refuse(problems)
    row.updated_at = timezone.now()
    with registry.change():
        row.save()
    return row


def _problems(row: M, read: Callable[[], object], strangers: Callable[[M], Iterator[Problem]]) -> list[Problem]:
    """Return what is wrong with the row: first its columns' types, then the rule they make, then whom it speaks of."""
    found = _type_problems(row)
    if not found:
        found = rulespecs.problems_of(read)
    taken = {field for field, _ in found}
    if getattr(row, "enabled", True):  # one that holds no more can be put away after what it spoke of is gone
        found += [(field, words) for field, words in strangers(row) if field not in taken]
    taken = {field for field, _ in found}
    rest = registry.row_problems(row, exclude={*taken, "tenant"})
    return found + [(field, words) for field, words in rest if field or not found]


def _type_problems(row: Model) -> list[Problem]:
    """Return what cannot be a value of its column, after making the others of the columns' types."""
    own_words = {field.name for field in row._meta.concrete_fields if field.choices or field.is_relation}
    found = [
        (field.name, "Text, please.")
        for field in row._meta.concrete_fields
        if field.name in own_words and not isinstance(getattr(row, field.attname), str | None)
    ]
    blank = {"name"} if not getattr(row, "name", "") else set()  # the rule itself has better words
    try:
        row.clean_fields(exclude={*own_words, *blank, "id"})
    except ValidationError as error:
        found += [(name, words) for name, texts in error.message_dict.items() for words in texts]
    return [(name if name != NON_FIELD_ERRORS else "", words) for name, words in found]


# ---- whom a rule speaks of ----------------------------------------------------------------------------------------


def _policy_strangers(row: models.Policy) -> Iterator[Problem]:
    yield from _skill_strangers(row)
    if isinstance(row.order, list):
        agents = _agents(row.tenant_id)
        unknown = [agent for agent in row.order if agent not in agents]
        if unknown:
            yield "order", f"No agent is called {', '.join(map(repr, unknown))}; known: {_listed(agents)}."


def _rule_strangers(row: models.Limit | models.Budget) -> Iterator[Problem]:
    yield from _skill_strangers(row)
    if row.agent != "*":
        yield from _unmatched("agent", "agent", row.agent, _agents(row.tenant_id))


def _skill_strangers(row: models.Policy | models.Limit | models.Budget) -> Iterator[Problem]:
    if row.tenant_id is not None and not models.Tenant.objects.filter(name=row.tenant_id).exists():
        yield "tenant", f"No tenant is called {row.tenant_id!r}; known: {_listed(_tenants())}."
    elif row.skill != "*":
        yield from _unmatched("skill", "skill", row.skill, _skills(row.tenant_id))


def _containment_strangers(row: models.Containment) -> Iterator[Problem]:
    if row.scope == "agent":
        yield from _unmatched("value", "agent", row.value, _agents(None), is_pattern=False)
    elif row.scope == "tenant":
        yield from _unmatched("value", "tenant", row.value, _tenants(), is_pattern=False)
    elif row.scope == "skill":
        yield from _unmatched("value", "skill", row.value, _skills(None))


def _unmatched(
    field: str, noun: str, pattern: str, known: Iterable[str], *, is_pattern: bool = True
) -> Iterator[Problem]:
    known = sorted(known)
    if pattern in known or (is_pattern and any(_fits(pattern, name) for name in known)):
        return
    fails = "fits" if is_pattern and any(sign in pattern for sign in "*?[") else "is called"
    yield field, f"No {noun} {fails} {pattern!r}; known: {_listed(known)}."


def _fits(pattern: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) if "[" in pattern else fits(pattern, name)


def _skills(tenant: str | None) -> set[str]:
    rows = models.Skill.objects.all() if tenant is None else models.Skill.objects.filter(tenant_id=tenant)
    return set(rows.values_list("name", flat=True))


def _agents(tenant: str | None) -> set[str]:
    rows = models.Agent.objects.all() if tenant is None else models.Agent.objects.filter(tenant_id=tenant)
    return set(rows.values_list("name", flat=True))


def _tenants() -> set[str]:
    return set(models.Tenant.objects.values_list("name", flat=True))


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return (", ".join(names[:TOLD]) or "none") + more
