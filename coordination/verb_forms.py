"""The verbs as people ask them: what each needs to know, and what is said when it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from coordination import bulk, runs, workflows
from coordination.graph import Graph
from coordination.models import ENDED, Run, StepRun
from routing import payloads


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """``fields`` are what is asked for beside the reason."""

    label: str
    done: str  # what is said once it was asked
    fields: tuple[str, ...] = ()


VERBS = {
    "pause": Verb(label="Pause", done="Pause asked for. What runs ends; nothing new begins."),
    "resume": Verb(label="Resume", done="Resume asked for."),
    "cancel": Verb(
        label="Cancel the run",
        done="Cancel asked for. The run ends when its tasks have confirmed that they stopped.",
        fields=("compensate",),
    ),
    "retry": Verb(label="Retry what failed", done="Asked to try the failed steps again."),
    "rerun": Verb(label="Run again from a step", done="Asked to run again from that step.", fields=("step", "input")),
    "skip": Verb(label="Skip a step", done="Asked to skip that step.", fields=("step",)),
    "fork": Verb(
        label="Fork: a new run from a step",
        done="This is the new run. The one it came from stays as it was.",
        fields=("step", "input"),
    ),
    "signal": Verb(label="Send a signal", done="The signal is on its way.", fields=("name", "payload")),
}


def fitting(run: Run) -> list[str]:
    """Return the verbs that may be asked of the run as it stands."""
    alive = run.state not in ENDED
    fits = {
        **{kind.value: run.state in states for kind, states in bulk.CAN.items()},
        "retry": run.state == "failed" or StepRun.objects.filter(run_id=run.id, state="failed").exists(),
        "rerun": True,
        "fork": True,
        "skip": run.state not in ("completed", "canceling"),
        "signal": alive and bool(signals(workflows.graph_of(run.definition))),
    }
    return [verb for verb in VERBS if fits[verb]]


def signals(graph: Graph) -> list[str]:
    """Return the names of the signals that the steps wait for."""
    return sorted({step.pause.signal for step in graph.steps if step.pause and step.pause.signal})


def act(run: Run, verb: str, posted: Mapping[str, Any], *, by: str) -> Run:
    """Ask the verb of the run with what was filled in, and return the run to look at. Raises a ``RoutingError``."""
    reason = str(posted.get("reason", "")).strip()
    payloads.check(reason, max_bytes=10_000, at="/reason")
    if verb == "fork":
        edited = str(posted.get("input", "")).strip()
        return runs.fork(
            run, step=str(posted.get("step", "")), by=by, reason=reason, input=json_of(edited), has_input=bool(edited)
        )
    data = FACTS[verb](posted) if verb in FACTS else {}
    runs.ask(run, runs.Kind(verb), by=by, reason=reason, **data)
    return run


def json_of(text: str) -> Any:
    """Return the value of a JSON box, None of an empty one. Raises a ``RoutingError``."""
    return payloads.loads(text, max_bytes=settings.A2A_MAX_INPUT_BYTES) if text.strip() else None


def _rerun(posted: Mapping[str, Any]) -> dict[str, Any]:
    edited = posted.get("input", "")
    data: dict[str, Any] = {"step": posted.get("step", "")}
    return data | {"input": json_of(edited)} if edited.strip() else data


FACTS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "cancel": lambda posted: {"compensate": posted.get("compensate") in ("yes", True)},
    "skip": lambda posted: {"step": posted.get("step", "")},
    "rerun": _rerun,
    "signal": lambda posted: {"name": posted.get("name", ""), "payload": json_of(posted.get("payload", ""))},
}
