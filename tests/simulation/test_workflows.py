"""Random workflows come to what a sequential interpreter says, whatever dies meanwhile."""

from __future__ import annotations

import os
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from coordination import events as e
from coordination.graph import Graph
from tests.simulation.reference import Reference, Result
from tests.simulation.workflows import ROOT, Fate, Odds, Templates, World, Writer

EXAMPLES = int(os.environ.get("WORKFLOW_EXAMPLES", "500"))
SEEDS = st.integers(0, 2**32 - 1)

HOPELESS = {"template", "bad_input", "run", "expired", "timeout", "deadline"}  # nobody's fault, or the clock's


def made(size: int, fails: float, kill: float, seed: int) -> tuple[World, Graph, Reference]:
    """Return a world, a graph to run in it, and what it should come to."""
    odds = Odds(fails=fails, hangs=fails / 5, unfilled=fails / 5, kill=kill)
    random, fate = Random(seed), Fate(seed, odds)
    writer = Writer(random, fate)
    graph = writer.graph(size)
    return World(writer, random, fate), graph, Reference(graph, {"n": 1}, fate, Templates(), writer.graphs)


def references(world: World, reference: Reference) -> dict[str, Reference]:
    """Return what each run of the world should come to, the sub-runs' included."""
    found = {ROOT: reference}
    for run, spec in world.rows.specs.items():
        if run not in found:
            found[run] = Reference(spec.graph, spec.input, world.fate, Templates(), world.graphs)
    return found


def check_run(world: World, run: str, reference: Reference) -> None:
    """Assert that the run and each of its steps came to what they should have."""
    expected, row = reference.run(), world.rows.run(run)
    if row.state == "canceled":
        assert row.run != ROOT
    else:
        assert (row.state, row.output) == (expected.state, expected.output)
    for step in reference.graph.steps:
        check_step(world, run, step.name, reference.result(step.name), is_whole=row.state == "completed")


def check_step(world: World, run: str, step: str, expected: Result, *, is_whole: bool) -> None:
    """Assert that the step came to what it should have; in a run that ended early it may have come to nothing."""
    row = world.rows.step(run, step)
    if row is None or row.state == "canceled":
        assert not is_whole
        return
    state = "completed" if row.state == "undone" else row.state
    assert (state, row.output) == (expected.state, expected.output if expected.state != "failed" else None), step


def check_undone(world: World, run: str, reference: Reference) -> None:
    """Assert that a run that compensates has undone what it had done, the last first, each step once."""
    events = world.events[run]
    row = world.rows.run(run)
    undoing = [event.step for event in events if event.kind == "step_undoing"]
    assert len(undoing) == len(set(undoing))
    if not row.compensate or row.state != "failed":
        return
    steps = [kept for step in reference.graph.steps if step.undo and (kept := world.rows.step(run, step.name))]
    done = [kept for kept in steps if kept.state in ("completed", "undone")]
    assert {kept.step for kept in done} == set(undoing)
    last = [kept for kept in done if not kept.undone_by]
    assert [kept.step for kept in sorted(last, key=lambda kept: -kept.order)] == [
        name for name in undoing if name in {kept.step for kept in last}
    ]
    for kept in done:
        came = reference.undo(reference.graph.step(kept.step))
        assert (kept.state == "undone") == (came.state == "completed")


class TestWorkflows:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.integers(1, 60), st.sampled_from((0.0, 0.02, 0.1, 0.3)), st.sampled_from((0.1, 0.5, 1.0)), SEEDS)
    def test_come_to_what_the_reference_says(self, size: int, fails: float, kill: float, seed: int) -> None:
        world, graph, reference = made(size, fails, kill, seed)

        world.start(graph, {"n": 1})
        world.go_on()

        world.check_history()
        for run, expected in references(world, reference).items():
            check_run(world, run, expected)
            check_undone(world, run, expected)

    @settings(max_examples=EXAMPLES // 2, deadline=None)
    @given(st.integers(1, 30), st.sampled_from((0.0, 0.1, 0.3)), st.sampled_from((0.1, 0.5)), SEEDS)
    def test_end_whatever_people_ask(self, size: int, fails: float, kill: float, seed: int) -> None:
        world, graph, _ = made(size, fails, kill, seed)
        world.odds.verbs = 0.1

        world.start(graph, {"n": 1})
        world.go_on()

        world.check_history()

    @settings(max_examples=EXAMPLES // 5, deadline=None)
    @given(st.integers(1, 60), st.sampled_from((0.02, 0.1, 0.3)), SEEDS)
    def test_that_failed_complete_by_retries_once_everything_goes_well(
        self, size: int, fails: float, seed: int
    ) -> None:
        world, graph, _ = made(size, fails, 0.5, seed)
        world.start(graph, {"n": 1})
        world.go_on()
        world.fate.healed = True

        if world.rows.run(ROOT).state == "failed":
            world.ask(e.RetryAsked(run=ROOT))
            world.go_on()

        world.check_history()
        row = world.rows.run(ROOT)
        assert row.state == "completed" or (row.error is not None and row.error["kind"] in HOPELESS)
