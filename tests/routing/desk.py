"""A fleet and the ledger that keeps what it says, without a controller between them."""

from __future__ import annotations

from typing import Any

from routing import events as e
from routing import ledger, lifecycle, rulebook
from routing.fleet import Fleet
from routing.models import Task

START = 1_800_000_000.0  # the desk's clock begins here


class Desk:
    """Tells the fleet facts, and commits what follows. Time is a number that the tests turn."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.now = START
        self.said: list[e.Effect] = []
        self.commits = 0
        epoch = ledger.take_lead(ledger.controller_row(), "desk")
        assert epoch is not None
        self.epoch = epoch
        self.tell(rulebook.fact())
        self.tell(e.Beat(worker="w", incarnation="1", threads=16))

    def submit(self, **fields: Any) -> Task:
        """Submit a task, have it accepted, and assigned if that is possible."""
        request: dict[str, Any] = {"skill": "any", "input": 1} | fields
        task = lifecycle.submit(lifecycle.Request(**request)).task
        self.tell(e.Submitted(task=ledger.spec_of(Task.objects.get(id=task.id))))
        return task

    def tell(self, *facts: e.Fact) -> list[e.Effect]:
        """Tell the facts, let due things happen, and commit all of it at once."""
        effects = [effect for fact in facts for effect in self.fleet.apply(fact, self.now)]
        return self.commit(effects + self.fleet.due(self.now))

    def commit(self, effects: list[e.Effect]) -> list[e.Effect]:
        """Commit."""
        self.commits += 1
        ledger.commit(effects, epoch=self.epoch, position=f"{self.commits}-0", commit_seq=self.commits)
        self.said += effects
        return effects

    def started(self, task: Task, attempt: int = 1) -> e.Started:
        """Return the fact that a worker has begun."""
        return e.Started(task=str(task.id), attempt=attempt, worker="w")

    def finished(self, task: Task, attempt: int = 1, **fields: Any) -> e.Finished:
        """Return the fact that an attempt has ended."""
        return e.Finished(task=str(task.id), attempt=attempt, **fields)

    def noted(self, task: Task, kind: str, data: dict[str, Any], attempt: int = 1) -> e.Noted:
        """Return a note of a running attempt."""
        return e.Noted(task=str(task.id), attempt=attempt, kind=kind, data=data)
