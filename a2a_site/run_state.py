"""Which supervisor runs in a state directory: a lock held for its life, and a record others read."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import psutil

from a2a_site.child import Child


class ChildRecord(TypedDict):
    """One process as the record shows it."""

    pid: int | None
    created_at: float | None  # its start as the system tells it, against reused process ids
    state: str
    since: float  # UNIX time
    restarts: int


class Record(TypedDict):
    """The contents of run/supervisor.json."""

    pid: int
    created_at: float
    started_at: str
    ready: bool
    port: int
    url: str
    flower: bool
    made_admin: bool  # the first administrator was made by this start
    children: dict[str, ChildRecord]


class AlreadyRunning(Exception):
    """Another supervisor runs in this state directory."""


def record_path(home: Path) -> Path:
    """Return where the record of the running supervisor is."""
    return home / "run" / "supervisor.json"


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the state directory's lock. Raises ``AlreadyRunning``; the kernel frees the lock however we end."""
    (home / "run").mkdir(mode=0o700, exist_ok=True)
    with (home / "run" / "supervisor.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning from None
        yield


def own_process() -> tuple[int, float]:
    """Return (our process id, when we started)."""
    return os.getpid(), psutil.Process().create_time()


def child_record(child: Child) -> ChildRecord:
    """Return what is recorded of one process."""
    return {
        "pid": child.pid,
        "created_at": created_at(child.pid),
        "state": child.state,
        "since": child.since,
        "restarts": child.restarts,
    }


def remove(home: Path) -> None:
    """Remove the record: nothing runs any more."""
    record_path(home).unlink(missing_ok=True)


def write(home: Path, record: Record) -> None:
    """Replace the record in one step: a reader sees the old or the new one, never half of it."""
    path = record_path(home)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(record, indent=1))
    os.replace(new, path)


def read(home: Path) -> Record | None:
    """Return the record if there is a readable one, whether its supervisor lives or not."""
    try:
        record: Record = json.loads(record_path(home).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return record


def running(home: Path) -> Record | None:
    """Return the record of the supervisor that runs now, else None."""
    record = read(home)
    if record is None or process(record["pid"], record["created_at"]) is None:
        return None
    return record


def process(pid: int | None, created_at: float | None) -> psutil.Process | None:
    """Return the recorded process if it lives and is the same one, not another with its reused id."""
    if pid is None or created_at is None:
        return None
    try:
        found = psutil.Process(pid)
        same = abs(found.create_time() - created_at) < 1 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return found if same else None


def created_at(pid: int | None) -> float | None:
    """Return when a process started, by the system's own account; None if it is gone."""
    try:
        return psutil.Process(pid).create_time() if pid else None
    except psutil.NoSuchProcess:
        return None


def kill_leftovers(record: Record) -> list[str]:
    """Kill the recorded children that outlived their supervisor; return their names."""
    left = {name: process(child["pid"], child["created_at"]) for name, child in record["children"].items()}
    alive = {name: found for name, found in left.items() if found}
    for found in alive.values():
        for each in [found, *found.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    psutil.wait_procs(alive.values(), timeout=10)
    return list(alive)
