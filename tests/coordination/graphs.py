"""Workflows for tests: any that can be written, and a few made by hand."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from coordination.graph import Ask, Case, Child, Form, Graph, Over, Pause, Step
from routing.retries import ANY, KINDS, RetryPolicy, RetryRule

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=12)
WORDS = TEXTS.filter(bool)
SPANS = st.integers(1, 400_000) | st.floats(0.001, 1e5, allow_nan=False)
MAYBE_SPANS = st.none() | SPANS
SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXTS
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.sampled_from(["{{ run.input.x }}", "a {{ run.id }}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
RULES = st.builds(
    RetryRule,
    attempts=st.none() | st.integers(1, 100),
    backoff_s=st.floats(0, 30),
    factor=st.floats(1, 10),
    max_s=st.floats(30, 900),
    jitter=st.floats(0, 1),
    on=st.sampled_from(["another", "same", "any"]),
)
ASKS = st.builds(
    Ask,
    skill=WORDS,
    version=TEXTS,
    input=JSON,
    labels=st.dictionaries(WORDS, TEXTS, max_size=2),
    requires=TEXTS,
    agent=TEXTS,
    priority=st.none() | st.integers(0, 9),
    wait_s=MAYBE_SPANS,
    timeout_s=MAYBE_SPANS,
    total_s=MAYBE_SPANS,
    retries=st.none()
    | st.builds(RetryPolicy)
    | st.builds(RetryPolicy, rules=st.dictionaries(st.sampled_from([ANY, *KINDS]), RULES, max_size=3)),
    max_attempts=st.none() | st.integers(1, 100),
    fallback=TEXTS,
    call=st.none() | st.dictionaries(WORDS, SCALARS, max_size=2),
)
SCHEMAS = st.sampled_from([{}, {"type": "object", "properties": {"a": {"type": "string"}}}])
PARTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "task": st.fixed_dictionaries({"ask": ASKS, "undo": st.none() | ASKS}),
    "map": st.fixed_dictionaries(
        {
            "ask": ASKS,
            "undo": st.none() | ASKS,
            "over": st.builds(
                Over,
                items=st.lists(SCALARS, max_size=3) | st.just("{{ run.input.list }}"),
                max_parallel=st.none() | st.integers(1, 100),
                min_success=st.floats(0, 1),
                key=TEXTS,
            ),
        }
    ),
    "approval": st.fixed_dictionaries(
        {
            "form": st.builds(
                Form,
                title=WORDS,
                text=TEXTS,
                schema=SCHEMAS,
                who=st.lists(WORDS, max_size=2).map(tuple),
                remind_s=MAYBE_SPANS,
                expires_s=MAYBE_SPANS,
                on_expiry=st.sampled_from(["fail", "continue", "approve", "reject"]),
            )
        }
    ),
    "workflow": st.fixed_dictionaries(
        {
            "child": st.builds(Child, workflow=WORDS, version=st.none() | st.integers(1, 9), input=JSON),
            "undo": st.none() | ASKS,
        }
    ),
    "wait": st.fixed_dictionaries(
        {
            "pause": st.builds(Pause, seconds=SPANS)
            | st.builds(Pause, until=WORDS)
            | st.builds(Pause, signal=WORDS, timeout_s=MAYBE_SPANS)
        }
    ),
    "compensate": st.just({}),
}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Return a strategy for workflows of all kinds of steps; whether they could run does not matter."""
    names = draw(st.lists(WORDS, min_size=1, max_size=4, unique=True))
    steps = [_step(draw, name, names[:number]) for number, name in enumerate(names)]
    return Graph(
        name=draw(WORDS),
        steps=tuple(steps),
        input_schema=draw(SCHEMAS),
        output=draw(JSON),
        priority=draw(st.integers(0, 9)),
        total_s=draw(MAYBE_SPANS),
        max_active_runs=draw(st.none() | st.integers(1, 9)),
        on_full=draw(st.sampled_from(["queue", "reject", "replace"])),
    )


def _step(draw: st.DrawFn, name: str, earlier: list[str]) -> Step:
    kind: Any = draw(st.sampled_from([*PARTS, "choice"]))
    some = st.lists(st.sampled_from(earlier), max_size=3, unique=True) if earlier else st.just([])
    cases = st.lists(st.builds(Case, when=TEXTS, then=st.lists(WORDS, max_size=2).map(tuple)), min_size=1, max_size=2)
    parts = {"cases": tuple(draw(cases))} if kind == "choice" else draw(PARTS[kind])
    return Step(
        name=name,
        kind=kind,
        after=tuple(draw(some)),
        when=draw(TEXTS),
        on_error=draw(st.sampled_from(["fail", "continue", "compensate"])),
        **parts,
    )


def task(name: str, *after: str, input: Any = None, skill: str = "echo", **more: Any) -> Step:
    """Return a step that asks for a skill."""
    return Step(name=name, kind="task", after=after, ask=Ask(skill=skill, input=input), **more)


def graph(*steps: Step, **more: Any) -> Graph:
    """Return a workflow of the steps."""
    return Graph(name="test", steps=steps, **more)
