"""The rules as rows, and what each would have said of the last day. The only writer of ``Rule``."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from monitoring import conditions, metrics, rule_words, rules, store
from monitoring.models import Rule, Severity
from monitoring.rules import History, Labels
from routing.errors import BadInput, RoutingError

log = logging.getLogger(__name__)

PREVIEW_S = 86_400.0
PREVIEW_STEP_S = 60.0
MOST_RULES = 1_000
LONGEST_HOLD_S = 86_400.0
NAME = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
STANDS_FOR = re.compile(r"\{(\w+)\}")  # a label's value


class NoSuchRule(RoutingError):
    """There is no alert rule {name}."""

    kind, status = "no-such-rule", 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a rule would have done over the last day."""

    times: int
    firings: list[tuple[str, dt.datetime]]  # labels, and when; at most 50, newest first

    @property
    def words(self) -> str:
        """Return it as a person would say it."""
        if not self.times:
            return "It would not have fired within the last 24 h."
        return f"It would have fired {'once' if self.times == 1 else f'{self.times} times'} within the last 24 h."


def problems(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield the field and what is wrong with it."""
    if not NAME.match(rule.name):
        yield "name", "Small letters, digits and hyphens, a letter first, at most 64."
    if rule.name in conditions.KINDS:
        yield "name", "This is an alert of the controller itself; choose another name."
    if rule.severity not in Severity.values:
        yield "severity", f"One of {', '.join(Severity.values)}."
    if not rule.title.strip():
        yield "title", "Say what is wrong when it fires, in one sentence; {label} stands for a label's value."
    if not 0 <= rule.hold_s <= LONGEST_HOLD_S:
        yield "hold_s", f"From 0 to {LONGEST_HOLD_S:.0f} seconds."
    for words in rule_words.problems(rule.condition, frozenset(store.names())):
        yield "condition", words


def save(rule: Rule) -> Rule:
    """Write the rule. Raises ``BadInput``."""
    check(rule)
    if not rule.pk and Rule.objects.count() >= MOST_RULES:
        raise BadInput(why=f"There are {MOST_RULES} rules already; delete some first.")
    rule.updated_at = timezone.now()
    rule.save()
    return rule


def check(rule: Rule) -> None:
    """Raise ``BadInput`` with all that is wrong."""
    if wrong := [f"{field}: {words}" for field, words in problems(rule)]:
        raise BadInput(why=" ".join(wrong))


def find(name: str) -> Rule:
    """Return the rule. Raises ``NoSuchRule``."""
    rule = Rule.objects.filter(name=name).first()
    if rule is None:
        raise NoSuchRule(name=name)
    return rule


def delete(name: str) -> None:
    """Delete the rule; its open alerts end by themselves. Raises ``NoSuchRule``."""
    find(name).delete()


def preview(rule: Rule, now: dt.datetime | None = None) -> Preview:
    """Return what the rule would have done over the last day, looked at by the minute."""
    end = now or timezone.now()
    begin = end - dt.timedelta(seconds=PREVIEW_S)
    history = History()
    history.follow(rules.reach(rule.condition))
    moments: dict[float, list[tuple[str, Mapping[str, str], metrics.Value]]] = {}
    for name in rules.reach(rule.condition):
        for reading in store.read(name, None, begin, PREVIEW_STEP_S, until=end):
            for point in reading.points:
                value = point.distribution if point.distribution is not None else point.last
                moments.setdefault(point.at, []).append((name, reading.labels, value))
    return _replayed(rule, history, moments)


def _replayed(
    rule: Rule, history: History, moments: Mapping[float, Iterable[tuple[str, Mapping[str, str], metrics.Value]]]
) -> Preview:
    since: dict[Labels, float] = {}
    firings: list[tuple[str, dt.datetime]] = []
    fired: set[Labels] = set()
    for at in _minutes(moments):
        history.began = at if history.began is None else history.began
        for name, measured, value in moments.get(at, ()):
            history.add(name, measured, at, value)
        findings = rules.evaluate(rule.condition, history, at, frozenset(since))
        holding = {labels for labels, finding in findings.items() if finding.holds}
        since = {labels: since.get(labels, at) for labels in holding}
        fired &= holding
        due = {each for each in holding - fired if at - since[each] >= rule.hold_s}
        fired |= due
        firings += [(key_of(each), dt.datetime.fromtimestamp(at, dt.UTC)) for each in sorted(due)]
    return Preview(times=len(firings), firings=firings[::-1][:50])


def _minutes(moments: Mapping[float, Any]) -> Iterator[float]:
    """Yield every minute from the first measured to the last: one in which nothing was measured counts too."""
    at, last = min(moments, default=0.0), max(moments, default=-1.0)
    while at <= last:
        yield at
        at += PREVIEW_STEP_S


def key_of(labels: Labels) -> str:
    """Return what tells an alert of the rule from its others: ``skill=echo, state=failed``."""
    return ", ".join(f"{label}={value}" for label, value in labels)


def title_of(rule: Rule, labels: Labels) -> str:
    """Return the alert's title; a title that names none of the labels is followed by them."""
    known = dict(labels)  # by hand: a format string could ask for a gigabyte of blanks
    text = STANDS_FOR.sub(lambda found: known.get(found[1], f"any {found[1]}"), rule.title)
    return f"{text} ({key_of(labels)})" if labels and text == rule.title else text


class Evaluator:
    """Looks at each tick's samples with all enabled rules, in the leading controller's metering thread."""

    def __init__(self) -> None:
        self._history = History()
        self._holding: dict[int, frozenset[Labels]] = {}

    def look(self, samples: Iterable[metrics.Sample], at: dt.datetime) -> list[conditions.Condition]:
        """Return what holds now. Raises ``DatabaseError``; a rule that fails keeps no other from its turn."""
        enabled = list(Rule.objects.filter(enabled=True))
        known = frozenset(store.names())
        usable = [rule for rule in enabled if not any(rule_words.problems(rule.condition, known))]
        now = at.timestamp()
        self._follow(usable, at)
        for sample in samples:
            self._history.add(sample.name, sample.labels, now, sample.value)
        found: list[conditions.Condition] = []
        held: dict[int, frozenset[Labels]] = {}
        for rule in usable:
            try:
                findings = rules.evaluate(rule.condition, self._history, now, self._holding.get(rule.pk, frozenset()))
            except Exception:
                log.exception("the alert rule %s cannot be evaluated: it says nothing until it is changed", rule.name)
                continue
            held[rule.pk] = frozenset(labels for labels, finding in findings.items() if finding.holds)
            found += [_condition(rule, labels) for labels in held[rule.pk]]
        self._holding = held
        return found

    def _follow(self, usable: Iterable[Rule], at: dt.datetime) -> None:
        """Keep what the rules look at, and take up what was measured before they were there, or we."""
        wanted: dict[str, float] = {}
        for rule in usable:
            for name, seconds in rules.reach(rule.condition).items():
                wanted[name] = max(wanted.get(name, 0.0), seconds)
        longer = self._history.follow(wanted)
        if self._history.began is None:
            self._history.began = at.timestamp()
        for name in longer:
            if wanted[name] > rules.FRESH_S:
                self._take_up(name, wanted[name], at)
        self._history.forget_before(at.timestamp() - max([3600.0, *wanted.values()]))

    def _take_up(self, name: str, seconds: float, at: dt.datetime) -> None:
        step = 60.0 if seconds > 3600 else 0.0
        for reading in store.read(name, None, at - dt.timedelta(seconds=seconds), step, until=at):
            for point in reading.points:
                value = point.distribution if point.distribution is not None else point.last
                self._history.add(name, reading.labels, point.at, value)


def _condition(rule: Rule, labels: Labels) -> conditions.Condition:
    return conditions.Condition(
        kind=rule.name,
        key=key_of(labels),
        severity=rule.severity,
        title=title_of(rule, labels),
        hold_s=rule.hold_s,
    )
