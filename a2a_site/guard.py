"""Cleans up behind a supervisor that was killed without a chance to stop its children.

Run as a file by the supervisor: `guard.py RECORD GRACE_S PATH...`. It sleeps on its standard input, which ends with the
supervisor. The kernel has then already asked the children to stop (see launch.py); whatever of RECORD is still there
after GRACE_S seconds is killed, and the PATHs (sockets) and RECORD are removed. After an ordinary stop RECORD is gone
and there is nothing to do. Only the standard library, and few modules: it stays in memory.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    """Wait for the supervisor's end, then clean up if it left anything."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    record, grace_s, paths = Path(sys.argv[1]), float(sys.argv[2]), [Path(path) for path in sys.argv[3:]]
    supervisor = os.getppid()
    sys.stdin.buffer.read()
    end_children(children_of(supervisor, record), grace_s)
    if children_of(supervisor, record):  # not those of a supervisor that has started meanwhile
        for path in [*paths, record]:
            path.unlink(missing_ok=True)


def children_of(supervisor: int, record: Path) -> list[int]:
    """Return the process ids the supervisor has recorded; nothing if the record is gone or another's."""
    try:
        contents = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return []
    children = contents["children"].values() if contents["pid"] == supervisor else []
    return [child["pid"] for child in children if child["pid"]]


def end_children(pids: list[int], grace_s: float) -> None:
    """Return when none of the children is alive; those that outlive ``grace_s`` are killed with their groups."""
    deadline = time.monotonic() + grace_s
    while any(map(is_ours, pids)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in filter(is_ours, pids):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def is_ours(pid: int) -> bool:
    """Return True if the process is alive and leads a session of its own, as every child of a supervisor does."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


if __name__ == "__main__":
    main()
