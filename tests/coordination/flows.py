"""Workflows, and a desk from which one engine is told things."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from coordination import events as e
from coordination.engine import Engine
from coordination.graph import Ask, Case, Child, Form, Graph, Over, Pause, Step
from tests.simulation.workflows import Rows, Templates

ROOT = UUID("00000000-0000-4000-8000-000000000001")


def run_id(number: int = 1) -> str:
    """Return the id of a run."""
    return str(uuid5(ROOT, str(number)))


def task(name: str, after: str = "", *, input: Any = None, undo: bool = False, **more: Any) -> Step:
    """Return a task; what belongs to what is asked stands in ``more`` as well."""
    asked = {key: more.pop(key) for key in ("fallback", "total_s", "priority") if key in more}
    undoing = Ask(skill="undo", input={"of": f"{{{{ steps.{name}.output }}}}"}) if undo else None
    ask = Ask(skill="work", input=input, **asked)
    return Step(name=name, kind="task", after=tuple(after.split()), ask=ask, undo=undoing, **more)


def mapped(name: str, items: Any, after: str = "", *, fallback: str = "", on_error: Any = "fail", **over: Any) -> Step:
    """Return a map."""
    ask = Ask(skill="work", input="{{ item }}", fallback=fallback)
    return Step(name=name, kind="map", after=tuple(after.split()), ask=ask, over=Over(items=items, **over),
                on_error=on_error)  # fmt: skip


def choice(name: str, *cases: tuple[str, str], after: str = "") -> Step:
    """Return a choice; a case is (when, steps)."""
    made = tuple(Case(when=when, then=tuple(then.split())) for when, then in cases)
    return Step(name=name, kind="choice", after=tuple(after.split()), cases=made)


def approval(name: str, after: str = "", **form: Any) -> Step:
    """Return an approval."""
    return Step(name=name, kind="approval", after=tuple(after.split()), form=Form(title="Right?", **form))


def wait(name: str, after: str = "", **pause: Any) -> Step:
    """Return a wait."""
    return Step(name=name, kind="wait", after=tuple(after.split()), pause=Pause(**pause))


def child(name: str, workflow: str = "other", after: str = "", **more: Any) -> Step:
    """Return a sub-run."""
    return Step(name=name, kind="workflow", after=tuple(after.split()), child=Child(workflow=workflow), **more)


def graph(*steps: Step, **more: Any) -> Graph:
    """Return a graph."""
    return Graph(name="flow", steps=steps, **more)


class Desk:
    """Tells an engine what happens, and keeps what it says."""

    def __init__(self) -> None:
        self.engine = Engine(Templates())
        self.rows = Rows()
        self.now = 0.0
        self.said: list[e.Effect] = []
        self.last: list[e.Effect] = []

    def start(self, graph: Graph, *, number: int = 1, input: Any = None, seeds: Any = (), **more: Any) -> str:
        """Start a run and return its id."""
        spec = e.RunSpec(id=run_id(number), graph=graph, workflow=graph.name, version=1, tenant="default", input=input,
                         created_at=float(number), **more)  # fmt: skip
        self.rows.specs[spec.id] = spec
        self.tell(e.RunStarted(run=spec, seeds=seeds))
        return spec.id

    def start_child(self, graph: Graph) -> str:
        """Start the sub-run that was asked for last, and return its id."""
        asked = self.all(e.StartRun)[-1]
        spec = e.RunSpec(id=asked.run, graph=graph, workflow=asked.workflow, version=1, tenant=asked.tenant,
                         input=asked.input, parent=asked.parent, parent_step=asked.parent_step,
                         depth=asked.depth)  # fmt: skip
        self.rows.specs[spec.id] = spec
        self.tell(e.RunStarted(run=spec))
        return spec.id

    def tell(self, fact: e.Fact) -> list[e.Effect]:
        """Tell a fact and return what follows."""
        return self._keep(self.engine.apply(fact, self.now))

    def wait_s(self, seconds: float) -> list[e.Effect]:
        """Let time pass and return what follows."""
        self.now += seconds
        return self._keep(self.engine.due(self.now))

    def _keep(self, effects: list[e.Effect]) -> list[e.Effect]:
        self.last = effects
        self.said += effects
        self.rows.keep(effects)
        return effects

    def restart(self, *ended: str) -> None:
        """Let another engine go on from the rows; runs that have ended are taken up where they are named."""
        self.engine = Engine(Templates())
        for run in {key[1] for key in self.rows.rows if key[0] is e.RunRow}:
            if run in ended or self.rows.run(run).state not in ("completed", "failed", "canceled"):
                self.engine.restore(self.rows.kept(run))

    # ---- what the agents do -------------------------------------------------------------------------------------

    def submit(self, step: str, item: int | None = None, use: str = "step") -> e.Submit:
        """Return the task that was submitted last for the step. Raises ``IndexError`` if none was."""
        found: list[e.Submit] = [s for s in self.all(e.Submit) if (s.step, s.item, s.use) == (step, item, use)]
        return found[-1]

    def done(self, step: str, output: Any = None, *, item: int | None = None, use: str = "step") -> list[e.Effect]:
        """Let the step's task succeed."""
        return self._ended(step, item, use, state="completed", output=output)

    def fails(self, step: str, *, item: int | None = None, use: str = "step") -> list[e.Effect]:
        """Let the step's task fail."""
        error = {"kind": "agent", "message": "it broke"}
        return self._ended(step, item, use, state="failed", error=error)

    def stopped(self, step: str, *, item: int | None = None) -> list[e.Effect]:
        """Let the step's task end as canceled."""
        return self._ended(step, item, "step", state="canceled")

    def _ended(self, step: str, item: int | None, use: str, **how: Any) -> list[e.Effect]:
        task = self.submit(step, item, use).task
        return self.tell(e.TaskEnded(task=task, agent="ada", attempt=2, **how))

    # ---- what was said ------------------------------------------------------------------------------------------

    def all(self, kind: Any) -> list[Any]:
        """Return everything of this kind that was ever said."""
        return [effect for effect in self.said if isinstance(effect, kind)]

    def submitted(self, effects: list[e.Effect] | None = None) -> list[str]:
        """Return the steps that tasks were submitted for."""
        return [effect.step for effect in (self.last if effects is None else effects) if isinstance(effect, e.Submit)]

    def kinds(self, run: str) -> list[str]:
        """Return what the run's history says of the run itself."""
        return [event.kind for event in self.all(e.RunEvent) if event.run == run and not event.step]

    def state(self, run: str, step: str = "") -> str:
        """Return the state of the run or of one of its steps."""
        if not step:
            return self.rows.run(run).state
        row = self.rows.step(run, step)
        return "waiting" if row is None else row.state
