"""Could this workflow run? Everything that stands in the way, in words.  Pure.

What is found has the line of its step; ``Source.located`` knows the line and column of its very place.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from coordination import conditions, data_checks, dependencies, part_checks
from coordination.data_checks import SkillShape
from coordination.definition import Source, source
from coordination.dependencies import Expression
from coordination.graph import MAX_DEPTH, MAX_STEPS, Graph, Step
from coordination.problems import BadDefinition, Path, Problem, listed
from coordination.templates import OPEN, RUN_PARTS, STEP_PARTS, BadTemplate, Reference

__all__ = ["Catalog", "SkillShape", "check", "problems"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What a workflow can count on. None is not known, and then nothing is said about it."""

    skills: Mapping[str, tuple[SkillShape, ...]] | None = None  # by name, the newest version first
    workflows: Mapping[str, Graph] | None = None  # by name, their newest versions


NOTHING_KNOWN = Catalog()


def check(text: str, known: Catalog = NOTHING_KNOWN) -> Source:
    """Return the source of a text that could run. Raises ``BadDefinition`` with lines and columns."""
    read = source(text)
    found = [read.located(problem) for problem in problems(read.graph, known)]
    if found:
        raise BadDefinition(found)
    return read


def problems(graph: Graph, known: Catalog = NOTHING_KNOWN) -> list[Problem]:
    """Return what keeps the workflow from running, in the order of its steps; [] if nothing does."""
    if len(graph.steps) > MAX_STEPS:
        return [Problem(words=f"It has {len(graph.steps):,} steps; at most {MAX_STEPS:,} can be.", path=("steps",))]
    found = [*part_checks.of_graph(graph), *_names(graph), *_order(graph), *_choices(graph)]
    for step in graph.steps:
        found += (_at(step, problem) for problem in part_checks.of_step(step))
        found += (_at(step, problem) for problem in _unknown(step, known))
    if not any(name > 1 for name in Counter(step.name for step in graph.steps).values()):
        found += _Looks(graph, known).problems()
    found += _recursion(graph, known.workflows or {})
    place = {step.name: number for number, step in enumerate(graph.steps)}
    return sorted(dict.fromkeys(found), key=lambda problem: _place(problem, place))


def _place(problem: Problem, place: Mapping[str, int]) -> int:
    return place.get(str(problem.path[1]), -1) if len(problem.path) > 1 else -1


def _at(step: Step, problem: Problem) -> Problem:
    """Return a problem within a step with the step's path before its own."""
    return replace(problem, path=("steps", step.name, *problem.path), line=step.line)


def _names(graph: Graph) -> Iterator[Problem]:
    if not graph.steps:
        yield Problem(words="It has no steps.", path=("steps",))
    counts = Counter(step.name for step in graph.steps)
    for step in graph.steps:
        if counts[step.name] > 1:
            yield _at(step, Problem(words=f"{counts[step.name]} steps are called '{step.name}'."))
        for name in step.after:
            if name not in counts:
                yield _at(step, Problem(words=f"There is no step '{name}'{_near(name, counts)}.", path=("after",)))


def _order(graph: Graph) -> Iterator[Problem]:
    by_name = {step.name: step for step in graph.steps}
    if circle := dependencies.cycle(graph):
        words = f"These steps wait for one another: {' → '.join(circle)}."
        yield _at(by_name[circle[0]], Problem(words=words, path=("after",)))
        return
    dead = set(_never_chosen(graph))
    for name in dependencies.order(graph):
        step = by_name[name]
        if step.after and all(earlier in dead for earlier in step.after):
            dead.add(name)
        if name in dead:
            yield _at(step, Problem(words="It can never be reached: no case of a choice leads to it."))


def _never_chosen(graph: Graph) -> Iterator[str]:
    """Yield the steps that only cases lead to which stand behind an otherwise."""
    for step in graph.steps:
        open_until = next((n for n, case in enumerate(step.cases) if not case.when), len(step.cases))
        chosen = {name for case in step.cases[: open_until + 1] for name in case.then}
        yield from (name for case in step.cases[open_until + 1 :] for name in case.then if name not in chosen)


def _choices(graph: Graph) -> Iterator[Problem]:
    after = {step.name: step.after for step in graph.steps}
    for step in graph.steps:
        for number, case in enumerate(step.cases):
            at: Path = ("choice", number)
            if not case.when and number < len(step.cases) - 1:
                yield _at(step, Problem(words="Only the last case can hold always; give it a condition.", path=at))
            for name in case.then:
                if name not in after:
                    words = f"There is no step '{name}'{_near(name, after)}."
                    yield _at(step, Problem(words=words, path=(*at, "then")))
                elif step.name not in after[name]:
                    words = f"'{name}' does not come after this choice. Add '{step.name}' to its after."
                    yield _at(step, Problem(words=words, path=(*at, "then")))


def _unknown(step: Step, known: Catalog) -> Iterator[Problem]:
    """Yield skills and workflows that nobody knows."""
    if known.skills is not None:
        asks = ((("task",), step.ask), (("undo", "task"), step.undo))
        for path, ask in asks:
            if ask and ask.call is None and OPEN not in ask.skill:
                yield from data_checks.unknown_skill(known.skills, ask.skill, ask.version, path)
            if ask and ask.fallback:
                yield from data_checks.unknown_skill(known.skills, ask.fallback, "", (*path[:-1], "fallback"))
    if known.workflows is not None and step.child and step.child.workflow not in known.workflows:
        words = f"There is no workflow '{step.child.workflow}'{_near(step.child.workflow, known.workflows)}."
        yield Problem(words=words, path=("workflow",))


def _recursion(graph: Graph, workflows: Mapping[str, Graph]) -> Iterator[Problem]:
    """Yield steps from which the workflow comes back to itself, or goes too deep."""
    for step in graph.steps:
        if step.child is None:
            continue
        way = _way(step.child.workflow, graph.name, workflows)
        if way:
            words = f"The workflow would run itself: {' → '.join([graph.name, *way])}."
            yield _at(step, Problem(words=words, path=("workflow",)))
        elif _depth(step.child.workflow, workflows) > MAX_DEPTH:
            words = f"Workflows stand more than {MAX_DEPTH} deep in one another."
            yield _at(step, Problem(words=words, path=("workflow",)))


def _children(name: str, workflows: Mapping[str, Graph]) -> list[str]:
    inner = workflows.get(name)
    return [step.child.workflow for step in inner.steps if step.child] if inner else []


def _way(start: str, goal: str, workflows: Mapping[str, Graph]) -> list[str]:
    """Return the shortest way from a workflow to the goal, both in it; [] if there is none."""
    came: dict[str, str] = {start: ""}
    waiting = deque([start])
    while waiting:
        name = waiting.popleft()
        if name == goal:
            way = [name]
            while came[way[0]]:
                way.insert(0, came[way[0]])
            return way
        for inner in _children(name, workflows):
            if inner not in came:
                came[inner] = name
                waiting.append(inner)
    return []


def _depth(name: str, workflows: Mapping[str, Graph]) -> int:
    """Return how deep the runs within a run of this workflow are, itself counted; at most one over the limit."""
    level, depth = {name}, 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = {inner for each in level for inner in _children(each, workflows)}
    return depth + 1  # the workflow that runs it


class _Looks:
    """Is everything that the steps look at there by then?"""

    def __init__(self, graph: Graph, known: Catalog) -> None:
        self._graph = graph
        self._place = {step.name: number for number, step in enumerate(graph.steps)}
        self._before = {} if dependencies.cycle(graph) else dependencies.ancestors(graph)
        self._types = data_checks.Types(graph, known.skills or {})

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with templates, conditions and the data they lead to."""
        for step in self._graph.steps:
            for expression in dependencies.expressions(step):
                yield from (_at(step, problem) for problem in self._of(expression, step))
            for expression in dependencies.undo_expressions(step):
                yield from (_at(step, problem) for problem in self._of(expression, step, is_undo=True))
            yield from (_at(step, problem) for problem in self._types.problems(step))
        yield from self._of(Expression(("output",), self._graph.output), None)

    def _of(self, expression: Expression, step: Step | None, *, is_undo: bool = False) -> Iterator[Problem]:
        try:
            mentions = list(expression.mentions())
        except (BadTemplate, conditions.BadCondition) as error:
            yield Problem(words=str(error), path=expression.path)
            return
        for path, reference in mentions:
            words = self._flaw(reference, step, is_undo) or self._types.absence(reference)
            if words:
                yield Problem(words=words, path=path)
            elif step and reference.path[0] == "item" and not _has_item(step, path):
                yield Problem(words="There is an item only in what a map asks for and in its key.", path=path)
            elif step is None and reference.path[0] == "item":
                yield Problem(words="There is an item only within a map.", path=path)

    def _flaw(self, reference: Reference, step: Step | None, is_undo: bool) -> str | None:
        """Return in words why the reference leads nowhere, or None."""
        root, *rest = reference.path
        if root == "run" and (not rest or rest[0] not in RUN_PARTS):
            return f"{reference}: of the run there are {listed(RUN_PARTS)}."
        if root != "steps":
            return None
        if reference.step not in self._place:
            near = _near(reference.step or "", self._place)
            return f"{reference}: there is no step '{reference.step or ''}'{near}."
        if len(rest) < 2 or rest[1] not in STEP_PARTS:
            return f"{reference}: of a step there are {listed(STEP_PARTS)}."
        if step is None or (is_undo and reference.step == step.name):
            return None
        if reference.step == step.name:
            return f"{reference}: a step cannot look at itself."
        if self._before and not self._before[step.name] >> self._place[reference.step] & 1:
            return f"{reference}: '{reference.step}' need not have ended by then. Add it to after."
        return None


def _has_item(step: Step, path: Path) -> bool:
    return step.kind == "map" and path[0] not in ("map", "when", "undo")


def _near(name: str, known: Iterable[str]) -> str:
    """Return "; perhaps 'x' is meant" if something known is called almost so."""
    return data_checks.near(name, known)
