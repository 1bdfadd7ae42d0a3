"""Compiled canvases come to the same as Celery's eager mode, for canvases that hypothesis makes up.

Where eager mode does otherwise than Celery's own workers (5.7.0), the canvases here keep clear of it:

- A chain that fails in a group raises out of ``group.apply``: members after it are never run. So where there are
  groups and failures, only the outcome is compared, not which links were called.
- ``chord.apply`` raises when its header fails, without calling the body's error links; workers call them.
- ``chain.apply`` replaces a task's own error links by the chain's; workers call both. It passes them to every member of
  a group; workers make that group a chord, and call the body's once.
- A chain that consists of one group of one member comes to a list; workers run the member in its place.
- ``chunks.apply`` comes to a ``GroupResult`` that was never joined; ``chunks(…).group()`` is what runs.
- An error link on a chain is called with the arguments of eager mode's requests; only its text is compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from celery import chain, chord, group
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from coordination import canvas
from coordination.live_canvas import as_json
from tests.coordination.sequential import Run

app = celery.Celery("oracle", broker="memory://", backend="cache+memory://", set_as_current=False)
app.conf.update(task_always_eager=True, task_eager_propagates=False)
CALLS: list[str] = []  # what links and error links were called with


@pytest.fixture(autouse=True, scope="module")
def _current_app() -> Iterator[None]:
    """Signatures within signatures belong to the current app."""
    before = celery.current_app._get_current_object()
    app.set_current()
    yield
    before.set_current()


class Boom(Exception):
    """What failing tasks raise."""


@app.task(name="oracle.add", shared=False)  # type: ignore[untyped-decorator]
def add(*numbers: Any, more: int = 0) -> int:
    """Return the sum of all numbers in the arguments, however deep in lists."""
    return more + sum(add.run(*each) if isinstance(each, list | tuple) else hash_of(each) for each in numbers)


@app.task(name="oracle.concat", shared=False)  # type: ignore[untyped-decorator]
def concat(*parts: Any, tag: str = "") -> str:
    """Return the arguments as text; long ones are cut, but not so that two become the same."""
    text = f"{tag}<{','.join(shown(part) for part in parts)}>"
    return text if len(text) < 300 else f"{text[:200]}#{sum(map(ord, text))}"


@app.task(name="oracle.identity", shared=False)  # type: ignore[untyped-decorator]
def identity(value: Any = None, *rest: Any) -> Any:
    """Return the first argument."""
    return value


@app.task(name="oracle.listed", shared=False)  # type: ignore[untyped-decorator]
def listed(*values: Any, **named: Any) -> list[Any]:
    """Return how many arguments there are, and the first."""
    return [len(values), *values[:1], *sorted(named)]


@app.task(name="oracle.nothing", shared=False)  # type: ignore[untyped-decorator]
def nothing(*values: Any) -> None:
    """Return nothing."""


@app.task(name="oracle.fail", shared=False)  # type: ignore[untyped-decorator]
def fail(*values: Any) -> None:
    """Raise."""
    raise Boom(f"boom with {len(values)}")


@app.task(name="oracle.note", shared=False)  # type: ignore[untyped-decorator]
def note(*values: Any, tag: str = "") -> str:
    """Note the call."""
    CALLS.append(f"{tag}: {shown(values)}")
    return tag


@app.task(name="oracle.failed", shared=False)  # type: ignore[untyped-decorator]
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
    return st.recursive(leaves, _around, max_leaves=9)


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        several.map(lambda parts: chain(*parts)),
        st.lists(inner, min_size=0, max_size=3).map(group),
        st.tuples(st.lists(inner, min_size=1, max_size=3), inner).map(lambda parts: chord(*parts)),
        st.tuples(several.map(group), inner).map(lambda parts: parts[0] | parts[1]),
    )


# ---- the two ways -----------------------------------------------------------------------------------------------


def eagerly(made: Any) -> tuple[tuple[str, Any], Counter[str]]:
    """Return the outcome in Celery's eager mode, and what links were called with."""
    CALLS.clear()
    try:
        outcome: tuple[str, Any] = "completed", plain(made.apply_async().get())
    except Boom as error:
        outcome = "failed", str(error)
    return outcome, Counter(CALLS)


def compiled(written: Any) -> tuple[tuple[str, Any], Counter[str]]:
    """Return the same of the compiled graph."""
    CALLS.clear()
    outcome = Run(canvas.compile(written, name="oracle", known=FUNCTIONS), FUNCTIONS).outcome()
    return outcome, Counter(CALLS)


def plain(value: Any) -> Any:
    """Return the value with lists for tuples."""
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def has_task(value: Any) -> bool:
    """Return True if there is a task anywhere in the JSON canvas: one without any is refused."""
    if value["subtask_type"] in ("chain", "group"):
        return any(map(has_task, value["kwargs"]["tasks"]))
    if value["subtask_type"] == "chord":
        return any(map(has_task, (*value["kwargs"]["header"], value["kwargs"]["body"])))
    return True


SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, max_examples=60)


class TestCompile:
    """Each method is some hundred canvases."""

    @SETTINGS
    @given(canvases())
    def test_gives_what_eager_mode_gives(self, made: Any) -> None:
        written = as_json(made)
        assume(has_task(written))
        event(f"{written['task']}")

        ours, theirs = compiled(written), eagerly(made)

        assert ours == theirs

    @SETTINGS
    @given(canvases(may_fail=True, is_linked=False))
    def test_fails_when_eager_mode_fails(self, made: Any) -> None:
        written = as_json(made)
        assume(has_task(written))

        (state, value), _ = compiled(written)
        (expected, wanted), _ = eagerly(made)

        event(expected)
        assert (state, value if state == "completed" else "") == (expected, wanted if state == "completed" else "")

    @SETTINGS
    @given(
        st.lists(tasks(may_fail=True), min_size=1, max_size=5),
        st.lists(TAGS, max_size=2, unique=True),
        st.booleans(),
        st.data(),
    )
    def test_calls_the_error_links_of_chains_that_eager_mode_calls(
        self, parts: list[Any], tags: list[str], on_chain: bool, data: st.DataObject
    ) -> None:
        errbacks = [failed.s(*data.draw(st.lists(LITERALS, max_size=1)), tag=tag) for tag in tags]
        made = chain(parts)
        for errback in errbacks:
            (made if on_chain else data.draw(st.sampled_from(made.tasks))).link_error(errback)
        written = as_json(made)

        ours, theirs = compiled(written), eagerly(made)

        event(f"{theirs[0][0]}, {sum(theirs[1].values())} calls")
        assert ours == theirs
