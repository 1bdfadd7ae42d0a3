"""The heart: reads the log, asks the reducers, commits what they say, and only then tells the world.

    read a batch ─▶ reducers ─▶ one transaction (rows + position) ─▶ Celery messages, deltas

Exactly one controller leads; its epoch fences every commit. A standby takes over when the leader's beat stops.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import celery
import orjson
import redis
from django.db import DatabaseError, connection

from routing import broker, celery_task, ledger, reducers, registry, rulebook
from routing import events as e
from routing.failpoints import failpoint
from routing.fleet import Fleet
from routing.line import Line
from routing.live import Live
from routing.models import Command
from routing.standby import Standby

log = logging.getLogger(__name__)

BATCH = 1000  # stream entries read at once
LOOK_S = 0.5  # how often the ledger is looked into without a ring
RENEW_S = 0.5  # how often the leader shows that it lives, when it has nothing to commit
STALL_S = 1.0  # silence of our own that is longer is not held against anybody
BUS_S = 1.0  # Redis has to answer within: the leader must not stand still longer than its lead lasts
LINGER_S = (0.0005, 0.0005, 0.001, 0.002)
TRIM_S = 5.0
CHECKPOINT_S = 0.2
MARK_S = 1.0  # how often Redis is asked whether it still holds our data
SETTLE_AGAIN_S = 10.0
SEND_AGAIN_S = 0.5  # messages that could not be sent are sent again as soon as Redis answers, no sooner than this
RETENTION_S = 3600.0
MAX_RETRY_IN_S = 7 * 24 * 3600.0  # an agent that asks for later gets this
MOST_USED = 1e15  # of anything, by one attempt
KEPT_CALLS = 5_000  # inputs kept from acceptance to dispatch
KEPT_CALL_BYTES = 16_384  # a larger input is read again when it is sent, so that waiting tasks cost little memory


class Controller:
    """One controller process: a standby until it leads."""

    def __init__(self, *, look_s: float = LOOK_S, name: str = "") -> None:
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.stopping = threading.Event()
        self._look_s = look_s
        self._publisher = broker.Publisher(celery.current_app)

    # ---- leading ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Lead whenever nobody else does, until ``stop``."""
        ended = threading.Event()
        checkpoints = threading.Thread(target=_checkpoint, args=(ended,), name="checkpoints", daemon=True)
        checkpoints.start()
        try:
            self._lead()
        finally:
            ended.set()
            checkpoints.join()

    def _lead(self) -> None:
        while not self.stopping.is_set():
            epoch = Standby(self.name, self.stopping).wait()
            if epoch is None:
                return
            log.info("controller: leading, epoch %d", epoch)
            reign: _Reign | None = None
            try:
                reign = _Reign(self, epoch)
                reign.live.begin()
                reign.run()
            except ledger.Deposed:
                log.warning("controller: another one leads now; standing by")
            except DatabaseError as error:
                log.error("controller: the database failed (%s); starting over", error)
                self.stopping.wait(0.5)
            finally:
                if reign is not None:
                    reign.live.close()

    def stop(self) -> None:
        """End after the batch at hand."""
        self.stopping.set()

    def publish(self, messages: list[broker.Message]) -> bool:
        """Send Celery messages; False when the broker is out of reach. Leases send again what was lost."""
        if not messages:
            return True
        try:
            self._publisher.publish(messages)
        except Exception as error:
            log.warning("controller: %d messages could not be sent: %s", len(messages), error)
            return False
        return True


def _checkpoint(ended: threading.Event) -> None:
    """Keep the database's log short until ``ended``; run in a thread of its own."""
    while not ended.wait(CHECKPOINT_S):
        try:
            ledger.checkpoint()
        except DatabaseError as error:
            log.debug("controller: no checkpoint now (%s)", error)
            connection.close()
    connection.close()


class _Reign:
    """One time of leading: the fleet's state lives as long as this."""

    def __init__(self, controller: Controller, epoch: int) -> None:
        self.controller = controller
        self.epoch = epoch
        self.bus = broker.client(BUS_S)
        self.line = Line(self.bus.connection_pool)
        self.fleet = Fleet()
        self.others = reducers.make()
        row = ledger.controller_row()
        self.position = row.position
        self.live = Live(self.fleet, epoch=epoch, holder=controller.name, seq=row.commit_seq)
        self.revision = -1
        self._calls: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
        self._commands: dict[UUID, float] = {}  # settlements sent, by when
        self._clock = time.time() - time.monotonic()  # leases must not end because somebody sets the clock
        self._heard_at = time.monotonic()
        self._looked_at = self._renewed_at = self._trimmed_at = 0.0
        self._tidied_at = time.monotonic()
        self._marked_at = 0.0
        self._bus_is_up = self._answers()
        self._unsent_at: float | None = None  # when messages could not be sent
        self._run_id: str | None = None

    def run(self) -> None:
        """Take up what was in flight, then read, decide, commit and publish until the end."""
        now = self._now()
        effects = self._follow_registry(now)
        self.fleet.recall(ledger.memory())
        for restored in ledger.live():
            effects += self.fleet.restore(restored, now)
        effects += self._grant([wish for other in self.others for wish in other.restore(now)], now)
        self._finish(effects, self.position, done=[], reset=True)
        while not self.controller.stopping.is_set():
            self._turn()
        ledger.give_up_lead(self.epoch)

    def _now(self) -> float:
        return self._clock + time.monotonic()

    def _turn(self) -> None:
        """One turn of the loop."""
        entries = self._read()
        failpoint("after_read")
        now = self._now()
        effects: list[e.Effect] = []
        gap = time.monotonic() - self._heard_at
        if self._bus_is_up:
            self._heard_at = time.monotonic()
            if gap > STALL_S:
                effects += self.fleet.apply(e.Stalled(seconds=gap), now)
            if self._unsent_at is not None and time.monotonic() - self._unsent_at > SEND_AGAIN_S:
                self._unsent_at = None
                effects += self.fleet.apply(e.MessagesLost(), now)
        rung: set[broker.News] = set()
        position = self.position
        for entry_id, facts in entries:
            position = entry_id
            for fact in facts:
                if isinstance(fact, broker.News):
                    rung.add(fact)
                else:
                    effects += self.fleet.apply(fact, now)
        done: list[UUID] = []
        if broker.News.ANY in rung or time.monotonic() - self._looked_at > self.controller._look_s:
            effects += self._look(now, done)
        elif rung:
            effects += self._take_tasks(now)
        if self._bus_is_up and len(entries) < BATCH:  # with everything heard, silence means something
            effects += self.fleet.due(now)
        if self.others:
            effects += self._consult(effects, now)
        self._finish(effects, position, done)
        self._tidy()

    def _consult(self, effects: Sequence[e.Effect], now: float) -> list[e.Effect]:
        """Tell the other reducers what happened, and do what they wish, until nobody wishes anything more."""
        following = self._grant([wish for other in self.others for wish in other.due(now)], now)
        heard = [x for x in (*effects, *following) if isinstance(x, e.Recorded)]
        while heard:
            wishes = [wish for other in self.others for wish in other.hear(heard, now)]
            more = self._grant(wishes, now)
            following += more
            heard = [x for x in more if isinstance(x, e.Recorded)]
        if following and self._bus_is_up:
            assigned = self.fleet.due(now)
            following += assigned + self._consult(assigned, now)
        return following

    def _grant(self, wishes: Sequence[reducers.Wish], now: float) -> list[e.Effect]:
        """Do what another reducer wishes, and return what follows."""
        effects: list[e.Effect] = []
        for wish in wishes:
            if isinstance(wish, reducers.Submission):
                self._keep_call(wish.task.id, wish.input, wish.call)
                effects += self.fleet.apply(e.Submitted(task=wish.task), now)
            else:
                effects += self.fleet.apply(wish, now)
        return effects

    # ---- reading ------------------------------------------------------------------------------------------------

    def _read(self) -> list[tuple[str, list[Any]]]:
        """Return the next stream entries as (id, facts); empty when nothing came or Redis is out of reach."""
        moments = [self.fleet.next_due(), *(other.next_due() for other in self.others)]
        due = min((at for at in moments if at is not None), default=None)
        wait_s = self.controller._look_s if due is None else min(self.controller._look_s, due - self._now())
        try:
            if time.monotonic() - self._marked_at > MARK_S:
                self._look_for_loss()
            entries = self._listen(self.position, wait_s)
            for pause_s in LINGER_S:
                if not entries or not self._can_wait(entries):
                    break
                time.sleep(pause_s)  # Redis itself would end so short a wait only at its next tick, 0.1 s off
                entries += self._listen(entries[-1][0], None)
            self._bus_is_up = True
            return entries
        except redis.RedisError as error:
            self._lose_bus(error)
            self.controller.stopping.wait(0.2)
            return []

    def _listen(self, position: str, wait_s: float | None) -> list[tuple[str, list[Any]]]:
        """Return what stands in the stream after ``position``, as soon as there is anything; None does not wait."""
        block = () if wait_s is None else ("BLOCK", max(1, int(wait_s * 1000)))
        answer = self.line.ask("XREAD", "COUNT", BATCH, *block, "STREAMS", broker.FACTS, position)
        found = answer[0][1] if answer else ()
        return [(entry_id.decode(), decode(_field(fields, b"e"))) for entry_id, fields in found]

    def _can_wait(self, entries: list[tuple[str, list[Any]]]) -> bool:
        """Return True if nobody waits for an agent: then starts and ends go into one commit with what comes soon."""
        if len(entries) >= BATCH or self.fleet.is_pressed:
            return False
        return not any(self._presses(fact) for _, facts in entries for fact in facts)

    def _presses(self, fact: Any) -> bool:
        """Return True if something begins with this: a new task, or what follows a task's end."""
        if isinstance(fact, e.Finished):
            return any(other.awaits(fact.task) for other in self.others)
        return isinstance(fact, broker.News)

    def _answers(self) -> bool:
        try:
            return bool(self.bus.ping())
        except redis.RedisError:
            return False

    def _lose_bus(self, error: object) -> None:
        """Note that Redis does not answer. Until ``_read`` hears it again nothing else waits for it."""
        if self._bus_is_up:
            log.warning("controller: Redis is out of reach (%s); tasks are still accepted", error)
        self._bus_is_up, self._marked_at = False, 0.0
        self._commit([], self.position, [], step=0)  # waiting for it took time: show that we live before the next wait

    def _look_for_loss(self) -> None:
        """Find out whether Redis lost what it held, or is another one than before: then send again."""
        run_id = str(self.bus.info("server")["run_id"])
        emptied = bool(self.bus.set(broker.MARKER, self.epoch, nx=True))
        other = self._run_id not in (None, run_id)
        self._run_id, self._marked_at = run_id, time.monotonic()
        if (not emptied and not other) or self.position == "0-0":  # nothing was there to lose
            return
        log.warning("controller: Redis was %s; sending again what was not begun", "emptied" if emptied else "restarted")
        self.position = min(self.position, self._last_entry(), key=_entry_key)
        effects = self.fleet.apply(e.MessagesLost(), self._now())
        self._finish(effects, self.position, done=[], reset=True)

    def _last_entry(self) -> str:
        """Return the id of the stream's newest entry ever, "0-0" where there is no stream."""
        try:
            return str(self.bus.xinfo_stream(broker.FACTS)["last-generated-id"].decode())
        except redis.ResponseError:
            return "0-0"

    def _look(self, now: float, done: list[UUID]) -> list[e.Effect]:
        """Take in what the ledger holds for us: new tasks, requests, a changed registry."""
        self._looked_at = time.monotonic()
        effects = self._follow_registry(now) + self._take_tasks(now)
        effects += self._grant([wish for other in self.others for wish in other.look(now)], now)
        for command in ledger.open_commands():
            if command.kind == "cancel" and self._can_act_on(command):
                effects += self.fleet.apply(
                    e.CancelAsked(task=str(command.task_id), by=command.by, reason=command.reason), now
                )
                done.append(command.id)
            elif command.kind == "answer" and self._can_act_on(command):
                effects += self.fleet.apply(e.Answered(task=str(command.task_id), by=command.by), now)
                done.append(command.id)
            elif command.kind == "rate":
                effects += self._rate(command, now)
                done.append(command.id)
            elif command.kind == "settle":
                self._settle(command.id)
        return effects

    def _rate(self, command: Command, now: float) -> list[e.Effect]:
        """Let the fleet learn what somebody thinks of a task's output."""
        said: Any = command.data
        skill = (said["skill"][0], said["skill"][1])
        rated = e.Rated(agent=said["agent"], skill=skill, score=said["score"], before=said["before"])
        return self.fleet.apply(rated, now)

    def _take_tasks(self, now: float) -> list[e.Effect]:
        """Take in new tasks."""
        effects: list[e.Effect] = []
        tasks = ledger.unaccepted(BATCH)
        for task in tasks:
            self._keep_call(str(task.id), task.input, task.call)
            effects += self.fleet.apply(e.Submitted(task=ledger.spec_of(task)), now)
        if len(tasks) == BATCH:
            self._looked_at = 0.0  # there is more
        return effects

    def _can_act_on(self, command: Command) -> bool:
        """Return False for a task that was inserted after we looked: the request waits for the next look."""
        return str(command.task_id) in self.fleet.tasks or not ledger.is_unaccepted(command.task_id)

    def _follow_registry(self, now: float) -> list[e.Effect]:
        revision = registry.revision()
        if revision == self.revision:
            return []
        self.revision = revision
        registry.forget()
        self.live.revision = revision
        return self.fleet.apply(rulebook.fact(), now)

    # ---- writing and telling ------------------------------------------------------------------------------------

    def _finish(self, effects: list[e.Effect], position: str, done: list[UUID], *, reset: bool = False) -> None:
        """Commit, then publish. Nobody learns of anything that is not committed."""
        changed = any(isinstance(effect, e.Recorded) for effect in effects)
        learned = any(isinstance(effect, e.Remembered) for effect in effects)
        learned = learned or any(other.has_news() for other in self.others)
        stale = time.monotonic() - self._renewed_at > RENEW_S
        if changed or learned or done or reset or stale:  # beats alone are read again after a restart
            failpoint("before_commit")
            self._commit(effects, position, done, step=1 if changed or reset else 0)
            failpoint("after_commit")
        self.position = position
        self._tell(effects)
        if changed or reset or self.live.is_due():
            self._publish_live([x for x in effects if isinstance(x, e.Recorded)], reset=reset)
        if changed:
            failpoint("after_publish")

    def _commit(self, effects: list[e.Effect], position: str, done: list[UUID], *, step: int) -> None:
        """Write until it is written. While the database is away nothing else happens, and nothing is told."""
        target = self.live.seq + step
        while True:
            try:
                ledger.commit(
                    effects, epoch=self.epoch, position=position, commit_seq=target, done=done, others=self.others
                )
                break
            except DatabaseError as error:
                log.warning("controller: the ledger cannot be written (%s); trying again", error)
                connection.close()
                if self.controller.stopping.wait(0.25):
                    raise
                if step and self._is_written(target):
                    break
        for other in self.others:
            other.committed()
        self.live.seq = target
        self._renewed_at = time.monotonic()

    def _is_written(self, target: int) -> bool:
        """Return True if a commit whose answer was lost took place."""
        try:
            row = ledger.controller_row()
        except DatabaseError:
            return False
        if row.epoch != self.epoch:
            raise ledger.Deposed
        return row.commit_seq >= target

    def _tell(self, effects: list[e.Effect]) -> None:
        """Send what follows: fences first, so that nothing stale can begin, then the new attempts."""
        fences = [x for x in effects if isinstance(x, e.Fence)]
        stops = [[x.task, x.attempt, x.reason] for x in effects if isinstance(x, e.Stop)]
        said: dict[str, Any] = {"stop": stops} if stops else {}
        if self._bus_is_up and self.live.revision_is_new():
            said["revision"] = self.revision
        try:
            if (fences or said) and self._bus_is_up:
                pipe = self.bus.pipeline(transaction=False)
                for fence in fences:
                    pipe.set(broker.claim_key(fence.task, fence.attempt), broker.FENCED, ex=broker.CLAIM_S)
                if said:
                    pipe.publish(broker.WORKERS, orjson.dumps(said))
                pipe.execute()
        except redis.RedisError as error:
            self._lose_bus(error)
        dispatches = [x for x in effects if isinstance(x, e.Dispatch)]
        self._offer([d for d in dispatches if self._is_pull(d.agent)])
        messages = self._messages([d for d in dispatches if not self._is_pull(d.agent)])
        if messages and not (self._bus_is_up and self.controller.publish(messages)):
            self._lose_bus("messages could not be sent")
            self._unsent_at = time.monotonic()

    def _is_pull(self, agent: str) -> bool:
        seat = self.fleet.roster.agents.get(agent)
        return seat is not None and seat.spec.is_pull

    def _offer(self, dispatches: list[e.Dispatch]) -> None:
        """Let pull agents know of their attempts."""
        if not dispatches:
            return
        try:
            if not self._bus_is_up:
                raise redis.ConnectionError("Redis is out of reach")
            broker.offer((d.agent, d.task, d.attempt) for d in dispatches)
        except redis.RedisError as error:
            self._lose_bus(error)
            self._unsent_at = time.monotonic()

    def _messages(self, dispatches: list[e.Dispatch]) -> list[broker.Message]:
        """Return the Celery messages of the attempts."""
        missing = [d.task for d in dispatches if d.task not in self._calls]
        fetched = ledger.calls(missing) if missing else {}
        messages = []
        for d in dispatches:
            known = self._calls.get(d.task) or fetched.get(d.task)
            task = self.fleet.tasks.get(d.task)
            if known is None or task is None or task.flight(d.attempt) is None:
                continue  # it ended in the same batch
            value, call = known
            messages.append(
                celery_task.message(
                    task=d.task,
                    attempt=d.attempt,
                    agent=d.agent,
                    timeout_s=d.timeout_s,
                    skill=task.spec.skill,
                    version=task.spec.version,
                    tenant=task.spec.tenant,
                    input=value,
                    call=call,
                )
            )
        return messages

    def _keep_call(self, task: str, value: Any, call: Any) -> None:
        if len(orjson.dumps((value, call))) > KEPT_CALL_BYTES:
            return
        self._calls[task] = (value, call)
        while len(self._calls) > KEPT_CALLS:
            self._calls.popitem(last=False)

    def _publish_live(self, recorded: list[e.Recorded], *, reset: bool) -> None:
        for r in recorded:
            if r.kind in ledger.TERMINAL_KINDS or r.call is not None:
                self._calls.pop(r.task, None)
        try:
            self.live.publish(self.line if self._bus_is_up else None, recorded, reset=reset)
        except redis.RedisError as error:
            self._lose_bus(error)

    def _settle(self, command: UUID) -> None:
        """Have a worker tell a canvas of its task's end, again and again until one has."""
        now = time.monotonic()
        if now - self._commands.get(command, -SETTLE_AGAIN_S) < SETTLE_AGAIN_S or not self._bus_is_up:
            return
        self._commands[command] = now
        while len(self._commands) > 10_000:
            self._commands.pop(next(iter(self._commands)))
        self._call("routing.settle_call", str(command))

    def _call(self, name: str, *args: str) -> None:
        try:
            celery.current_app.send_task(name, args, queue="control", retry=False, ignore_result=True)
        except Exception as error:
            log.warning("controller: %s could not be sent: %s", name, error)

    def _tidy(self) -> None:
        """Now and then: drop what has been read, delete what is old."""
        now = time.monotonic()
        if now - self._trimmed_at > TRIM_S and self._bus_is_up:
            self._trimmed_at = now
            try:
                self.bus.xtrim(broker.FACTS, minid=self.position, approximate=True)
            except redis.RedisError:
                self._lose_bus("it could not be trimmed")
        if now - self._tidied_at > RETENTION_S:
            self._tidied_at = now
            self._call("routing.delete_old")


# ---- the log's language -----------------------------------------------------------------------------------------


def _entry_key(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


def _field(fields: Sequence[bytes], name: bytes) -> bytes:
    """Return the value of a stream entry's field, an empty list of facts where it has none of that name."""
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(name, b"[]")


def decode(entry: bytes) -> list[Any]:
    """Return the facts of a stream entry. What cannot be understood is logged and left out."""
    try:
        raw = orjson.loads(entry)
        return [fact for fact in map(_fact, raw) if fact is not None]
    except (orjson.JSONDecodeError, TypeError, AttributeError) as error:
        log.error("an entry of %s is not understood (%s): %.200r", broker.FACTS, error, entry)
        return []


def _fact(raw: Mapping[str, Any]) -> Any:
    try:
        return _READERS[raw["k"]](raw)
    except (KeyError, TypeError, ValueError) as error:
        log.error("a fact is not understood (%r): %.200r", error, raw)
        return None


def _attempt(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what names the attempt. Raises for types that would stop the controller at its next commit."""
    return {"task": _is(str, raw["t"]), "attempt": _is(int, raw["a"])}


def _finished(raw: Mapping[str, Any]) -> e.Finished:
    error, retry_in_s, call = raw.get("e"), raw.get("r"), raw.get("c")
    return e.Finished(
        **_attempt(raw),
        output=raw.get("o"),
        error=None if error is None else _is(dict, error),
        usage={str(unit): min(MOST_USED, max(0.0, float(amount))) for unit, amount in raw.get("u", {}).items()},
        retry_in_s=None if retry_in_s is None else min(max(0.0, float(retry_in_s)), MAX_RETRY_IN_S),
        call=None if call is None else _is(dict, call),
    )


def _noted(raw: Mapping[str, Any]) -> e.Noted:
    return e.Noted(**_attempt(raw), kind=raw["k"], data=_is(dict, raw["d"]))


def _artifact(raw: Mapping[str, Any]) -> e.Noted:
    data = _is(dict, raw["d"])
    for name, kind in (("name", str), ("sha256", str), ("size", int), ("media_type", str)):
        _is(kind, data[name])
    return e.Noted(**_attempt(raw), kind="artifact", data=data)


def _beat(raw: Mapping[str, Any]) -> e.Beat:
    return e.Beat(
        worker=_is(str, raw["w"]),
        incarnation=_is(str, raw["i"]),
        threads=_is(int, raw["n"]),
        attempts=tuple((_is(str, task), _is(int, attempt)) for task, attempt in raw["f"]),
        serves=None if raw.get("s") is None else frozenset(_is(str, name) for name in _is(list, raw["s"])),
        draining=_is(bool, raw["d"]),
    )


def _is(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.50} is not of type {kind.__name__}")
    return value


_READERS: dict[str, Any] = {
    "ring": lambda r: broker.News(r.get("w", broker.News.ANY)),
    "started": lambda r: e.Started(**_attempt(r), worker=_is(str, r["w"]), incarnation=_is(str, r.get("i", ""))),
    "finished": _finished,
    "progress": _noted,
    "log": _noted,
    "artifact": _artifact,
    "returned": lambda r: e.HandedBack(**_attempt(r)),
    "beat": _beat,
    "gone": lambda r: e.WorkerGone(worker=_is(str, r["w"]), incarnation=_is(str, r["i"])),
}


def known_kinds() -> Iterable[str]:
    """Return the kinds of facts that the log may hold."""
    return _READERS.keys()
