"""Random workflows, and a world that runs them with two engines at once: one that never dies, and one that always does.

Both are told the same facts in the same random order, some of them twice. Whatever they say has to be the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from uuid import UUID, uuid5
from zlib import crc32

from coordination import conditions, templates
from coordination import events as e
from coordination.engine import Engine
from coordination.graph import Ask, Case, Child, Form, Graph, Over, Pause, Step
from coordination.rows import RUN_ENDS, STEP_ENDS, Kept
from tests.simulation.reference import Result

ROOT = "00000000-0000-4000-8000-000000000001"
SOON_S, NEVER_S = 1_000.0, 1_000_000.0  # a limit that is met when somebody hangs, and one that never is
STRICT: Any = ("fail", "compensate", "fail_late")
LENIENT: Any = ("continue",) * 8 + STRICT


class Templates:
    """Those of the product."""

    fill = staticmethod(templates.fill)
    holds = staticmethod(conditions.holds)


@dataclass(slots=True)
class Odds:
    """How likely what goes wrong is, 0..1."""

    fails: float = 0.1  # an agent, for good
    hangs: float = 0.02  # and says nothing until its time is up
    undo_fails: float = 0.2
    deaf: float = 0.2  # somebody who does not answer, a signal that does not come, an agent that does not stop
    unfilled: float = 0.02  # a template leads nowhere
    twice: float = 0.2  # a fact is told again
    kill: float = 0.3  # the second engine dies after a transition
    verbs: float = 0.0  # somebody asks something of a run, between any two transitions


@dataclass(slots=True)
class Fate:
    """Says what comes of everything: the same at the same place, whenever it is asked."""

    seed: int
    odds: Odds
    healed: bool = False  # everything goes well from now on

    def chance(self, *place: Any) -> float:
        """Return a number in [0, 1) that belongs to the place."""
        return crc32(repr((self.seed, place)).encode()) / 2**32

    def __call__(self, place: tuple[str, str, int | None, str], input: Any) -> Result:
        """Return what comes of it."""
        use, luck = place[3], 1.0 if self.healed else self.chance(*place)
        if use == "answer":
            if luck < self.odds.deaf:
                return Result("failed")
            return Result("completed", self.chance(*place, "says") < 0.7)
        if use == "signal":
            return Result("failed") if luck < self.odds.deaf else Result("completed", {"v": int(luck * 1000) % 10})
        if use == "undo":
            return Result("failed") if luck < self.odds.undo_fails else Result("completed", "undone")
        if luck < self.odds.hangs and place[2] is None and use == "step":
            return Result("failed", "hangs")
        if luck < self.odds.hangs + self.odds.fails:
            return Result("failed", "broke")
        made = crc32(json.dumps([place[:3], use, input], sort_keys=True).encode())
        return Result("completed", {"v": made % 10, "list": [made >> shift & 15 for shift in range(made % 7)]})


class Writer:
    """Writes random graphs."""

    def __init__(self, random: Random, fate: Fate) -> None:
        self.random, self.fate = random, fate
        self.graphs: dict[str, Graph] = {}
        self.is_strict = random.random() < 0.5  # failures end the run more often

    def graph(self, size: int, name: str = "top", depth: int = 0) -> Graph:
        """Return a graph of so many steps; graphs that it runs are written beside it."""
        steps: list[Step] = []
        for number in range(size):
            steps.append(self._step(name, number, steps, depth))
        steps = [self._with_cases(step, steps) for step in steps]
        output = None if self.random.random() < 0.5 or not steps else {"of": self._ref(steps, "output")}
        self.graphs[name] = Graph(name=name, steps=tuple(steps), output=output)
        return self.graphs[name]

    def _step(self, graph: str, number: int, before: list[Step], depth: int) -> Step:
        r = self.random
        recent = before[-8:] if r.random() < 0.8 else before
        after = r.sample(recent, min(len(recent), r.choice((0, 1, 1, 1, 2, 3))))
        kinds: list[Any] = ["task"] * 8 + ["map"] * 3 + ["choice"] * 3 + ["approval", "wait", "wait"]
        if depth < 2:
            kinds.append("workflow")
        if not any(step.kind == "compensate" for step in before):
            kinds.append("compensate")
        known = self._above(after, before)
        kind, name = r.choice(kinds), f"s{number}"
        when = self._condition(known) if known and r.random() < 0.15 else ""
        on_error: Any = r.choice(STRICT if self.is_strict else LENIENT)
        parts: dict[str, Any] = getattr(self, f"_{kind}")(graph, name, known, depth)
        if r.random() < 0.4:
            parts["undo"] = Ask(skill="undo", input={"of": f"{{{{ steps.{name}.output }}}}"})
        names = tuple(other.name for other in after)
        needs: Any = r.choice(("ended",) * 5 + ("completed",))
        return Step(name=name, kind=kind, after=names, needs=needs, when=when, on_error=on_error, **parts)

    def _above(self, after: list[Step], before: list[Step]) -> list[Step]:
        by_name, found, waiting = {step.name: step for step in before}, {}, list(after)
        while waiting:
            step = waiting.pop()
            if step.name not in found:
                found[step.name] = step
                waiting += [by_name[name] for name in step.after]
        return sorted(found.values(), key=lambda step: int(step.name[1:]))

    def _with_cases(self, step: Step, steps: list[Step]) -> Step:
        """Let a choice name some of those that follow it."""
        if step.kind != "choice":
            return step
        r, followers = self.random, [other.name for other in steps if step.name in other.after]
        by_name = [other for other in steps if other.name != step.name]
        known = self._above([other for other in by_name if other.name in step.after], steps)
        cases = []
        for _ in range(r.randint(1, 3)):
            when = self._condition(known) if known and r.random() < 0.8 else ""
            cases.append(Case(when=when, then=tuple(name for name in followers if r.random() < 0.6)))
        return replace(step, cases=tuple(cases))

    def _ref(self, known: list[Step], *path: str) -> Any:
        if not known:
            return self.random.choice((1, "{{ run.input }}"))
        tail = ".".join([*path, "nowhere"] if self.random.random() < self.fate.odds.unfilled else path)
        return f"{{{{ steps.{self.random.choice(known).name}.{tail} }}}}"

    def _condition(self, known: list[Step]) -> str:
        r, name = self.random, self.random.choice(known).name
        states = (f"steps.{name}.state == 'completed'", f"steps.{name}.state == 'skipped'")
        return r.choice((*states, "`true`", f"steps.{name}.output.v > 4", f"length(steps.{name}.output.list) > 2"))

    def _ask(self, graph: str, name: str, input: Any) -> Ask:
        hangs = self.fate((graph, name, None, "step"), None).output == "hangs"
        fallback = "second" if self.random.random() < 0.3 else ""
        return Ask(skill="first", input=input, total_s=SOON_S if hangs else NEVER_S, fallback=fallback)

    def _task(self, graph: str, name: str, known: list[Step], depth: int) -> dict[str, Any]:
        return {"ask": self._ask(graph, name, {"of": self._ref(known, "output"), "all": [self._ref(known, "state")]})}

    def _map(self, graph: str, name: str, known: list[Step], depth: int) -> dict[str, Any]:
        r, tasks = self.random, [step for step in known if step.kind == "task"]
        lists: list[Any] = [[], list(range(r.randint(1, 12))), {"a": 1, "b": 2}, [3, 3, 4], 5]
        items = self._ref(tasks, "output", "list") if tasks and r.random() < 0.5 else r.choice(lists)
        over = Over(items=items, max_parallel=r.choice((None, 1, 2, 5)), min_success=r.choice((1.0, 0.7, 0.5, 0.0)),
                    key=r.choice(("", "", "k{{ item }}")))  # fmt: skip
        ask = self._ask(graph, name, {"item": "{{ item }}", "of": self._ref(known, "output")})
        return {"ask": Ask(skill="first", input=ask.input, total_s=NEVER_S, fallback=ask.fallback), "over": over}

    def _choice(self, graph: str, name: str, known: list[Step], depth: int) -> dict[str, Any]:
        return {}

    def _approval(self, graph: str, name: str, known: list[Step], depth: int) -> dict[str, Any]:
        is_deaf = self.fate((graph, name, None, "answer"), None).state == "failed"
        expiry: Any = self.random.choice(("fail", "continue", "approve", "reject"))
        return {"form": Form(title="Is this right?", expires_s=SOON_S if is_deaf else NEVER_S, on_expiry=expiry,
                             remind_s=self.random.choice((None, 10.0)))}  # fmt: skip

    def _wait(self, graph: str, name: str, known: list[Step], depth: int) -> dict[str, Any]:
        is_deaf = self.fate((graph, name, None, "signal"), None).state == "failed"
        signal = Pause(signal=f"{graph}/{name}", timeout_s=SOON_S if is_deaf else NEVER_S)
        return {"pause": self.random.choice((Pause(seconds=5.0), Pause(until="1970-01-01T00:01:00+00:00"), signal))}

    def _workflow(self, graph: str, name: str, known: list[Step], depth: int) -> dict[str, Any]:
        child = f"{graph}/{name}"
        if self.random.random() < self.fate.odds.unfilled:
            child = "missing"
        else:
            self.graph(self.random.randint(1, 6), child, depth + 1)
        return {"child": Child(workflow=child, input=self._ref(known, "output"))}

    def _compensate(self, graph: str, name: str, known: list[Step], depth: int) -> dict[str, Any]:
        return {}


@dataclass(slots=True)
class Rows:
    """What a ledger would keep."""

    specs: dict[str, e.RunSpec] = field(default_factory=dict)
    rows: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def keep(self, effects: list[e.Effect]) -> None:
        """Write the rows among the effects."""
        for effect in effects:
            if isinstance(effect, e.Keep):
                self.rows[_key(effect.row)] = effect.row

    def kept(self, run: str) -> Kept:
        """Return all rows of the run."""
        own: dict[type, list[Any]] = {e.RunRow: [], e.StepRow: [], e.ItemRow: [], e.SignalRow: []}
        for key, row in self.rows.items():
            if key[1] == run:
                own[key[0]].append(row)
        [row] = own[e.RunRow]
        return Kept(spec=self.specs[run], run=row, steps=tuple(own[e.StepRow]), items=tuple(own[e.ItemRow]),
                    signals=tuple(own[e.SignalRow]))  # fmt: skip

    def run(self, run: str) -> e.RunRow:
        """Return the run's own row. Raises ``KeyError``."""
        row = self.rows[e.RunRow, run]
        assert isinstance(row, e.RunRow)
        return row

    def step(self, run: str, step: str) -> e.StepRow | None:
        """Return the step's row, None if it has not begun."""
        row = self.rows.get((e.StepRow, run, step))
        assert row is None or isinstance(row, e.StepRow)
        return row

    def restored(self, random: Random, of: str | None = None) -> Engine:
        """Return a new engine that knows what the rows say of the runs in flight, and of the run ``of``."""
        engine = Engine(Templates())
        rows = [row for row in self.rows.values() if isinstance(row, e.RunRow)]
        runs = [row.run for row in rows if row.state not in RUN_ENDS or row.run == of]
        random.shuffle(runs)
        for run in runs:
            kept = self.kept(run)
            steps, items = list(kept.steps), list(kept.items)
            random.shuffle(steps)
            random.shuffle(items)
            engine.restore(Kept(spec=kept.spec, run=kept.run, steps=tuple(steps), items=tuple(items),
                                signals=kept.signals))  # fmt: skip
        return engine


def _key(row: Any) -> tuple[Any, ...]:
    if isinstance(row, e.RunRow):
        return (e.RunRow, row.run)
    if isinstance(row, e.StepRow):
        return (e.StepRow, row.run, row.step)
    if isinstance(row, e.ItemRow):
        return (e.ItemRow, row.run, row.step, row.round, row.item)
    return (e.SignalRow, row.run, row.id)


class World:
    """Agents, people and clocks around two engines."""

    def __init__(self, writer: Writer, random: Random, fate: Fate) -> None:
        self.graphs, self.random, self.fate, self.odds = writer.graphs, random, fate, fate.odds
        self.now = 0.0
        self.steady, self.mortal = Engine(Templates()), Engine(Templates())
        self.rows = Rows()
        self.waiting: list[e.Fact] = []  # what is on its way
        self.told: list[e.Fact] = []  # what may be told again
        self.events: dict[str, list[e.RunEvent]] = {}
        self.submitted: dict[str, e.Submit] = {}
        self.ended: set[str] = set()  # tasks
        self.refused: list[e.Refused] = []
        self.kills = 0

    # ---- running ------------------------------------------------------------------------------------------------

    def start(self, graph: Graph, input: Any, seeds: tuple[e.Seed, ...] = (), run: str = ROOT) -> None:
        """Start a run."""
        spec = e.RunSpec(id=run, graph=graph, workflow=graph.name, version=1, tenant="default", input=input)
        self._arrive(e.RunStarted(run=spec, seeds=seeds))

    def _arrive(self, fact: e.RunStarted) -> None:
        self.rows.specs[fact.run.id] = fact.run
        self.waiting.append(fact)
        for step in fact.run.graph.steps:  # signals come whenever they like, mostly before anybody waits for them
            if step.pause is not None and step.pause.signal:
                said = self.fate((fact.run.graph.name, step.name, None, "signal"), None)
                if said.state == "completed":
                    id = str(uuid5(UUID(fact.run.id), step.name))
                    self.waiting.append(e.Signaled(run=fact.run.id, id=id, name=step.pause.signal, payload=said.output))

    def go_on(self, most: int = 20_000) -> None:
        """Let everything happen, in a random order, until nothing is left to happen."""
        for _ in range(most):
            if self.rows.rows and self.random.random() < self.odds.verbs:
                self.ask(self._verb())
            due = self.steady.next_due()
            assert due == self.mortal.next_due()
            ready = [fact for fact in self.waiting if self._can_come(fact)]
            is_near = due is not None and due - self.now < 2 * SOON_S
            if ready and not (is_near and self.random.random() < 0.05):
                self.tell(self.random.choice(ready))
            elif not is_near and self._resume():
                continue
            elif due is not None:
                self.now = max(self.now, due)
                self._both(None)
            else:
                return
        raise AssertionError("it goes on for ever")

    def _can_come(self, fact: e.Fact) -> bool:
        """Return False for what the ledger would keep until the run it is about was accepted."""
        return not isinstance(fact, e.Signaled) or (e.RunRow, fact.run) in self.rows.rows

    def tell(self, fact: e.Fact) -> None:
        """Tell both engines the fact, and now and then an old one again."""
        if fact in self.waiting:
            self.waiting.remove(fact)
        if isinstance(fact, e.TaskEnded):
            self.ended.add(fact.task)
        self._both(fact)
        if not isinstance(fact, e.RunStarted):  # which the ledger tells once
            self.told.append(fact)
        while self.told and self.random.random() < self.odds.twice:
            self._both(self.random.choice(self.told))

    def ask(self, fact: e.Verb) -> None:
        """Ask something of a run, which may have ended."""
        self._both(fact, of=fact.run if self.rows.run(fact.run).state in RUN_ENDS else None)

    def _verb(self) -> e.Verb:
        r = self.random
        run = r.choice([key[1] for key in self.rows.rows if key[0] is e.RunRow] or [ROOT])
        command = str(r.randint(0, 1_000_000))
        step = r.choice(self.rows.specs[run].graph.steps).name
        input = r.choice((e.KEEP, [1, 2]))
        return r.choice((
            e.PauseAsked(run=run, command=command),
            e.ResumeAsked(run=run, command=command),
            e.RetryAsked(run=run, command=command),
            e.SkipAsked(run=run, command=command, step=step, output={"v": 1, "list": [1]}),
            e.RerunAsked(run=run, command=command, step=step, input=input),
            e.CancelAsked(run=run, command=command, compensate=r.random() < 0.5),
        ))  # fmt: skip

    def _resume(self) -> bool:
        """Let all runs go on that somebody has paused; return True if there are any."""
        paused = [key[1] for key, row in self.rows.rows.items() if key[0] is e.RunRow and row.state == "paused"]
        for run in paused:
            self.ask(e.ResumeAsked(run=run))
        return bool(paused)

    def _both(self, fact: e.Fact | None, of: str | None = None) -> None:
        """Let both engines act, the second one dying before or after its commit; ``of`` is a run that had ended."""
        for engine in (self.steady, self.mortal):
            if of is not None:
                engine.restore(self.rows.kept(of))
        said = self._act(self.steady, fact)
        if self.random.random() < self.odds.kill:  # it dies before the commit: nothing is written, and it is told again
            self.kills += 1
            self._act(self.mortal, fact)
            self.mortal = self.rows.restored(self.random, of)
        answer = self._act(self.mortal, fact)
        assert answer == said, f"after {fact}: {_difference(said, answer)}"
        self.rows.keep(answer)
        for effect in answer:
            self._do(effect)
        if self.random.random() < self.odds.kill:
            self.kills += 1
            self.mortal = self.rows.restored(self.random)

    def _act(self, engine: Engine, fact: e.Fact | None) -> list[e.Effect]:
        return engine.due(self.now) if fact is None else engine.apply(fact, self.now)

    # ---- what the world makes of it -----------------------------------------------------------------------------

    def _do(self, effect: e.Effect) -> None:
        if isinstance(effect, e.RunEvent):
            self.events.setdefault(effect.run, []).append(effect)
        elif isinstance(effect, e.Submit):
            assert effect.task not in self.submitted, f"{effect.step} was submitted twice"
            self.submitted[effect.task] = effect
            self._work(effect)
        elif isinstance(effect, e.CancelTasks):
            for task in effect.tasks:
                self._stop(task)
        elif isinstance(effect, e.StartRun):
            self._start_child(effect)
        elif isinstance(effect, e.AskApproval):
            self._ask(effect)
        elif isinstance(effect, e.Refused):
            self.refused.append(effect)

    def _work(self, effect: e.Submit) -> None:
        graph = self.rows.specs[effect.run].graph.name
        came = self.fate((graph, effect.step, effect.item, effect.use), effect.input)
        if came.output == "hangs":
            return
        error = None if came.state == "completed" else {"kind": "agent", "message": "it broke"}
        output = came.output if error is None else None
        attempt = 1 + int(self.fate.chance(effect.task) * 3)  # it was tried again meanwhile
        self.waiting.append(
            e.TaskEnded(task=effect.task, state=came.state, output=output, error=error, agent="ada", attempt=attempt)
        )

    def _stop(self, task: str) -> None:
        """Let the task end as canceled, or by itself, or never."""
        if task in self.ended or self.random.random() < 0.3:
            return
        self.waiting = [fact for fact in self.waiting if not (isinstance(fact, e.TaskEnded) and fact.task == task)]
        if self.random.random() > self.odds.deaf:
            self.waiting.append(e.TaskEnded(task=task, state="canceled"))

    def _start_child(self, effect: e.StartRun) -> None:
        graph = self.graphs.get(effect.workflow)
        if graph is None:
            error = {"kind": "bad_input", "message": f"there is no workflow {effect.workflow}"}
            self.waiting.append(e.ChildEnded(run=effect.run, state="failed", error=error))
            return
        spec = e.RunSpec(id=effect.run, graph=graph, workflow=graph.name, version=1, tenant=effect.tenant,
                         input=effect.input, parent=effect.parent, parent_step=effect.parent_step,
                         depth=effect.depth)  # fmt: skip
        self._arrive(e.RunStarted(run=spec))

    def _ask(self, effect: e.AskApproval) -> None:
        said = self.fate((self.rows.specs[effect.run].graph.name, effect.step, None, "answer"), None)
        if said.state == "completed":
            self.waiting.append(e.Answered(run=effect.run, step=effect.step, round=effect.round, answer=said.output,
                                           by="somebody"))  # fmt: skip

    # ---- what must hold -----------------------------------------------------------------------------------------

    def check_history(self) -> None:
        """Assert that events have no gap, steps end once for each time they begin, and nothing is left in flight."""
        for run, events in self.events.items():
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert self.rows.run(run).seq == len(events)
            assert self.rows.run(run).state in RUN_ENDS
            assert not list(_begun_while_paused(events))
            begun = Counter((event.step, event.round) for event in events if event.kind == "step_running")
            ended = Counter((event.step, event.round) for event in events if event.kind in ENDS)
            assert not begun or max(begun.values()) == 1
            assert not ended or max(ended.values()) == 1
            again = {event.step for event in events if event.kind == "step_waiting"}
            assert all(step in again for step, round in begun.keys() - ended.keys())
        for engine in (self.steady, self.mortal):
            assert (engine.book.runs, engine.book.tasks, engine.book.children, engine.book.plans) == ({}, {}, {}, {})


ENDS = frozenset(f"step_{state}" for state in STEP_ENDS - {"undoing", "undone"})


def _begun_while_paused(events: list[e.RunEvent]) -> Iterator[e.RunEvent]:
    """Yield the steps that began although the run was paused."""
    paused = False
    for event in events:
        if not event.step and event.kind != "signal":
            paused = event.kind == "paused" or (paused and event.kind == "rerun")
        if paused and event.kind == "step_running":
            yield event


def _difference(said: list[e.Effect], answer: list[e.Effect]) -> str:
    pairs = zip(said, answer, strict=False)
    first = next((pair for pair in pairs if pair[0] != pair[1]), None)
    return f"{len(said)} and {len(answer)} effects, of which differ first: {first}"
