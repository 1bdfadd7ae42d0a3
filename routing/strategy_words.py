"""What the scores of each strategy mean, and what decided between two candidates, in words with units.  Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from routing.amounts import MICRO, figure
from routing.quantities import duration, number, percent

Say = Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A candidate as it is kept with a decision. The lower score is the better one."""

    agent: str
    score: float
    terms: Mapping[str, float] = field(default_factory=dict)
    failed_before: bool = False  # it has failed this very task
    admitted: bool = True  # False: it was free, and something kept it back

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Scored:
        """Return the candidate that the stored object tells of."""
        terms = {name: float(value) for name, value in (kept.get("terms") or {}).items() if _is_number(value)}
        return cls(
            agent=str(kept.get("agent", "")),
            score=float(kept.get("score") or 0.0),
            terms=terms,
            failed_before=bool(kept.get("failed_before", False)),
            admitted=bool(kept.get("admitted", True)),
        )


def value(strategy: str, one: Scored) -> str:
    """Return what the score says: "expected 3.1 s"."""
    return _tongue(strategy).value(one)


def ahead(strategy: str, better: Scored, worse: Scored) -> str:
    """Return by how much the first is better: "1.8 s sooner"; "" if both are as good."""
    tongue = _tongue(strategy)
    gap = tongue.gap(better, worse)
    return tongue.ahead.format(tongue.amount(gap)) if gap > tongue.least else ""


def behind(strategy: str, worse: Scored, better: Scored) -> str:
    """Return by how much the first is worse: "1.8 s later"; "" if both are as good."""
    tongue = _tongue(strategy)
    gap = tongue.gap(better, worse)
    return tongue.behind.format(tongue.amount(gap)) if gap > tongue.least else ""


def decided(strategy: str, worse: Scored, better: Scored) -> str:
    """Return the term that decided, of the worse one first: "expected time 4.6 s against 3.0 s"; "" if there is one."""
    parts = _tongue(strategy).parts
    known = [name for name in parts if name in better.terms and name in worse.terms]
    if not known:
        return ""
    name = max(known, key=lambda name: parts[name](worse.terms[name]) - parts[name](better.terms[name]))
    return _against(strategy, name, worse, better)


def tie(strategy: str, one: Scored, other: Scored) -> str:
    """Return what decides between two that are as good, of ``one`` first."""
    names = ("service_s", "load") if strategy in ("least_loaded", "cheapest") else ("load",)
    for name in names:
        if abs(one.terms.get(name, 0.0) - other.terms.get(name, 0.0)) > 1e-6:
            return _against(strategy, name, one, other)
    return "load, then the name tells equals apart"


def terms(strategy: str, one: Scored) -> Iterator[tuple[str, str]]:
    """Yield each term of the score as (what it is, how much)."""
    for name, amount in one.terms.items():
        label, say = _words(strategy, name)
        yield label, say(amount)


# ---- how each strategy is told ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tongue:
    """How one strategy's scores are told."""

    value: Callable[[Scored], str]
    amount: Say  # a difference of two figures, > 0
    ahead: str
    behind: str
    figure: Callable[[Scored], float] = lambda one: one.score  # what is compared, lower is better
    least: float = 5e-4  # a difference not above this is none
    parts: Mapping[str, Callable[[float], float]] = field(default_factory=dict)  # terms → what they add to the figure

    def gap(self, better: Scored, worse: Scored) -> float:
        """Return how much worse the second is, below 0 if it is better."""
        return self.figure(worse) - self.figure(better)


def usd(amount: float) -> str:
    """Return "$0.02"."""
    return figure(round(abs(amount) * MICRO), "usd")


def _term(name: str) -> Callable[[Scored], float]:
    return lambda one: one.terms.get(name, one.score)


def _plain(amount: float) -> float:
    return amount


def _log(amount: float) -> float:
    return math.log(max(amount, 1e-9))


def _minus(amount: float) -> float:
    return -amount


def _utility(amount: float) -> str:
    return f"{amount:+.3f}".replace("-", "−")


def _turn(amount: float) -> str:
    return f"turn {amount:,.0f}" if amount else "never"


def _count(one: str) -> Say:
    return lambda amount: f"{amount:,.0f} {one if round(amount) == 1 else one + 's'}"


def _anything(amount: float) -> str:
    return ""


TONGUES: dict[str, _Tongue] = {
    "balanced": _Tongue(
        value=lambda one: f"expected {duration(one.score)}",
        amount=duration,
        ahead="{} sooner",
        behind="{} later",
        parts={"service_s": _plain, "trouble_s": _plain},
    ),
    "fastest": _Tongue(
        value=lambda one: f"expected {duration(one.score)}",
        amount=duration,
        ahead="{} faster",
        behind="{} slower",
        parts={"predicted_s": _log, "lateness": _log},
    ),
    "least_loaded": _Tongue(
        value=lambda one: f"{percent(one.terms.get('load', one.score))} of its slots in use",
        figure=_term("load"),
        amount=lambda gap: f"{gap * 100:.0f} points",
        ahead="{} less",
        behind="{} more",
    ),
    "cheapest": _Tongue(
        value=lambda one: f"expected price {usd(one.terms.get('cost_usd', one.score))}",
        figure=_term("cost_usd"),
        amount=usd,
        least=1e-6,
        ahead="{} cheaper",
        behind="{} dearer",
    ),
    "round_robin": _Tongue(
        value=lambda one: f"chosen last at turn {one.score:,.0f}" if one.score else "not chosen before",
        amount=_count("turn"),
        ahead="{} earlier",
        behind="{} later",
    ),
    "sticky": _Tongue(
        value=lambda one: f"distance {number(one.score)} from the task's key",
        amount=_anything,
        least=0.0,
        ahead="nearer",
        behind="farther",
    ),
    "ordered": _Tongue(
        value=lambda one: f"place {one.terms.get('place', one.score + 1):.0f} in the policy's order",
        amount=_count("place"),
        ahead="{} nearer the front",
        behind="{} farther back",
    ),
    "adaptive": _Tongue(
        value=lambda one: f"worth {_utility(-one.score)}",
        amount=lambda gap: f"{gap:.3f}",
        ahead="{} more",
        behind="{} less",
        parts={"success": _minus, "curiosity": _minus, "cost": _minus, "time": _minus},
    ),
}
_UNKNOWN = _Tongue(
    value=lambda one: f"score {number(one.score)}", amount=number, least=0.0, ahead="{} lower", behind="{} higher"
)
TERMS: dict[str, tuple[str, Say]] = {
    "service_s": ("expected time", duration),
    "predicted_s": ("expected time", duration),
    "trouble_s": ("charge for recent failures", duration),
    "load": ("slots in use", percent),
    "lateness": ("lateness of its slowest attempt", lambda amount: f"× {amount:.2g}"),
    "cost_usd": ("expected price", usd),
    "chosen_at_turn": ("chosen last", _turn),
    "distance": ("distance from the task's key", number),
    "place": ("place in the order", lambda amount: f"{amount:.0f}"),
    "success": ("success", _utility),
    "curiosity": ("what trying it teaches", _utility),
    "cost": ("price", _utility),
    "time": ("time", _utility),
}


def _tongue(strategy: str) -> _Tongue:
    return TONGUES.get(strategy, _UNKNOWN)


def _words(strategy: str, name: str) -> tuple[str, Say]:
    """Return what a term is called, and how its amounts are said."""
    if strategy == "balanced" and name == "service_s":
        return "expected time to a good answer", duration
    return TERMS.get(name, (name.replace("_", " "), number))


def _against(strategy: str, name: str, one: Scored, other: Scored) -> str:
    label, say = _words(strategy, name)
    return f"{label} {say(one.terms.get(name, 0.0))} against {say(other.terms.get(name, 0.0))}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
