"""What a signature asks for: an agent's skill, or a project's own Celery task.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from coordination.graph import Ask
from coordination.signatures import AGENT_TASK, BadCanvas, Node
from coordination.templates import literal
from coordination.timing import Timing

CALL_SKILL = "celery"  # what runs a project's own task: its input is the step's ``call``
QUEUE_LABEL = "queue"  # a signature's queue becomes this label of the agent that may run it
INTAKE = "intake"  # the queue for callers without our code; it says nothing about who runs the task
ITEM = "{{ item }}"
MAX_LABEL = 60  # characters of a task's or skill's name that are kept in the step's
TAKEN = frozenset({"version", "priority", "labels", "requires", "agent", "timeout_s", "max_attempts"})


def ask(node: Node, timing: Timing, *, given: tuple[Any, ...], failure: Mapping[str, Any] | None) -> Ask:
    """Return what the step of a task or map asks for. Raises ``BadCanvas``.

    ``given`` is what the step before passes on, JSON with templates, or (); ``failure`` is what an error link gets.
    """
    if node.task != AGENT_TASK:
        return _call(node, timing, given, failure)
    if node.kind != "task":
        given = ("{{ item[0] }}" if node.kind == "starmap" else ITEM,)
        if node.kind == "starmap" and any(len(item) != 1 for item in node.items):
            raise BadCanvas(
                f"{node.path}: run_agent_task takes one positional argument, so each item is a list of one."
            )
    return _agent(node, timing, (*given, *((failure,) if failure else ()), *literal(node.args)))


def arguments(asked: Ask) -> dict[str, Any]:
    """Return with what the task was called, for its error links."""
    if asked.call is None:
        return {"args": [], "kwargs": {"skill": asked.skill, "input": asked.input}}
    return {"args": asked.call["args"], "kwargs": asked.call["kwargs"]} if asked.call["args"] != ITEM else _NO_ARGUMENTS


_NO_ARGUMENTS: dict[str, Any] = {"args": [], "kwargs": {}}


def label(node: Node) -> str:
    """Return a short name for the step, fit for conditions: of the skill, or of the task without its module."""
    name = str(node.kwargs.get("skill", "")) if node.task == AGENT_TASK else node.task.rpartition(".")[2]
    plain = re.sub(r"[^A-Za-z0-9_-]+|-{2,}", "-", name).strip("-_")[:MAX_LABEL].strip("-_")
    return plain if re.match(r"[A-Za-z]", plain) else f"step-{plain}".rstrip("-")


def _call(node: Node, timing: Timing, given: tuple[Any, ...], failure: Mapping[str, Any] | None) -> Ask:
    args: Any = [*given, *literal(node.args)]
    if node.kind != "task":
        args = ITEM if node.kind == "starmap" else [ITEM]
    call = {"task": node.task, "args": args, "kwargs": literal(node.kwargs)}
    return Ask(
        skill=CALL_SKILL,
        call={**call, "failed": failure} if failure else call,
        labels={QUEUE_LABEL: literal(timing.queue)} if timing.queue else {},
        priority=timing.priority,
        wait_s=timing.expires_s,
        timeout_s=timing.limit_s,
    )


def _agent(node: Node, timing: Timing, args: tuple[Any, ...]) -> Ask:
    """Return what a call of ``run_agent_task`` asks for, as ``routing.celery_task.bind`` reads it."""
    options = {name: value for name, value in node.kwargs.items() if name not in ("skill", "input")}
    skill, wanted = node.kwargs.get("skill"), node.kwargs.get("input")
    if not isinstance(skill, str) or not skill:
        raise BadCanvas(f"{node.path}: run_agent_task needs the name of a skill.")
    if unknown := sorted(set(options) - TAKEN):
        known = ", ".join(sorted(TAKEN))
        raise BadCanvas(f"{node.path}: run_agent_task takes no {unknown[0]!r} as a step of a run. It takes {known}.")
    if len(args) > 1:
        words = "run_agent_task got more than one positional argument; make it immutable, or leave its own one out"
        raise BadCanvas(f"{node.path}: {words}.")
    labels = dict(options.pop("labels", None) or {})
    if timing.queue and timing.queue != INTAKE:
        labels = {QUEUE_LABEL: timing.queue, **labels}
    own = {name: value for name, value in options.items() if value is not None}
    return Ask(
        skill=literal(skill),
        input=_input(node, literal(wanted), args[0] if args else None),
        labels=literal(labels),
        wait_s=timing.expires_s,
        **{"priority": timing.priority, "timeout_s": timing.limit_s, **literal(own)},
    )


def _input(node: Node, wanted: Any, previous: Any) -> Any:
    if previous is None:
        return wanted
    if wanted is None:
        return previous
    if isinstance(wanted, Mapping):
        return {**wanted, "previous": previous}
    words = "a step that gets the result of the one before takes an object as its input, or none"
    raise BadCanvas(f"{node.path}: {words}. An immutable one (si) takes anything.")
