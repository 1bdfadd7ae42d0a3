"""What a workflow comes to: a sequential interpreter that knows nothing of the engine.

It asks of each step, recursively, what it comes to, given what those before it come to. There is no time, no order
and no parallelism in it. It says what would become of a step whose run went on to the end; the steps behind a failure
that ends the run are ``unreached``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coordination.asking import Templates
from coordination.graph import Ask, Graph, Step


@dataclass(frozen=True, slots=True)
class Result:
    """What a step or run comes to."""

    state: str  # completed failed skipped unreached
    output: Any = None
    is_tolerated: bool = False  # a failure that lets the run go on, whatever the step says of failures


# What agents, people and clocks make of the input they get at a place, (graph, step, item or None, use): completed or
# failed.
Oracle = Callable[[tuple[str, str, int | None, str], Any], Result]


class Reference:
    """One run of a graph."""

    def __init__(self, graph: Graph, input: Any, oracle: Oracle, templates: Templates, graphs: Mapping[str, Graph]):
        self.graph, self.oracle, self.templates, self.graphs = graph, oracle, templates, graphs
        self.input = input
        self.results: dict[str, Result] = {}
        self.all_above: dict[str, set[str]] = {}
        self.chosen_by: dict[str, list[str]] = {}
        for step in graph.steps:
            for name in {name for case in step.cases for name in case.then}:
                self.chosen_by.setdefault(name, []).append(step.name)

    def run(self) -> Result:
        """Return what the run comes to."""
        for step in self.graph.steps:
            self.result(step.name)
        if any(self.breaks(step) for step in self.graph.steps):
            return Result("failed")
        if self.graph.output is not None:
            try:
                return Result("completed", self.templates.fill(self.graph.output, self.scope()))
            except Exception:
                return Result("failed")
        followed = {name for step in self.graph.steps for name in self.before(step)}
        ends = [step.name for step in self.graph.steps if step.name not in followed]
        return Result(
            "completed",
            {name: self.results[name].output for name in ends if self.results[name].state == "completed"},
        )

    def result(self, name: str) -> Result:
        """Return what the step comes to."""
        if name not in self.results:
            self.results[name] = self.interpret(self.graph.step(name))
        return self.results[name]

    def interpret(self, step: Step) -> Result:
        """Find out what the step comes to."""
        before = [(self.graph.step(name), self.result(name)) for name in self.before(step)]
        if any(result.state == "unreached" or self.breaks_at_once(other) for other, result in before):
            return Result("unreached")
        if before and all(result.state == "skipped" for _, result in before):
            return Result("skipped")
        if step.needs == "completed" and any(result.state != "completed" for _, result in before):
            return Result("skipped")
        for choice in self.chosen_by.get(step.name, []):
            chosen = self.result(choice)
            if chosen.state == "failed" or (chosen.state == "completed" and step.name not in chosen.output["then"]):
                return Result("skipped")
        try:
            if step.when and not self.templates.holds(step.when, self.scope()):
                return Result("skipped")
            return getattr(self, f"do_{step.kind}")(step)  # type: ignore[no-any-return]
        except Exception:  # a template that cannot be filled in
            return Result("failed")

    def do_task(self, step: Step) -> Result:
        """Ask the skill, and then the fallback."""
        assert step.ask is not None
        return self.asked(step, step.ask, None, self.scope())

    def do_map(self, step: Step) -> Result:
        """Ask for each item."""
        assert step.ask is not None
        assert step.over is not None
        items = self.templates.fill(step.over.items, self.scope())
        keys: list[str] | None = None
        if isinstance(items, dict):
            keys, items = list(items), list(items.values())
        elif not isinstance(items, list):
            return Result("failed")
        elif step.over.key:
            keys = [str(self.templates.fill(step.over.key, {**self.scope(), "item": item})) for item in items]
            if len(set(keys)) < len(keys):
                return Result("failed")
        results = []
        for index, item in enumerate(items):
            try:
                results.append(self.asked(step, step.ask, index, {**self.scope(), "item": item}))
            except Exception:
                results.append(Result("failed"))
        good = sum(result.state == "completed" for result in results)
        if good < math.ceil(step.over.min_success * len(items) - 1e-9):
            return Result("failed")
        outputs = [result.output for result in results]
        return Result("completed", outputs if keys is None else dict(zip(keys, outputs, strict=True)))

    def asked(self, step: Step, ask: Ask, item: int | None, scope: Any) -> Result:
        """Return what the agents make of it."""
        input = self.templates.fill(ask.input, scope)
        first = self.oracle((self.graph.name, step.name, item, "step"), input)
        if first.state == "failed" and ask.fallback and first.output != "hangs":
            first = self.oracle((self.graph.name, step.name, item, "fallback"), input)
        return Result("completed", first.output) if first.state == "completed" else Result("failed")

    def do_choice(self, step: Step) -> Result:
        """Take the first case that holds."""
        for place, case in enumerate(step.cases):
            if not case.when or self.templates.holds(case.when, self.scope()):
                return Result("completed", {"case": place, "then": list(case.then)})
        return Result("completed", {"case": None, "then": []})

    def do_approval(self, step: Step) -> Result:
        """Ask people."""
        answer = self.oracle((self.graph.name, step.name, None, "answer"), None)
        assert step.form is not None
        if answer.state == "completed":
            given = answer.output
            return Result("completed", {"approved": given is not False, "answer": given, "by": "somebody"})
        if step.form.on_expiry in ("approve", "reject"):
            said = step.form.on_expiry == "approve"
            return Result("completed", {"approved": said, "answer": said, "by": ""})
        return Result("failed", is_tolerated=step.form.on_expiry == "continue")

    def do_wait(self, step: Step) -> Result:
        """Wait; only a signal can fail to come."""
        assert step.pause is not None
        if step.pause.signal:
            return self.oracle((self.graph.name, step.name, None, "signal"), None)
        return Result("completed")

    def do_workflow(self, step: Step) -> Result:
        """Run the other workflow."""
        assert step.child is not None
        input = self.templates.fill(step.child.input, self.scope())
        graph = self.graphs.get(step.child.workflow)
        if graph is None:
            return Result("failed")
        return Reference(graph, input, self.oracle, self.templates, self.graphs).run()

    def do_compensate(self, step: Step) -> Result:
        """Undo all that came before."""
        undone = [other for other in self.graph.steps if other.undo and other.name in self.above(step)
                  and self.result(other.name).state == "completed"]  # fmt: skip
        bad = [other for other in undone if self.undo(other).state == "failed"]
        return Result("failed") if bad else Result("completed", {"undone": [other.name for other in undone]})

    def undo(self, step: Step) -> Result:
        """Return what undoing the step comes to."""
        assert step.undo is not None
        input = self.templates.fill(step.undo.input, self.scope())
        return self.oracle((self.graph.name, step.name, None, "undo"), input)

    def above(self, step: Step) -> set[str]:
        """Return the names of all steps before the step."""
        if step.name not in self.all_above:
            names = self.before(step)
            self.all_above[step.name] = set(names).union(*(self.above(self.graph.step(name)) for name in names))
        return self.all_above[step.name]

    def before(self, step: Step) -> list[str]:
        """Return what has to end before the step."""
        return list(dict.fromkeys([*step.after, *self.chosen_by.get(step.name, [])]))

    def breaks_at_once(self, step: Step) -> bool:
        """Return True if the run does not go on after the step."""
        return step.on_error != "fail_late" and self.breaks(step)

    def breaks(self, step: Step) -> bool:
        """Return True if the step ends the run."""
        result = self.result(step.name)
        return result.state == "failed" and not result.is_tolerated and step.on_error != "continue"

    def scope(self) -> dict[str, Any]:
        """Return what templates see; they may only speak of what comes before."""
        steps = {name: {"output": result.output, "state": result.state, "error": None}
                 for name, result in self.results.items() if result.state != "unreached"}  # fmt: skip
        return {"run": {"id": "", "input": self.input}, "steps": steps}
