"""Compiled canvases come to the same as Celery's eager mode, for canvases that hypothesis makes up.

Where eager mode does otherwise than Celery's own workers (5.7.0), the canvases here keep clear of it:

- A chain that fails in a group raises out of ``group.apply``: members after it are never run. So where there are
  groups and failures, only the outcome is compared, not which links were called.
- ``chord.apply`` raises when its header fails, without calling the body's error links; workers call them.
- ``chain.apply`` replaces a task's own error links by the chain's; workers call both. It passes them to every member of
  a group; workers make that group a chord, and call the body's once.
- A chain that consists of one group of one member comes to a list; workers run the member in its place.
- ``chunks.apply`` comes to a ``GroupResult`` that was never joined; ``chunks(…).group()`` is what runs.
- Error links get Celery's own request and exception there, so only the exception's text is compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from celery import chain
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from coordination import canvas
from coordination.live_canvas import as_json
from tests.coordination import in_engine
from tests.coordination.canvases import CALLS, FUNCTIONS, LITERALS, TAGS, Boom, app, canvases, failed, has_task, tasks
from tests.coordination.sequential import Run


@pytest.fixture(autouse=True, scope="module")
def _current_app() -> Iterator[None]:
    """Signatures within signatures belong to the current app."""
    before: Any = celery.current_app._get_current_object()  # type: ignore[attr-defined]
    app.set_current()
    yield
    before.set_current()


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


def in_the_engine(written: Any) -> tuple[tuple[str, Any], Counter[str]]:
    """Return the same of the compiled graph in the engine, where steps end in another order."""
    CALLS.clear()
    state, value = in_engine.outcome(canvas.compile(written, name="oracle", known=FUNCTIONS), FUNCTIONS)
    return (state, value if state == "completed" else value["cause"]["message"]), Counter(CALLS)


def plain(value: Any) -> Any:
    """Return the value with lists for tuples."""
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, max_examples=200)


class TestCompile:
    """Each method is some hundred canvases."""

    @SETTINGS
    @given(canvases())
    def test_gives_what_eager_mode_gives(self, made: Any) -> None:
        written = as_json(made)
        assume(has_task(written))
        event(f"{written['task']}")

        ours, theirs, engines = compiled(written), eagerly(made), in_the_engine(written)

        assert ours == theirs
        assert engines == theirs

    @SETTINGS
    @given(canvases(may_fail=True, is_linked=False))
    def test_fails_when_eager_mode_fails(self, made: Any) -> None:
        written = as_json(made)
        assume(has_task(written))

        (state, value), _ = compiled(written)
        (expected, wanted), _ = eagerly(made)
        (engines, its), _ = in_the_engine(written)

        event(expected)
        assert state == engines == expected
        assert expected == "failed" or value == its == wanted

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
        made: Any = chain(*parts)
        for errback in errbacks:
            (made if on_chain else data.draw(st.sampled_from(made.tasks))).link_error(errback)
        written = as_json(made)

        ours, theirs, engines = compiled(written), eagerly(made), in_the_engine(written)

        event(f"{theirs[0][0]}, {sum(theirs[1].values())} calls")
        assert ours == theirs
        assert engines == theirs
