"""How a step's templates become what is asked of an agent, or of anybody.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from coordination import events as e
from coordination.graph import Ask
from coordination.rows import Error
from coordination.runs_state import Book, Place

Scope = Mapping[str, Any]


class Templates(Protocol):
    """Fills templates in and decides conditions. Both may raise anything: the step that asked fails by it.

    A scope is ``{"run": {"id", "input", "context", "due"}, "steps": {name: {"output", "state", "error"}}}`` with the
    steps that have ended, and for an item of a map ``item`` beside them.
    """

    def fill(self, value: Any, scope: Scope) -> Any:
        """Return ``value``, any JSON, with its templates replaced."""

    def holds(self, expression: str, scope: Scope) -> bool:
        """Return whether the condition holds."""


class Unfillable(Exception):
    """A template cannot be filled in."""

    def __init__(self, error: Error) -> None:
        super().__init__(error["message"])
        self.error = error


class Asking:
    """Fills in templates, and submits tasks."""

    def __init__(self, book: Book, templates: Templates) -> None:
        self._book = book
        self._templates = templates

    def fill(self, value: Any, scope: Scope, what: str) -> Any:
        """Return the value with its templates filled in. Raises ``Unfillable``; ``what`` names it in words."""
        try:
            return self._templates.fill(value, scope)
        except Exception as error:  # whatever one workflow's template does must not stop all the others
            raise Unfillable(_unfilled(error, what)) from error

    def holds(self, expression: str, scope: Scope, what: str) -> bool:
        """Return whether the condition holds. Raises ``Unfillable``."""
        try:
            return bool(self._templates.holds(expression, scope))
        except Exception as error:  # as above
            raise Unfillable(_unfilled(error, what)) from error

    def text(self, value: str, scope: Scope, what: str) -> str:
        """Return a text with its templates filled in. Raises ``Unfillable``."""
        return str(self.fill(value, scope, what)) if "{{" in value else value

    def submit(
        self,
        place: Place,
        ask: Ask,
        scope: Scope,
        *,
        round: int,
        deadline: float | None = None,
        override: tuple[Any, ...] = (),
    ) -> None:
        """Submit the task of this place. Raises ``Unfillable``, with nothing said."""
        run, task = place.run, task_id(place, round)
        skill = ask.fallback if place.use == "fallback" else self.text(ask.skill, scope, "the skill")
        effect = e.Submit(
            task=task,
            run=run.spec.id,
            step=run.plan.graph.steps[place.step].name,
            round=round,
            item=place.item,
            use=place.use,
            skill=skill,
            version="" if place.use == "fallback" else self.text(ask.version, scope, "the version"),
            input=override[0] if override else self.fill(ask.input, scope, "the input"),
            labels={name: self.text(value, scope, f"the label {name}") for name, value in ask.labels.items()},
            requires=self.text(ask.requires, scope, "requires"),
            agent="" if place.use == "fallback" else self.text(ask.agent, scope, "the agent"),
            priority=run.spec.priority if ask.priority is None else ask.priority,
            deadline=deadline,
            wait_s=ask.wait_s,
            timeout_s=ask.timeout_s,
            retries=ask.retries,
            max_attempts=ask.max_attempts,
            call=None if ask.call is None or place.use == "fallback" else self.fill(ask.call, scope, "the call"),
        )
        self._book.tasks[task] = place
        self._book.say(effect)

    def recall(self, place: Place, round: int) -> None:
        """Take up a task that was submitted before this engine began."""
        self._book.tasks[task_id(place, round)] = place


def task_id(place: Place, round: int) -> str:
    """Return the id of the task at this place, always the same one."""
    item = "" if place.item is None else place.item
    return place.run.place(place.run.plan.graph.steps[place.step].name, round, item, place.use)


def task_error(fact: e.TaskEnded) -> Error:
    """Return why the task did not succeed."""
    words = {"canceled": "its task was canceled", "rejected": "its task was rejected"}.get(
        fact.state, "its task failed"
    )
    own: Any = fact.error or {}
    kind = own.get("kind") or ("canceled" if fact.state == "canceled" else "agent")
    cause = {**own, "state": fact.state, "task": fact.task}
    return {"kind": kind, "message": own.get("message") or words, "cause": cause}


def _unfilled(error: Exception, what: str) -> Error:
    return {"kind": "template", "message": f"{what} cannot be filled in: {error}"}
