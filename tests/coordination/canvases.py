"""Canvases of every kind that hypothesis makes up, over small tasks."""

from __future__ import annotations

from typing import Any

import celery
from celery import chain, chord, group
from hypothesis import strategies as st

app = celery.Celery("oracle", broker="memory://", backend="cache+memory://", set_as_current=False)
app.conf.update(task_always_eager=True, task_eager_propagates=False)
CALLS: list[str] = []  # what links and error links were called with


class Boom(Exception):
    """What failing tasks raise."""


@app.task(name="oracle.add", shared=False)
def add(*numbers: Any, more: int = 0) -> int:
    """Return the sum of all numbers in the arguments, however deep in lists."""
    return more + sum(add.run(*each) if isinstance(each, list | tuple) else hash_of(each) for each in numbers)


@app.task(name="oracle.concat", shared=False)
def concat(*parts: Any, tag: str = "") -> str:
    """Return the arguments as text; long ones are cut, but not so that two become the same."""
    text = f"{tag}<{','.join(shown(part) for part in parts)}>"
    return text if len(text) < 300 else f"{text[:200]}#{sum(map(ord, text))}"


@app.task(name="oracle.identity", shared=False)
def identity(value: Any = None, *rest: Any) -> Any:
    """Return the first argument."""
    return value


@app.task(name="oracle.listed", shared=False)
def listed(*values: Any, **named: Any) -> list[Any]:
    """Return how many arguments there are, and the first."""
    return [len(values), *values[:1], *sorted(named)]


@app.task(name="oracle.nothing", shared=False)
def nothing(*values: Any) -> None:
    """Return nothing."""


@app.task(name="oracle.fail", shared=False)
def fail(*values: Any) -> None:
    """Raise."""
    raise Boom(f"boom with {len(values)}")


@app.task(name="oracle.note", shared=False)
def note(*values: Any, tag: str = "") -> str:
    """Note the call."""
    CALLS.append(f"{tag}: {shown(values)}")
    return tag


@app.task(name="oracle.failed", shared=False)
def failed(request: Any, error: Any, traceback: Any, *rest: Any, tag: str = "") -> None:
    """Note the failure."""
    CALLS.append(f"{tag}: {error} {shown(rest)}")


def hash_of(value: Any) -> int:
    """Return a number for any value that is no list."""
    return value if isinstance(value, int) else len(str(value))


def shown(value: Any) -> str:
    """Return the value as text, tuples as lists."""
    return f"[{','.join(map(shown, value))}]" if isinstance(value, list | tuple) else repr(value)


FUNCTIONS = {task.name: task.run for task in (add, concat, identity, listed, nothing, fail, note, failed)}

# ---- canvases ---------------------------------------------------------------------------------------------------

LITERALS = st.one_of(
    st.integers(-9, 9), st.sampled_from(["", "x", "{{ steps.add.output }}", "{{", "é"]), st.lists(st.integers(0, 3)),
    st.none(), st.booleans(),
)  # fmt: skip
TAGS = st.sampled_from("abcdef")


@st.composite
def tasks(draw: st.DrawFn, *, may_fail: bool = False, is_linked: bool = True) -> Any:
    """A task with some arguments, mutable or immutable, and perhaps links."""
    kinds: list[Any] = [add, concat, identity, listed, nothing, *([fail] if may_fail else [])]
    task = draw(st.sampled_from(kinds))
    args = draw(st.lists(LITERALS, max_size=2))
    kwargs = {add: {"more": 3}, concat: {"tag": "t"}, listed: {"k": 1}}.get(task, {}) if draw(st.booleans()) else {}
    made = task.signature(args, kwargs, immutable=draw(st.integers(0, 3)) == 0)
    if is_linked and draw(st.integers(0, 5)) == 0:
        made.link(draw(links()))
    return made


@st.composite
def links(draw: st.DrawFn) -> Any:
    """What can be linked: a task that notes its call, alone or at the end of a chain."""
    noted = note.s(tag=draw(TAGS))
    if draw(st.integers(0, 3)) == 0:
        return chain(draw(tasks(is_linked=False)), noted)
    return noted.set(immutable=draw(st.integers(0, 3)) == 0)


@st.composite
def maps(draw: st.DrawFn) -> Any:
    """A map, a starmap, or chunks as the group that they are."""
    task = draw(st.sampled_from([add, concat, identity, listed]))
    kind = draw(st.sampled_from(["map", "starmap", "chunks"]))
    if kind == "map":
        return task.map(draw(st.lists(LITERALS, max_size=4)))
    calls = draw(st.lists(st.lists(LITERALS, max_size=2), max_size=5))
    return task.starmap(calls) if kind == "starmap" else task.chunks(calls, draw(st.integers(1, 3))).group()


def canvases(*, may_fail: bool = False, is_linked: bool = True) -> st.SearchStrategy[Any]:
    """Canvases of every kind within one another."""
    leaves = st.one_of(tasks(may_fail=may_fail, is_linked=is_linked), tasks(is_linked=is_linked), maps())
    if may_fail:
        leaves = st.one_of(leaves, st.builds(lambda count: fail.s(*range(count)), st.integers(0, 2)))
    return st.recursive(leaves, _around, max_leaves=9)


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        several.map(lambda parts: chain(*parts)),
        st.lists(inner, min_size=0, max_size=3).map(group),
        st.tuples(st.lists(inner, min_size=1, max_size=3), inner).map(lambda parts: chord(*parts)),
        st.tuples(several.map(group), inner).map(lambda parts: parts[0] | parts[1]),
    )


def has_task(value: Any) -> bool:
    """Return True if there is a task anywhere in the JSON canvas: one without any is refused."""
    if value["subtask_type"] in ("chain", "group"):
        return any(map(has_task, value["kwargs"]["tasks"]))
    if value["subtask_type"] == "chord":
        return any(map(has_task, (*value["kwargs"]["header"], value["kwargs"]["body"])))
    return True
