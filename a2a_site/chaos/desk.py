"""The customer's process: `python -m a2a_site.chaos.desk` obeys lines of JSON until its standard input ends."""

import logging
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import django
import orjson
import redis

if __name__ == "__main__":
    django.setup()

import celery
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from coordination import definition, runs, workflows
from coordination.models import Run, RunEvent, StepRun, StepTask
from routing import broker, celery_task, executors, ledger, lifecycle, registry
from routing.models import TERMINAL, Attempt, Task, TaskEvent
from routing.tasks import run_agent_task

log = logging.getLogger(__name__)

INSIST_S = 60.0  # a customer asks again so long when the door fails
LOADERS = 2
PATIENT = 30  # attempts of a task that must not fail because of what happens around it
AGENTS: tuple[tuple[str, str, str, int], ...] = (
    ("quick-1", "work", "chaos-work", 8),
    ("quick-2", "work", "chaos-work", 8),
    ("steady", "work", "chaos-work", 4),
    ("alone", "lone", "chaos-work", 4),
    ("adder-1", "sum", "chaos-sum", 8),
    ("adder-2", "sum", "chaos-sum", 8),
    ("mule", "stubborn", "chaos-stubborn", 4),
    ("talker", "chatty", "chaos-chatty", 4),
    ("breaker", "raise", "chaos-raise", 2),
    ("killer", "poison", "chaos-poison", 1),
)  # name, skill, handler, capacity
SKILLS = {
    "work": PATIENT,
    "lone": PATIENT,
    "sum": PATIENT,
    "stubborn": PATIENT,
    "chatty": PATIENT,
    "raise": 2,
    "poison": 3,
}
LOOKS = frozenset({"tasks", "unended", "history", "run"})  # may be asked again when the database ended the connection
ROW = ("state", "output", "max_attempts")
T = TypeVar("T")


class Desk:
    """What the customer does and remembers."""

    def __init__(self) -> None:
        self.accepted: dict[str, dict[str, Any]] = {}
        self.told: list[tuple[str, int, str]] = []
        self.bus = redis.Redis.from_url(settings.A2A_REDIS_URL, socket_timeout=3)
        self.publisher = broker.Publisher(celery.current_app)
        self._duplicating = False
        self._duplicated = 0
        self._resting = threading.Event()
        self._loaders: list[threading.Thread] = []
        self._loaded = 0

    def prepare(self) -> None:
        """Register skills and agents, and begin to listen to what is told."""
        executors.load(settings.A2A_AGENT_MODULES)
        registry.ensure_tenant()
        skills = {
            name: registry.ensure_skill(name, max_attempts=attempts, timeout_s=60) for name, attempts in SKILLS.items()
        }
        for name, skill, handler, capacity in AGENTS:
            registry.ensure_agent(name, skills=[skills[skill]], capacity=capacity, options={"handler": handler})
        threading.Thread(target=self._listen, name="listen", daemon=True).start()

    # ---- asking for work ----------------------------------------------------------------------------------------

    def submit(self, skill: str, input: Any, count: int, door: str, more: dict[str, Any]) -> list[str]:
        """Return the ids of accepted tasks."""
        return [self._submit(skill, input, door, more) for _ in range(count)]

    def _submit(self, skill: str, value: Any, door: str, more: dict[str, Any]) -> str:
        task = uuid4()
        with self._remembered([str(task)], door):
            if door == "celery":
                call = {"skill": skill, "input": value, **more}
                _insist(lambda: run_agent_task.apply_async(kwargs=call, task_id=str(task)))
            else:
                request = lifecycle.Request(skill=skill, input=value, id=task, origin="chaos", **more)
                _insist(lambda: lifecycle.submit(request))
        return str(task)

    def chain(self, length: int, seconds: float) -> list[str]:
        """Return the ids of a chain's steps."""
        steps = [_step(seconds) for _ in range(length)]
        ids = [step.options["task_id"] for step in steps]
        with self._remembered(ids, "chain"):
            _insist(lambda: _as_one(celery.chain(*steps)))
        return ids

    def chord(self, width: int, seconds: float) -> list[str]:
        """Return the ids of a chord's header and its body."""
        header, body = [_step(seconds) for _ in range(width)], _step(0.01)
        ids = [step.options["task_id"] for step in (*header, body)]
        with self._remembered(ids, "chord"):
            _insist(lambda: _as_one(celery.chord(header, body)))
        return ids

    def fan(self, width: int, seconds: float) -> list[str]:
        """Return the ids of a chain of a task, a group and a task: its chord is submitted by a worker."""
        first, header, last = _step(seconds), [_step(seconds) for _ in range(width)], _step(0.01)
        ids = [step.options["task_id"] for step in (first, *header, last)]
        with self._remembered(ids, "fan"):
            _insist(lambda: _as_one(celery.chain(first, celery.group(header), last)))
        return ids

    def begin(self, workflow: str, source: str) -> str:
        """Return the id of a run of the workflow, whose next version is the source unless that is empty."""
        if source:
            _insist(lambda: workflows.save(source))
        run = uuid4()
        _insist(lambda: runs.start(runs.Request(workflow=workflow, id=run, by="chaos")))
        return str(run)

    def begin_graph(self, graph: dict[str, Any]) -> str:
        """Return the id of a run of a graph of its own."""
        run, made = uuid4(), definition.from_json(graph)
        _insist(lambda: runs.start(runs.Request(graph=made, id=run, by="chaos")))
        return str(run)

    def run(self, id: str) -> dict[str, Any]:
        """Return the ledger's word on a run: state, output, steps, and what was done for each of them."""
        row = Run.objects.get(id=UUID(id))
        done = StepTask.objects.filter(run_id=row.pk)
        ids = list(done.values_list("task", flat=True))
        ends = TaskEvent.objects.filter(task_id__in=ids, kind__in=TERMINAL)
        events = RunEvent.objects.filter(run_id=row.pk).order_by("seq")
        return {
            "state": row.state,
            "version": row.version,
            "output": row.output,
            "error": row.error,
            "steps": list(StepRun.objects.filter(run_id=row.pk).order_by("step").values("step", "state", "output")),
            "events": [(event.seq, event.kind, event.step, event.at.timestamp()) for event in events],
            "done": [[each.step, each.item, each.use] for each in done],
            "ends": list(ends.values_list("task_id", flat=True)),
            "working": Task.objects.filter(id__in=ids, state="working").count(),
            "lost_attempts": Attempt.objects.filter(task_id__in=ids, state="lost", started_at__isnull=False).count(),
            "completed_attempts": list(
                Attempt.objects.filter(task_id__in=ids, state="completed").values_list("task_id", flat=True)
            ),
        }

    @contextmanager
    def _remembered(self, ids: list[str], door: str) -> Iterator[None]:
        """Note what was accepted, when, and how long that took."""
        asked, began = time.time(), time.monotonic()
        yield
        took = time.monotonic() - began
        for task in ids:
            self.accepted[task] = {"asked": asked, "took_s": took, "door": door}

    def load(self, per_s: float, seed: int, canvases: bool) -> None:
        """Begin to submit in the background."""
        self._resting.clear()
        self._loaded = 0
        self._loaders = [
            threading.Thread(target=self._load, args=(per_s / LOADERS, random.Random(seed + n), canvases), daemon=True)
            for n in range(LOADERS)
        ]
        for loader in self._loaders:
            loader.start()

    def rest(self) -> int:
        """Stop the load, and return how many tasks it had accepted."""
        self._resting.set()
        for loader in self._loaders:
            loader.join(INSIST_S)
        return self._loaded

    def _load(self, per_s: float, chance: random.Random, canvases: bool) -> None:
        while not self._resting.wait(chance.expovariate(per_s)):
            try:
                self._loaded += self._load_one(chance, canvases)
            except Exception:
                log.exception("a call of the load was not accepted")

    def _load_one(self, chance: random.Random, canvases: bool) -> int:
        pick, work = chance.random(), {"seconds": round(chance.uniform(0.01, 0.3), 3)}
        if canvases and pick < 0.03:
            return len(self.chain(3, 0.05))
        if canvases and pick < 0.06:
            return len(self.chord(4, 0.05))
        if canvases and pick < 0.08:
            return len(self.fan(4, 0.05))
        if pick < 0.12:
            return len(self.submit("chatty", None, 1, "submit", {}))
        return len(self.submit("work", work, 1, "celery" if pick < 0.3 else "submit", {}))

    # ---- listening ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Remember every committed event that is told; send the messages of attempts again when asked to."""
        position = "0-0"
        while True:
            try:
                answer: Any = self.bus.xread({broker.COMMITTED: position}, count=100, block=500)
                for entry_id, fields in answer[0][1] if answer else ():
                    position = entry_id.decode()
                    self._hear(orjson.loads(fields[b"d"])["events"])
            except redis.RedisError:
                time.sleep(0.2)
            except Exception:
                log.exception("listening")

    def _hear(self, events: list[dict[str, Any]]) -> None:
        self.told += [(event["task"], event["seq"], event["kind"]) for event in events]
        assigned = [event for event in events if event["kind"] == "assigned"]
        if self._duplicating and assigned:
            self.publisher.publish(_messages(assigned))
            self._duplicated += len(assigned)

    def duplicate(self, on: bool) -> int:
        """Turn duplicates on or off; return how many were sent."""
        self._duplicating = on
        return self._duplicated

    # ---- looking back -------------------------------------------------------------------------------------------

    def tasks(self, ids: list[str]) -> dict[str, Any]:
        """Return the ledger's word on each task."""
        events: dict[str, list[Any]] = {}
        for event in TaskEvent.objects.filter(task_id__in=ids).order_by("seq"):
            events.setdefault(str(event.task_id), []).append(_event(event))
        fields = ("id", "state", "attempt", "tries", "agent", "output", "error")
        rows = Task.objects.filter(id__in=ids).values(*fields)
        return {str(row["id"]): {**row, "events": events.get(str(row["id"]), [])} for row in rows}

    def unended(self) -> int:
        """Return how many accepted tasks have no end in the ledger."""
        ended = Task.objects.filter(state__in=TERMINAL).values_list("id", flat=True)
        return len(set(self.accepted) - {str(id) for id in ended.iterator()})

    def history(self, file: str, since: float) -> str:
        """Write what is known of calls ``since`` into ``file`` and return its name."""
        moment = datetime.fromtimestamp(since, UTC)
        tasks = Task.objects.filter(created_at__gte=moment)
        ids = tasks.values("id")
        rows = {str(id): dict(zip(ROW, row, strict=True)) for id, *row in tasks.values_list("id", *ROW)}
        events = TaskEvent.objects.filter(task_id__in=ids).order_by("at", "task_id", "seq")
        attempts = Attempt.objects.filter(task_id__in=ids).values_list("task_id", "number", "state")
        dump = {
            "accepted": {task: facts for task, facts in dict(self.accepted).items() if facts["asked"] >= since},
            "told": [told for told in list(self.told) if told[0] in rows or not since],
            "events": [_event(event) for event in events.iterator()],
            "tasks": rows,
            "attempts": [(str(task), number, state) for task, number, state in attempts],
        }
        Path(file).write_bytes(orjson.dumps(dump))
        return file


def _step(seconds: float) -> Any:
    """Return one step of a canvas with an id of ours, so that asking twice is asking once."""
    return run_agent_task.s(skill="work", input={"seconds": seconds}).set(task_id=str(uuid4()))


def _as_one(canvas: Any) -> None:
    """Submit a canvas in one transaction, so that after an error nothing of it is there and it can be asked again."""
    with transaction.atomic():
        canvas.apply_async()


def _insist(action: Callable[[], T]) -> T:
    """Return the answer of ``action``, asked again while the database fails."""
    give_up = time.monotonic() + INSIST_S
    while True:
        try:
            return action()
        except DatabaseError as error:
            connection.close()
            if time.monotonic() > give_up:
                raise
            log.warning("asking again: %s", error)
            time.sleep(0.2)


def _messages(assigned: list[dict[str, Any]]) -> Iterator[broker.Message]:
    known = ledger.calls([event["task"] for event in assigned])
    rows = {str(row.id): row for row in Task.objects.filter(id__in=list(known)).defer("input", "call", "output")}
    for event in assigned:
        value, call = known[event["task"]]
        yield celery_task.message(
            task=event["task"],
            attempt=event["attempt"],
            agent=event["agent"],
            timeout_s=rows[event["task"]].timeout_s,
            skill=event["skill"],
            tenant=event["tenant"],
            input=value,
            call=call,
        )


def _event(event: TaskEvent) -> dict[str, Any]:
    return {
        "task": str(event.task_id),
        "seq": event.seq,
        "kind": event.kind,
        "attempt": event.attempt,
        "at": event.at.timestamp(),
        "data": event.data,
    }


def _json(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(type(value).__name__)


def main() -> None:
    """Obey until the end of the input."""
    desk = Desk()
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what anybody prints goes to the log
    for line in sys.stdin.buffer:
        asked = orjson.loads(line)
        try:
            verb = asked.pop("do")
            action = partial(getattr(desk, verb), **asked)
            answer = {"ok": _insist(action) if verb in LOOKS else action()}
        except Exception:
            answer = {"error": traceback.format_exc()}
            connection.close()
        out.write(orjson.dumps(answer, default=_json) + b"\n")


if __name__ == "__main__":
    main()
