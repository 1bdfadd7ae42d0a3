"""From the graph to what its text says.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from coordination import dependencies
from coordination.durations import written
from coordination.graph import Ask, Child, Form, Graph, Over, Pause, Step
from coordination.notation import EVERY_KIND
from routing.retries import ANY, RetryPolicy, RetryRule

_RENAMED = {"backoff_s": "backoff", "max_s": "max", "on": "to"}
_NO_RULE = RetryRule()


def document(graph: Graph, *, is_brief: bool = True) -> dict[str, Any]:
    """Return what the graph's text says. Where it is brief, ``after`` is left out where it goes without saying."""
    inferred = dependencies.inferred_after(graph.steps) if is_brief else {}
    steps = {step.name: _step(step, inferred.get(step.name)) for step in graph.steps}
    return _given(
        name=graph.name,
        input_schema=dict(graph.input_schema) or None,
        priority=None if graph.priority == 5 else graph.priority,
        timeout=_span(graph.total_s),
        max_active_runs=graph.max_active_runs,
        on_full=None if graph.on_full == "queue" else graph.on_full,
        steps=steps,
        output=graph.output,
    )


def _step(step: Step, inferred: tuple[str, ...] | None) -> dict[str, Any]:
    what: dict[str, Any] = {}
    if step.over:
        what |= _over(step.over)
    if step.ask:
        what |= _ask(step.ask)
    if step.cases:
        what["choice"] = [_given(when=case.when or None, then=_names(case.then)) for case in step.cases]
    if step.form:
        what |= _form(step.form)
    if step.pause:
        what["wait"] = _pause(step.pause)
    if step.child:
        what |= _child(step.child)
    if step.kind == "compensate":
        what["compensate"] = True
    return what | _given(
        undo=_ask(step.undo) if step.undo else None,
        after=None if step.after == inferred else _names(step.after),
        when=step.when or None,
        needs=None if step.needs == "ended" else step.needs,
        on_error=None if step.on_error == "fail" else step.on_error,
    )


def _ask(ask: Ask) -> dict[str, Any]:
    timeouts = _given(wait=_span(ask.wait_s), attempt=_span(ask.timeout_s), total=_span(ask.total_s))
    return _given(
        task=ask.skill or None,
        call=None if ask.call is None else dict(ask.call),
        version=ask.version or None,
        input=ask.input,
        labels=dict(ask.labels) or None,
        requires=ask.requires or None,
        agent=ask.agent or None,
        priority=ask.priority,
        timeouts=timeouts or None,
        attempts=ask.max_attempts,
        retry=_retry(ask.retries) if ask.retries else None,
        fallback=ask.fallback or None,
    )


def _retry(policy: RetryPolicy) -> dict[str, Any]:
    rules = {EVERY_KIND if kind == ANY else kind: _rule(rule) for kind, rule in policy.rules.items()}
    general = rules.get(EVERY_KIND)
    return general if general and len(rules) == 1 else rules


def _rule(rule: RetryRule) -> dict[str, Any]:
    """Return the members of the rule that differ from the usual."""
    said: dict[str, Any] = {}
    for member in fields(RetryRule):
        value = getattr(rule, member.name)
        if value != getattr(_NO_RULE, member.name):
            said[_RENAMED.get(member.name, member.name)] = written(value) if member.name.endswith("_s") else value
    return said


def _over(over: Over) -> dict[str, Any]:
    return _given(
        map=over.items,
        max_parallel=over.max_parallel,
        min_success=None if over.min_success == 1.0 else over.min_success,
        key=over.key or None,
    )


def _form(form: Form) -> dict[str, Any]:
    return _given(
        approval=form.title,
        text=form.text or None,
        form=dict(form.schema) or None,
        who=_names(form.who) or None,
        remind=_span(form.remind_s),
        expires=_span(form.expires_s),
        on_expiry=None if form.on_expiry == "fail" else form.on_expiry,
    )


def _pause(pause: Pause) -> Any:
    if pause.seconds is not None:
        return _span(pause.seconds)
    return _given(until=pause.until or None, signal=pause.signal or None, timeout=_span(pause.timeout_s))


def _child(child: Child) -> dict[str, Any]:
    return _given(workflow=child.workflow, version=child.version, input=child.input)


def _span(span_s: float | None) -> str | float | None:
    return None if span_s is None else written(span_s)


def _names(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _given(**members: Any) -> dict[str, Any]:
    """Return the members that are not None, with texts and lists as JSON has them."""
    return {name: _plain(value) for name, value in members.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
