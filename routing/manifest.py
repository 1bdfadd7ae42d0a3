"""Agents, skills, tenants and rules as one YAML file: applied whole or not at all, and written out again.

An entry becomes exactly what the file says; what it leaves out has its usual value. Only whether an agent is enabled
or draining stays where the file is silent, and what the file does not name stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pydantic
from django.db import transaction
from django.db.models import Model
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from ninja import Field, Schema
from pydantic import ConfigDict, StrictStr

from routing import models, registration, registry, rulebook, yamlfile
from routing.agent_schemas import AgentIn, SkillIn
from routing.errors import BadRegistration, RoutingError
from routing.models import DEFAULT_TENANT
from routing.schemas import Name


class TenantEntry(Schema):
    """A tenant."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: StrictStr = ""
    weight: float = Field(1, strict=True)


class SkillEntry(SkillIn):
    """A skill of a tenant."""

    tenant: Name = DEFAULT_TENANT


class AgentEntry(AgentIn):
    """An agent of a tenant."""

    name: Name
    tenant: Name = DEFAULT_TENANT


Entry = dict[str, Any]


class Manifest(Schema):
    """What a file may hold."""

    model_config = ConfigDict(extra="forbid")

    tenants: list[TenantEntry] = Field(default_factory=list)
    skills: list[SkillEntry] = Field(default_factory=list)
    agents: list[AgentEntry] = Field(default_factory=list)
    policies: list[Entry] = Field(default_factory=list)
    limits: list[Entry] = Field(default_factory=list)
    budgets: list[Entry] = Field(default_factory=list)
    containments: list[Entry] = Field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of rule."""

    noun: str
    key: str  # in the file
    model: Any
    save: Callable[[Any], Any]

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns that an entry may give, by name."""
        fields = {field.name: field for field in self.model._meta.concrete_fields}
        return {name: field for name, field in fields.items() if (field.editable and name != "id") or name == "by"}


KINDS = (
    Kind(noun="policy", key="policies", model=models.Policy, save=rulebook.save_policy),
    Kind(noun="limit", key="limits", model=models.Limit, save=rulebook.save_limit),
    Kind(noun="budget", key="budgets", model=models.Budget, save=rulebook.save_budget),
    Kind(noun="containment", key="containments", model=models.Containment, save=rulebook.save_containment),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one entry."""

    noun: str
    name: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """What is wrong, and at which line of the file, from 1."""

    line: int
    words: str


class BadManifest(ValueError):
    """The file cannot be applied; ``flaws`` say why, by line."""

    def __init__(self, flaws: list[Flaw]) -> None:
        self.flaws = sorted(flaws, key=lambda flaw: flaw.line)
        super().__init__("\n".join(f"line {flaw.line}: {flaw.words}" for flaw in self.flaws))


# ---- applying -----------------------------------------------------------------------------------------------------


def apply(text: str, *, by: str, dry_run: bool = False) -> list[Change]:
    """Return what the file changed, or would change; what is so already is not touched.

    ``by`` stands in switches whose entry does not say who throws them. Raises ``BadManifest`` with all flaws, and
    nothing is changed.
    """
    manifest, document = _read(text)
    with transaction.atomic():
        work = _Work(document, by)
        work.apply(manifest)
        if dry_run or work.flaws or not work.changes:
            transaction.set_rollback(True)
    if work.flaws:
        raise BadManifest(work.flaws)
    return work.changes


def _read(text: str) -> tuple[Manifest, yamlfile.Document]:
    try:
        document = yamlfile.read(text)
    except yamlfile.BadYaml as error:
        raise BadManifest([Flaw(line=error.line, words=str(error))]) from None
    try:
        return Manifest.model_validate({} if document.value is None else document.value), document
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise BadManifest([Flaw(line=document.line(each["loc"]), words=_words(each)) for each in found]) from None


def _words(found: Any) -> str:
    place = ".".join(str(step) for step in found["loc"] if not isinstance(step, int))
    said = "there is no such field" if found["type"] == "extra_forbidden" else found["msg"]
    return f"{place or 'the file'}: {str(said).removeprefix('Value error, ')}."


class _Work:
    """One file on its way into the rows, within a transaction."""

    def __init__(self, document: yamlfile.Document, by: str) -> None:
        self.changes: list[Change] = []
        self.flaws: list[Flaw] = []
        self._document = document
        self._by = by

    def apply(self, manifest: Manifest) -> None:
        """Bring everything into the rows, and note down what changed and what cannot be."""
        for place, tenant in enumerate(manifest.tenants):
            with self._entry(("tenants", place), "tenant", tenant.name, _tenant_entry):
                registry.save_tenant(tenant.name, tenant.description, weight=tenant.weight)
        for place, skill in enumerate(manifest.skills):
            with self._entry(("skills", place), "skill", skill.name, partial(_skill_entry, skill)):
                registration.save_skill(skill.tenant, skill, whole=True)
        for place, agent in enumerate(manifest.agents):
            with self._entry(("agents", place), "agent", agent.name, _agent_entry):
                registration.register(agent.tenant, agent.name, agent, only=_given(agent))
        for kind in KINDS:
            for place, entry in enumerate(getattr(manifest, kind.key)):
                self._rule(kind, entry, (kind.key, place))

    def _rule(self, kind: Kind, entry: Entry, path: yamlfile.Path) -> None:
        unknown = [name for name in entry if name not in kind.columns]
        for column in unknown:
            words = f"there is no {column!r}. Known: {', '.join(kind.columns)}."
            self.flaws.append(Flaw(line=self._document.line((*path, column)), words=words))
        name = entry.get("name")
        if not isinstance(name, str):
            self.flaws.append(Flaw(line=self._document.line((*path, "name")), words=f"A {kind.noun} needs a name."))
        elif not unknown:
            with self._entry(path, kind.noun, name, partial(_rule_entry, kind)):
                kind.save(_row(kind, entry, self._by))

    @contextmanager
    def _entry(self, path: yamlfile.Path, noun: str, name: str, read: Callable[[str], Entry | None]) -> Iterator[None]:
        """Note down whether what happens within changed the row, or what is wrong at which line."""
        before = read(name)
        try:
            with transaction.atomic():
                yield
        except BadRegistration as error:
            self._refused(path, error.fields.get("problems") or [("", str(error))])
        except RoutingError as error:
            self._refused(path, [("", str(error))])
        else:
            if read(name) != before:
                self.changes.append(Change(noun=noun, name=name, is_new=before is None))

    def _refused(self, path: yamlfile.Path, problems: list[registry.Problem]) -> None:
        for field, words in problems:
            steps = (int(step) if step.isdigit() else step for step in field.split("/") if step)
            told = f"{field.split('/')[-1]}: {words}" if field and not field[-1].isdigit() else words
            self.flaws.append(Flaw(line=self._document.line((*path, *steps)), words=told))


def _given(agent: AgentEntry) -> set[str] | None:
    """Return the fields to set: all but those that stay where a file is silent. None for an agent that is new."""
    if not models.Agent.objects.filter(name=agent.name, tenant_id=agent.tenant).exists():
        return None
    return set(AgentIn.model_fields) - ({"enabled", "draining"} - agent.model_fields_set)


def _row(kind: Kind, entry: Entry, by: str) -> Any:
    """Return the rule's row as the entry has it, not saved."""
    row = kind.model.objects.filter(name=entry["name"]).first() or kind.model()
    for name, field in kind.columns.items():
        value = entry.get(name, field.get_default())
        if name == "by":
            value = entry.get("by") or row.by or by
        setattr(row, field.attname, _moment(value) if name == "release_at" else value)
    return row


def _moment(value: Any) -> Any:
    """Return the moment that the text names, in UTC where it names no zone; anything else as it is."""
    moment = parse_datetime(value) if isinstance(value, str) else None
    if moment is None:
        return value
    return moment.replace(tzinfo=UTC) if timezone.is_naive(moment) else moment


# ---- writing out --------------------------------------------------------------------------------------------------


def export() -> str:
    """Return all tenants, skills, agents and rules as a file that ``apply`` takes. It may name secrets in options."""
    skills = models.Skill.objects.order_by("tenant", "name", "version")
    told: dict[str, list[Entry]] = {
        "tenants": [_tenant(row) for row in models.Tenant.objects.order_by("name")],
        "skills": [_skill(row) for row in skills],
        "agents": [_agent(row) for row in models.Agent.objects.order_by("name").prefetch_related("skills")],
    }
    for kind in KINDS:
        told[kind.key] = [_rule(kind, row) for row in kind.model.objects.order_by("name")]
    return yamlfile.write({key: entries for key, entries in told.items() if entries})


def _tenant(row: models.Tenant) -> Entry:
    return _short({"name": row.name, "description": row.description, "weight": row.weight}, TenantEntry)


def _skill(row: models.Skill) -> Entry:
    columns = {name: _plain(getattr(row, name)) for name in SkillIn.model_fields}
    return _short({**columns, "tenant": str(row.tenant_id)}, SkillEntry, keep=("version",))


def _agent(row: models.Agent) -> Entry:
    columns = {name: _plain(getattr(row, name)) for name in AgentIn.model_fields if name != "skills"}
    skills = sorted(row.skills.all(), key=lambda skill: (skill.name, registry.version_key(skill.version)))
    refs = [{"name": skill.name, "version": skill.version} for skill in skills]
    return _short({"name": row.name, "tenant": str(row.tenant_id), **columns, "skills": refs}, AgentEntry)


def _rule(kind: Kind, row: Any) -> Entry:
    entry = {"name": row.name}
    for name, field in kind.columns.items():
        value = _plain(getattr(row, field.attname))
        if name not in entry and value != field.get_default():
            entry[name] = value
    return entry


def _tenant_entry(name: str) -> Entry | None:
    return _told(_tenant, models.Tenant.objects.filter(name=name).first())


def _skill_entry(wanted: SkillEntry, name: str) -> Entry | None:
    return _told(_skill, registry.newest_skill(wanted.tenant, name, wanted.version))


def _agent_entry(name: str) -> Entry | None:
    return _told(_agent, models.Agent.objects.filter(name=name).first())


def _rule_entry(kind: Kind, name: str) -> Entry | None:
    return _told(lambda row: _rule(kind, row), kind.model.objects.filter(name=name).first())


def _told(tell: Callable[[Any], Entry], row: Model | None) -> Entry | None:
    return None if row is None else tell(row)


def _short(entry: Mapping[str, Any], shape: type[Schema], keep: tuple[str, ...] = ()) -> Entry:
    """Return the entry without what has its usual value."""
    usual = {name: field.get_default(call_default_factory=True) for name, field in shape.model_fields.items()}
    return {name: value for name, value in entry.items() if name in keep or value != usual[name]}


def _plain(value: Any) -> Any:
    """Return the column's value as YAML has it."""
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, datetime) else value
