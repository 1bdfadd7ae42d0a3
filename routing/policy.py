"""Which agents may take a task, and why may the others not?  Pure.

Which of them should is the strategy's choice (``strategies``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from routing import selectors
from routing.events import AgentSpec, Labels, TaskSpec


def exclusion(agent: AgentSpec, task: TaskSpec) -> str | None:
    """Return why the agent can never take the task as both stand now, or None if it can.

    A free slot and a living worker are asked elsewhere: they change by the moment.
    """
    if agent.tenant != task.tenant:
        return "belongs to another tenant"
    if not has_skill(agent.skills, task.skill, task.version):
        return f"lacks the skill {task.skill}" + (f" v{task.version}" if task.version else "")
    if task.pinned and agent.name != task.pinned:
        return f"the task asks for {task.pinned}"
    if agent.name in task.excluded:
        return "the task excludes it"
    if unmet := unmet_labels(agent, task):
        return unmet
    if not agent.enabled:
        return "disabled"
    if agent.draining:
        return "draining"
    return None


@lru_cache(maxsize=1_000)
def _parsed(requires: str) -> selectors.Selector:
    return selectors.parse(requires)


def unmet_labels(agent: AgentSpec, task: TaskSpec) -> str:
    """Return what the agent's labels lack for the task, "" if nothing."""
    if missing := missing_label(agent.labels, task.labels):
        return f"lacks the label {missing}"
    if task.requires and (unmet := _parsed(task.requires).missing(agent.labels)):
        return f"does not meet {unmet}"
    return ""


def is_skilled(agent: AgentSpec, task: TaskSpec) -> bool:
    """Return whether the agent is of the task's tenant and has its skill."""
    return agent.tenant == task.tenant and has_skill(agent.skills, task.skill, task.version)


def has_skill(skills: frozenset[tuple[str, str]], name: str, version: str) -> bool:
    """Return whether the skill is among ``skills``; an empty version accepts any."""
    if version:
        return (name, version) in skills
    return any(name == known for known, _ in skills)


def missing_label(carried: Labels, wanted: Labels) -> str | None:
    """Return the first wanted ``label=value`` that is not carried, or None."""
    held = dict(carried)
    return next((f"{label}={value}" for label, value in wanted if held.get(label) != value), None)


def why_none(agents: Sequence[AgentSpec], task: TaskSpec) -> str:
    """Return in words why no agent can take the task, for a person who waits for it."""
    skilled = [a for a in agents if is_skilled(a, task)]
    if not skilled:
        return f"no agent has the skill {task.skill}" + (f" v{task.version}" if task.version else "")
    if asked := _asked_in_vain(skilled, task):
        return f"no agent has the skill {task.skill} with {asked}"
    reasons = sorted({f"{a.name}: {exclusion(a, task)}" for a in skilled})
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return "no able agent (" + "; ".join(reasons[:3]) + more + ")"


def _asked_in_vain(skilled: Sequence[AgentSpec], task: TaskSpec) -> str:
    """Return what is asked of labels if no agent that could come into question meets it, "" if one does."""
    possible = [a for a in skilled if a.name not in task.excluded]
    if task.pinned or not possible or not all(unmet_labels(a, task) for a in possible):
        return ""
    labels = [f"{label}={value}" for label, value in task.labels] + ([task.requires] if task.requires else [])
    return f"{'the label' if len(labels) == 1 else 'the labels'} {', '.join(labels)}"
