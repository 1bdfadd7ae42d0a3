"""Workflows and their versions. The only writer of ``Workflow``, ``WorkflowVersion`` and ``Definition``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

from django.db import transaction
from django.db.models import Max

from coordination import definition, errors, validation
from coordination.data_checks import SkillShape
from coordination.graph import Graph
from coordination.models import Definition, Workflow, WorkflowVersion, newest
from coordination.problems import BadDefinition, Problem
from routing import registry
from routing.models import DEFAULT_TENANT

KEPT_GRAPHS = 500


def save(
    source: str,
    *,
    tenant: str = DEFAULT_TENANT,
    author: str = "",
    note: str = "",
    seen: int | None = None,
    description: str | None = None,
) -> WorkflowVersion:
    """Return the version that the source (YAML or JSON) makes: a new one, or the newest if that says the same.

    ``seen`` is the version the author started from; None does not ask. Raises ``BadWorkflow`` with all problems by
    line, or ``StaleVersion`` when somebody else has saved meanwhile.
    """
    graph = checked(source, tenant)
    with transaction.atomic():
        workflow, _ = Workflow.objects.select_for_update().get_or_create(tenant_id=tenant, name=graph.name)
        if description is not None and description != workflow.description:
            workflow.description = description
            workflow.save(update_fields=["description"])
        last = newest(workflow)
        if seen is not None and last is not None and last.number != seen:
            raise errors.StaleVersion(name=graph.name, newest=last.number, seen=seen)
        pinned = keep(graph)
        if last is not None and last.definition_id == pinned.pk:
            return last
        number = (workflow.versions.aggregate(last=Max("number"))["last"] or 0) + 1
        return WorkflowVersion.objects.create(
            workflow=workflow, number=number, definition=pinned, author=author[:150], note=note[:300]
        )


def checked(source: str, tenant: str) -> Graph:
    """Return the graph that the source describes. Raises ``BadWorkflow`` with all problems in words, by line."""
    try:
        return validation.check(source, catalog(tenant)).graph
    except BadDefinition as error:
        raise errors.BadWorkflow(why=in_words(error.problems)) from None


def in_words(problems: Sequence[Problem]) -> str:
    """Return the problems, one a line, each with its place."""
    return "\n".join(str(problem) for problem in problems)


def catalog(tenant: str) -> validation.Catalog:
    """Return what the tenant's workflows may ask for: its skills with their schemas, and its other workflows."""
    known = registry.known()
    skills: dict[str, list[SkillShape]] = {}
    for (owner, name, version), facts in reversed(list(known.skills.items())):  # the newest stand last
        if owner == tenant and version:
            shape = SkillShape(version=version, input_schema=facts.input_schema, output_schema=facts.output_schema)
            skills.setdefault(name, []).append(shape)
    graphs = {
        workflow.name: graph_of(last.definition)
        for workflow in Workflow.objects.filter(tenant_id=tenant)
        if (last := newest(workflow)) is not None
    }
    return validation.Catalog(skills={name: tuple(shapes) for name, shapes in skills.items()}, workflows=graphs)


def keep(graph: Graph) -> Definition:
    """Return the definition of the graph, kept under its checksum."""
    row, _ = Definition.objects.get_or_create(
        checksum=definition.checksum(graph), defaults={"source": json.dumps(definition.as_json(graph))}
    )
    return row


def graph_of(row: Definition) -> Graph:
    """Return the graph; runs of one definition share it."""
    return _graph(row.checksum, row.source)


def source_of(row: Definition) -> str:
    """Return the definition as YAML, as people read and edit it."""
    return definition.write(graph_of(row))


@lru_cache(maxsize=KEPT_GRAPHS)
def _graph(checksum: str, source: str) -> Graph:
    return definition.from_json(json.loads(source))


def find(tenant: str, name: str, number: int | None = None) -> WorkflowVersion:
    """Return what ``look_up`` does, for a run to begin. Raises ``NoSuchWorkflow`` or ``WorkflowDisabled``."""
    version = look_up(tenant, name, number)
    if not version.workflow.enabled:
        raise errors.WorkflowDisabled(name=name, pointer="/workflow")
    return version


def look_up(tenant: str, name: str, number: int | None = None) -> WorkflowVersion:
    """Return that version of the workflow, the newest for None. Raises ``NoSuchWorkflow``."""
    versions = WorkflowVersion.objects.select_related("workflow", "definition")
    found = versions.filter(workflow__tenant_id=tenant, workflow__name=name).order_by("-number")
    version = found.first() if number is None else found.filter(number=number).first()
    if version is None:
        known = Workflow.objects.filter(tenant_id=tenant).values_list("name", flat=True)[:20]
        asked = "" if number is None else f" in version {number}"
        raise errors.NoSuchWorkflow(name=name, version=asked, known=", ".join(known) or "none", pointer="/workflow")
    return version


def set_enabled(workflow: Workflow, *, enabled: bool) -> None:
    """Let runs of the workflow begin, or not. Those under way go on."""
    Workflow.objects.filter(pk=workflow.pk).update(enabled=enabled)
    workflow.enabled = enabled
