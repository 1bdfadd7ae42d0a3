"""A Celery canvas becomes a graph.  Pure.

What a step passes on is JSON with templates: a chain's is that of its last step, a group's the list of its members'.
So a group needs no step of its own, and a join is nothing but the ``after`` of the step that gets the list. A step
begins only when all before it have completed; one that fails lets go on what does not need it, and the run fails in the
end (``fail_late``). Links and error links are steps that nobody waits for; whether they succeed does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coordination import asks
from coordination.asks import CALL_SKILL, QUEUE_LABEL
from coordination.graph import MAX_STEPS, Ask, Graph, OnError, Over, Step
from coordination.signatures import BadCanvas, Node, read
from coordination.templates import literal, template
from coordination.timing import Timing

MAX_EDGES = 250_000  # between steps
ASIDE: OnError = "continue"  # of links and error links: nobody waits for them

__all__ = ["CALL_SKILL", "QUEUE_LABEL", "BadCanvas", "compile"]


def compile(canvas: Any, *, name: str, known: Collection[str] | None = None) -> Graph:
    """Return the graph of a canvas in its JSON form. Raises ``BadCanvas``, which names the place.

    ``known`` are the names of the tasks that may be called, None for any. The run's output is the canvas's result.
    """
    return compile_named(canvas, name=name, known=known, names=())


def compile_named(canvas: Any, *, name: str, known: Collection[str] | None = None, names: Iterable[str]) -> Graph:
    """Return the same with these names for the first steps, in the order of the steps. Raises ``BadCanvas``."""
    compiler = _Compiler(names)
    flow = compiler.part(read(canvas, known=known), Flow(), Scope())
    if not compiler.steps:
        raise BadCanvas("The canvas has no task in it.")
    return Graph(name=name, steps=tuple(compiler.steps), output=flow.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What comes to a step from those before it."""

    given: tuple[Any, ...] = ()  # one value, JSON with templates, for its first argument; () is none
    failure: Mapping[str, Any] | None = None  # of the step that an error link is called for
    after: tuple[str, ...] = ()
    when: str = ""
    watched: tuple[str, ...] = ()  # of a chord's body: its header's steps, whose failure calls its error links

    @property
    def value(self) -> Any:
        """Return what the canvas up to here comes to."""
        return self.given[0] if self.given else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What holds for a signature because of those around it."""

    timing: Timing = field(default_factory=Timing)
    links: tuple[Node, ...] = ()
    errbacks: tuple[Node, ...] = ()
    is_aside: bool = False  # within a link or an error link

    def within(self, node: Node) -> Scope:
        """Return what holds for the members of the node."""
        return replace(
            self,
            timing=node.timing.over(self.timing).within(),
            links=(*self.links, *node.links),
            errbacks=(*self.errbacks, *node.errbacks),
        )


class _Compiler:
    def __init__(self, names: Iterable[str]) -> None:
        self._given = iter(names)
        self.steps: list[Step] = []
        self._edges = 0
        self._names: set[str] = set()
        self._used: dict[str, int] = {}

    # ---- what signatures consist of -----------------------------------------------------------------------------

    def part(self, node: Node, flow: Flow, scope: Scope) -> Flow:
        """Add the steps of the node; return what comes to those behind it."""
        if node.immutable:
            flow = replace(flow, given=(), failure=None)
        flow = self._later(node.timing, flow, scope)
        if node.kind in ("task", "map", "starmap"):
            return self._leaf(node, flow, scope)
        inner = scope.within(node)
        if node.kind == "chain":
            return self._sequence(sequence(node.parts), flow, inner)
        if node.kind == "chord":
            assert node.body is not None
            return self._sequence((Node(kind="group", path=node.path, parts=node.parts), node.body), flow, inner)
        return self._group(members(node), flow, inner)

    def _sequence(self, parts: Sequence[Node], flow: Flow, scope: Scope) -> Flow:
        """Add parts that follow one another; the links are the last one's.

        A group with something behind it is the header of a chord. The error links around it are not for its members:
        they are called once, when what is behind it fails, or cannot begin because the header has failed.
        """
        for part in parts[:-1]:
            if part.kind != "group":
                flow = self.part(part, flow, replace(scope, links=()))
                continue
            first = len(self.steps)
            joined = self.part(part, replace(flow, watched=()), replace(scope, links=(), errbacks=()))
            header = (step.name for step in self.steps[first:] if scope.is_aside or step.on_error != ASIDE)
            flow = replace(joined, watched=(*flow.watched, *header))
        return self.part(parts[-1], flow, scope) if parts else flow

    def _group(self, parts: Sequence[Node], flow: Flow, scope: Scope) -> Flow:
        if not parts:
            return replace(flow, given=([],), failure=None)
        flows = [self.part(part, flow, scope) for part in parts]
        after = dict.fromkeys(name for each in flows for name in each.after)
        return Flow(given=([each.value for each in flows],), after=tuple(after))

    def _leaf(self, node: Node, flow: Flow, scope: Scope) -> Flow:
        """Add the step of a task or a map, and those of its links."""
        asked = asks.ask(node, node.timing.over(scope.timing), given=flow.given, failure=flow.failure)
        over = None if node.kind == "task" else Over(items=literal(list(node.items)), max_parallel=1)
        name = self._add(asks.label(node), flow, scope, ask=asked, over=over)
        value = template(("steps", name, "output"))
        for link in (*scope.links, *node.links):
            self.part(link, Flow(given=(value,), after=(name,)), Scope(is_aside=True))
        errbacks: list[Node] = []
        for errback in (*scope.errbacks, *node.errbacks):
            if errback in errbacks:
                continue  # linked to the chain and to its task: called once, as in Celery
            errbacks.append(errback)
            self.part(errback, failed(name, node, asked, flow.watched), Scope(is_aside=True))
        return Flow(given=(value,), after=(name,))

    # ---- steps --------------------------------------------------------------------------------------------------

    def _later(self, timing: Timing, flow: Flow, scope: Scope) -> Flow:
        """Add a wait where the timing wants one."""
        for pause in timing.pauses():
            flow = replace(flow, after=(self._add("wait", flow, scope, pause=pause),), when="")
        return flow

    def _add(self, label: str, flow: Flow, scope: Scope, **parts: Any) -> str:
        """Add a step and return its name."""
        self._edges += len(flow.after)
        if len(self.steps) >= MAX_STEPS:
            raise BadCanvas(f"The canvas has more than {MAX_STEPS:,} steps. Split it into several runs.")
        if self._edges > MAX_EDGES:
            raise BadCanvas(
                f"More than {MAX_EDGES:,} times one step waits for another. Put a single step between them."
            )
        step = Step(
            name=next(self._given, None) or self._name(label),
            kind="wait" if parts.get("pause") else "map" if parts.get("over") else "task",
            after=flow.after,
            needs="ended" if flow.when or not flow.after else "completed",
            when=flow.when,
            on_error=ASIDE if scope.is_aside else "fail_late",
            **parts,
        )
        self.steps.append(step)
        return step.name

    def _name(self, label: str) -> str:
        """Return a name that is not taken: the label, with a number from its second use on."""
        while True:
            self._used[label] = self._used.get(label, 0) + 1
            name = label if self._used[label] == 1 else f"{label}-{self._used[label]}"
            if name not in self._names:
                self._names.add(name)
                return name


def failed(name: str, node: Node, asked: Ask, watched: tuple[str, ...]) -> Flow:
    """Return what comes to an error link of the step.

    Of a chord's body it is called, too, when the body did not begin because of the header: the errors are the
    header's then, and the body has no arguments.
    """
    state = f"steps.{name}.state"
    known = {"args": [], "kwargs": {}} if watched else asks.arguments(asked)
    failure = {
        "step": name,
        "task": node.task,
        **known,
        "errors": [template(("steps", each, "error")) for each in (name, *watched)],
    }
    when = f"{state} == 'failed' || {state} == 'skipped'" if watched else f"{state} == 'failed'"
    return Flow(failure=failure, after=(name, *watched), when=when)


def sequence(parts: Sequence[Node]) -> tuple[Node, ...]:
    """Return a chain's parts as Celery runs them.

    Plain chains in it are part of it, groups of one member are that member, and empty ones are nothing unless there is
    nothing else.
    """
    found = [part for each in parts for part in _spliced(each)]
    full = [part for part in found if part.kind != "group" or members(part)]
    return tuple(full or found[:1])


def _spliced(part: Node) -> tuple[Node, ...]:
    if part.kind == "chain":
        inner = sequence(part.parts)
        return inner if part.is_plain or not inner else (part,)
    if part.kind == "group" and len(only := members(part)) == 1:
        return _spliced(only[0].around(part))
    return (part,)


def members(node: Node) -> tuple[Node, ...]:
    """Return what runs side by side in a group, or the parts of chunks.

    Groups directly in a group are part of it, as in Celery, and chains of nothing are nothing.
    """
    if node.kind == "chunks":
        plain = replace(node, kind="starmap", timing=Timing(), links=(), errbacks=())
        starts = range(0, len(node.items), node.size)
        return tuple(replace(plain, items=node.items[start : start + node.size]) for start in starts)
    found: list[Node] = []
    for part in node.parts:
        if part.kind == "group":
            found += (member.around(part) for member in members(part))
        elif part.kind != "chain" or sequence(part.parts):
            found.append(part)
    return tuple(found)
