"""Who can do what: tenants, keys, skills and agents. The only writer of these tables.

Every change is one transaction that raises the Revision's number; on commit the controller is told, and every other
process sees the number within half a second.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import DatabaseError, connection, transaction
from django.db.models import Model
from django.utils import timezone

from routing import executors, payloads
from routing.errors import BadRegistration, RoutingError
from routing.events import AgentSpec
from routing.models import DEFAULT_TENANT, NAME_PATTERN, NAME_RULE, Agent, ApiKey, Revision, Scope, Skill, Tenant
from routing.prepared import Prepared

MAX_CAPACITY = 10_000  # attempts one agent may hold at once
MAX_COST_USD = 100_000  # of one attempt
MAX_TIMEOUT_S = 7 * 24 * 3600  # of one attempt
MAX_ATTEMPTS = 100  # of one task
MIN_WEIGHT, MAX_WEIGHT = 0.001, 1000  # of one tenant
MAX_ROW_BYTES = 1_000_000  # of what one row holds as JSON
FRESH_S = 0.5  # so long a process trusts what it has read
LAST_USED_STEP = timedelta(minutes=1)  # a key's last use is noted no finer than this
CELERY_AGENT = "celery-tasks"  # the agent for a project's own Celery tasks
CELERY_SKILL = "celery"  # and its skill
KEY = re.compile(r"a2a_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")

Problem = tuple[str, str]  # (field or "", what is wrong, in words)
M = TypeVar("M", bound=Model)


# ---- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillFacts:
    """A skill as the doors and the workers need it."""

    tenant: str
    name: str
    version: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    idempotent: bool
    timeout_s: float
    max_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The whole registry at one revision."""

    revision: int
    skills: Mapping[tuple[str, str, str], SkillFacts]  # (tenant, name, version); version "" is the newest
    agents: Mapping[tuple[str, str], AgentSpec]  # (tenant, name)
    executors: Mapping[str, tuple[str, Mapping[str, Any]]]  # agent → (executor, its options)


class _Cache:
    """What this process has read last. Replaced as a whole, so readers need no lock."""

    known: Known | None = None
    read_at = 0.0  # monotonic
    reading = threading.Lock()


def known_skill(tenant: str, name: str, version: str = "") -> SkillFacts | None:
    """Return the tenant's skill, its newest version for "", or None. At most half a second old; costs no query."""
    return known().skills.get((tenant, name, version))


def known_agent(tenant: str, name: str) -> AgentSpec | None:
    """Return the tenant's agent or None. At most half a second old; costs no query."""
    return known().agents.get((tenant, name))


def executor_of(agent: str) -> tuple[str, Mapping[str, Any]]:
    """Return (name of the executor, its options) of the agent. Raises ``executors.Unavailable`` if it is gone."""
    try:
        return known().executors[agent]
    except KeyError:
        raise executors.Unavailable(f"The agent {agent!r} is not registered any more.") from None


def agent_names() -> list[str]:
    """Return the names of all tenants' agents, sorted; at most half a second old."""
    return sorted(known().executors)


def capacities() -> dict[str, int]:
    """Return the slots of the agents, of all tenants, that workers run; by name, at most half a second old."""
    return {spec.name: spec.capacity for spec in known().agents.values() if not spec.is_pull}


def skill_names(tenant: str) -> list[str]:
    """Return the names of the tenant's skills, sorted; at most half a second old."""
    return sorted({name for owner, name, _ in known().skills if owner == tenant})


def known() -> Known:
    """Return the registry, at most half a second old; while the database is away, as it was known before.

    A transaction that has changed the registry reads its own rows, and nobody else does before it commits.
    """
    if is_changing():
        return _read()
    cached = _Cache.known
    if cached is not None and time.monotonic() - _Cache.read_at < FRESH_S:
        return cached
    with _Cache.reading:
        asked_at, current = time.monotonic(), _Cache.known
        try:
            if current is None or current.revision != revision():
                current = _read()
        except DatabaseError:
            if current is None:
                raise
            connection.close()  # a broken one does not mend itself
        _Cache.known, _Cache.read_at = current, asked_at
        return current


def forget() -> None:
    """Let the next reader ask the database."""
    _Cache.known = None


def revision() -> int:
    """Return the number of the registry's last change."""
    rows = _revision.rows()
    return int(rows[0][0]) if rows else 0


_revision = Prepared(lambda: Revision.objects.filter(id=1).values_list("number"))


def agent_specs() -> tuple[AgentSpec, ...]:
    """Return all agents of all tenants, as they stand in the database."""
    return tuple(map(spec, Agent.objects.prefetch_related("skills")))


def newest_skill(tenant: str, name: str, version: str = "") -> Skill | None:
    """Return the row of the tenant's skill in that version, the newest for "", or None."""
    rows = Skill.objects.filter(tenant_id=tenant, name=name)
    rows = rows.filter(version=version) if version else rows
    return max(rows, key=lambda skill: version_key(skill.version), default=None)


def spec(agent: Agent) -> AgentSpec:
    """Return the agent as the fleet sees it."""
    return AgentSpec(
        name=agent.name,
        tenant=str(agent.tenant_id),
        skills=frozenset((skill.name, skill.version) for skill in agent.skills.all()),
        capacity=agent.capacity,
        labels=tuple(sorted(agent.labels.items())),
        cost_usd=float(agent.cost_usd),
        enabled=agent.enabled,
        draining=agent.draining,
        is_many=agent.executor == "celery",
        is_pull=agent.executor == executors.pull.NAME,
    )


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts versions as people read them: 9 before 10, 1.9 before 1.10."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def _read() -> Known:
    number = revision()  # before the rows: if they change in between, the next look reads them again
    rows = sorted(Skill.objects.all(), key=lambda skill: version_key(skill.version))
    skills: dict[tuple[str, str, str], SkillFacts] = {}
    for row in rows:
        facts = _facts(row)
        skills[facts.tenant, row.name, row.version] = skills[facts.tenant, row.name, ""] = facts
    agents = list(Agent.objects.prefetch_related("skills"))
    return Known(
        revision=number,
        skills=skills,
        agents={(str(agent.tenant_id), agent.name): spec(agent) for agent in agents},
        executors={agent.name: (agent.executor, agent.options) for agent in agents},
    )


def _facts(skill: Skill) -> SkillFacts:
    return SkillFacts(
        tenant=str(skill.tenant_id),
        name=skill.name,
        version=skill.version,
        input_schema=skill.input_schema,
        output_schema=skill.output_schema,
        idempotent=skill.idempotent,
        timeout_s=skill.timeout_s,
        max_attempts=skill.max_attempts,
    )


# ---- writing ------------------------------------------------------------------------------------------------------


@contextmanager
def change() -> Iterator[None]:
    """One change of the registry: whole, counted, and told to every process once it is committed.

    Raising the number comes first because its row is also the lock at which writers queue.
    """
    with transaction.atomic():
        Revision.raise_number()
        transaction.on_commit(_announce, robust=True)
        yield


def _announce() -> None:
    """Tell the controller; everyone else looks at the Revision."""
    from routing import broker  # it needs Redis; reading the registry does not

    forget()
    broker.ring()


def is_changing() -> bool:
    """Return whether this thread's open transaction has changed the registry. A rollback takes the callback away."""
    waiting = transaction.get_connection().run_on_commit
    return any(callback is _announce for _, callback, *_ in waiting)


def refuse(problems: Sequence[Problem]) -> None:
    """Raise ``BadRegistration`` with all problems in words, if there are any."""
    if problems:
        why = " ".join(f"{field}: {words}" if field else words for field, words in problems)
        pointer = f"/{problems[0][0]}" if problems[0][0] else ""
        raise BadRegistration(why=why, pointer=pointer, problems=tuple(problems))


def row_problems(row: Model, exclude: Iterable[str] = ()) -> list[Problem]:
    """Return what the model's own rules say against the row, and JSON or text that no database can hold."""
    found: list[Problem] = []
    for field in row._meta.concrete_fields:
        value = getattr(row, field.attname)
        if isinstance(value, str | dict | list):
            try:
                payloads.check(value, max_bytes=MAX_ROW_BYTES)
            except RoutingError as error:
                found.append((field.name, str(error)))
    try:
        row.full_clean(exclude={*exclude, *(field for field, _ in found)})
    except ValidationError as error:
        for name, messages in error.message_dict.items():
            found += (("" if name == NON_FIELD_ERRORS else name, words) for words in messages)
    return found


def name_problems(name: str) -> list[Problem]:
    """Return what the naming rule says. The validator alone would let a final line break through."""
    return [] if re.fullmatch(NAME_PATTERN, name) else [("name", NAME_RULE)]


def save_tenant(name: str, description: str = "", *, weight: float | None = None) -> Tenant:
    """Save and return the tenant, new or changed; ``weight`` None leaves it. Raises ``BadRegistration``."""
    tenant = Tenant.objects.filter(name=name).first() or Tenant(name=name)
    tenant.description = description
    tenant.weight = tenant.weight if weight is None else weight
    refuse(tenant_problems(tenant))
    with change():
        tenant.save()
    return tenant


def tenant_problems(tenant: Tenant) -> list[Problem]:
    """Return what keeps the tenant from being saved."""
    found = name_problems(tenant.name)
    if not is_between(tenant.weight, MIN_WEIGHT, MAX_WEIGHT):
        found.append(("weight", f"Use a number from {MIN_WEIGHT} to {MAX_WEIGHT}; 1 is usual, not {tenant.weight}."))
    return found + row_problems(tenant, exclude=[field for field, _ in found])


def save_skill(skill: Skill) -> Skill:
    """Save and return the skill, new or changed. Raises ``BadRegistration``."""
    refuse(skill_problems(skill))
    with change():
        skill.save()
    return skill


def skill_problems(skill: Skill) -> list[Problem]:
    """Return what keeps the skill from being saved."""
    found = name_problems(skill.name)
    for field in ("input_schema", "output_schema"):
        found += ((field, words) for words in payloads.problems(getattr(skill, field)))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}", skill.version):
        found.append(("version", "Use 1 to 32 letters, digits, dots, dashes, such as 1 or 2.0."))
    if not is_between(skill.timeout_s, 0, MAX_TIMEOUT_S) or skill.timeout_s == 0:
        found.append(("timeout_s", f"Use seconds above 0 and at most {MAX_TIMEOUT_S} (7 days), not {skill.timeout_s}."))
    if not isinstance(skill.max_attempts, int) or not 1 <= skill.max_attempts <= MAX_ATTEMPTS:
        found.append(("max_attempts", f"Use a whole number from 1 to {MAX_ATTEMPTS}, not {skill.max_attempts}."))
    return found + row_problems(skill, exclude=[field for field, _ in found])


def remove_skill(skill: Skill) -> None:
    """Remove the skill. Raises ``BadRegistration`` while an agent has it."""
    with change():
        holders = list(skill.agents.values_list("name", flat=True)[:5])
        if holders:
            raise BadRegistration(why=f"{skill} is a skill of {', '.join(holders)}. Take it from them first.")
        skill.delete()


def save_agent(agent: Agent, skills: Iterable[Skill]) -> Agent:
    """Save and return the agent with exactly these skills. Raises ``BadRegistration`` with all problems in words."""
    skills = list(skills)
    refuse(agent_problems(agent, skills))
    agent.updated_at = timezone.now()
    with change():
        agent.save()
        agent.skills.set(skills)
    return agent


def agent_problems(agent: Agent, skills: Iterable[Skill]) -> list[Problem]:
    """Return what keeps the agent from being saved with these skills."""
    found = name_problems(agent.name)
    if not isinstance(agent.capacity, int) or not 1 <= agent.capacity <= MAX_CAPACITY:
        found.append(("capacity", f"Use a whole number from 1 to {MAX_CAPACITY}, not {agent.capacity}."))
    if not is_between(agent.cost_usd, 0, MAX_COST_USD):
        found.append(("cost_usd", f"A cost is a number of dollars, 0 or more, not {agent.cost_usd}."))
    if not _are_labels(agent.labels):
        found.append(("labels", 'Labels are words with words, such as {"gpu": "yes"}.'))
    strangers = sorted(str(skill) for skill in skills if skill.tenant_id != agent.tenant_id)
    if strangers:
        found.append(("skills", f"{', '.join(strangers)}: of another tenant than the agent."))
    found += _executor_problems(agent)
    return found + row_problems(agent, exclude=[field for field, _ in found])


def is_between(value: Any, low: float, high: float) -> bool:
    """Return whether the value is a number from ``low`` to ``high``."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return False
    return number.is_finite() and Decimal(str(low)) <= number <= Decimal(str(high))


def _are_labels(labels: Any) -> bool:
    if not isinstance(labels, dict):
        return False
    return all(isinstance(text, str) and 0 < len(text) <= 100 for pair in labels.items() for text in pair)


def _executor_problems(agent: Agent) -> list[Problem]:
    if agent.executor not in executors.names():
        return [("executor", f"No executor is called {agent.executor!r}. Known: {', '.join(executors.names())}.")]
    if not isinstance(agent.options, dict):
        return [("options", "Options are a JSON object; {} for none.")]
    return [("options", words) for words in executors.get(agent.executor).problems(agent.options)]


def set_state(agent: Agent, *, enabled: bool | None = None, draining: bool | None = None) -> None:
    """Enable, disable, drain or resume the agent; None leaves as it is. What runs on it goes on."""
    wanted = {"enabled": enabled, "draining": draining}
    changes = {field: value for field, value in wanted.items() if value is not None}
    with change():
        Agent.objects.filter(pk=agent.pk).update(**changes, updated_at=timezone.now())
    for field, value in changes.items():
        setattr(agent, field, value)


def remove_agent(agent: Agent) -> None:
    """Remove the agent. What runs on it is offered to others; its history stays."""
    with change():
        agent.delete()


# ---- what the product's own code registers ------------------------------------------------------------------------


def ensure_tenant(name: str = DEFAULT_TENANT) -> Tenant:
    """Return the tenant, made if it is missing."""
    return Tenant.objects.filter(name=name).first() or save_tenant(name)


def ensure_skill(
    name: str,
    *,
    version: str = "1",
    tenant: str = DEFAULT_TENANT,
    timeout_s: float = 300,
    max_attempts: int = 3,
    **code: Any,
) -> Skill:
    """Return the skill, made if missing; ``code`` (description, schemas, idempotent) is kept as given.

    The time-out and the attempts are the operator's once the row exists.
    """
    fresh = Skill(name=name, version=version, tenant_id=tenant, timeout_s=timeout_s, max_attempts=max_attempts)
    with transaction.atomic():
        skill = _lock(Skill, name=name, version=version, tenant_id=tenant) or fresh
        if skill.pk and not _differs(skill, code):
            return skill
        _assign(skill, code)
        return save_skill(skill)


def ensure_agent(
    name: str,
    *,
    skills: Iterable[Skill],
    tenant: str = DEFAULT_TENANT,
    capacity: int = 4,
    labels: Mapping[str, str] | None = None,
    cost_usd: Decimal | float = 0,
    **code: Any,
) -> Agent:
    """Return the agent, made if missing; its skills and ``code`` (executor, options, description) are kept as given.

    Capacity, labels and cost are the operator's once the row exists, as are enabled and draining.
    """
    wanted = list(skills)
    cost = Decimal(str(cost_usd))
    fresh = Agent(name=name, tenant_id=tenant, capacity=capacity, labels=dict(labels or {}), cost_usd=cost)
    with transaction.atomic():
        agent = _lock(Agent, name=name, tenant_id=tenant) or fresh
        if agent.pk and not _differs(agent, code) and set(agent.skills.all()) == set(wanted):
            return agent
        _assign(agent, code)
        return save_agent(agent, wanted)


def ensure_handlers() -> list[Agent]:
    """Return the agents made for Python handlers that no row knows yet, from the modules in A2A_AGENT_MODULES.

    A row that exists is left as it is: it is the operator's.
    """
    executors.load(settings.A2A_AGENT_MODULES)
    ensure_tenant()
    there = set(Agent.objects.values_list("name", flat=True))
    missing = [handler for handler in executors.handlers() if handler.name not in there]
    return [_ensure_handler(handler) for handler in missing]


def ensure_celery_tasks() -> Agent | None:
    """Return the agent that runs the project's own Celery tasks, which ``A2A_CELERY_TASKS`` names by patterns.

    None without any. Patterns that the agent has already are kept, so that several workers may name their own.
    """
    wanted: list[str] = list(settings.A2A_CELERY_TASKS)
    if not wanted:
        return None
    ensure_tenant()
    with transaction.atomic():
        known = _lock(Agent, name=CELERY_AGENT, tenant_id=DEFAULT_TENANT)
        patterns = sorted({*wanted, *(known.options.get("tasks") or () if known else ())})
        return ensure_agent(
            CELERY_AGENT,
            skills=[newest_skill(DEFAULT_TENANT, CELERY_SKILL) or ensure_skill(CELERY_SKILL)],
            executor="celery",
            options={"tasks": patterns},
            description="Runs the project's own Celery tasks as steps of workflows.",
            capacity=settings.A2A_THREADS,
        )


def _ensure_handler(handler: executors.python.Handler) -> Agent:
    skills = [newest_skill(DEFAULT_TENANT, name) or ensure_skill(name) for name in handler.skills]
    return ensure_agent(
        handler.name, skills=skills, executor="python", description=handler.description, capacity=handler.capacity
    )


def _lock(model: type[M], **where: Any) -> M | None:
    """Return the row or None, after every other writer of the registry has finished. Only in a transaction."""
    Revision.objects.select_for_update().filter(id=1).first()
    return model._default_manager.filter(**where).first()


def _differs(row: Model, values: Mapping[str, Any]) -> bool:
    return any(getattr(row, field) != value for field, value in values.items())


def _assign(row: Model, values: Mapping[str, Any]) -> None:
    for field, value in values.items():
        setattr(row, field, value)


# ---- keys ---------------------------------------------------------------------------------------------------------


def create_key(
    tenant: Tenant | str, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Return the new key's row and the key itself, ``a2a_<prefix>_<secret>``, which is kept nowhere.

    Raises ``BadRegistration``.
    """
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = ApiKey(
        tenant_id=tenant if isinstance(tenant, str) else tenant.pk,
        name=name,
        prefix=prefix,
        digest=_digest(secret),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    refuse(key_problems(key))
    key.save()
    return key, f"a2a_{prefix}_{secret}"


def key_problems(key: ApiKey) -> list[Problem]:
    """Return what keeps the key from being made."""
    found: list[Problem] = []
    unknown = sorted(set(key.scopes) - set(Scope.values))
    if unknown:
        found.append(("scopes", f"No scope is called {', '.join(unknown)}. Known: {', '.join(Scope.values)}."))
    if not key.scopes:
        found.append(("scopes", f"Name at least one of {', '.join(Scope.values)}."))
    if key.expires_at is not None and key.expires_at <= timezone.now():
        found.append(("expires_at", "That time is past already."))
    return found + row_problems(key, exclude=[field for field, _ in found])


def revoke_key(key: ApiKey) -> None:
    """Make the key useless from now on. One that is revoked already keeps its time."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    key.refresh_from_db()


def authenticate(plaintext: str) -> ApiKey | None:
    """Return the key if it is genuine and neither expired nor revoked. Takes the same time for every wrong secret."""
    shape = KEY.fullmatch(plaintext)
    if shape is None:
        return None
    key = ApiKey.objects.filter(prefix=shape[1]).first()
    if not hmac.compare_digest(_digest(shape[2]), key.digest if key else "0" * 64) or key is None:
        return None
    now = timezone.now()
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        return None
    if key.last_used_at is None or key.last_used_at <= now - LAST_USED_STEP:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


def _digest(secret: str) -> str:
    """Return the SHA-256 of 256 random bits: a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()
