"""Reads a Celery canvas from its JSON form, and refuses what is none.  Pure.

Celery serialises every signature as ``{"task", "args", "kwargs", "options", "subtask_type", "immutable"}``; chains,
groups and chords hold theirs in ``kwargs``. Here each becomes a ``Node``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from coordination.timing import Timing, read_timing

AGENT_TASK = "routing.run_agent_task"
MAX_DEPTH = 64  # of signatures within signatures
MAX_NODES = 20_000  # signatures in one canvas

Kind = Literal["task", "chain", "group", "chord", "map", "starmap", "chunks"]

_KINDS: Mapping[str, Kind] = {
    "celery.chain": "chain",
    "celery.group": "group",
    "celery.chord": "chord",
    "celery.map": "map",
    "celery.starmap": "starmap",
    "celery.chunks": "chunks",
}
_INTERNAL = ("celery.", "routing.")  # tasks that are no steps, but for ``AGENT_TASK``
_KEYS = frozenset({"task", "args", "kwargs", "options", "subtask_type", "immutable", "chord_size"})


class BadCanvas(ValueError):
    """What was given is no canvas that can be run; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One signature. Which fields count follows from its kind."""

    kind: Kind
    path: str = field(compare=False)  # where it stands, for error messages
    task: str = ""  # the task's name; of maps that of the task which is called for each item
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    immutable: bool = False  # takes nothing from the step before
    parts: tuple[Node, ...] = ()  # of a chain or a group; a chord's header
    body: Node | None = None  # of a chord
    items: tuple[Any, ...] = ()  # of map, starmap and chunks
    size: int = 0  # of chunks
    timing: Timing = field(default_factory=Timing)
    links: tuple[Node, ...] = ()  # called with its result
    errbacks: tuple[Node, ...] = ()  # called when it fails

    @property
    def is_plain(self) -> bool:
        """Return True if nothing but its parts matters."""
        return not (self.immutable or self.links or self.errbacks) and self.timing == Timing()

    def around(self, outer: Node) -> Node:
        """Return this one with what holds for the group that it is a member of."""
        if outer.is_plain:
            return self
        return replace(
            self,
            timing=self.timing.over(outer.timing),
            links=(*outer.links, *self.links),
            errbacks=(*outer.errbacks, *self.errbacks),
            immutable=self.immutable or outer.immutable,
        )


def read(canvas: Any, *, known: Collection[str] | None = None) -> Node:
    """Return the canvas. ``known`` are the names of tasks that may be steps; None allows any. Raises ``BadCanvas``."""
    return _Reader(known).node(canvas, "canvas")


class _Reader:
    def __init__(self, known: Collection[str] | None) -> None:
        self._known = known
        self._count = 0
        self._above: list[int] = []  # ids of the signatures that the current one is in

    def node(self, value: Any, path: str) -> Node:
        if not isinstance(value, Mapping) or not isinstance(value.get("task"), str):
            raise BadCanvas(f"{path} is no signature: it has to be an object with the name of its task in 'task'.")
        if id(value) in self._above:
            raise BadCanvas(f"{path} ({value['task']}) links back to itself.")
        if len(self._above) >= MAX_DEPTH:
            raise BadCanvas(f"The canvas is nested more than {MAX_DEPTH} deep. Split it into several runs.")
        self._count += 1
        if self._count > MAX_NODES:
            raise BadCanvas(f"The canvas has more than {MAX_NODES:,} signatures. Split it into several runs.")
        self._above.append(id(value))
        try:
            return self._read(value, path)
        finally:
            self._above.pop()

    def _read(self, value: Mapping[str, Any], path: str) -> Node:
        unknown = sorted(set(value) - _KEYS)
        if unknown:
            raise BadCanvas(f"{path} has {', '.join(map(repr, unknown))}, which signatures do not have.")
        options = _object(value.get("options"), f"{path}.options")
        common: dict[str, Any] = {
            "path": path,
            "immutable": value.get("immutable") is True,
            "timing": read_timing(options, f"{path}.options", BadCanvas),
            "links": self._linked(options.get("link"), f"{path}.link"),
            "errbacks": self._linked(options.get("link_error"), f"{path}.link_error"),
        }
        kind = _kind(value, path)
        args = tuple(_list(value.get("args"), f"{path}.args"))
        kwargs = _object(value.get("kwargs"), f"{path}.kwargs")
        if kind == "task":
            return Node(kind=kind, task=self._task(value["task"], path), args=args, kwargs=kwargs, **common)
        if args:
            raise BadCanvas(f"{path} is a {kind} with arguments of its own. Give them to the tasks in it.")
        if kind in ("chain", "group"):
            return Node(kind=kind, parts=self._parts(kwargs.get("tasks"), f"{path}.tasks"), **common)
        return self._chord(kwargs, path, common) if kind == "chord" else self._map(kind, kwargs, path, common)

    def _chord(self, kwargs: Mapping[str, Any], path: str, common: Mapping[str, Any]) -> Node:
        if kwargs.get("kwargs"):
            raise BadCanvas(f"{path} is a chord with keyword arguments of its own. Give them to the tasks in it.")
        if kwargs.get("body") is None:
            raise BadCanvas(f"{path} is a chord without a body. Without one it is a group.")
        header = kwargs.get("header")
        if isinstance(header, Mapping) and header.get("task") in ("celery.group", "celery.chain"):
            header = _object(header.get("kwargs"), f"{path}.header.kwargs").get("tasks")  # as Celery takes them
        parts = self._parts([header] if isinstance(header, Mapping) else header, f"{path}.header")
        return Node(kind="chord", parts=parts, body=self.node(kwargs["body"], f"{path}.body"), **common)

    def _map(self, kind: Kind, kwargs: Mapping[str, Any], path: str, common: Mapping[str, Any]) -> Node:
        inner = self.node(kwargs.get("task"), f"{path}.task")
        if inner.kind != "task" or inner.links or inner.errbacks or inner.args:
            raise BadCanvas(f"{path} goes over a plain task, without arguments or links of its own.")
        if inner.kwargs and inner.task != AGENT_TASK:
            raise BadCanvas(f"{path}: Celery ignores the keyword arguments of a task in a {kind}. Leave them out.")
        items = tuple(_list(kwargs.get("it"), f"{path}.it"))
        size = kwargs.get("n", 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise BadCanvas(f"{path}.n must be a whole number of at least 1.")
        if kind != "map" and not all(isinstance(item, Sequence) and not isinstance(item, str) for item in items):
            raise BadCanvas(f"{path}.it must hold a list of arguments for each call.")
        common = {**common, "immutable": True, "timing": inner.timing.over(common["timing"])}
        return Node(kind=kind, task=inner.task, kwargs=inner.kwargs, items=items, size=size, **common)

    def _parts(self, value: Any, path: str) -> tuple[Node, ...]:
        return tuple(self.node(part, f"{path}[{place}]") for place, part in enumerate(_list(value, path)))

    def _linked(self, value: Any, path: str) -> tuple[Node, ...]:
        return self._parts([value] if isinstance(value, Mapping) else value, path)

    def _task(self, name: str, path: str) -> str:
        if name == AGENT_TASK:
            return name
        if name.startswith(_INTERNAL):
            raise BadCanvas(f"{path}: {name} is no step of a run; it belongs to the machinery.")
        if self._known is not None and name not in self._known:
            raise BadCanvas(f"{path}: no task is called {name!r}. Is its module imported by the workers?")
        return name


def _kind(value: Mapping[str, Any], path: str) -> Kind:
    """Return what the signature is. Maps have no subtask type in Celery: their names tell them."""
    subtask = value.get("subtask_type")
    if subtask not in (None, "chain", "group", "chord", "xmap", "xstarmap", "chunks"):
        raise BadCanvas(f"{path} has the subtask type {subtask!r}, which is unknown.")
    return _KINDS.get(value["task"], "task")


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadCanvas(f"{path} must be an object.")
    return value


def _list(value: Any, path: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise BadCanvas(f"{path} must be a list.")
    return value
