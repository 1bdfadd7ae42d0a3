"""What every call of the API sends, and what its answer becomes.  Pure. Both clients send the same calls."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from uuid import UUID

from pydantic import TypeAdapter

from a2a_client import errors, models

BASE = "/api/v1"
T = TypeVar("T")
Id = UUID | str


class Options(TypedDict, total=False):
    """How a task may be submitted besides its skill and input; the server's defaults hold for what is left out."""

    version: str
    priority: int  # 0..9, higher goes first
    labels: Mapping[str, str]
    requires: str  # a label selector, such as "region in (eu, us), !spot"
    agent: str  # the only one that may get it
    exclude: Sequence[str]
    not_before: datetime | str
    deadline: datetime | str
    timeout_s: float  # of one attempt
    max_attempts: int
    wait_s: float
    retries: Mapping[str, Mapping[str, Any]]
    id: Id
    parent: Id
    context: Id
    size: float
    concurrency_key: str
    affinity: str
    singleton: str
    debounce_s: float
    debounce_key: str
    throttle: Mapping[str, Any]
    budget: Mapping[str, float]


class TaskFilters(TypedDict, total=False):
    """Which tasks to list; times are compared with ``created_at``, since <= created_at < until."""

    state: str
    skill: str
    agent: str
    parent: Id
    since: datetime | str
    until: datetime | str
    limit: int  # of one page, 1..200


class RunOptions(TypedDict, total=False):
    """How a run may be started."""

    version: int
    definition: str  # YAML or JSON, in place of a workflow's name
    priority: int
    context: Id


class RunFilters(TypedDict, total=False):
    """Which runs to list."""

    state: str
    workflow: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request. ``key`` makes it safe to send again; reading ones are safe without."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    timeout_s: float | None = None  # for the answer; None leaves it to the client

    @property
    def is_safe(self) -> bool:
        """Whether sending it twice does it once."""
        return self.method in ("GET", "PUT", "DELETE") or bool(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Some of many. ``next`` is the address of those after, None at the end."""

    items: Sequence[T]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """One task of a batch."""

    skill: str
    input: Any = None
    idempotency_key: str = field(default_factory=lambda: uuid.uuid4().hex)
    options: Options = field(default_factory=Options)


def _one(shape: type[T]) -> Callable[[Any], T]:
    return TypeAdapter(shape).validate_python


def _listed(shape: type[T], name: str) -> Callable[[Any], list[T]]:
    read = TypeAdapter(list[shape]).validate_python  # type: ignore[valid-type]
    return lambda answer: read(answer[name])


def _page(shape: type[T], name: str) -> Callable[[Any], Page[T]]:
    read = _listed(shape, name)
    return lambda answer: Page(items=read(answer), next=answer.get("next"))


def _given(**values: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _post(path: str, read: Callable[[Any], T], body: Any = None, *, key: str = "") -> Call[T]:
    return Call(method="POST", path=BASE + path, read=read, body={} if body is None else body, key=key or new_key())


def _get(path: str, read: Callable[[Any], T], **params: Any) -> Call[T]:
    return Call(method="GET", path=BASE + path, read=read, params=_given(**params))


def new_key() -> str:
    """Return an idempotency key that nobody else has."""
    return uuid.uuid4().hex


def following(page: str, read: Callable[[Any], T]) -> Call[T]:
    """Return the call for the page at an address that the server gave."""
    return Call(method="GET", path=page, read=read)


# ---- tasks --------------------------------------------------------------------------------------------------------


def submit(
    skill: str, input: Any = None, *, idempotency_key: str = "", **options: Unpack[Options]
) -> Call[models.Task]:
    """Submit one task. The same key with the same request gives the same task; without one, each call makes another."""
    body = {"skill": skill, "input": input, **_given(**options)}
    return _post("/tasks", _one(models.Task), body, key=idempotency_key)


def submit_many(requests: Sequence[TaskRequest]) -> Call[list[models.Task | errors.Problem]]:
    """Submit up to 1,000 tasks, each accepted or refused for itself."""
    tasks = [
        {"skill": each.skill, "input": each.input, "idempotency_key": each.idempotency_key, **_given(**each.options)}
        for each in requests
    ]
    return _post("/tasks:batch", _results, {"tasks": tasks})


def _results(answer: Any) -> list[models.Task | errors.Problem]:
    return [
        models.Task.model_validate(each["task"])
        if each.get("task")
        else errors.problem(each["status"], each.get("problem") or {})
        for each in answer["results"]
    ]


def task(id: Id) -> Call[models.Task]:
    """Return a task with attempts, first events and artifacts."""
    return _get(f"/tasks/{id}", _one(models.Task))


def tasks(**filters: Unpack[TaskFilters]) -> Call[Page[models.Task]]:
    """List one page of tasks, newest first, without input and output."""
    return _get("/tasks", _page(models.Task, "tasks"), **filters)


def cancel(id: Id, *, reason: str = "") -> Call[models.Task]:
    """Ask for a task's end."""
    return _post(f"/tasks/{id}:cancel", _one(models.Task), {"reason": reason})


def decision(id: Id) -> Call[list[models.Decision]]:
    """Return why each attempt went to its agent."""
    return _get(f"/tasks/{id}/decision", _decisions)


def _decisions(answer: Any) -> list[models.Decision]:
    return [
        models.Decision.model_validate({**each, "explanation": (each.get("decision") or {}).get("explanation", ())})
        for each in answer["attempts"]
    ]


def feedback(id: Id, score: float, *, comment: str = "") -> Call[None]:
    """Say how good an output is, 0..1."""
    return _post(f"/tasks/{id}/feedback", _nothing, {"score": score, "comment": comment})


def events(kind: str, id: Id, *, after: int = 0) -> Call[Page[models.Event]]:
    """List the events of a task or run (``kind`` is "tasks" or "runs") after one."""
    return _get(f"/{kind}/{id}/events", _page(models.Event, "events"), after=after)


def _nothing(answer: Any) -> None:
    return None


# ---- the registry -------------------------------------------------------------------------------------------------


def agents() -> Call[list[models.Agent]]:
    """List the agents."""
    return _get("/agents", _listed(models.Agent, "agents"))


def agent(name: str) -> Call[models.Agent]:
    """Return one agent."""
    return _get(f"/agents/{name}", _one(models.Agent))


def register(name: str, **description: Any) -> Call[models.Agent]:
    """Register an agent, or change it to be exactly so; docs/agents.md lists what describes one."""
    return Call(method="PUT", path=f"{BASE}/agents/{name}", read=_one(models.Agent), body=description)


def drain(name: str) -> Call[models.Agent]:
    """Let the agent take nothing new and finish what it has."""
    return _post(f"/agents/{name}:drain", _one(models.Agent))


def resume_agent(name: str) -> Call[models.Agent]:
    """Let the agent take tasks again."""
    return _post(f"/agents/{name}:resume", _one(models.Agent))


def remove_agent(name: str) -> Call[None]:
    """Remove an agent from the registry."""
    return Call(method="DELETE", path=f"{BASE}/agents/{name}", read=_nothing)


def skills() -> Call[list[models.Skill]]:
    """List the skills."""
    return _get("/skills", _listed(models.Skill, "skills"))


# ---- workflows ----------------------------------------------------------------------------------------------------


def workflows() -> Call[list[models.Workflow]]:
    """List the workflows."""
    return _get("/workflows", _listed(models.Workflow, "workflows"))


def save_workflow(source: str, *, note: str = "") -> Call[int]:
    """Save a definition (YAML or JSON); the answer is its version."""
    return _post("/workflows", lambda answer: int(answer["version"]), {"source": source, "note": note})


def start(
    workflow: str = "", input: Any = None, *, idempotency_key: str = "", **options: Unpack[RunOptions]
) -> Call[models.Run]:
    """Start a run of a workflow by name, or of the ``definition`` in the options."""
    body = {"workflow": workflow, "input": input, **_given(**options)}
    return _post("/runs", _one(models.Run), body, key=idempotency_key)


def run(id: Id) -> Call[models.Run]:
    """Return a run with its steps."""
    return _get(f"/runs/{id}", _one(models.Run))


def runs(**filters: Unpack[RunFilters]) -> Call[Page[models.Run]]:
    """List one page of runs, newest first, without steps."""
    return _get("/runs", _page(models.Run, "runs"), **filters)


def pause(id: Id, *, reason: str = "") -> Call[models.Command]:
    """Let nothing new begin in a run; what runs goes on."""
    return _ask(id, "pause", reason=reason)


def resume(id: Id, *, reason: str = "") -> Call[models.Command]:
    """Let a paused run go on."""
    return _ask(id, "resume", reason=reason)


def cancel_run(id: Id, *, reason: str = "", compensate: bool = False) -> Call[models.Command]:
    """End a run, with its sub-runs and all that runs for it; ``compensate`` undoes what is done."""
    return _ask(id, "cancel", reason=reason, compensate=compensate)


def retry_run(id: Id, *, reason: str = "") -> Call[models.Command]:
    """Do again what did not succeed, and all that follows it."""
    return _ask(id, "retry", reason=reason)


def skip(id: Id, step: str, output: Any = None, *, reason: str = "") -> Call[models.Command]:
    """Go on as if the step had completed with ``output``."""
    return _ask(id, "skip", step=step, output=output, reason=reason)


def rerun(id: Id, step: str, *, reason: str = "", **given: Any) -> Call[models.Command]:
    """Go again from a step, with another ``input`` if one is given."""
    return _ask(id, "rerun", step=step, reason=reason, **given)


def fork(id: Id, step: str, *, reason: str = "", **given: Any) -> Call[models.Run]:
    """Go again from a step in another run, which is returned; this one stays as it is."""
    return _post(f"/runs/{id}:rerun", _one(models.Run), {"step": step, "fork": True, "reason": reason, **given})


def _ask(id: Id, verb: str, **wish: Any) -> Call[models.Command]:
    return _post(f"/runs/{id}:{verb}", _one(models.Command), wish)


def signal(id: Id, name: str, payload: Any = None) -> Call[models.Command]:
    """Send a run a signal."""
    return _post(f"/runs/{id}/signals", _one(models.Command), {"name": name, "payload": payload})
