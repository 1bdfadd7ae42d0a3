"""Every way to break a stack. Each breaks one thing, waits as long as it is broken, and says when that was."""

import contextlib
import random
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import psycopg

from a2a_site.chaos.part import Part
from a2a_site.chaos.stack import Stack
from a2a_site.chaos.verdict import Fault
from routing import failpoints

NOTICE_S = 20.0  # an armed failpoint goes off within


def kill_worker(stack: Stack, chance: random.Random) -> Fault:
    """SIGKILL a worker's whole process group."""
    part = chance.choice(stack.workers)
    part.kill()
    return _blow("kill worker", part)


def restart_worker(stack: Stack, chance: random.Random) -> Fault:
    """SIGTERM a worker: it finishes what it has, or hands it back."""
    part = chance.choice(stack.workers)
    part.terminate()
    return _blow("restart worker", part)


def freeze_worker(stack: Stack, chance: random.Random) -> Fault:
    """SIGSTOP a worker for longer than its leases hold, then let it go on with what it believed."""
    part = chance.choice(stack.workers)
    with _frozen(part) as at:
        time.sleep(chance.uniform(12, 30))
    return Fault(name="freeze worker", at=at, over_at=time.time(), worker=node(part))


def kill_leader(stack: Stack, chance: random.Random) -> Fault:
    """SIGKILL the controller that leads."""
    part = stack.leader() or chance.choice(stack.controllers)
    part.kill()
    return _blow("kill leader")


def freeze_leader(stack: Stack, chance: random.Random) -> Fault:
    """SIGSTOP the controller that leads until another one does, then let it go on."""
    part = stack.leader() or chance.choice(stack.controllers)
    with _frozen(part) as at:
        time.sleep(chance.uniform(1, 6))
    return Fault(name="freeze leader", at=at, over_at=time.time())


def crash_leader(stack: Stack, chance: random.Random) -> Fault:
    """Have the leader die at one of the places in its loop that matter."""
    return crash_at(stack, chance.choice(failpoints.NAMES))


def crash_at(stack: Stack, failpoint: str) -> Fault:
    """Have the leader die at this failpoint."""
    armed = stack.failpoints / failpoint
    armed.touch()
    _await(lambda: not armed.exists())
    armed.unlink(missing_ok=True)
    return _blow(f"crash {failpoint}")


def stop_leader(stack: Stack, chance: random.Random) -> Fault:
    """SIGSTOP the leader in the middle of a commit, with the database locked, until another one leads."""
    part, armed = stack.leader() or chance.choice(stack.controllers), stack.failpoints / "in_commit"
    wish = stack.failpoints / ".wish"
    wish.write_text(failpoints.STOP)
    wish.rename(armed)  # whole from the first moment
    _await(lambda: not armed.exists())
    at = time.time()
    _await(lambda: stack.leader() not in (None, part))
    armed.unlink(missing_ok=True)
    part.thaw()
    return Fault(name="stop leader", at=at, over_at=time.time())


def kill_redis(stack: Stack, chance: random.Random) -> Fault:
    """SIGKILL Redis; its append-only file is kept."""
    stack.redis.kill()
    return _blow("kill redis")


def empty_redis(stack: Stack, chance: random.Random) -> Fault:
    """Make Redis forget everything."""
    with contextlib.suppress(OSError):
        stack.bus.flushall()
    return _blow("empty redis")


def freeze_redis(stack: Stack, chance: random.Random) -> Fault:
    """SIGSTOP Redis for up to ten seconds: connections stay open and nothing answers."""
    with _frozen(stack.redis) as at:
        time.sleep(chance.uniform(2, 10))
    return Fault(name="freeze redis", at=at, over_at=time.time(), is_outage=True)


def lock_database(stack: Stack, chance: random.Random) -> Fault:
    """Keep everyone else from writing for up to ten seconds; with PostgreSQL also end all connections."""
    return hold_database(stack, chance.uniform(1, 10))


def hold_database(stack: Stack, seconds: float) -> Fault:
    """Keep everyone else from writing for so long."""
    at = time.time()
    with _postgres_held(stack) if stack.database_url else _sqlite_held(stack):
        time.sleep(seconds)
    return Fault(name="lock database", at=at, over_at=time.time(), is_outage=True)


def repeat_messages(stack: Stack, chance: random.Random) -> Fault:
    """Deliver every message twice for a while."""
    at = time.time()
    stack.customer.duplicate(True)
    time.sleep(chance.uniform(2, 5))
    stack.customer.duplicate(False)
    return Fault(name="repeat messages", at=at, over_at=time.time())


def lose_messages(stack: Stack, chance: random.Random) -> Fault:
    """Have every message vanish that no worker has taken yet."""
    for part in stack.workers:
        part.freeze()
    time.sleep(0.5)
    with contextlib.suppress(OSError):
        queues = list(stack.bus.scan_iter("agent.*", count=1000))
        stack.bus.delete("control", *queues)
    for part in stack.workers:
        part.thaw()
    return _blow("lose messages")


def poison(stack: Stack, chance: random.Random) -> Fault:
    """Submit a task that kills every worker it comes to."""
    stack.customer.submit("poison")
    return _blow("poison")


FAULTS: Mapping[str, Callable[[Stack, random.Random], Fault]] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        kill_worker, restart_worker, freeze_worker, kill_leader, freeze_leader, crash_leader, stop_leader, kill_redis,
        empty_redis, freeze_redis, lock_database, repeat_messages, lose_messages, poison,
    )
}  # fmt: skip


def node(part: Part) -> str:
    """Return a worker's name as the ledger knows it."""
    return f"{part.name}@{socket.gethostname()}"


def _await(look: Callable[[], bool]) -> None:
    """Return when ``look`` says yes, or after a while."""
    give_up = time.monotonic() + NOTICE_S
    while not look() and time.monotonic() < give_up:
        time.sleep(0.02)


def _blow(name: str, worker: Part | None = None) -> Fault:
    now = time.time()
    return Fault(name=name, at=now, over_at=now, worker=node(worker) if worker is not None else "")


@contextlib.contextmanager
def _frozen(part: Part) -> Iterator[float]:
    """Hold a process still; yields since when."""
    at = time.time()
    part.freeze()
    try:
        yield at
    finally:
        part.thaw()


@contextlib.contextmanager
def _sqlite_held(stack: Stack) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(stack.home / "db.sqlite3", timeout=30, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")


@contextlib.contextmanager
def _postgres_held(stack: Stack) -> Iterator[None]:
    """Hold a lock on the tables that everything writes, and end every other connection."""
    with psycopg.connect(stack.database_url) as database:
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
        database.execute("LOCK TABLE routing_controller, routing_task IN EXCLUSIVE MODE")
        yield
        database.rollback()


def names(only: Sequence[str] = ()) -> list[str]:
    """Return the faults' names, or those of ``only``. Raises ``ValueError`` for one that is not known."""
    unknown = sorted(set(only) - set(FAULTS))
    if unknown:
        raise ValueError(f"No fault is called {', '.join(unknown)}. Known: {', '.join(FAULTS)}.")
    return list(only) or list(FAULTS)
