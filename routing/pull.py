"""How agents that run elsewhere work: they register, claim attempts, renew their leases, and report.

A session, one process of such an agent, is a worker to the fleet: it beats, and its attempts are fenced as any
worker's. It chooses its own name at its start. What Redis keeps of it may be lost: the ledger makes up for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO
from uuid import UUID

import celery
from django.conf import settings

from routing import artifacts, broker, celery_task, errors, payloads, registration, registry
from routing.agent_schemas import AgentIn
from routing.executors import pull as pull_executor
from routing.fleet import WORK_LEASE_S
from routing.models import Agent, Artifact, Attempt, AttemptState, Task
from routing.pull_schemas import ClaimOut, NoteIn, PullAgentIn, StopOut

LEASE_S = WORK_LEASE_S
LIVE = (AttemptState.ASSIGNED, AttemptState.WORKING)
MAX_NOTES = 2_000  # log lines and progress reports kept of one attempt
LEFT_OUT = {"kind": "log", "level": "warning", "message": f"more than {MAX_NOTES} lines; the rest is left out"}
SESSION_KEPT_S = 24 * 3600
Key = tuple[str, int]  # task, attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One process of a pull agent."""

    agent: str
    tenant: str
    id: str

    @property
    def worker(self) -> str:
        """Return its name as a worker."""
        return f"pull:{self.agent}/{self.id[:12]}"

    @property
    def token(self) -> str:
        """Return what its claims hold."""
        return f"pull:{self.agent}:{self.id}"

    @property
    def key(self) -> str:
        """Return where Redis keeps what it has claimed: {"task:attempt": number of notes}."""
        return f"a2a:pull-session:{self.agent}:{self.id}"


# ---- registering --------------------------------------------------------------------------------------------------


def register(tenant: str, name: str, wanted: PullAgentIn, *, may_change_skills: bool) -> tuple[Agent, bool]:
    """Return the agent, which fetches its attempts from now on, and whether it is new.

    Raises ``NotPull`` for an agent that is run otherwise, and what ``registration.register`` raises. Skills that are
    there stay as they are unless the caller may change them.
    """
    known = Agent.objects.filter(name=name, tenant_id=tenant).first()
    if known is not None and known.executor != pull_executor.NAME:
        raise errors.NotPull(name=name, executor=known.executor)
    skills = list(wanted.skills)
    if not may_change_skills:
        skills = [
            each.model_copy(update={"description": None})
            if registry.newest_skill(tenant, each.name, each.version)
            else each
            for each in skills
        ]
    told = wanted.model_dump(exclude={"skills"}) | {"executor": pull_executor.NAME}
    fields = {*told, "skills", "options"}
    agent = AgentIn.model_validate(told).model_copy(update={"skills": skills})
    return registration.register(tenant, name, agent, only=fields if known is not None else None)


def session(tenant: str, agent: str, id: str) -> Session:
    """Return the session. Raises ``NoSuchAgent``, also for another tenant's, and ``NotPull``."""
    spec = registry.known_agent(tenant, agent)
    if spec is None or not spec.is_pull:  # what is known may be half a second old
        row = registration.find(tenant, agent)
        if row.executor != pull_executor.NAME:
            raise errors.NotPull(name=agent, executor=row.executor)
    return Session(agent=agent, tenant=tenant, id=id)


# ---- claiming and renewing ----------------------------------------------------------------------------------------


def claim(session: Session, most: int, holds: Iterable[Key]) -> list[ClaimOut]:
    """Return up to ``most`` attempts, the session's from now on: new ones, and those whose answer never arrived.

    ``holds`` are those that the session knows it has. Raises ``redis.RedisError`` with nothing lost.
    """
    known = set(holds)
    mine = [key for key in _claimed(session) if key not in known]
    if len(mine) < most:
        for task, attempt in broker.fetch(session.agent, most - len(mine)):
            started = {"k": "started", "t": task, "a": attempt, "w": session.worker, "i": session.id}
            if broker.claim(broker.claim_key(task, attempt), session.token, broker.encode([started])):
                _keep(session, (task, attempt))
                mine.append((task, attempt))
    return _told(session, mine) if mine else []


def _claimed(session: Session) -> list[Key]:
    found = broker.line().ask("HKEYS", session.key)
    return [_key(field.decode()) for field in found]


def _keep(session: Session, key: Key) -> None:
    broker.line().ask_all([("HSET", session.key, _field(key), 0), ("EXPIRE", session.key, SESSION_KEPT_S)])


def _field(key: Key) -> str:
    return f"{key[0]}:{key[1]}"


def _key(field: str) -> Key:
    task, _, attempt = field.rpartition(":")
    return task, int(attempt)


def _told(session: Session, keys: Sequence[Key]) -> list[ClaimOut]:
    """Return what the agent gets to know of its attempts; those that are over are dropped."""
    rows = _rows(session, keys)
    over = [key for key in keys if key not in rows or rows[key].state not in LIVE]
    if over:
        broker.line().ask("HDEL", session.key, *map(_field, over))
    tasks = Task.objects.in_bulk([UUID(task) for task, _ in keys])
    return [_claim_out(tasks[UUID(task)], attempt) for task, attempt in keys if (task, attempt) not in over]


def _claim_out(task: Task, attempt: int) -> ClaimOut:
    return ClaimOut(
        task=task.pk,
        attempt=attempt,
        skill=task.skill,
        version=task.version,
        input=task.input,
        timeout_s=task.timeout_s,
        idempotency_key=celery_task.step_key(str(task.pk)),
        context=task.context,
        labels=task.labels,
        created_at=task.created_at,
    )


def _rows(session: Session, keys: Iterable[Key]) -> dict[Key, Attempt]:
    """Return the agent's own attempts among these."""
    tasks = {UUID(task) for task, _ in keys}
    rows = Attempt.objects.filter(task_id__in=tasks, agent=session.agent).select_related("task")
    return {(str(row.task_id), row.number): row for row in rows if row.task.tenant_id == session.tenant}


def renew(session: Session, keys: Sequence[Key], *, slots: int, draining: bool) -> list[StopOut]:
    """Say that the session lives with exactly these attempts, and return those of them that should stop."""
    rows = _rows(session, keys) if keys else {}
    claims = broker.line().ask("MGET", *(broker.claim_key(*key) for key in keys)) if keys else []
    stops: list[StopOut] = []
    mine: list[Key] = []
    for key, claim in zip(keys, claims, strict=True):
        row = rows.get(key)
        if row is None or row.state not in LIVE or claim not in (None, session.token.encode()):
            stops.append(StopOut(task=UUID(key[0]), attempt=key[1], reason="stale"))
            continue
        mine.append(key)
        if row.task.cancel_requested_at is not None:
            stops.append(StopOut(task=UUID(key[0]), attempt=key[1], reason="canceled"))
    beat = {"k": "beat", "w": session.worker, "i": session.id, "n": slots, "f": mine, "d": draining}
    broker.tell(broker.encode([{**beat, "s": [session.agent]}]))
    return stops


# ---- reporting ----------------------------------------------------------------------------------------------------


def note(session: Session, key: Key, notes: Sequence[NoteIn]) -> None:
    """Keep progress reports and log lines with the task; beyond 2,000 of an attempt they are left out.

    Raises ``NotYours``.
    """
    _own(session, key)
    count = int(broker.line().ask("HINCRBY", session.key, _field(key), len(notes)))
    room = max(0, MAX_NOTES - (count - len(notes)))
    facts = [_fact(each, key) for each in notes[:room]]
    if 0 < room < len(notes):
        facts.append(_fact(NoteIn.model_validate(LEFT_OUT), key))
    if facts:
        broker.tell(broker.encode(facts))


def _fact(note: NoteIn, key: Key) -> dict[str, Any]:
    fields = {"fraction", "message"} if note.kind == "progress" else {"level", "message"}
    return {"k": note.kind, "t": key[0], "a": key[1], "d": note.model_dump(include=fields)}


def keep(session: Session, key: Key, name: str, data: BinaryIO, media_type: str) -> dict[str, Any]:
    """Keep a file with the task. Raises ``NotYours`` and ``BadInput``."""
    _own(session, key)
    try:
        name = artifacts.safe_name(name)[: Artifact._meta.get_field("name").max_length]
        ref = artifacts.Store(settings.A2A_ARTIFACTS_DIR).put(data, media_type=media_type)
    except artifacts.TooLarge as error:
        raise errors.BadInput(why=str(error)) from None
    except artifacts.ArtifactError as error:
        raise errors.BadInput(why=str(error), pointer="/name") from None
    entry = {"name": name, "sha256": ref.sha256, "size": ref.size, "media_type": ref.media_type}
    broker.tell(broker.encode([{"k": "artifact", "t": key[0], "a": key[1], "d": entry}]))
    return entry


def complete(session: Session, key: Key, output: Any, usage: Mapping[str, float]) -> None:
    """Report success. Said twice it is done once. Raises ``NotYours`` and ``BadResult``."""
    row = _own(session, key, ended=AttemptState.COMPLETED)
    if row.state == AttemptState.COMPLETED:
        return
    _check(row.task, output)
    call = row.task.call
    if call and call.get("body"):
        _continue(session, row, output)  # what follows in the canvas is a worker's to submit
    else:
        _tell_end(session, key, {"o": output, **({"u": dict(usage)} if usage else {})})


def _continue(session: Session, row: Attempt, output: Any) -> None:
    task = row.task
    message = celery_task.message(
        task=str(task.pk),
        attempt=row.number,
        agent=session.agent,
        timeout_s=task.timeout_s,
        skill=task.skill,
        version=task.version,
        tenant=session.tenant,
        input=task.input,
        call=task.call,
        queue="control",
        more={"token": session.token, "output": output},
    )
    publisher = broker.Publisher(celery.current_app)
    try:
        publisher.publish([message])
    finally:
        publisher.close()
    broker.line().ask("HDEL", session.key, _field((str(task.pk), row.number)))


def fail(
    session: Session, key: Key, error: Mapping[str, Any], usage: Mapping[str, float], retry_in_s: float | None
) -> None:
    """Report that the attempt did not succeed. Said twice it is done once. Raises ``NotYours``."""
    row = _own(session, key, ended=AttemptState.FAILED)
    if row.state in LIVE:
        again = {} if retry_in_s is None else {"r": retry_in_s}
        _tell_end(session, key, {"e": dict(error), **again, **({"u": dict(usage)} if usage else {})})


def leave(session: Session, keys: Iterable[Key]) -> None:
    """End the session. What it still holds is offered to others at once, without blame."""
    facts: list[dict[str, Any]] = []
    for key in {*keys, *_claimed(session)}:
        try:
            if _own(session, key).state in LIVE:
                facts.append({"k": "returned", "t": key[0], "a": key[1]})
        except errors.RoutingError:
            continue
    facts.append({"k": "gone", "w": session.worker, "i": session.id})
    broker.tell(broker.encode(facts))
    broker.line().ask("DEL", session.key)


def state_of(key: Key) -> str:
    """Return the attempt's state as it is committed."""
    return str(Attempt.objects.filter(task_id=key[0], number=key[1]).values_list("state", flat=True).get())


def _tell_end(session: Session, key: Key, end: Mapping[str, Any]) -> None:
    broker.tell(broker.encode([{"k": "finished", "t": key[0], "a": key[1], **end}]))
    broker.line().ask("HDEL", session.key, _field(key))


def _own(session: Session, key: Key, *, ended: str = "") -> Attempt:
    """Return the session's attempt: in flight, or in the state ``ended``. Raises ``NotYours`` or ``NoSuchTask``."""
    row = _rows(session, [key]).get(key)
    if row is None:
        raise errors.NoSuchTask(id=key[0])
    claim = broker.line().ask("GET", broker.claim_key(*key))
    if claim not in (None, session.token.encode()):
        why = "it was given up" if claim == broker.FENCED else "another session has it"
        if not (claim == broker.FENCED and ended and row.state == ended and row.worker == session.worker):
            raise errors.NotYours(task=key[0], attempt=key[1], why=why)
    if row.state not in LIVE and row.state != ended:
        raise errors.NotYours(task=key[0], attempt=key[1], why=f"it is {row.state}")
    return row


def _check(task: Task, output: Any) -> None:
    try:
        payloads.check(output, max_bytes=settings.A2A_MAX_INPUT_BYTES)
    except errors.RoutingError as error:
        raise errors.BadResult(why=f"The output cannot be kept. {error}", pointer="/output" + error.pointer) from None
    skill = registry.known_skill(str(task.tenant_id), task.skill, task.version)
    wrong = payloads.mismatch(skill.output_schema, output) if skill is not None else None
    if wrong is not None:
        why = f"The output does not fit the skill's schema: at {wrong[0] or 'the top'}, {wrong[1]}."
        raise errors.BadResult(why=why, pointer="/output" + wrong[0])
