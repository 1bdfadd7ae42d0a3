"""How a Celery call of a routed task becomes a row in the ledger, and the row a Celery message again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

import celery
from celery._state import get_current_task
from celery.result import AsyncResult
from django.db import DatabaseError, connection
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from kombu.exceptions import EncodeError
from kombu.utils import json as kombu_json

from routing import errors, lifecycle
from routing.broker import Message
from routing.models import DEFAULT_TENANT

NAME = "routing.run_agent_task"
PATIENCE_S = 60.0
CONTINUATIONS = ("callbacks", "errbacks", "chain", "chord")  # in the third part of a message's body
OPTIONS = frozenset(
    {"tenant", "version", "priority", "labels", "requires", "agent", "exclude", "timeout_s", "max_attempts"}
    | {"idempotency_key", "context", "deadline"}
    | {"size", "concurrency_key", "affinity", "singleton", "debounce_s", "debounce_key", "throttle", "budget"}
    | {"wait_s", "retries"}
)  # keywords of run_agent_task that are not the skill and its input


class SubmissionRefused(EncodeError):
    """A step of a canvas could not be submitted. Celery fails the step before it with this error."""


class CallRefused(Exception):
    """What ``AsyncResult.get`` raises for a call that came through a queue and was not accepted."""


def step_key(task_id: str) -> str:
    """Return the key under which an agent may make its effects idempotent: the same for every attempt of a task."""
    return str(uuid5(NAMESPACE_URL, "a2a:" + task_id))


def task_uuid(task_id: str) -> UUID:
    """Return the ledger's id of a Celery task id: itself where it is a UUID, else one derived from it."""
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE_URL, "celery:" + task_id)


if TYPE_CHECKING:
    _Task = celery.Task[Any, Any]  # generic in its stubs alone
else:
    _Task = celery.Task


class AgentTask(_Task):
    """Base of routed tasks: calling one puts it into the ledger instead of a queue.

    All of Celery's notation goes on working: the message that Celery builds is kept as it is, with its links, chord
    and group, and the controller publishes it to the chosen agent's queue.
    """

    abstract = True
    ignore_result = False
    typing = True

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Submit the task and return its result handle. Raises ``routing.errors.RoutingError`` when it is refused."""
        recorder: Any = _Recorder(self)
        return super().apply_async(
            args, kwargs, task_id=task_id, producer=recorder, link=link, link_error=link_error, shadow=shadow, **options
        )


class _Recorder:
    """Stands in for Celery's producer: what would be published is submitted."""

    def __init__(self, task: AgentTask) -> None:
        self._task = task
        self.connection = self
        self.serializer = "json"
        self.auto_declare = False
        self.recoverable_connection_errors = ()

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def revive(self, connection: Any) -> None:
        """There is no connection to renew."""

    @contextmanager
    def _reraise_as_library_errors(self) -> Iterator[None]:
        yield

    def publish(self, body: Any, *, headers: Mapping[str, Any], **properties: Any) -> None:
        """Submit the call, or hand it to the running attempt if it is its own (``retry``, ``replace``)."""
        kept = {name: properties[name] for name in ("correlation_id", "reply_to") if properties.get(name)}
        call = _as_json({"body": body, "headers": dict(headers), "properties": kept})
        current = get_current_task()
        executing = current is not None and current.request.id and not current.request.called_directly
        if executing and current.request.id == headers["id"] and isinstance(current, AgentTask):
            from routing.worker import runtime  # only workers have one

            runtime().ask_again(current.request, call, in_s=_delay_s(headers.get("eta")))
            return
        try:
            _persist(call) if executing else submit_call(call, origin="celery")
        except errors.RoutingError as error:
            if executing:
                raise SubmissionRefused(f"the next step was refused: {error}") from error
            raise


def _as_json(call: dict[str, Any]) -> dict[str, Any]:
    """Return the call as it will be read again. Raises ``BadInput`` for one that links back to itself."""
    try:
        return dict(kombu_json.loads(kombu_json.dumps(call)))
    except (ValueError, TypeError, RecursionError) as error:
        why = "it links back to itself" if "ircular" in str(error) or isinstance(error, RecursionError) else str(error)
        raise errors.BadInput(why=f"The Celery call cannot be written as JSON: {why}.") from None


def _persist(call: dict[str, Any]) -> None:
    """Submit the next step of a canvas, and wait for a database that is locked or away: the step before has run."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            submit_call(call, origin="celery")
            return
        except DatabaseError:
            if time.monotonic() > give_up or connection.in_atomic_block:
                raise
            connection.close()
            time.sleep(0.5)


def submit_call(call: dict[str, Any], *, origin: str) -> lifecycle.Submitted:
    """Submit a recorded Celery call. The same id always gives the same task."""
    headers = {name: value for name, value in call["headers"].items() if name not in ("eta", "expires")}
    args, kwargs, embed = call["body"]
    try:
        skill, value, options = bind(*args, **kwargs)
    except TypeError as error:
        raise errors.BadInput(why=f"run_agent_task was called wrongly: {error}.") from None
    if options.get("context") is not None:
        options["context"] = task_uuid(str(options["context"]))
    else:
        options["context"] = _canvas_of(headers, embed)
        if embed.get("chord"):
            _give_context(embed["chord"], str(options["context"]))
    if options.get("throttle") is not None:
        options["throttle"] = _throttle(options["throttle"])
    has_continuation = any(embed.get(name) for name in CONTINUATIONS) or headers.get("group")
    eta, expires = call["headers"].get("eta"), call["headers"].get("expires")
    parent = headers.get("parent_id")
    return lifecycle.submit(
        lifecycle.Request(
            skill=skill,
            input=value,
            id=task_uuid(headers["id"]),
            parent=task_uuid(parent) if parent else None,
            not_before=_moment(eta),
            deadline=_moment(options.pop("deadline", None) or expires),
            origin=origin,
            call={**call, "headers": headers}
            if has_continuation or args or headers["id"] != str(task_uuid(headers["id"]))
            else {"headers": {}},
            **options,
        )
    )


def _canvas_of(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> UUID | None:
    """Return what all tasks of one canvas have in common, as their context; None for a task that is alone.

    It is Celery's root id. Members of a group that nothing precedes are each their own root: there it is the group's.
    """
    own, root, group = headers["id"], headers.get("root_id"), headers.get("group")
    if root and root != own:
        return task_uuid(root)
    if group:
        return task_uuid(group)
    return task_uuid(own) if any(embed.get(name) for name in CONTINUATIONS) else None


def _give_context(signature: Any, context: str) -> None:
    """Put the context into every call of ``run_agent_task`` within a signature, where it has none of its own."""
    if isinstance(signature, list):
        for each in signature:
            _give_context(each, context)
    elif isinstance(signature, dict) and isinstance(kwargs := signature.get("kwargs"), dict):
        if signature.get("task") == NAME:
            kwargs.setdefault("context", context)
        for name in ("tasks", "header", "body"):
            _give_context(kwargs.get(name), context)


def bind(
    previous: Any = None, /, *rest: Any, skill: str, input: Any = None, **options: Any
) -> tuple[str, Any, dict[str, Any]]:
    """Return (skill, input, options) of a call of ``run_agent_task``.

    In a chain Celery passes the result of the step before as the first argument: it is the input where none is given,
    and stands under ``previous`` in an input that is an object. Raises ``BadInput`` for anything unknown.
    """
    unknown = sorted(set(options) - OPTIONS)
    if rest or unknown:
        what = f"unknown options {', '.join(unknown)}" if unknown else "more than one positional argument"
        raise errors.BadInput(why=f"run_agent_task got {what}. It takes skill, input and {', '.join(sorted(OPTIONS))}.")
    if previous is None:
        return skill, input, options
    if input is None:
        return skill, previous, options
    if isinstance(input, dict):
        return skill, {**input, "previous": previous}, options
    raise errors.BadInput(why="A step that gets the result of the one before takes an object as its input, or none.")


def message(
    *,
    task: str,
    attempt: int,
    agent: str,
    timeout_s: float,
    skill: str,
    input: Any,
    call: Any,
    version: str = "",
    tenant: str = DEFAULT_TENANT,
    queue: str = "",
    more: Mapping[str, Any] | None = None,
) -> Message:
    """Return the Celery message of an attempt: the recorded call or a plain one, with the attempt in its headers.

    It goes to the agent's queue unless another is named; ``more`` joins the facts of the attempt.
    """
    facts = {
        "task": task,
        "attempt": attempt,
        "agent": agent,
        "timeout_s": timeout_s,
        "skill": skill,
        "version": version,
        "tenant": tenant,
        **(more or {}),
    }
    if call and call.get("body"):
        headers = {**call["headers"], "a2a": facts, "retries": max(call["headers"].get("retries") or 0, 0)}
        properties = {**call.get("properties", {})}
        body = call["body"]
    else:
        headers = {
            "lang": "py", "task": NAME, "id": task, "root_id": task, "parent_id": None, "group": None,
            "retries": 0, "timelimit": [None, None], "argsrepr": "()", "kwargsrepr": f"{{'skill': '{skill}'}}",
            "origin": "a2a", "ignore_result": True, "a2a": facts,
        }  # fmt: skip
        properties = {"correlation_id": task}
        body = [
            [],
            {"skill": skill, "input": input},
            {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
        ]
    return Message(queue=queue or f"agent.{agent}", headers=headers, properties=properties, body=body)


def _throttle(value: Any) -> lifecycle.Throttle:
    """Return the throttle that a call describes. Raises ``BadInput``."""
    try:
        return lifecycle.Throttle(**value)
    except TypeError:
        why = "A throttle is {'limit': 10, 'period_s': 60}, and 'key' if it is not the skill's name."
        raise errors.BadInput(why=why, pointer="/throttle") from None


def _moment(value: Any) -> datetime | None:
    """Return a moment given as ISO 8601 text or as seconds from now."""
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, (int, float)):
        return timezone.now() + timedelta(seconds=value)
    moment = parse_datetime(str(value))
    if moment is None:
        raise errors.BadInput(why=f"{value!r} is not a moment. Write it as 2026-01-31T12:00:00Z.")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def _delay_s(eta: Any) -> float:
    moment = _moment(eta)
    return max(0.0, (moment - timezone.now()).total_seconds()) if moment is not None else 0.0


def refuse(request: Any, error: Exception) -> None:
    """Fail a call that came through a queue and cannot be accepted, so that whoever waits for it learns why."""
    celery.current_app.backend.mark_as_failure(request.id, CallRefused(str(error)), request=request)
