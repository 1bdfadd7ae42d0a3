"""Frees SQLite's one write lock from a process of ours that was stopped in the middle of a write.

A process that stands still (SIGSTOP, a debugger) keeps the lock, and nobody else can write until it goes on. Linux
tells who holds it; elsewhere nothing is found, and nothing happens.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path

import psutil
from django.db import connection

log = logging.getLogger(__name__)

LOCKS = Path("/proc/locks")
WRITE_LOCK = 120  # the byte of the -shm file that whoever writes in WAL mode has locked (sqlite.org/walformat.html)
STANDING_STILL = frozenset({psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP})


def holder_of(inode: int, locks: str) -> int | None:
    """Return the id of the process that holds the write lock, None if nobody does.

    ``inode`` is that of the database's -shm file, ``locks`` the text of /proc/locks.
    """
    for line in locks.splitlines():
        # 1: POSIX  ADVISORY  WRITE 9653 fe:00:393229 120 120; who only waits for a lock has "->" before POSIX
        _, kind, _, mode, pid, file, first, last = [*line.split(), *[""] * 8][:8]
        is_it = (kind, mode) == ("POSIX", "WRITE") and file.rpartition(":")[2] == str(inode)
        if is_it and int(first) <= WRITE_LOCK and (last == "EOF" or int(last) >= WRITE_LOCK):
            return int(pid)
    return None


class Watch:
    """Knows for how long the same process has been seen to stand still with the write lock in its hands."""

    def __init__(self) -> None:
        self._found: psutil.Process | None = None
        self._since = 0.0

    def look(self) -> None:
        """See who stands still now. Call it often: between two looks nothing is known."""
        found = _stopped_writer()
        if found is None or found != self._found:
            self._found, self._since = found, time.monotonic()

    def end(self, leader: str, *, after_s: float) -> bool:
        """Return True after killing what was seen to stand still for ``after_s`` seconds or longer.

        ``leader`` is the holder of the controller's row, "host:pid". Only processes of ours are killed: the leader,
        and what our own supervisor started beside us. It starts them again.
        """
        found, stands_s = self._found, time.monotonic() - self._since
        if found is None or stands_s < after_s:
            return False
        try:
            if found != _stopped_writer() or not _is_ours(found, leader):
                return False
            name = " ".join(found.cmdline()[-2:])
            found.kill()
        except psutil.Error as error:
            log.warning("process %d keeps the database locked and cannot be ended: %s", found.pid, error)
            return False
        log.warning("killed process %d (%s): it was stopped in a write %.1f s ago and kept the database locked",
                    found.pid, name, stands_s)  # fmt: skip
        return True


def _stopped_writer() -> psutil.Process | None:
    """Return the process that holds the write lock and stands still, None if there is none."""
    if connection.vendor != "sqlite":
        return None
    try:
        inode = os.stat(f"{connection.settings_dict['NAME']}-shm").st_ino
        pid = holder_of(inode, LOCKS.read_text())
        process = psutil.Process(pid) if pid else None
        return process if process is not None and process.status() in STANDING_STILL else None
    except (OSError, psutil.Error):
        return None


def _is_ours(process: psutil.Process, leader: str) -> bool:
    """Return True for the leading controller, and for a child of our own parent that runs the same Python."""
    database = os.path.realpath(connection.settings_dict["NAME"])
    if database not in {file.path for file in process.open_files()}:
        return False
    if leader == f"{socket.gethostname()}:{process.pid}":
        return "controller" in process.cmdline()
    parent = os.getppid()
    return parent > 1 and process.ppid() == parent and process.exe() == psutil.Process().exe()
