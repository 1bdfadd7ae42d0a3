"""The rows of rules as the values that the fleet reads, and what is wrong with a row, at its fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from routing import budget_rules, limit_rules, models, selectors, strategies
from routing.budget_rules import BudgetSpec
from routing.containment import Containment
from routing.limit_rules import LimitSpec
from routing.matching import Match, is_number, is_whole
from routing.policies import Hedging, PolicySpec
from routing.retries import RetryPolicy, RetryRule

Problem = tuple[str, str]  # (field or "", what is wrong, in words)
S = TypeVar("S")

MEMBERS = tuple(field.name for field in fields(RetryRule))
ELSEWHERE = {"priority": "priority_low", "share": "hedge_share", "busy": "hedge_busy"}  # as rows call them


class Unreadable(ValueError):
    """The row is no rule that could be used; ``problems`` say why, at the fields."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(" ".join(f"{field}: {words}" if field else words for field, words in self.problems))


def policy(row: models.Policy) -> PolicySpec:
    """Return the policy. Raises ``Unreadable``."""
    _require(_policy_shapes(row))
    spec = PolicySpec(
        name=row.name,
        match=_match(row),
        position=row.position,
        strategy=row.strategy,
        weights=row.weights,
        order=tuple(row.order),
        wait_s=row.wait_s,
        timeout_s=row.timeout_s,
        max_attempts=row.max_attempts,
        retries=retry_policy(row.retries),
        when_shut=cast(Any, row.when_shut),
        hedging=Hedging(enabled=row.hedge, share=row.hedge_share, busy=row.hedge_busy),
        shadow=row.shadow,
    )
    _require(_at_fields(row, map(_as_weights(row), spec.problems())))
    return spec


def limit(row: models.Limit) -> LimitSpec:
    """Return the limit. Raises ``Unreadable``."""
    spec = LimitSpec(
        name=row.name,
        match=_match(row, row.agent),
        per=cast(Any, row.per),
        max_running=row.max_running,
        rate_per_s=row.rate_per_s,
        burst=row.burst,
        on_full=cast(Any, row.on_full),
    )
    _require(_at_fields(row, limit_rules.problems(spec)))
    return spec


def budget(row: models.Budget) -> BudgetSpec:
    """Return the budget. Raises ``Unreadable``."""
    spec = BudgetSpec(
        name=row.name,
        unit=cast(Any, row.unit),
        amount=row.amount,
        match=_match(row, row.agent),
        scope=cast(Any, row.scope),
        period_s=row.period_s,
        hard=row.hard,
    )
    _require(_at_fields(row, budget_rules.problems(spec)))
    return spec


def containment(row: models.Containment, now: float | None = None) -> Containment:
    """Return the switch, checked as one thrown at ``now``; None is when it was. Raises ``Unreadable``."""
    spec = Containment(
        name=row.name,
        scope=cast(Any, row.scope),
        value=row.value,
        mode=cast(Any, row.mode),
        cancel_running=row.cancel_running,
        reason=row.reason,
        by=row.by,
        since=row.since.timestamp(),
        release_at=row.release_at.timestamp() if row.release_at else None,
    )
    _require(_at_fields(row, spec.problems(spec.since if now is None else now)))
    return spec


def problems_of(read: Callable[[], object]) -> list[Problem]:
    """Return what the reading of a row says against it, empty if it can be read."""
    try:
        read()
    except Unreadable as error:
        return error.problems
    return []


def _match(row: models.Policy | models.Limit | models.Budget, agent: str = "*") -> Match:
    try:
        selector = selectors.parse(row.labels)
    except selectors.SelectorError as error:
        raise Unreadable([("labels", _sentence(str(error)))]) from None
    return Match(
        skill=row.skill,
        tenant=str(row.tenant_id or ""),
        agent=agent,
        labels=selector,
        low=row.priority_low,
        high=row.priority_high,
    )


def _require(problems: Iterable[Problem]) -> None:
    found = list(problems)
    if found:
        raise Unreadable(found)


def _at_fields(row: Any, problems: Iterable[str]) -> Iterator[Problem]:
    """Yield each problem with the row's field that its first word names, and as a sentence."""
    names = {field.name for field in row._meta.concrete_fields}
    for words in problems:
        head, colon, rest = words.removeprefix("hedging: ").partition(": ")
        first = re.split(r"\W", words.removeprefix("hedging: "), maxsplit=1)[0]
        if colon and ELSEWHERE.get(head, head) in names:
            yield ELSEWHERE.get(head, head), _sentence(rest)
        elif ELSEWHERE.get(first, first) in names:
            yield ELSEWHERE.get(first, first), words if words.endswith(".") else f"{words}."
        else:
            yield "", _sentence(words)


def _as_weights(row: models.Policy) -> Callable[[str], str]:
    """Return a function that moves what is said of a known strategy's weights to the field of the weights."""
    is_known = row.strategy in strategies.STRATEGIES
    return lambda words: re.sub("^strategy: ", "weights: ", words) if is_known else words


def _sentence(words: str) -> str:
    """Return the words as a sentence; a name that stands before a colon stays as it is written."""
    begin = words[:1] if re.match(r"\S+: ", words) else words[:1].upper()
    return begin + words[1:] + ("" if words.endswith(".") else ".")


def _policy_shapes(row: models.Policy) -> Iterator[Problem]:
    """Yield what keeps the JSON columns from being read at all."""
    if not isinstance(row.weights, dict):
        yield "weights", 'Weights are names with numbers, such as {"cost": 2}; {} for the strategy\'s own.'
    if not isinstance(row.order, list) or not all(isinstance(agent, str) for agent in row.order):
        yield "order", 'The order is a list of agents, such as ["codex", "claude"]; [] for none.'
    yield from (("retries", words) for words in _retry_shapes(row.retries))


def retry_policy(rules: Mapping[str, Any]) -> RetryPolicy:
    """Return the retry rules that JSON tells, which have no problems."""
    return RetryPolicy(rules={kind: RetryRule(**rule) for kind, rule in rules.items()})


def retry_problems(rules: Any) -> list[str]:
    """Return in words what is wrong with retry rules as JSON."""
    return list(_retry_shapes(rules)) or retry_policy(rules).problems()


def _retry_shapes(rules: Any) -> Iterator[str]:
    if not isinstance(rules, Mapping):
        yield 'Retries are kinds of errors with rules, such as {"timeout": {"attempts": 2}}; {} for none.'
        return
    for kind, rule in rules.items():
        yield from (f"{kind}: {words}" for words in _rule_shapes(rule))


def _rule_shapes(rule: Any) -> Iterator[str]:
    if not isinstance(rule, Mapping):
        yield f"a rule is an object with {', '.join(MEMBERS)}; each may be left out."
        return
    for name, value in rule.items():
        if name not in MEMBERS:
            yield f"there is no {name!r}. Known: {', '.join(MEMBERS)}."
        elif name == "on":
            if not isinstance(value, str):
                yield "on is a word."
        elif name == "attempts":
            if not (value is None or is_whole(value)):
                yield f"attempts is a whole number, not {value!r}."
        elif not is_number(value):
            yield f"{name} is a number, not {value!r}."
