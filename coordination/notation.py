"""How a workflow is written as YAML or JSON: the JSON Schema of the text.  Pure.

A step's kind is the key that says what it does: ``task``, ``map``, ``choice``, ``approval``, ``workflow``, ``wait`` or
``compensate``; a ``map`` has its ``task`` beside it. ``call``, a Celery signature, may stand where ``task`` can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

from coordination.durations import PATTERN
from coordination.graph import MAX_ITEMS, MAX_STEPS, Kind, Needs, OnError, OnExpiry
from routing.payloads import DIALECT
from routing.retries import KINDS, Where

Schema = dict[str, Any]

KIND_KEYS: Mapping[str, Kind] = {  # in this order: a map and a call may have a task beside them
    "map": "map", "choice": "choice", "approval": "approval", "workflow": "workflow", "wait": "wait",
    "compensate": "compensate", "call": "task", "task": "task",
}  # fmt: skip
MAX_NAME = 100
RULE_KEYS = ("attempts", "backoff", "factor", "max", "jitter", "to")
EVERY_KIND = "any"  # stands for "*", which YAML keeps for itself


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _span(description: str) -> Schema:
    words = f"{description} Seconds, or 90s, 5m, 1h30m, 2d."
    return {"type": ["string", "number"], "pattern": PATTERN, "minLength": 1, "minimum": 0, "description": words}


def _closed(properties: Schema, required: tuple[str, ...] = (), **more: Any) -> Schema:
    return {
        "type": "object", "properties": properties, "required": list(required), "additionalProperties": False, **more,
    }  # fmt: skip


_ANYTHING: Schema = {"description": "JSON; its texts may hold templates."}
_NAME = _text("A name.", minLength=1, maxLength=MAX_NAME)
_NAMES: Schema = {"type": ["string", "array"], "items": _NAME, "minLength": 1}
_SCHEMA: Schema = {"type": "object", "description": "A JSON Schema, draft 2020-12."}

_RULE_PROPERTIES: Schema = {
    "attempts": {"type": "integer", "minimum": 1, "maximum": 100, "description": "At most so many attempts."},
    "backoff": _span("The first wait."),
    "factor": {"type": "number", "minimum": 1, "maximum": 10, "description": "Each later wait is so much longer."},
    "max": _span("No wait is longer."),
    "jitter": {"type": "number", "minimum": 0, "maximum": 1, "description": "Waits are shorter by up to this share."},
    "to": {"enum": list(get_args(Where)), "description": "The agent that tries again."},
}
_RULE = _closed(_RULE_PROPERTIES)
_RETRY: Schema = _closed(
    {**_RULE_PROPERTIES, **dict.fromkeys((EVERY_KIND, *KINDS), _RULE)},
    description="One rule for every kind of error, or a rule per kind.",
)
_ASK: Schema = {
    "input": _ANYTHING,
    "version": _text("Of the skill; the newest unless given."),
    "labels": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Labels of the task."},
    "requires": _text("A selector over the agents' labels, such as region in (eu, us)."),
    "agent": _text("The one agent that may do it."),
    "priority": {"type": "integer", "minimum": 0, "maximum": 9, "description": "9 is most urgent."},
    "timeouts": _closed(
        {"wait": _span("For an agent."), "attempt": _span("One attempt's work."), "total": _span("All together.")}
    ),
    "attempts": {"type": "integer", "minimum": 1, "maximum": 100, "description": "At most so many attempts."},
    "retry": _RETRY,
    "fallback": _text("A skill that is asked once this one has failed for good."),
}
_WHAT: Schema = {
    "task": _text("The skill that is asked for.", minLength=1),
    "call": {"type": "object", "description": "A Celery signature in place of a skill."},
}
_EVERY: Schema = {
    "after": {**_NAMES, "description": "Steps that end before it begins. Left out: those it looks at."},
    "needs": {
        "enum": list(get_args(Needs)),
        "description": "What the steps before it have to have done: ended unless given.",
    },
    "when": _text("A condition; where it does not hold, the step is skipped."),
    "on_error": {"enum": list(get_args(OnError)), "description": "What becomes of the run when it fails."},
}
_UNDO: Schema = {
    "undo": _closed({**_WHAT, **_ASK}, minProperties=1, description="What compensates for the step once it is done.")
}
_CASE = _closed(
    {"when": _text("A condition; left out in the last case: otherwise."), "then": {**_NAMES, "description": "Steps."}},
    ("then",),
)
_WAIT: Schema = {
    "type": ["string", "number", "object"],
    "pattern": PATTERN,
    "minLength": 1,
    "minimum": 0,
    "properties": {
        "for": _span("So long."),
        "until": _text("A template that gives a moment, ISO 8601 with a zone."),
        "signal": _text("The name of a signal; its payload is the output.", minLength=1),
        "timeout": _span("For a signal; then the step fails."),
    },
    "additionalProperties": False,
    "description": "A span of time, or an object with for, until or signal.",
}


def _step(key: str, what: Schema, /, **rest: Any) -> Schema:
    return _closed({key: what, **rest, **_EVERY}, (key,))


STEPS: Mapping[str, Schema] = {  # by the key of KIND_KEYS
    "task": _step("task", _WHAT["task"], **_ASK, **_UNDO),
    "call": _step("call", _WHAT["call"], task=_WHAT["task"], **_ASK, **_UNDO),
    "map": _step(
        "map",
        {"description": "A list, an object, or the template of one.", "type": ["string", "array", "object"]},
        **_WHAT,
        key=_text("A template over item that names it."),
        max_parallel={"type": "integer", "minimum": 1, "maximum": MAX_ITEMS, "description": "Items at once."},
        min_success={"type": "number", "minimum": 0, "maximum": 1, "description": "Share that must succeed."},
        **_ASK,
        **_UNDO,
    ),
    "choice": _step("choice", {"type": "array", "items": _CASE, "minItems": 1, "description": "The first that holds."}),
    "approval": _step(
        "approval",
        _text("What is asked; may hold templates.", minLength=1),
        text=_text("More about it; may hold templates."),
        form={**_SCHEMA, "description": "JSON Schema of the answer; yes or no unless given."},
        who={**_NAMES, "description": "User names and group:NAME; any operator unless given."},
        remind=_span("After so long."),
        expires=_span("After so long."),
        on_expiry={"enum": list(get_args(OnExpiry)), "description": "What then."},
    ),
    "workflow": _step(
        "workflow",
        _text("The workflow that is run as a step.", minLength=1),
        version={"type": "integer", "minimum": 1, "description": "The newest unless given."},
        input=_ANYTHING,
        **_UNDO,
    ),
    "wait": _step("wait", _WAIT),
    "compensate": _step("compensate", {"const": True, "description": "Undoes what is done so far, the last first."}),
}

TOP: Schema = _closed(
    {
        "name": _NAME,
        "input_schema": {**_SCHEMA, "description": "JSON Schema of the run's input."},
        "steps": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": MAX_STEPS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_NAME},
            "additionalProperties": {"type": "object"},
        },
        "output": {"description": "JSON with templates; the last steps' outputs unless given."},
        "priority": {"type": "integer", "minimum": 0, "maximum": 9, "description": "9 is most urgent."},
        "timeout": _span("The whole run's time."),
        "max_active_runs": {"type": "integer", "minimum": 1, "description": "At once."},
        "on_full": {"enum": ["queue", "reject", "replace"], "description": "What becomes of one run more."},
    },
    ("name", "steps"),
)


def json_schema() -> Schema:
    """Return the published schema of a workflow's text: for editors, and for whoever writes definitions by program."""
    steps = {**TOP["properties"]["steps"], "additionalProperties": {"$ref": "#/$defs/step"}}
    kinds = {f"{key}_step": schema for key, schema in STEPS.items()}
    return {
        "$schema": DIALECT,
        "$id": "https://a2a-mission-control.example/published/workflow.schema.json",
        "title": "Workflow",
        **TOP,
        "properties": {**TOP["properties"], "steps": steps},
        "$defs": {
            "step": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in kinds]},
            **{name: _referring(schema) for name, schema in {**kinds, **_SHARED}.items()},
        },
    }


_SHARED: Mapping[str, Schema] = {"rule": _RULE, "retry": _RETRY, "undo": _UNDO["undo"]}


def _referring(schema: Schema) -> Schema:
    """Return the schema with references in place of what is shared."""
    names = {id(shared): name for name, shared in _SHARED.items() if shared is not schema}

    def copy(part: Any) -> Any:
        if id(part) in names:
            return {"$ref": f"#/$defs/{names[id(part)]}"}
        return {key: copy(inner) for key, inner in part.items()} if isinstance(part, dict) else part

    return cast(Schema, copy(schema))
