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
    for agent in skilled:
        reason = policy.exclusion(agent, task) or ""
        if reason == "disabled":
            yield f"Enable {agent.name}."
        elif reason == "draining":
            yield f"Let {agent.name} take work again: it is draining."
        elif missing := policy.missing_label(agent.labels, task.labels):
            yield f"Give an agent with the skill the label {missing}, or submit the task without it."
        elif task.pinned:
            yield f"It is pinned to {task.pinned}, which cannot take it; submitted without that, {agent.name} could."
        else:
            yield f"It excludes {agent.name}; submitted without that, {agent.name} could take it."


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
    names = ", ".join(able[:TOLD]) + (f" and {len(able) - TOLD} more" if len(able) > TOLD else "")
    yield f"A free slot: raise the capacity of {names}, or give another agent the skill {task.skill}."
    if task.priority < 9:
        yield f"A higher priority than {task.priority} goes before what waits now."
