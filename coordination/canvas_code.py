"""A graph that a canvas can express, as Python that makes this canvas.  Pure.

The graph is taken apart into what follows one another and what runs side by side. What comes of it is compiled again,
and only if that gives the same graph is it the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from coordination import canvas, templates
from coordination.asks import ITEM, QUEUE_LABEL
from coordination.canvas import ASIDE, BadCanvas
from coordination.graph import Ask, Graph, Step
from coordination.python_canvas import code
from coordination.signatures import AGENT_TASK

MAX_STEPS = 500  # nobody reads longer ones

Signature = dict[str, Any]


class _Inexpressible(Exception):
    """No canvas says this."""


def print_canvas(graph: Graph) -> str | None:
    """Return Python code whose last expression is the canvas, or None if no canvas says the same as the graph."""
    if len(graph.steps) > MAX_STEPS:
        return None
    writer = _Writer(graph)
    try:
        written = writer.whole()
        again = canvas.compile_named(written, name=graph.name, names=writer.order)
    except (_Inexpressible, BadCanvas, templates.BadTemplate):
        return None
    return code(written) if _means_the_same(graph, again) else None


def _means_the_same(graph: Graph, again: Graph) -> bool:
    """Return whether a run of either does the same. A graph all of whose steps end the run at once may say less."""
    steps = {step.name: step for step in again.steps}
    is_bare = replace(graph, steps=(), output=None) == Graph(name=graph.name, steps=())
    if not is_bare or graph.output not in (None, again.output) or len(steps) != len(graph.steps):
        return False
    is_strict = all(step.on_error in ("fail", ASIDE) for step in graph.steps)
    return all(step.name in steps and _plain(step, is_strict) == _plain(steps[step.name], is_strict)
               for step in graph.steps)  # fmt: skip


def _plain(step: Step, is_strict: bool) -> Step:
    """Return the step without what does not matter here: its place, the order of ``after``."""
    plain = replace(step, line=None, after=tuple(sorted(step.after)))
    if is_strict and step.on_error in ("fail", "fail_late"):
        plain = replace(plain, on_error="fail", needs="ended")
    return replace(plain, over=replace(plain.over, items=_listed(plain.over.items))) if plain.over else plain


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self._steps, self._output = graph.steps, graph.output
        self._by_name = {step.name: step for step in graph.steps}
        self.order: list[str] = []  # of the steps, as compiling names them
        self._aside: dict[str, list[list[Step]]] = {}  # links and error links by the step that they belong to

    def whole(self) -> Signature:
        """Return the canvas in its JSON form. Raises ``_Inexpressible``."""
        main = [step for step in self._steps if step.on_error != ASIDE]
        aside = [step for step in self._steps if step.on_error == ASIDE]
        inside = {step.name for step in aside}
        for part in _parts(aside, lambda step: not step.when and set(step.after) <= inside):
            first = part[0]
            if not first.after:
                raise _Inexpressible
            self._aside.setdefault(first.after[0], []).append(part)
        if not main:
            raise _Inexpressible
        made, value = self._written(main, ())
        return _group([made]) if self._output == [value] else made

    def _written(self, steps: Sequence[Step], given: tuple[Any, ...]) -> tuple[Signature, Any]:
        """Return the signature of the steps, and what it passes on."""
        if len(steps) == 1:
            return self._leaf(steps[0], given)
        names = {step.name for step in steps}
        parts = _parts(steps, lambda step: not names.isdisjoint(step.after))
        if len(parts) > 1:
            both = [self._written(part, given) for part in parts]
            return _group([each for each, _ in both]), [value for _, value in both]
        return self._sequence(_cut(steps), given)

    def _sequence(self, parts: Sequence[Sequence[Step]], given: tuple[Any, ...]) -> tuple[Signature, Any]:
        tasks: list[Signature] = []
        timing: dict[str, Any] = {}
        for part in parts:
            pause = part[0].pause
            if len(part) == 1 and pause is not None:
                if pause.signal or timing:
                    raise _Inexpressible
                timing = {"countdown": pause.seconds} if pause.seconds else {"eta": pause.until}
                self.order.append(part[0].name)
                continue
            if len(parts) == 1:
                raise _Inexpressible  # neither one after the other nor side by side
            is_body = bool(given) and any(_takes(step, [given[0]]) for step in part)
            made, value = self._written(part, ([given[0]],) if is_body else given)
            made["options"] = {**timing, **made["options"]}
            tasks.append(_chord_of_one(tasks.pop(), made) if is_body else made)
            given, timing = (value,), {}
        if timing or not tasks:
            raise _Inexpressible
        return (tasks[0] if len(tasks) == 1 else _signature("chain", {"tasks": tasks})), given[0]

    def _leaf(self, step: Step, given: tuple[Any, ...]) -> tuple[Signature, Any]:
        if step.ask is None or step.kind not in ("task", "map"):
            raise _Inexpressible
        self.order.append(step.name)
        made = _map(step, step.ask) if step.over else _task(step.ask, given)
        value = templates.template(("steps", step.name, "output"))
        for part in self._aside.pop(step.name, ()):
            is_link = not part[0].when
            linked, _ = self._written(part, (value,) if is_link else ())
            made["options"].setdefault("link" if is_link else "link_error", []).append(linked)
        return made, value


def _takes(step: Step, value: Any) -> bool:
    """Return whether the step is called with the value of what comes before it."""
    if step.ask is None or step.over is not None:
        return False
    if step.ask.call is not None:
        return list(step.ask.call["args"][:1]) == [value]
    wanted = step.ask.input
    return bool(wanted == value or (isinstance(wanted, Mapping) and wanted.get("previous") == value))


def _group(tasks: list[Signature]) -> Signature:
    return _signature("group", {"tasks": tasks})


def _chord_of_one(member: Signature, body: Signature) -> Signature:
    """Return the chord: in a chain a group of one would be its member, whose result is no list."""
    return _signature("chord", {"kwargs": {}, "header": [member], "body": body})


def _parts(steps: Sequence[Step], joins: Any) -> list[list[Step]]:
    """Return the steps in parts that have nothing to do with each other; a step that joins is with those before it."""
    part_of: dict[str, list[Step]] = {}
    for step in steps:
        found = [part_of[name] for name in step.after if name in part_of] if joins(step) else []
        merged = [*{id(part): part for part in found}.values()]
        part = [each for other in merged for each in other]
        part.append(step)
        part_of.update({each.name: part for each in part})
    place = {step.name: number for number, step in enumerate(steps)}
    parts = {id(part): sorted(part, key=lambda step: place[step.name]) for part in part_of.values()}
    return sorted(parts.values(), key=lambda part: place[part[0].name])


def _cut(steps: Sequence[Step]) -> list[Sequence[Step]]:
    """Return the steps in as many parts as possible of which each waits for all of the one before."""
    rest: list[Step] = list(steps)
    found: list[Sequence[Step]] = []
    while rest:
        at = next((at for at in range(1, len(rest)) if _is_cut(rest[:at], rest[at:])), len(rest))
        found.append(rest[:at])
        rest = rest[at:]
    return found


def _is_cut(before: Sequence[Step], behind: Sequence[Step]) -> bool:
    names, others = {step.name for step in before}, {step.name for step in behind}
    followed = {name for step in before for name in step.after}
    ends = names - followed
    for step in behind:
        after = set(step.after)
        if after & names and (after & names != ends or after & others):
            return False
        if not after & names and not after & others:
            return False
    return True


def _task(ask: Ask, given: tuple[Any, ...]) -> Signature:
    if ask.call is None:
        return _agent_task(ask, given)
    args, is_mutable = list(ask.call["args"]), "failed" in ask.call
    if given and args[:1] == [given[0]]:
        args, is_mutable = args[1:], True
    made = _signature(ask.call["task"], _literal(ask.call["kwargs"]), args=_literal(args))
    return {**made, "immutable": bool(given) and not is_mutable, "options": _options(ask)}


def _agent_task(ask: Ask, given: tuple[Any, ...]) -> Signature:
    wanted, is_mutable = ask.input, False
    if given and wanted == given[0]:
        wanted, is_mutable = None, True
    elif given and isinstance(wanted, Mapping) and wanted.get("previous") == given[0]:
        wanted, is_mutable = {key: value for key, value in wanted.items() if key != "previous"}, True
    elif not given and isinstance(wanted, Mapping) and "failed" in wanted:
        raise _Inexpressible
    named = {"skill": ask.skill, "input": wanted, "version": ask.version, "labels": dict(ask.labels),
             "requires": ask.requires, "agent": ask.agent}  # fmt: skip
    kwargs = {name: _literal(value) for name, value in named.items() if value not in (None, "", {})}
    kwargs |= {} if wanted != {} else {"input": {}}
    numbers = {"priority": ask.priority, "timeout_s": ask.timeout_s, "max_attempts": ask.max_attempts}
    kwargs |= {name: value for name, value in numbers.items() if value is not None}
    options = {"expires": ask.wait_s} if ask.wait_s is not None else {}
    made = _signature(AGENT_TASK, kwargs)
    return {**made, "immutable": bool(given) and not is_mutable, "options": options}


def _map(step: Step, ask: Ask) -> Signature:
    assert step.over is not None
    if ask.call is not None:
        inner, is_star = _signature(ask.call["task"], {}), ask.call["args"] == ITEM
    else:
        inner, is_star = {**_agent_task(replace(ask, wait_s=None), (ITEM,)), "immutable": False}, False
    made = _signature("celery.starmap" if is_star else "celery.map", {"task": inner, "it": _listed(step.over.items)})
    options = _options(ask) if ask.call else {"expires": ask.wait_s} if ask.wait_s is not None else {}
    return {**made, "immutable": True, "options": options}


def _options(ask: Ask) -> dict[str, Any]:
    given = {"priority": ask.priority, "expires": ask.wait_s, "time_limit": ask.timeout_s}
    options = {name: value for name, value in given.items() if value is not None}
    return {**options, "queue": _literal(ask.labels[QUEUE_LABEL])} if QUEUE_LABEL in ask.labels else options


def _signature(task: str, kwargs: Mapping[str, Any], *, args: Sequence[Any] = ()) -> Signature:
    is_part = task in ("chain", "group", "chord")
    return {
        "task": f"celery.{task}" if is_part else task,
        "args": list(args),
        "kwargs": dict(kwargs),
        "options": {},
        "subtask_type": task if is_part else None,
        "immutable": False,
    }


def _literal(value: Any) -> Any:
    """Return JSON that holds no templates as it will be. Raises ``_Inexpressible``."""
    if templates.references(value):
        raise _Inexpressible
    return templates.fill(value, {})


def _listed(items: Any) -> list[Any]:
    value = _literal(items)
    if not isinstance(value, list):
        raise _Inexpressible
    return value
