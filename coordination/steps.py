"""Workflows written in Python: the same graph as from YAML.  Pure.

    from coordination.steps import approval, from_steps, run, steps, task

    graph = from_steps("write", [
        task("research", "web.research", {"topic": run.input.topic}),
        task("draft", "text.write", {"links": steps.research.output.links}, timeout_s=600),
        approval("publish", f"Publish the text about {run.input.topic}?", after="draft", expires_s=86_400),
    ])

``steps``, ``run`` and ``item`` stand for what will be known when a step begins; whatever is taken from them is written
as a template. A step without ``after`` follows those that it looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from coordination import dependencies
from coordination.graph import Ask, Case, Child, Form, Graph, OnError, OnExpiry, Over, Pause, Step
from coordination.problems import Path
from coordination.templates import template
from routing.retries import RetryPolicy

Names = str | Sequence[str]


class Later:
    """A place in what a run will know. Members and items lead further; as text it is a template."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Later:
        if name.startswith("__"):
            raise AttributeError(name)
        return Later((*self._path, name))

    def __getitem__(self, part: str | int) -> Later:
        return Later((*self._path, part))

    def __str__(self) -> str:
        return template(self._path)

    __repr__ = __str__


steps, run, item = Later(("steps",)), Later(("run",)), Later(("item",))


class Common(TypedDict, total=False):
    """What every step can have."""

    after: Names  # left out: the steps that it looks at
    when: str
    on_error: OnError


class Asked(Common, total=False):
    """What a step that asks an agent can have besides; as in ``graph.Ask``."""

    version: str
    labels: Mapping[str, str]
    requires: str
    agent: str
    priority: int
    wait_s: float
    timeout_s: float
    total_s: float
    retries: RetryPolicy
    max_attempts: int
    fallback: str
    undo: Ask


@dataclass(frozen=True, slots=True)
class Draft:
    """A step, and whether somebody said what it follows."""

    step: Step
    is_after_given: bool


def ask(skill: str, input: Any = None, **more: Any) -> Ask:
    """Return what is asked of an agent: for ``undo``. ``more`` are the members of ``graph.Ask``."""
    return Ask(skill=skill, input=_json(input), **more)


def task(name: str, skill: str, input: Any = None, **more: Unpack[Asked]) -> Draft:
    """Return a step that asks one agent."""
    return _draft(name, "task", more, ask=ask(skill, input, **_of_ask(more)), undo=more.get("undo"))


def each(
    name: str,
    items: Any,
    skill: str,
    input: Any = None,
    *,
    key: Any = "",
    max_parallel: int | None = None,
    min_success: float = 1.0,
    **more: Unpack[Asked],
) -> Draft:
    """Return a map: a step that asks for every item of a list that is known by then. ``item`` is the one at hand."""
    over = Over(items=_json(items), key=_text(key), max_parallel=max_parallel, min_success=min_success)
    return _draft(name, "map", more, ask=ask(skill, input, **_of_ask(more)), over=over, undo=more.get("undo"))


def case(when: str, *then: str) -> Case:
    """Return a way out of a choice: the names of the steps that go on when the condition holds."""
    return Case(when=when, then=then)


def otherwise(*then: str) -> Case:
    """Return the way out of a choice when no other case holds."""
    return Case(when="", then=then)


def choice(name: str, *cases: Case, **more: Unpack[Common]) -> Draft:
    """Return a step that lets the first case go on whose condition holds."""
    return _draft(name, "choice", more, cases=cases)


def approval(
    name: str,
    title: Any,
    *,
    text: Any = "",
    schema: Mapping[str, Any] | None = None,
    who: Names = (),
    remind_s: float | None = None,
    expires_s: float | None = None,
    on_expiry: OnExpiry = "fail",
    **more: Unpack[Common],
) -> Draft:
    """Return a step that a person answers; ``schema`` is that of the answer, None is yes or no."""
    form = Form(
        title=_text(title), text=_text(text), schema=schema or {}, who=_names(who),
        remind_s=remind_s, expires_s=expires_s, on_expiry=on_expiry,
    )  # fmt: skip
    return _draft(name, "approval", more, form=form)


def child(
    name: str,
    workflow: str,
    input: Any = None,
    *,
    version: int | None = None,
    undo: Ask | None = None,
    **more: Unpack[Common],
) -> Draft:
    """Return a step that runs another workflow."""
    part = Child(workflow=workflow, version=version, input=_json(input))
    return _draft(name, "workflow", more, child=part, undo=undo)


def wait(
    name: str,
    seconds: float | None = None,
    *,
    until: Any = "",
    signal: str = "",
    timeout_s: float | None = None,
    **more: Unpack[Common],
) -> Draft:
    """Return a step that waits for one of the three: so long, until a moment, or for a signal."""
    pause = Pause(seconds=seconds, until=_text(until), signal=signal, timeout_s=timeout_s)
    return _draft(name, "wait", more, pause=pause)


def compensate(name: str, **more: Unpack[Common]) -> Draft:
    """Return a step that undoes what has been done so far, the last first."""
    return _draft(name, "compensate", more)


def from_steps(
    name: str,
    drafts: Iterable[Draft | Step],
    *,
    input_schema: Mapping[str, Any] | None = None,
    output: Any = None,
    priority: int = 5,
    total_s: float | None = None,
    max_active_runs: int | None = None,
    on_full: Literal["queue", "reject", "replace"] = "queue",
) -> Graph:
    """Return the workflow's graph. Whether it could run is what ``validation.problems`` says."""
    drafts = list(drafts)
    found = [draft if isinstance(draft, Step) else draft.step for draft in drafts]
    given = [draft.name if isinstance(draft, Step) else draft.step.name for draft in drafts
             if isinstance(draft, Step) or draft.is_after_given]  # fmt: skip
    return Graph(
        name=name, steps=dependencies.with_after(found, given), input_schema=input_schema or {}, output=_json(output),
        priority=priority, total_s=total_s, max_active_runs=max_active_runs, on_full=on_full,
    )  # fmt: skip


def _draft(name: str, kind: Any, more: Mapping[str, Any], **parts: Any) -> Draft:
    common = {key: more[key] for key in ("when", "on_error") if key in more}
    step = Step(name=name, kind=kind, after=_names(more.get("after", ())), **common, **parts)
    return Draft(step, is_after_given="after" in more)


def _of_ask(more: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in more.items() if key not in ("after", "when", "on_error", "undo")}


def _json(value: Any) -> Any:
    """Return the value with templates as text."""
    if isinstance(value, Later):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _json(inner) for key, inner in value.items()}
    return [_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    return str(value)


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
