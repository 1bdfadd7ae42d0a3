"""From what a text says to the graph.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from coordination import dependencies
from coordination.durations import seconds
from coordination.graph import Ask, Case, Child, Form, Graph, Kind, Over, Pause, Step
from coordination.notation import EVERY_KIND, KIND_KEYS, RULE_KEYS, STEPS, TOP
from coordination.problems import Path, Problem, listed
from routing.payloads import Misfit, misfits
from routing.retries import ANY, RetryPolicy, RetryRule

Value = Mapping[str, Any]

_TYPES = {
    "object": "an object", "array": "a list", "string": "text", "number": "a number", "integer": "a whole number",
    "boolean": "true or false", "null": "null",
}  # fmt: skip
_RENAMED = {"backoff": "backoff_s", "max": "max_s", "to": "on"}
_SPANS = ("backoff", "max")


def shape_problems(value: Any) -> Iterator[Problem]:
    """Yield what keeps the value from being a workflow's text; nothing more is yielded once it is a graph."""
    yield from (_problem(misfit, (), TOP, value) for misfit in misfits(TOP, value))
    steps = value.get("steps") if isinstance(value, Mapping) else None
    for name, step in steps.items() if isinstance(steps, Mapping) else ():
        if isinstance(step, Mapping):
            yield from _step_problems(step, ("steps", name))


def graph(value: Value, lines: Mapping[Path, int] | None = None) -> Graph:
    """Return the graph of a text in which ``shape_problems`` finds nothing."""
    lines = lines or {}
    steps = [_step(name, given, lines.get(("steps", name))) for name, given in value["steps"].items()]
    with_own = (name for name, given in value["steps"].items() if "after" in given)
    return Graph(
        name=value["name"],
        steps=dependencies.with_after(steps, with_own),
        input_schema=value.get("input_schema", {}),
        output=value.get("output"),
        priority=value.get("priority", 5),
        total_s=_seconds(value.get("timeout")),
        max_active_runs=value.get("max_active_runs"),
        on_full=value.get("on_full", "queue"),
    )


def kind_key(step: Value) -> str | None:
    """Return the key that says what the step does, or None."""
    return next((key for key in KIND_KEYS if key in step), None)


def _step_problems(step: Value, path: Path) -> Iterator[Problem]:
    key = kind_key(step)
    if key is None:
        near = [found for given in step for found in get_close_matches(given, KIND_KEYS, n=1)]
        rest = f"Is '{near[0]}' meant?" if near else f"One of {listed(KIND_KEYS)} has to be there."
        yield Problem(path=path, words=f"Nothing says what this step does. {rest}")
        return
    schema = STEPS[key]
    found = [_problem(misfit, path, schema, step) for misfit in misfits(schema, step)]
    yield from found or _beyond_schema(step, key, path)


def _beyond_schema(step: Value, key: str, path: Path) -> Iterator[Problem]:
    """Yield what the schema of a kind of step does not say."""
    if key == "map" and "task" not in step and "call" not in step:
        yield Problem(path=path, words="A map needs the task that is asked for each item.")
    undo = step.get("undo")
    if undo is not None and "task" not in undo and "call" not in undo:
        yield Problem(path=(*path, "undo"), words="It needs the task that is asked for.")
    wait = step.get("wait")
    if isinstance(wait, Mapping) and len(wait.keys() & {"for", "until", "signal"}) != 1:
        yield Problem(path=(*path, "wait"), words="A wait is for one thing: for, until or signal.")
    elif isinstance(wait, Mapping) and "timeout" in wait and "signal" not in wait:
        yield Problem(path=(*path, "wait", "timeout"), words="Only waiting for a signal can take too long.")
    for at, given in ((path, step), ((*path, "undo"), undo or {})):
        retry = given.get("retry", {})
        if (general := retry.keys() & set(RULE_KEYS)) and retry.keys() - general:
            words = f"Write one rule for all kinds of errors, or a rule per kind with '{EVERY_KIND}' for the rest."
            yield Problem(path=(*at, "retry"), words=words)


def _problem(misfit: Misfit, path: Path, schema: Value, value: Any) -> Problem:
    return Problem(path=path + misfit.path, words=_words(misfit, schema, value))


def _words(misfit: Misfit, schema: Value, value: Any) -> str:
    """Return in words how the value at the misfit's path differs from what is wanted."""
    wanted = misfit.wanted
    if misfit.keyword == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return (
            f"{' or '.join(_TYPES[kind] for kind in kinds).capitalize()} is wanted here, not {_brief(value, misfit)}."
        )
    if misfit.keyword == "additionalProperties":
        return _unknown_key(str(misfit.path[-1]), _known_keys(schema, misfit.path[:-1]))
    if misfit.keyword == "enum":
        return f"{_brief(value, misfit)} is none of {listed(map(str, wanted))}."
    if misfit.keyword == "required":
        return f"{misfit.words.removesuffix(' is a required property')} is missing."
    if misfit.keyword == "pattern":
        return f"{_brief(value, misfit)} is no span of time. Write 90s, 5m, 1h30m or 2d, or a number of seconds."
    if misfit.keyword == "minLength":
        return "It is empty."
    if misfit.keyword == "const":
        return "It can only be true."
    return f"{misfit.words[:1].upper()}{misfit.words[1:]}."


def _unknown_key(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1)
    rest = f"Is '{near[0]}' meant?" if near else f"There are {listed(sorted(known), most=99)}."
    return f"There is no '{key}' here. {rest}"


def _known_keys(schema: Value, path: Path) -> list[str]:
    """Return the keys that an object at the path may have."""
    for part in path:
        inner = schema.get("properties", {}).get(part) if isinstance(part, str) else schema.get("items")
        schema = inner if isinstance(inner, Mapping) else {}
    return list(schema.get("properties", ()))


def _brief(value: Any, misfit: Misfit) -> str:
    """Return what stands there, short enough for a sentence."""
    for part in misfit.path:
        value = value[part]
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _step(name: str, given: Value, line: int | None) -> Step:
    kind: Kind = KIND_KEYS[kind_key(given) or "task"]
    return Step(
        name=name,
        kind=kind,
        after=_names(given.get("after", ())),
        when=given.get("when", ""),
        ask=_ask(given) if kind in ("task", "map") else None,
        over=_over(given) if kind == "map" else None,
        cases=tuple(Case(when=case.get("when", ""), then=_names(case["then"])) for case in given.get("choice", ())),
        form=_form(given) if kind == "approval" else None,
        pause=_pause(given["wait"]) if kind == "wait" else None,
        child=_child(given) if kind == "workflow" else None,
        undo=_ask(given["undo"]) if "undo" in given else None,
        needs=given.get("needs", "ended"),
        on_error=given.get("on_error", "fail"),
        line=line,
    )


def _ask(given: Value) -> Ask:
    timeouts = given.get("timeouts", {})
    return Ask(
        skill=given.get("task", ""),
        version=given.get("version", ""),
        input=given.get("input"),
        labels=given.get("labels", {}),
        requires=given.get("requires", ""),
        agent=given.get("agent", ""),
        priority=given.get("priority"),
        wait_s=_seconds(timeouts.get("wait")),
        timeout_s=_seconds(timeouts.get("attempt")),
        total_s=_seconds(timeouts.get("total")),
        retries=_retries(given["retry"]) if "retry" in given else None,
        max_attempts=given.get("attempts"),
        fallback=given.get("fallback", ""),
        call=given.get("call"),
    )


def _retries(given: Value) -> RetryPolicy:
    by_kind = {EVERY_KIND: given} if given.keys() & set(RULE_KEYS) else given
    return RetryPolicy(rules={ANY if kind == EVERY_KIND else kind: _rule(rule) for kind, rule in by_kind.items()})


def _rule(given: Value) -> RetryRule:
    read: dict[str, Any] = {key: seconds(value) if key in _SPANS else value for key, value in given.items()}
    return RetryRule(**{_RENAMED.get(key, key): value for key, value in read.items()})


def _over(given: Value) -> Over:
    return Over(
        items=given["map"],
        max_parallel=given.get("max_parallel"),
        min_success=given.get("min_success", 1.0),
        key=given.get("key", ""),
    )


def _form(given: Value) -> Form:
    return Form(
        title=given["approval"],
        text=given.get("text", ""),
        schema=given.get("form", {}),
        who=_names(given.get("who", ())),
        remind_s=_seconds(given.get("remind")),
        expires_s=_seconds(given.get("expires")),
        on_expiry=given.get("on_expiry", "fail"),
    )


def _pause(given: Any) -> Pause:
    if not isinstance(given, Mapping):
        return Pause(seconds=seconds(given))
    return Pause(
        seconds=_seconds(given.get("for")),
        until=given.get("until", ""),
        signal=given.get("signal", ""),
        timeout_s=_seconds(given.get("timeout")),
    )


def _child(given: Value) -> Child:
    return Child(workflow=given["workflow"], version=given.get("version"), input=given.get("input"))


def _names(given: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _seconds(span: str | float | None) -> float | None:
    return None if span is None else seconds(span)
