"""Which steps does a step look at, and what comes before what?  Pure.

Places are named as a definition's text names them: ("input", "files", 0), ("choice", 1, "when").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from coordination import conditions, templates
from coordination.conditions import BadCondition
from coordination.graph import Ask, Graph, Step
from coordination.problems import Path
from coordination.templates import BadTemplate, Reference


class Mention(NamedTuple):
    """A place in a step from which something of the run is looked at."""

    path: Path  # within the step
    reference: Reference


class Expression(NamedTuple):
    """A condition, or JSON with templates, and where in the step it stands."""

    path: Path
    value: Any
    is_condition: bool = False

    def mentions(self) -> Iterator[Mention]:
        """Yield what it looks at. Raises ``BadTemplate`` or ``BadCondition``."""
        if self.is_condition:
            yield from (Mention(self.path, found) for found in conditions.references(self.value))
        else:
            yield from (Mention(*found) for found in templates.located(self.value, self.path))


def expressions(step: Step) -> Iterator[Expression]:
    """Yield everything in the step that is filled in or decided when it begins; not what undoes it."""
    yield Expression(("when",), step.when, is_condition=True)
    if step.ask:
        yield from _of_ask(step.ask, ())
    if step.over:
        yield Expression(("map",), step.over.items)
        yield Expression(("key",), step.over.key)
    if step.form:
        yield Expression(("approval",), step.form.title)
        yield Expression(("text",), step.form.text)
    if step.pause:
        yield Expression(("wait", "until"), step.pause.until)
    if step.child:
        yield Expression(("input",), step.child.input)
    for number, case in enumerate(step.cases):
        yield Expression(("choice", number, "when"), case.when, is_condition=True)


def undo_expressions(step: Step) -> Iterator[Expression]:
    """Yield what is filled in when the step is undone."""
    if step.undo:
        yield from _of_ask(step.undo, ("undo",))


def mentions(step: Step) -> Iterator[Mention]:
    """Yield what the step looks at when it begins, leaving out what cannot be read."""
    for expression in expressions(step):
        try:
            yield from expression.mentions()
        except (BadTemplate, BadCondition):
            continue


def with_after(steps: Iterable[Step], given: Iterable[str] = ()) -> tuple[Step, ...]:
    """Return the steps with ``after`` for each but those ``given`` by name: the steps it looks at, and the choices
    that lead to it.
    """
    steps = tuple(steps)
    kept = set(given)
    inferred = inferred_after(steps)
    return tuple(step if step.name in kept else replace(step, after=inferred[step.name]) for step in steps)


def inferred_after(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """Return for each step the names of the steps that it follows where nothing else is said, in written order."""
    place = {step.name: number for number, step in enumerate(steps)}
    before: dict[str, set[str]] = defaultdict(set)
    for step in steps:
        before[step.name] |= {found.reference.step or "" for found in mentions(step)} - {step.name}
        for name in (name for case in step.cases for name in case.then):
            before[name].add(step.name)
    return {
        step.name: tuple(sorted((name for name in before[step.name] if name in place), key=place.__getitem__))
        for step in steps
    }


def order(graph: Graph) -> list[str]:
    """Return the names so that each step comes after those that it waits for. Raises ``graphlib.CycleError``."""
    known = {step.name for step in graph.steps}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for step in graph.steps:
        sorter.add(step.name, *(name for name in step.after if name in known))
    return list(sorter.static_order())


def cycle(graph: Graph) -> list[str]:
    """Return the steps of one cycle, its first one again at the end; [] if there is none."""
    try:
        order(graph)
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def ancestors(graph: Graph) -> Mapping[str, int]:
    """Return for each step the steps before it, transitively, as bits by place in ``graph.steps``. No cycles."""
    place = {step.name: number for number, step in enumerate(graph.steps)}
    before: dict[str, int] = {}
    for name in order(graph):
        bits = 0
        for earlier in graph.steps[place[name]].after:
            if earlier in place:
                bits |= before[earlier] | 1 << place[earlier]
        before[name] = bits
    return before


def _of_ask(ask: Ask, path: Path) -> Iterator[Expression]:
    yield Expression((*path, "task"), ask.skill)
    yield Expression((*path, "version"), ask.version)
    yield Expression((*path, "input"), ask.input)
    yield Expression((*path, "labels"), ask.labels)
    yield Expression((*path, "requires"), ask.requires)
    yield Expression((*path, "agent"), ask.agent)
    if ask.call:
        yield Expression((*path, "call"), ask.call)
