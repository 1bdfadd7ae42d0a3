"""Which of the free, able agents should take a task?  One class per strategy, all with the same interface.  Pure.

A strategy scores one candidate for one occasion, lower is better, and names the terms of the score for people. Scores
of all candidates are needed, terms only of those that are kept with the decision. Whatever the strategy, an agent that
failed this very task comes after all that did not; equal agents are told apart by load, then name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

DEFAULT_STRATEGY = "balanced"
Asked = Literal["success", "cost"]
Glance = Literal["ranking", "load", "turn", "all"]  # an earlier ranking; the load; who was chosen longest ago; none
WORST_ERROR = 0.95  # an agent that always fails is not taken for infinitely slow
HAIR = 1e-3  # weight of what only tells equals apart
MICRODOLLAR = 1e-6
PRESSURE = 5.0  # tasks that are expected to come to wait, per busy slot over free ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One able agent with a free slot, at one instant."""

    agent: str
    running: int  # attempts in flight, >= 0
    capacity: int  # attempts it may hold at once, > running
    predicted_s: float  # expected seconds of this task, > 0
    usual_s: float  # expected seconds of a usual agent at a task of the skill, > 0
    error: float = 0.0  # 0..1, share of late attempts that failed
    lateness: float = 1.0  # >= 1, how far its most overdue attempt is beyond what 95 % need
    p_success: float = 0.75  # 0..1
    p_sd: float = 0.0  # standard deviation of what is known about p_success
    cost_usd: float = 0.0  # expected price of one attempt
    chosen_at: int = 0  # the turn at which it was chosen last, 0 for never
    failed_before: bool = False  # it has failed this very task

    @property
    def load(self) -> float:
        """Return the share of its slots in use, 0..1."""
        return self.running / self.capacity

    @property
    def service_s(self) -> float:
        """Return the expected seconds of this task: an overdue attempt is evidence of slowness before it ends."""
        return self.predicted_s * self.lateness


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What is the same for all candidates of one decision."""

    skill: str = ""
    tenant: str = ""
    affinity: str = ""  # tasks with the same key like the same agent; "" is the tenant
    waiting: int = 0  # other tasks that wait and that these agents could serve
    busy: int = 0  # slots in use, of the whole fleet
    slots: int = 1  # slots in use or free, likewise
    slack_s: float | None = None  # seconds until the task's deadline, None without one
    order: tuple[str, ...] = ()  # the agents that the policy lists, the preferred first
    weights: Mapping[str, float] = field(default_factory=dict)  # those that differ from the strategy's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate with its score, lower is better."""

    candidate: Candidate
    score: float


class Strategy:
    """A way to choose. It keeps no state: the same candidates and occasion give the same choice, always."""

    name: ClassVar[str]
    asks: ClassVar[frozenset[Asked]] = frozenset()  # what of a candidate has to be known beside time and errors
    glance: ClassVar[Glance] = "ranking"  # by what a few of very many free agents are chosen to be scored
    weights: ClassVar[Mapping[str, float]] = {}  # what a policy may weigh, and how it is weighed otherwise

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return how bad it would be to give the task to the candidate: finite, in a unit of the strategy's own."""
        raise NotImplementedError

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return what the score is made of, by names with units."""
        raise NotImplementedError

    def weight(self, name: str, occasion: Occasion) -> float:
        """Return what the policy says of a weight, or the strategy's own."""
        return occasion.weights.get(name, self.weights[name])


STRATEGIES: dict[str, Strategy] = {}


def strategy(kind: type[Strategy]) -> type[Strategy]:
    """Register a strategy by its name."""
    STRATEGIES[kind.name] = kind()
    return kind


@strategy
class Balanced(Strategy):
    """Least seconds until a good answer: predicted service, stretched by lateness in flight and by failures."""

    name = "balanced"
    weights = {"service": 1.0, "failures": 2.0}

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return seconds: the service over the share of attempts that succeed, and what failures cost beside it."""
        service = candidate.service_s / (1.0 - min(candidate.error, WORST_ERROR))
        trouble = candidate.error * candidate.usual_s
        return self.weight("service", occasion) * service + self.weight("failures", occasion) * trouble

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return both parts of the score, weighed, and the load."""
        service = candidate.service_s / (1.0 - min(candidate.error, WORST_ERROR))
        trouble = candidate.error * candidate.usual_s
        return {
            "service_s": self.weight("service", occasion) * service,
            "trouble_s": self.weight("failures", occasion) * trouble,
            "load": candidate.load,
        }


@strategy
class LeastLoaded(Strategy):
    """The smallest share of slots in use; among equals the faster agent."""

    name = "least_loaded"
    glance = "load"

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return the load, 0..1, and a hair of the service."""
        return candidate.load + HAIR * _hurry(candidate)

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return the load and the time."""
        return {"load": candidate.load, "service_s": candidate.predicted_s}


@strategy
class Fastest(Strategy):
    """The shortest predicted service, whatever fails.

    It herds: all the work goes to one agent as long as that has a slot. With lanes and slots the harm is bounded, but
    an agent that fails quickly is not avoided; ``balanced`` does both better.
    """

    name = "fastest"

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return seconds."""
        return candidate.service_s

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return the prediction and what stretches it."""
        return {"predicted_s": candidate.predicted_s, "lateness": candidate.lateness}


@strategy
class Cheapest(Strategy):
    """The lowest expected price of an attempt; among those equal to a millionth of a dollar the faster agent."""

    name = "cheapest"
    asks = frozenset({"cost"})

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return dollars."""
        return candidate.cost_usd + MICRODOLLAR * _hurry(candidate)

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return price and time."""
        return {"cost_usd": candidate.cost_usd, "service_s": candidate.predicted_s}


@strategy
class RoundRobin(Strategy):
    """The agent that was chosen longest ago."""

    name = "round_robin"
    glance = "turn"

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return the turn at which the candidate was chosen last."""
        return float(candidate.chosen_at)

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return that turn; 0 is never."""
        return {"chosen_at_turn": float(candidate.chosen_at)}


@strategy
class Sticky(Strategy):
    """The same agent for the same affinity key as long as it is free, then the key's second choice, and so on.

    Rendezvous hashing (Thaler, Ravishankar 1998, IEEE/ACM ToN 6:1), weighted by capacity: when agents come or go, only
    the keys move that have to.
    """

    name = "sticky"
    glance = "all"

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return the distance of agent and key, > 0."""
        key = occasion.affinity or occasion.tenant
        digest = hashlib.blake2b(f"{key}\0{candidate.agent}".encode(), digest_size=8).digest()
        return -math.log((int.from_bytes(digest) + 1) / 2**64) / candidate.capacity

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return the distance and the load."""
        return {"distance": self.score(candidate, occasion), "load": candidate.load}


@strategy
class Ordered(Strategy):
    """The first in the order that the policy lists; those it does not list come after, the less loaded first."""

    name = "ordered"

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return the place in the list, 0 for the first."""
        order = occasion.order
        return float(order.index(candidate.agent) if candidate.agent in order else len(order))

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return the place, from 1 on, and the load."""
        return {"place": self.score(candidate, occasion) + 1, "load": candidate.load}


@strategy
class Adaptive(Strategy):
    """The most worth for money and time, in one stated utility: a success is worth 1 and the rest is weighed by it.

    The bound above the mean (``curiosity`` deviations) makes it try agents that it knows little of. A second is dearer
    when others wait, for it is a second more for each of them. Where several agents are free hardly anybody waits yet,
    so those count too that a full fleet will let wait (busy over free slots, as in a queue's mean length).
    """

    name = "adaptive"
    asks = frozenset({"success", "cost"})
    weights = {"success": 1.0, "curiosity": 1.0, "usd": 0.5, "second": 0.002}

    def score(self, candidate: Candidate, occasion: Occasion) -> float:
        """Return the expected loss of utility."""
        return -sum(self.terms(candidate, occasion).values())

    def terms(self, candidate: Candidate, occasion: Occasion) -> Mapping[str, float]:
        """Return the parts of the utility; their sum with its sign turned is the score."""
        service = candidate.service_s
        crowd = occasion.waiting + PRESSURE * occasion.busy / max(1, occasion.slots - occasion.busy)
        second = self.weight("second", occasion) * (1.0 + crowd)
        return {
            "success": self.weight("success", occasion) * candidate.p_success * _in_time(service, occasion.slack_s),
            "curiosity": self.weight("curiosity", occasion) * candidate.p_sd,
            "cost": -self.weight("usd", occasion) * candidate.cost_usd,
            "time": -second * service,
        }


def rank(candidates: Iterable[Candidate], *, strategy: str, occasion: Occasion) -> list[Ranked]:
    """Return the candidates, best first. Raises ``KeyError`` for a strategy that does not exist."""
    chosen = STRATEGIES[strategy]
    return in_order(Ranked(candidate=c, score=chosen.score(c, occasion)) for c in candidates)


def in_order(ranked: Iterable[Ranked]) -> list[Ranked]:
    """Return them best first, those that failed this task before last; load, then name decide between equals."""
    return sorted(ranked, key=place)


def place(ranked: Ranked) -> tuple[bool, float, float, str]:
    """Return what an order of candidates goes by: smaller comes first."""
    candidate = ranked.candidate
    return candidate.failed_before, ranked.score, candidate.load, candidate.agent


def weights_problems(strategy: str, weights: Mapping[str, object]) -> list[str]:
    """Return in words what is wrong with a policy's weights for a strategy; nothing if they can be used."""
    known = STRATEGIES.get(strategy)
    if known is None:
        return [f"there is no strategy {strategy!r}; there are {', '.join(sorted(STRATEGIES))}"]
    problems = [problem for name, value in weights.items() if (problem := _weight_problem(known, name, value))]
    if known.weights and not problems and not any({**known.weights, **weights}.values()):
        problems.append("the weights cancel out: with all of them 0 every agent is as good as any other")
    return problems


def _weight_problem(known: Strategy, name: str, value: object) -> str | None:
    if name not in known.weights:
        has = f"has {', '.join(known.weights)}" if known.weights else "has none"
        return f"{known.name} has no weight {name!r}; it {has}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"the weight {name} is not a number: {value!r}"
    return f"the weight {name} is negative: {value!r}" if value < 0 else None


def _hurry(candidate: Candidate) -> float:
    """Return 0..1: the predicted seconds against what is usual, the slower the nearer to 1."""
    return candidate.predicted_s / (candidate.predicted_s + candidate.usual_s)


def _in_time(service_s: float, slack_s: float | None) -> float:
    """Return 0..1: what a success is worth that may come too late."""
    return 1.0 if slack_s is None or service_s <= slack_s else max(0.0, slack_s) / service_s
