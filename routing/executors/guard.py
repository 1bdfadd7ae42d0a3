"""Kills the programs of a worker that died without being able to do so itself. Standard library only.

One small process per worker, started with the first program: it reads which process groups live from a pipe, and when
the pipe closes, because the worker ended, however it did, it kills those that are left. The kernel's parent-death
signal (``launcher.py``) reaches a program but not what the program started; a coding agent's tools would go on editing
files while the next attempt runs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import BinaryIO


class Guard:
    """The worker's end. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._owner = self._guard = 0  # process ids; a fork of the owner needs a guard of its own
        self._pipe = -1

    def watch(self, group: int) -> None:
        """Have the process group killed should this process die. Raises OSError when no guard can be started."""
        with self._lock:
            if self._owner != os.getpid():
                self._groups.clear()
                self._start()
            self._groups.add(group)
            self._tell(b"+%d\n" % group)

    def forget(self, group: int) -> None:
        """Take ``watch`` back."""
        with self._lock:
            self._groups.discard(group)
            self._tell(b"-%d\n" % group)

    def _tell(self, line: bytes) -> None:
        try:
            os.write(self._pipe, line)
        except BrokenPipeError:  # somebody killed the guard
            os.close(self._pipe)
            with suppress(ChildProcessError):
                os.waitpid(self._guard, os.WNOHANG)
            self._start()

    def _start(self) -> None:
        """Start a guard and tell it all groups. In a session of its own, it survives a kill of the worker's group."""
        theirs, self._pipe = os.pipe()
        nothing = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
        try:
            self._guard = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", __file__],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0), nothing, (os.POSIX_SPAWN_DUP2, 1, 2)],
                setsid=True,
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)
        self._owner = os.getpid()
        for group in self._groups:
            os.write(self._pipe, b"+%d\n" % group)


def stand(pipe: BinaryIO) -> None:
    """Follow what lives until the pipe closes, then kill what is left."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the worker's end is what ends this
    groups: set[int] = set()
    for line in pipe:
        (groups.add if line.startswith(b"+") else groups.discard)(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    stand(sys.stdin.buffer)
