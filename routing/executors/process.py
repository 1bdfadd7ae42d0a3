"""Runs one program in a process group of its own, on the calling thread alone, and leaves nothing of it behind.

The thread sleeps in one ``select`` over the program's pipes, its exit (a pidfd) and a bell that other threads ring to
cancel. The program stays unreaped until its group has been killed, so no signal can hit a stranger with the same id.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol

from routing.executors.contract import Unavailable
from routing.executors.guard import Guard
from routing.executors.program import MIB, Ended, Program, Stop

LAUNCHER = Path(__file__).with_name("launcher.py")
LINGER_S = 1.0  # how long a program's children may still write after it has exited
CHUNK_BYTES = 65536
GUARD = Guard()


class Listener(Protocol):
    """Hears what a program writes, in pieces of any size, on the thread that runs it."""

    def hear_output(self, data: bytes) -> None: ...
    def hear_errors(self, data: bytes) -> None: ...


class Bell:
    """Wakes a ``select`` from another thread. Rung late, after ``close``, it does nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = self.rung = False
        self.descriptor, self._other_end = os.pipe()
        self._open = True

    def ring(self) -> None:
        with self._lock:  # or the descriptor could be closed, and be another file's, by the time of the write
            if self._open and not self.rung:
                self.rung = True
                os.write(self._other_end, b"!")

    def close(self) -> None:
        with self._lock:
            self._open = False
            os.close(self.descriptor)
            os.close(self._other_end)


class Running:
    """A started program; ``with`` sees to its end."""

    def __init__(self, program: Program) -> None:
        """Start it. Raises Unavailable when this machine cannot start another process."""
        self._program = program
        self._unsent = bytearray()
        self._closing_input = False
        self._received = 0
        self._exited = self._killed = False
        self._stopped: Stop | None = None
        self._deadline = time.monotonic() + program.timeout_s
        self._kill_at = math.inf
        with ExitStack() as opened:
            try:
                self._open(opened)
            except OSError as error:
                raise Unavailable(f"This worker cannot start a program: {error.strerror}.") from error
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> None:
        """Start the program, with all it takes to watch it; ``opened`` undoes each part."""
        self._selector = opened.enter_context(selectors.DefaultSelector())
        self._bell = opened.enter_context(closing(Bell()))
        self._exit_bell = opened.enter_context(closing(Bell()))
        self._selector.register(self._bell.descriptor, selectors.EVENT_READ, self._heard_bell)
        self._status, status = os.pipe()
        opened.callback(os.close, self._status)
        try:
            self._process = _start(self._program, status)
        finally:
            os.close(status)
        opened.callback(self._leave)
        GUARD.watch(self._process.pid)
        self._stdin, self._stdout, self._stderr = (
            opened.enter_context(closing(pipe)).fileno()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
            if pipe
        )
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
        self._input_open = True
        self._outputs = {self._stdout, self._stderr}
        self._exit_descriptor = self._watch_exit(opened)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def send(self, data: bytes) -> None:
        """Write ``data`` to the program's input as fast as it reads. Only before, or from a listener of, ``follow``."""
        if not self._input_open or self._closing_input:
            return
        if not self._unsent:
            self._selector.register(self._stdin, selectors.EVENT_WRITE, self._write)
        self._unsent += data

    def close_input(self) -> None:
        """Close the program's input once everything sent is written."""
        self._closing_input = True
        if self._input_open and not self._unsent:
            self._drop_input()

    def cancel(self) -> None:
        """Ask for the program's end. May be called from any thread, at any time."""
        self._bell.ring()

    def follow(self, listener: Listener) -> Ended:
        """Return how the program ended, after telling ``listener`` all it wrote.

        Raises what the listener raises, with the program killed; Unavailable if it could not be started.
        """
        hear = {self._stdout: self._capped(listener), self._stderr: listener.hear_errors}
        for descriptor in self._outputs:
            self._selector.register(descriptor, selectors.EVENT_READ, partial(self._read, descriptor, hear[descriptor]))
        while not self._exited or (self._outputs and not self._killed):
            for key, _ in self._selector.select(self._patience_s()):
                key.data()
            self._keep_time()
        for descriptor in tuple(self._outputs):  # what was written before the kill; nobody waits for more
            self._drain(descriptor, hear[descriptor])
        return self._end()

    def _patience_s(self) -> float | None:
        until = min(self._deadline, self._kill_at)
        return None if until == math.inf else max(until - time.monotonic(), 0.0)

    def _keep_time(self) -> None:
        now = time.monotonic()
        if now >= self._deadline:
            self._stop(Stop.TIMEOUT)
        if now >= self._kill_at:
            self._kill()

    def _stop(self, why: Stop) -> None:
        self._deadline = math.inf
        if self._exited or self._stopped:
            return
        self._stopped = why
        self._kill_at = time.monotonic() + self._program.grace_s
        self._signal(signal.SIGTERM)

    def _kill(self) -> None:
        self._deadline = self._kill_at = math.inf
        self._killed = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # gone, or running as another user by now
            os.killpg(self._process.pid, number)

    # What the selector calls

    def _heard_bell(self) -> None:
        self._selector.unregister(self._bell.descriptor)
        self._stop(Stop.CANCELED)

    def _heard_exit(self) -> None:
        self._selector.unregister(self._exit_descriptor)
        self._exited = True
        self._deadline = math.inf
        self._kill_at = min(self._kill_at, time.monotonic() + LINGER_S)

    def _write(self) -> None:
        try:
            written = os.write(self._stdin, self._unsent[:CHUNK_BYTES])
        except BlockingIOError:
            return
        except OSError:  # a broken pipe: a program need not read its input
            written, self._closing_input = len(self._unsent), True
        del self._unsent[:written]
        if not self._unsent:
            self._selector.unregister(self._stdin)
            if self._closing_input:
                self._drop_input()

    def _drop_input(self) -> None:
        self._input_open = False
        if self._process.stdin:
            self._process.stdin.close()

    def _read(self, descriptor: int, hear: Callable[[bytes], None]) -> bool:
        """Return whether there may be more."""
        try:
            data = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            hear(data)
            return True
        self._selector.unregister(descriptor)
        self._outputs.discard(descriptor)
        return False

    def _drain(self, descriptor: int, hear: Callable[[bytes], None]) -> None:
        left = MIB  # a pipe's capacity is smaller; a process that left the group could write for ever
        while left > 0 and self._read(descriptor, hear):
            left -= CHUNK_BYTES

    def _capped(self, listener: Listener) -> Callable[[bytes], None]:
        def hear(data: bytes) -> None:
            self._received += len(data)
            if self._stopped is Stop.OUTPUT:
                return
            if self._received > self._program.limits.output_bytes:
                self._stopped = self._stopped or Stop.OUTPUT
                self._kill()
                return
            listener.hear_output(data)

        return hear

    # The end

    def _watch_exit(self, opened: ExitStack) -> int:
        """Return the descriptor that becomes readable when the program exits."""
        try:
            descriptor = os.pidfd_open(self._process.pid)
            opened.callback(os.close, descriptor)
        except (AttributeError, OSError):  # an old kernel, or a container that forbids it: one thread instead
            descriptor = self._exit_bell.descriptor
            threading.Thread(target=_ring_at_exit, args=(self._process.pid, self._exit_bell), daemon=True).start()
        self._selector.register(descriptor, selectors.EVENT_READ, self._heard_exit)
        return descriptor

    def _leave(self) -> None:
        if self._process.returncode is None:
            self._end()

    def _end(self) -> Ended:
        """Kill what is left of the group, then reap the program."""
        self._signal(signal.SIGKILL)
        GUARD.forget(self._process.pid)
        cpu_s = 0.0
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
            cpu_s = usage.ru_utime + usage.ru_stime
        except ChildProcessError:  # somebody else in this process reaped it
            self._process.returncode = 0
        failed = os.read(self._status, 16)
        if failed:
            why = os.strerror(int(failed))
            raise Unavailable(f"The program {self._program.argv[0]!r} cannot be started: {why}.")
        return Ended(returncode=self._process.returncode, stopped=self._stopped, cpu_s=cpu_s)


def _start(program: Program, status: int) -> subprocess.Popen[bytes]:
    launch = (sys.executable, "-I", "-S", str(LAUNCHER), str(status), str(os.getpid()), program.limits.for_launcher())
    return subprocess.Popen(
        [*launch, *program.argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=program.cwd,
        env=dict(program.env),
        pass_fds=(status,),
        start_new_session=True,
    )


def _ring_at_exit(pid: int, bell: Bell) -> None:
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    bell.ring()
