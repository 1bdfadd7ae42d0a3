"""Which agent should take a task?  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from routing.events import AgentSpec, Labels, TaskSpec

DEFAULT_STRATEGY = "balanced"
KEPT_CANDIDATES = 20  # of a decision, best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One able agent with a free slot, at one instant."""

    agent: str
    running: int  # attempts in flight, >= 0
    capacity: int  # attempts it may hold at once, > running
    predicted_s: float  # expected seconds of one attempt, > 0
    error: float  # 0..1, share of late attempts that failed
    lateness: float  # >= 1, how far its most overdue attempt is beyond its prediction
    failed_before: bool  # it has failed this very task

    @property
    def load(self) -> float:
        """Return the share of its slots in use, 0..1."""
        return self.running / self.capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate with its score (lower is better) and the terms it is made of."""

    candidate: Candidate
    score: float
    terms: Mapping[str, float]


Strategy = Callable[[Candidate, float], tuple[float, Mapping[str, float]]]
STRATEGIES: dict[str, Strategy] = {}


def strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Register a scoring function: (candidate, usual seconds of the skill) → (score, terms), lower is better."""

    def register(function: Strategy) -> Strategy:
        STRATEGIES[name] = function
        return function

    return register


@strategy("balanced")
def balanced(candidate: Candidate, usual_s: float) -> tuple[float, Mapping[str, float]]:
    """Score by the seconds until a good answer: predicted service, stretched by lateness in flight and by failures.

    An attempt that is overdue is evidence of slowness before it ends. Equal agents are told apart by their load.
    """
    service = candidate.predicted_s * candidate.lateness / (1 - min(candidate.error, 0.95))
    trouble = 2 * candidate.error * usual_s
    crowd = 1e-3 * candidate.load * usual_s
    return service + trouble + crowd, {"service_s": service, "trouble_s": trouble, "load": candidate.load}


@strategy("least_loaded")
def least_loaded(candidate: Candidate, usual_s: float) -> tuple[float, Mapping[str, float]]:
    """Score by the share of slots in use; among equals the faster one."""
    hurry = candidate.predicted_s / (candidate.predicted_s + usual_s)
    return candidate.load + 1e-3 * hurry, {"load": candidate.load, "service_s": candidate.predicted_s}


def rank(candidates: Iterable[Candidate], *, strategy: str, usual_s: float) -> list[Ranked]:
    """Return the candidates, best first. One that failed this task before comes after all that did not."""
    return in_order(rate(candidate, strategy=strategy, usual_s=usual_s) for candidate in candidates)


def rate(candidate: Candidate, *, strategy: str, usual_s: float) -> Ranked:
    """Return the candidate with its score."""
    score, terms = STRATEGIES[strategy](candidate, usual_s)
    return Ranked(candidate=candidate, score=score, terms=terms)


def in_order(rated: Iterable[Ranked]) -> list[Ranked]:
    """Return them best first, those that failed this task before last; the name decides between equals."""
    return sorted(rated, key=lambda r: (r.candidate.failed_before, r.score, r.candidate.agent))


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
    if missing := missing_label(agent.labels, task.labels):
        return f"lacks the label {missing}"
    if not agent.enabled:
        return "disabled"
    if agent.draining:
        return "draining"
    return None


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
    reasons = sorted({f"{a.name}: {exclusion(a, task)}" for a in skilled})
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return "no able agent (" + "; ".join(reasons[:3]) + more + ")"
