"""What a compiled canvas comes to: a sequential interpreter that knows the graph's meaning and nothing of canvases."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coordination.graph import Graph, Step
from coordination.templates import fill

Functions = Mapping[str, Callable[..., Any]]  # the project's tasks by name


class Failed(Exception):
    """What an error link gets."""


@dataclass
class Run:
    """One run of a graph whose steps call functions in this process."""

    graph: Graph
    functions: Functions
    skills: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)  # what templates see

    def outcome(self) -> tuple[str, Any]:
        """Return ("completed", output) or ("failed", the message of the first error that counts)."""
        for step in self.graph.steps:  # each stands behind those that it waits for
            state, output, error = self.end(step)
            self.steps[step.name] = {"state": state, "output": output, "error": error}
        for step in self.graph.steps:
            if step.on_error != "continue" and self.steps[step.name]["state"] == "failed":
                return "failed", self.steps[step.name]["error"]["message"]
        return "completed", fill(self.graph.output, {"steps": self.steps})

    def state(self, name: str) -> str:
        """Return what became of the step."""
        return str(self.steps[name]["state"])

    def end(self, step: Step) -> tuple[str, Any, Any]:
        """Return (state, output, error) of the step."""
        before = [self.state(name) for name in step.after]
        if before and all(state == "skipped" for state in before):
            return "skipped", None, None
        if step.needs == "completed" and any(state != "completed" for state in before):
            return "skipped", None, None
        if step.when and not self.holds(step.when):
            return "skipped", None, None
        try:
            return "completed", self.output(step), None
        except Exception as error:
            return "failed", None, {"message": str(error), "step": step.name}

    def holds(self, expression: str) -> bool:
        """Return whether one of the alternatives ``steps.NAME.state == 'STATE'`` holds."""
        alternatives = [re.fullmatch(r"steps\.([\w-]+)\.state == '(\w+)'", part) for part in expression.split(" || ")]
        return any(self.state(found[1]) == found[2] for found in alternatives if found)

    def output(self, step: Step) -> Any:
        """Do what the step asks for."""
        if step.kind == "wait":
            return None
        assert step.ask is not None
        if step.over is None:
            return self.asked(step, {})
        items = fill(step.over.items, {"steps": self.steps})
        return [self.asked(step, {"item": item}) for item in items]

    def asked(self, step: Step, scope: dict[str, Any]) -> Any:
        """Call the function, or the skill."""
        assert step.ask is not None
        scope = {"steps": self.steps, **scope}
        if step.ask.call is None:
            return self.skills[step.ask.skill](fill(step.ask.input, scope))
        call = fill(step.ask.call, scope)
        args = call["args"]
        if "failed" in call:
            error = next(each for each in call["failed"]["errors"] if each)
            args = [call["failed"], Failed(error["message"]), None, *args]
        return self.functions[call["task"]](*args, **call["kwargs"])
