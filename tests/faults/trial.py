"""One fault under load, and what the customer's history says of it."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from a2a_site.chaos.part import Part
from a2a_site.chaos.stack import Stack
from a2a_site.chaos.verdict import Fault, Verdict, judge

LOAD_PER_S = 25.0
SETTLE_S = 60.0


class Trial:
    """A stack, a load on it, and the faults of one test."""

    def __init__(self, stack: Stack, *, name: str, began: float | None = None) -> None:
        self.stack = stack
        self.customer = stack.customer
        self.name = name
        self.faults: list[Fault] = []
        self.figures: dict[str, float] = {}
        self.verdict: Verdict | None = None
        self._began = time.time() if began is None else began

    @contextmanager
    def load(self, *, before_s: float = 1.5, after_s: float = 1.5) -> Iterator[None]:
        """Submit all the while, and some time before and after."""
        self.customer.load(LOAD_PER_S, seed=len(self.name))
        time.sleep(before_s)
        yield
        time.sleep(after_s)
        self.customer.rest()

    def cause(self, fault: Callable[[Stack, random.Random], Fault]) -> Fault:
        """Break something now."""
        done = fault(self.stack, random.Random(1))
        self.faults.append(done)
        return done

    def assert_kept(self, *, since: float | None = None) -> Verdict:
        """Wait until everything has ended, and fail if a promise was broken."""
        self.stack.until(lambda: self.customer.unended() == 0, "every task has ended", timeout_s=SETTLE_S)
        history = self.customer.history(since=self._began if since is None else since)
        self.verdict = judge(history, self.faults)
        assert self.verdict.violations == []
        assert (self.verdict.lost, self.verdict.doubled) == (0, 0)
        return self.verdict

    def state(self, task: str) -> str:
        """Return a task's state as the ledger has it, "" if there is none."""
        return str(self.customer.task(task).get("state", ""))

    def kinds(self, task: str) -> list[str]:
        """Return the kinds of the task's events, in order."""
        return [event["kind"] for event in self.customer.task(task).get("events", ())]

    def worker_of(self, task: str) -> Part | None:
        """Return the worker that began the task last, None if nobody has."""
        nodes = [e["data"]["worker"] for e in self.customer.task(task).get("events", ()) if e["kind"] == "working"]
        return self.stack.worker(nodes[-1]) if nodes else None

    def working_on(self, worker: str) -> list[str]:
        """Return the tasks of this trial's last submissions that this worker has begun and not ended."""
        events = self.customer.history(since=self._began)["events"]
        began = {event["task"]: event["data"].get("worker") for event in events if event["kind"] == "working"}
        ended = {event["task"] for event in events if event["kind"] in ("completed", "failed", "canceled", "requeued")}
        return [task for task, node in began.items() if node == worker and task not in ended]
