"""What would help a task that waits?  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from routing import policy
from routing.events import AgentSpec, TaskSpec

TOLD = 3  # agents named


def remedies(agents: Sequence[AgentSpec], task: TaskSpec, *, held: str = "", workers: int = 1) -> list[str]:
    """Return in words what would let the task begin, the likeliest first.

    ``held`` is what the controller says of its lane, although somebody could serve it; ``workers`` live now.
    """
    skilled = [agent for agent in agents if policy.is_skilled(agent, task)]
    able = [agent.name for agent in skilled if policy.exclusion(agent, task) is None]
    if not able:
        return list(dict.fromkeys(_nobody(skilled, task)))
    if not workers:
        return ["Start a worker: python3 manage.py up."]
    return list(_held(held) if held else _busy(able, task))


def _nobody(skilled: Sequence[AgentSpec], task: TaskSpec) -> Iterator[str]:
    if not skilled:
        version = f" v{task.version}" if task.version else ""
        yield f"Give an agent the skill {task.skill}{version}, or cancel the task."
    lacking: dict[str, list[str]] = {}
    for agent in skilled:
        if (reason := policy.exclusion(agent, task)) == policy.unmet_labels(agent, task):
            lacking.setdefault(str(reason), []).append(agent.name)
        else:
            yield _one(agent, reason, task)
    for unmet, names in lacking.items():
        who, one = (names[0], "it") if len(names) == 1 else (f"Each of {_listed(names)}", "one of them")
        yield f"{who} {unmet}: give {one} that label, or submit the task without asking for it."


def _one(agent: AgentSpec, reason: str | None, task: TaskSpec) -> str:
    """Return what would let this agent take the task."""
    if reason == "disabled":
        return f"Enable {agent.name}."
    if reason == "draining":
        return f"Let {agent.name} take work again: it is draining."
    if task.pinned:
        return f"It is pinned to {task.pinned}, which cannot take it; submitted without that, {agent.name} might."
    return f"It excludes {agent.name}; submitted without that, {agent.name} might take it."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:TOLD]) + (f" and {len(names) - TOLD} more" if len(names) > TOLD else "")


def _held(held: str) -> Iterator[str]:
    kind, _, rest = held.partition(" ")
    name = rest.split(":")[0].split(" ")[0]
    if kind == "limit":
        yield f"Nothing: it goes on as soon as the limit has room. Raise the limit {name} if that is too slow."
    elif kind == "budget":
        yield f"It goes on when the budget {name} is full again; raise the budget if it is needed sooner."
    elif "contained since" in held:
        yield "Release the switch in the admin (Containments) when its reason has gone."
    elif kind in ("breaker", "ejected") or "breaker" in held:
        yield "Nothing: one task tries the agent when its time is over. Look at what it fails at meanwhile."
    else:
        yield "Nothing: it goes on by itself."


def _busy(able: Sequence[str], task: TaskSpec) -> Iterator[str]:
    yield f"A free slot: raise the capacity of {_listed(able)}, or give another agent the skill {task.skill}."
    if task.priority < 9:
        yield f"A higher priority than {task.priority} goes before what waits now."
