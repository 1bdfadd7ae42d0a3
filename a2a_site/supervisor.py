"""Starts processes in order, keeps them running, merges their output, and stops them in reverse.

One thread: everything happens in `_turn`, which waits for output, the end of a child, a signal or the next restart.
The kernel's parent-death signal (launch.py) follows the *thread* that started a child, one more reason to have one.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import psutil

from a2a_site.child import Child, Spec, kill, say_exit
from a2a_site.console import Console

NAME = "supervisor"
PROBE_EVERY_S = 0.2
IDLE_S = 2.0  # the longest wait when nothing is due
FURTHER_GRACE_S = 3.0  # for each stop signal after the first
PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """Looks after the processes of ``stages``.

    The first stage is awaited before the others start; those start in order and get ready side by side. ``on_change``
    is called after every change of a child's state. What is not essential is not awaited.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Spec]],
        *,
        console: Console,
        on_change: Callable[[], None] = lambda: None,
        grace_s: float = 15,
        start_timeout_s: float = 90,
        restart_limit: int = 5,
    ) -> None:
        self._restart_limit = restart_limit
        self._stages = [[self._child(spec) for spec in stage] for stage in stages]
        self._console = console
        self._on_change = on_change
        self._grace_s = grace_s
        self._start_timeout_s = start_timeout_s
        self._selector = selectors.DefaultSelector()
        self._strangers: set[int] = set()  # children of this process that are not ours to look after
        self._stop_requests = 0
        self._stopping = False
        self.failure = ""  # why everything was stopped; empty: nothing went wrong

    @property
    def children(self) -> list[Child]:
        """Every process, in order of start."""
        return [child for stage in self._stages for child in stage]

    def run(self, *, prepare: Callable[[], None], on_ready: Callable[[], None]) -> int:
        """Return the exit code after a stop was asked for (0) or something could not be kept running (1).

        ``prepare`` is called while the first stage starts, ``on_ready`` when all are ready. Whatever happens, no
        process is left.
        """
        with self._signals():
            try:
                self._start_all(prepare)
                if self._goes_on:
                    on_ready()
                while self._goes_on:
                    self._turn()
            finally:
                self._stop_all()
        return 1 if self.failure else 0

    def add(self, spec: Spec) -> None:
        """Start one more process; it will be the first to be stopped."""
        child = self._child(spec)
        self._stages.append([child])
        self._start(child)

    def say(self, message: str) -> None:
        """Write a line of our own into the log."""
        self._console.line(NAME, message)

    def _child(self, spec: Spec) -> Child:
        return Child(spec, restart_limit=self._restart_limit)

    @property
    def _goes_on(self) -> bool:
        return not self._stop_requests and not self.failure

    def _start_all(self, prepare: Callable[[], None]) -> None:
        for number, stage in enumerate(self._stages):
            for child in stage:
                if self._goes_on:
                    self._start(child)
            if number == 0:
                prepare()
                self._await_ready()
        self._await_ready()

    def _await_ready(self) -> None:
        awaited = [child for child in self.children if child.spec.essential]
        while self._goes_on and any(child.state in {"starting", "waiting"} for child in awaited):
            self._turn()

    def _start(self, child: Child) -> None:
        output = child.start()
        self._selector.register(output, selectors.EVENT_READ, child)
        self._on_change()

    # One turn of the loop

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience_s()):
            if isinstance(key.data, Child):
                self._read(key.data)
            else:
                key.data()
        for child in self.children:
            self._look_after(child)

    def _patience_s(self) -> float:
        states = {child.state for child in self.children}
        if "starting" in states or self._stopping:
            return PROBE_EVERY_S
        due = [child.restart_at - time.monotonic() for child in self.children if child.state == "waiting"]
        return max(min([IDLE_S, *due]), 0)

    def _read(self, child: Child) -> bool:
        """Log what has arrived; return False if that was nothing."""
        lines = child.read_lines()
        if lines is None:
            self._selector.unregister(child.output)
            return False
        for line in lines:
            self._console.line(child.spec.name, line)
        return bool(lines)

    def _look_after(self, child: Child) -> None:
        if child.state == "waiting" and not self._stopping and time.monotonic() >= child.restart_at:
            child.restarts += 1
            self._start(child)
        if child.pid is None:
            return
        code = child.exit_code()
        if code is not None:
            self._ended(child, code)
        elif child.state == "starting" and not self._stopping:
            self._check_ready(child)

    def _check_ready(self, child: Child) -> None:
        if child.is_ready():
            child.move("ready")
            self._on_change()
        elif time.time() - child.since > self._start_timeout_s:
            self._give_up(child, f"{child.spec.name} was not ready within {self._start_timeout_s:g} s")

    def _ended(self, child: Child, code: int) -> None:
        self._drain(child)
        child.release()
        kill_adopted(keep=self._pids())
        if child.state == "failed":
            pass  # said already
        elif self._stopping or child.spec.once:
            child.move("ended")
            orderly = code in (0, *(-number for number in child.spec.stop_signals))
            self.say(f"{child.spec.name} ended." if orderly else f"{child.spec.name} ended ({say_exit(code)}).")
        else:
            self._plan_restart(child, code)
        self._on_change()

    def _drain(self, child: Child) -> None:
        """Take the last lines; who else holds the pipe open is not waited for."""
        while child.output in self._selector.get_map():
            if not self._read(child):
                break
        if child.output in self._selector.get_map():
            self._selector.unregister(child.output)

    def _plan_restart(self, child: Child, code: int) -> None:
        now = time.monotonic()
        child.history = child.history.after_exit(now)
        delay_s = child.history.delay_s
        if delay_s is None:
            times = len(child.history.exits)
            self._give_up(child, f"{child.spec.name} ended {times} times within a minute ({say_exit(code)})")
            return
        child.restart_at = now + delay_s
        child.move("waiting")
        self.say(f"{child.spec.name} ended unexpectedly ({say_exit(code)}). Starting it again in {delay_s:g} s.")

    def _give_up(self, child: Child, reason: str) -> None:
        child.kill()
        child.move("failed")
        self.say(f"{reason}. Its last lines:")
        for line in child.tail:
            self.say(f"    {line}")
        if child.spec.essential:
            self.failure = reason
        else:
            self.say(f"Going on without {child.spec.name}.")
        self._on_change()

    # Stopping

    def _stop_all(self) -> None:
        self._stopping = True
        for stage in reversed(self._stages):
            self._stop_stage(stage)
        kill_adopted(keep=self._pids())

    def _stop_stage(self, stage: list[Child]) -> None:
        for child in stage:
            if child.state == "waiting":
                child.move("ended")
        for step in range(max((len(child.spec.stop_signals) for child in stage), default=0)):
            for child in stage:
                child.send(child.spec.stop_signals[min(step, len(child.spec.stop_signals) - 1)])
            self._await_end(stage, self._grace_s if step == 0 else FURTHER_GRACE_S)
        for child in stage:
            if child.pid:
                self.say(f"{child.spec.name} did not stop in time: killed.")
                child.kill()
        self._await_end(stage, FURTHER_GRACE_S, impatient=False)

    def _await_end(self, stage: list[Child], patience_s: float, *, impatient: bool = True) -> None:
        deadline = time.monotonic() + patience_s
        while any(child.pid for child in stage) and time.monotonic() < deadline:
            if impatient and self._stop_requests > 1:
                return
            self._turn()

    # Signals

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """While inside, SIGINT, SIGTERM and SIGHUP ask for a stop, the second one for an immediate one."""
        self._strangers = {process.pid for process in psutil.Process().children()}
        be_subreaper(on=True)
        asleep, awake = socket.socketpair()
        asleep.setblocking(False)
        awake.setblocking(False)
        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), self._ask_stop)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        old_descriptor = signal.set_wakeup_fd(awake.fileno(), warn_on_full_buffer=False)
        self._selector.register(asleep, selectors.EVENT_READ, lambda: self._woken(asleep))
        try:
            yield
        finally:
            be_subreaper(on=False)
            signal.set_wakeup_fd(old_descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            asleep.close()
            awake.close()

    def _ask_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_requests += 1

    def _woken(self, asleep: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            asleep.recv(4096)
        reap_adopted(keep=self._pids())

    def _pids(self) -> set[int]:
        return self._strangers | {child.pid for child in self.children if child.pid}


def be_subreaper(*, on: bool) -> None:
    """Make processes whose parent died ours, instead of init's: a command that outlives its worker can be found."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def kill_adopted(*, keep: set[int]) -> None:
    """Kill and reap the processes that became ours when their parent died; ``keep`` are the ones we started."""
    for process in psutil.Process().children():
        if process.pid not in keep:
            for each in [*process.children(recursive=True), process]:
                kill(each)
            reap(process.pid)


def reap_adopted(*, keep: set[int]) -> None:
    """Take note of the end of adopted processes, which would stay as zombies otherwise."""
    for process in psutil.Process().children():
        if process.pid not in keep and process.status() == psutil.STATUS_ZOMBIE:
            reap(process.pid)


def reap(pid: int) -> None:
    """Wait for a killed or ended process; nothing happens if somebody else already did."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
