"""Runs a project's own Celery task by name, as Celery would, and says how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import celery
from celery import states
from celery.app.task import Context as Request
from celery.app.trace import build_tracer
from celery.exceptions import Retry
from celery.utils.functional import arity_greater
from kombu.utils import json as kombu_json

from routing.executors.contract import AgentFailed, BadInput, Job, Unavailable
from routing.executors.output import as_json
from routing.executors.python import failure

INTERNAL = ("celery.", "routing.")
KEYS = frozenset({"task", "args", "kwargs", "failed"})


class StepFailed(Exception):
    """What an error link gets as its exception. Its text is the message of the step's error, ``error`` all of it."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message", "failed")))
        self.error = dict(error)


def run(job: Job) -> Any:
    """Return the task's result as JSON. Raises ExecutorError."""
    call = _checked(job.input)
    task = _task(call["task"], job.options.get("tasks"))
    args, kwargs = arguments(task, call)
    return as_json(_result(task, args, kwargs, job))


def arguments(task: Any, call: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return with what to call the task.

    As in Celery an error link that takes more than one argument gets (request, exception, traceback) before its own,
    and any other gets the id of the task that failed.
    """
    args, kwargs, failed = tuple(call["args"]), dict(call["kwargs"]), call.get("failed")
    if failed is None:
        return args, kwargs
    error: Mapping[str, Any] = next((each for each in failed["errors"] if each), {})
    task_id = str(error.get("task") or failed["step"])
    if not _takes_more_than_one(task, args, kwargs):
        return (task_id, *args), kwargs
    request = Request(id=task_id, task=failed["task"], args=failed["args"], kwargs=failed["kwargs"])
    return (request, StepFailed(error), _traceback(error), *args), kwargs


def _takes_more_than_one(task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether Celery would call the task with the exception: arguments of its own are not counted."""
    header = getattr(task, "__header__", None)
    if header is None or isinstance(header, partial):
        return False
    try:
        return bool(arity_greater(partial(header, *args, **kwargs), 1))
    except (TypeError, ValueError):
        return bool(arity_greater(header, 1))


def _traceback(error: Mapping[str, Any]) -> Any:
    """Return the traceback as text, from wherever in the error's causes it stands; None if nowhere."""
    here: Any = error
    while isinstance(here, Mapping):
        detail = here.get("detail")
        if isinstance(detail, Mapping) and detail.get("traceback"):
            return detail["traceback"]
        here = here.get("cause")
    return None


def _checked(call: Any) -> dict[str, Any]:
    """Return the call with moments and the like as they were before they were JSON. Raises BadInput."""
    is_call = isinstance(call, Mapping) and isinstance(call.get("task"), str) and set(call) <= KEYS
    if not is_call or not isinstance(call.get("args", []), list) or not isinstance(call.get("kwargs", {}), Mapping):
        raise BadInput("The input must be {'task': name, 'args': [...], 'kwargs': {...}}.")
    try:
        return {"args": [], "kwargs": {}, **kombu_json.loads(json.dumps(call))}
    except (ValueError, TypeError, LookupError) as error:
        raise BadInput(f"The arguments cannot be read: {error}.") from None


def _task(name: str, allowed: Any) -> Any:
    """Return the registered task. Raises Unavailable."""
    if name.startswith(INTERNAL):
        raise Unavailable(f"{name} is not run as a step; it belongs to the machinery.", retryable=False)
    if not any(fnmatchcase(name, pattern) for pattern in allowed or ()):
        says = f"allows {', '.join(allowed)}" if allowed else "names none yet"
        raise Unavailable(f"This agent does not run {name}; its option 'tasks' {says}.", retryable=False)
    try:
        return celery.current_app.tasks[name]
    except LookupError:
        raise Unavailable(f"No task is called {name!r} on this worker. Is its module imported there?") from None


def _result(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], job: Job) -> Any:
    """Return what the task returns. Raises AgentFailed, with a delay if it asks for another attempt."""
    # Eager: nothing is published or stored here, and retry() raises without sending a message.
    tracer = build_tracer(task.name, task, eager=True, propagate=False, app=task.app)
    request = {
        "id": job.task_id, "root_id": job.task_id, "task": task.name, "args": list(args), "kwargs": kwargs,
        "retries": job.attempt - 1, "is_eager": True, "delivery_info": {"is_eager": True}, "hostname": job.agent,
    }  # fmt: skip
    ended = tracer(job.task_id, list(args), kwargs, request)
    if ended.info is None:
        return ended.retval
    raise _error(ended.info.retval, ended.info.state, args, kwargs)


def _error(raised: Any, state: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AgentFailed:
    """Return how an attempt ends that did not succeed."""
    if isinstance(raised, Retry):
        again: Any = getattr(raised, "sig", None)
        if again is not None and (tuple(again.args), dict(again.kwargs)) != (args, dict(kwargs)):
            return AgentFailed("The task asked to be tried again with other arguments, which a step cannot.")
        why = f": {raised.exc}" if raised.exc else ""
        return AgentFailed(f"The task asked to be tried again{why}", retryable=True, retry_in_s=_delay_s(raised.when))
    if state == states.REJECTED:
        return AgentFailed("The task rejected its message.", retryable=bool(raised.requeue), detail={"type": "Reject"})
    if state == states.IGNORED:
        return AgentFailed("The task raised Ignore, so there is no result to go on with.", detail={"type": "Ignore"})
    return failure(raised)


def _delay_s(when: Any) -> float:
    """Return seconds from now; a moment without a zone is UTC, as Celery takes it."""
    if isinstance(when, datetime):
        moment = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    return max(0.0, float(when or 0))
