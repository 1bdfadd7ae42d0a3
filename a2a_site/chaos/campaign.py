"""One seed: a random sequence of faults under load, and the verdict on it."""

import contextlib
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from a2a_site.chaos import faults
from a2a_site.chaos.stack import NotInTime, Stack
from a2a_site.chaos.verdict import Fault, Verdict, judge

CONTROLLERS = 2
WORKERS = 2
SETTLE_S = 90.0  # after the last fault everything has ended within
LASTING = frozenset({"freeze worker", "freeze leader", "lock database", "repeat messages"})  # others happen meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one seed does. The same plan breaks the same things in the same order."""

    seed: int
    seconds: float = 60.0  # so long faults go on
    per_s: float = 30.0  # calls a second meanwhile
    faults: Sequence[str] = field(default_factory=faults.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a plan."""

    plan: Plan
    faults: Sequence[Fault]
    verdict: Verdict
    settled: bool  # everything had ended in time
    home: Path  # with the logs

    @property
    def kept(self) -> bool:
        """Return True if every promise was kept."""
        return self.settled and not (self.verdict.violations or self.verdict.lost or self.verdict.doubled)


def run(plan: Plan, *, database_url: str = "") -> Report:
    """Return what came of the plan, carried out on a stack of its own."""
    home = Path(tempfile.mkdtemp(prefix=f"a2a-chaos-{plan.seed}-"))
    with Stack(home, controllers=CONTROLLERS, workers=WORKERS, database_url=database_url) as stack:
        return carry_out(plan, stack)


def carry_out(plan: Plan, stack: Stack) -> Report:
    """Return what came of the plan on a stack that is whole and idle."""
    began = time.time()
    stack.customer.load(plan.per_s, seed=plan.seed)
    done = _Sequence(stack, plan).carry_out()
    stack.customer.rest()
    settled = _settles(stack)
    verdict = judge(stack.customer.history(since=began), done)
    return Report(plan=plan, faults=done, verdict=verdict, settled=settled, home=stack.home)


def _settles(stack: Stack) -> bool:
    try:
        return stack.until(lambda: stack.customer.unended() == 0, "every task has ended", timeout_s=SETTLE_S)
    except NotInTime:
        return False


class _Sequence:
    """The faults of a plan, one after the other and some at the same time."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self._stack = stack
        self._plan = plan
        self._chance = random.Random(plan.seed)
        self._done: list[Fault] = []
        self._lasting: list[threading.Thread] = []

    def carry_out(self) -> list[Fault]:
        """Break things until the time is over; return what was broken."""
        until = time.monotonic() + self._plan.seconds
        time.sleep(1)
        while time.monotonic() < until:
            name, seed = self._chance.choice(self._plan.faults), self._chance.random()
            if name in LASTING:
                self._begin(name, seed)
            else:
                self._break(name, seed)
            time.sleep(self._chance.uniform(0.5, 5))
        for thread in self._lasting:
            thread.join()
        return sorted(self._done, key=lambda fault: fault.at)

    def _begin(self, name: str, seed: float) -> None:
        thread = threading.Thread(target=self._break, args=(name, seed), name=name, daemon=True)
        thread.start()
        self._lasting.append(thread)

    def _break(self, name: str, seed: float) -> None:
        self._done.append(faults.FAULTS[name](self._stack, random.Random(seed)))


@contextlib.contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """Yield the URL of a new, empty database on the server of ``url``, which is dropped in the end.

    An empty ``url`` is given back as it is: SQLite in the stack's own directory. The database that ``url`` names is
    only connected to.
    """
    if not url:
        yield ""
        return
    name = f"a2a_chaos_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield _with_database(url, name)
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _with_database(url: str, name: str) -> str:
    """Return the URL with another database; not every URL of a socket survives urllib."""
    address, mark, options = url.partition("?")
    return f"{address.rpartition('/')[0]}/{name}{mark}{options}"
