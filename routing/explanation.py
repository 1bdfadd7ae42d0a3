"""Why did this agent get the task?  A stored decision in words that an operator reads in ten seconds.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routing import strategy_words as words
from routing.assignment import NO_SLOT
from routing.quantities import duration, several
from routing.strategy_words import Scored

AT_ONCE_S = 0.05  # a wait not above this is not worth a word
TOLD_NAMES = 4  # agents told with one reason
FAILED = "it has failed this very task before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A decision as the ledger keeps it, with what else is known of its attempt. Named as the columns."""

    agent: str
    strategy: str
    policy: str = ""
    revision: int = 0
    candidates: Sequence[Mapping[str, Any]] = ()
    exclusions: Mapping[str, str] = field(default_factory=dict)
    more: int = 0
    waited_for: str = ""
    shadow: Mapping[str, Any] | None = None
    waited_s: float | None = None  # before it; None is not known
    hedge: bool = False
    beside: int | None = None  # the attempt beside which a hedge flew

    @property
    def scored(self) -> list[Scored]:
        """Return everybody who was scored: the candidates, the best first, then those that were kept back."""
        return [Scored.of(kept) for kept in self.candidates]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One agent of a decision in words."""

    agent: str
    value: str  # "expected 3.1 s"; "" for one that was not scored
    verdict: str  # "chosen", how it compares with the chosen one, or why it was left out
    terms: tuple[tuple[str, str], ...] = ()  # what the score is made of
    is_chosen: bool = False
    is_candidate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision in words."""

    summary: str
    agents: tuple[Told, ...]  # the chosen one first, then other candidates, then those left out
    left_out: str = ""
    waited: str = ""
    shadow: str = ""
    hedge: str = ""

    def lines(self) -> list[str]:
        """Return all of it as sentences, the most important one first."""
        others = [f"{told.agent}: {_both(told)}." for told in self.agents if told.value and not told.is_chosen]
        return [line for line in (self.summary, *others, self.left_out, self.waited, self.hedge, self.shadow) if line]


def explain(choice: Choice) -> Explanation:
    """Return the decision in words."""
    return Explanation(
        summary=_summary(choice),
        agents=tuple(_agents(choice)),
        left_out=_left_out(choice),
        waited=_waited(choice),
        shadow=_shadow(choice),
        hedge=_hedge(choice),
    )


def why_not(choice: Choice, agent: str) -> str:
    """Return in a sentence why ``agent`` did not get the attempt, or that it did."""
    if agent == choice.agent:
        return f"{agent} got it: {_summary(choice)}"
    told = next((told for told in _agents(choice) if told.agent == agent), None)
    if told is not None:
        return f"{agent} did not get it: {_both(told)}."
    if choice.more:
        return f"{agent} is not told of: the decision keeps the foremost agents, and {choice.more} more are not listed."
    return f"{agent} was not asked: it lacks the skill, belongs to another tenant, or was not there yet."


# ---- the chosen one ---------------------------------------------------------------------------------------------


def _summary(choice: Choice) -> str:
    """Return "codex, by balanced of policy default (revision 12): expected 3.1 s, 1.8 s sooner than jules."."""
    source = f" of policy {choice.policy} (revision {choice.revision})" if choice.policy else ""
    said = "; ".join(_reasons(choice))
    return f"{choice.agent}, by {choice.strategy}{source}{': ' + said if said else ''}."


def _reasons(choice: Choice) -> Iterator[str]:
    chosen = _chosen(choice)
    if chosen is None:
        return
    value = words.value(choice.strategy, chosen)
    rivals = [one for one in choice.scored if one.admitted and one.agent != choice.agent]
    fair = [one for one in rivals if not _failed(one, chosen)]
    if fair:
        yield f"{value}, {_ahead(choice.strategy, chosen, fair[0])}"
    elif rivals:
        yield f"{value}, and each of the others has failed this very task before"
    else:
        yield f"{_only(choice)}, {value}"
    if chosen.failed_before:
        yield "it has failed this very task before, as has everybody else who was free"


def _ahead(strategy: str, chosen: Scored, rival: Scored) -> str:
    lead = words.ahead(strategy, chosen, rival)
    if lead:
        return f"{lead} than {rival.agent}"
    return f"as good as {rival.agent} ({words.tie(strategy, chosen, rival)})"


def _only(choice: Choice) -> str:
    kept_back = sum(not one.admitted for one in choice.scored)
    if kept_back:
        return f"the only one of {several(kept_back + 1, 'free agent')} that nothing kept back"
    return "the only able agent with a free slot"


def _chosen(choice: Choice) -> Scored | None:
    return next((one for one in choice.scored if one.agent == choice.agent), None)


# ---- the others -------------------------------------------------------------------------------------------------


def _agents(choice: Choice) -> Iterator[Told]:
    scored, chosen = choice.scored, _chosen(choice)
    for one in scored:
        is_chosen = one.agent == choice.agent
        yield Told(
            agent=one.agent,
            value=words.value(choice.strategy, one),
            verdict="chosen" if is_chosen or chosen is None else _verdict(choice, one, chosen),
            terms=tuple(words.terms(choice.strategy, one)),
            is_chosen=is_chosen,
            is_candidate=one.admitted,
        )
    known = {one.agent for one in scored}
    for agent, reason in choice.exclusions.items():
        if agent not in known:
            yield Told(agent=agent, value="", verdict=reason, is_candidate=False)


def _verdict(choice: Choice, one: Scored, chosen: Scored) -> str:
    """Return how the agent compares with the chosen one, and what decided."""
    strategy = choice.strategy
    if not one.admitted:
        reason = _as_past(choice.exclusions.get(one.agent, "it was kept back"))
        lead = words.ahead(strategy, one, chosen)
        return f"{lead}, but {reason}" if lead else f"{words.behind(strategy, one, chosen) or 'as good'}; {reason}"
    if _failed(one, chosen):
        lead = words.ahead(strategy, one, chosen)
        return f"{lead}, but {FAILED}" if lead else FAILED
    lag = words.behind(strategy, one, chosen)
    if not lag:
        return f"as good ({words.tie(strategy, one, chosen)})"
    why = words.decided(strategy, one, chosen)
    return f"{lag} ({why})" if why else lag


def _failed(one: Scored, chosen: Scored) -> bool:
    """Return whether the candidate stands behind the chosen one because it has failed this task before."""
    return one.failed_before and not chosen.failed_before


def _as_past(reason: str) -> str:
    """Return why an agent was kept back, told afterwards."""
    for now, then in (("breaker ", "its breaker was "), ("ejected ", "it was ejected ")):
        if reason.startswith(now):
            return then + reason.removeprefix(now)
    return reason


def _both(told: Told) -> str:
    return f"{told.value}, {told.verdict}" if told.value else told.verdict


def _left_out(choice: Choice) -> str:
    """Return who was no candidate and why, those with the same reason together."""
    known = {one.agent for one in choice.scored}
    by_reason: dict[str, list[str]] = {}
    for agent, reason in choice.exclusions.items():
        if agent not in known:
            by_reason.setdefault(reason, []).append(agent)
    parts = [f"{_listed(names)}: {reason}" for reason, names in by_reason.items()]
    parts += [f"{choice.more:,} more that are not listed"] if choice.more else []
    return f"Left out: {'; '.join(parts)}." if parts else ""


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - TOLD_NAMES} more" if len(known) > TOLD_NAMES else ""
    return ", ".join(known[:TOLD_NAMES]) + more


# ---- around it --------------------------------------------------------------------------------------------------


def _waited(choice: Choice) -> str:
    if choice.waited_s is None or choice.waited_s <= AT_ONCE_S:
        return ""
    waited = f"Before that it waited {duration(choice.waited_s)}"
    if not choice.waited_for:
        return f"{waited}."
    if choice.waited_for == NO_SLOT:
        return f"{waited} for {NO_SLOT}."
    return f"{waited}; what kept it back last: {choice.waited_for}."


def _shadow(choice: Choice) -> str:
    if not choice.shadow:
        return ""
    strategy, agent = choice.shadow.get("strategy", ""), choice.shadow.get("agent", "")
    if agent == choice.agent:
        return f"A shadow {strategy} would have taken {agent} as well."
    return f"A shadow {strategy} would have taken {agent}."


def _hedge(choice: Choice) -> str:
    if not choice.hedge:
        return ""
    first = f"attempt {choice.beside}" if choice.beside is not None else "another attempt"
    return f"It flew beside {first}, which took long; the first answer counts."
