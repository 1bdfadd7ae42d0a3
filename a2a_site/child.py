"""One supervised process: what it is, starting it, its output, its end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from a2a_site.restarts import Restarts

LAUNCH = Path(__file__).with_name("launch.py")
LONGEST_LINE = 64 * 1024  # bytes; a longer one is cut into several
TAIL_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What to run, and how the supervisor treats it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # beside our own
    directory: Path | None = None  # to start in; None: our own
    ready_line: str = ""  # a regular expression: ready once a line of its output matches it
    is_ready: Callable[[int], bool] = lambda pid: True  # and once this says yes, asked again and again
    once: bool = False  # a job: its end is no fault
    essential: bool = True  # if it cannot be kept running, everything stops
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)  # one after the other, each with its time; then KILL


class Child:
    """A process in a session of its own. ``state`` is starting, ready, waiting (to restart), ended or failed."""

    def __init__(self, spec: Spec, *, restart_limit: int = 5) -> None:
        self.spec = spec
        self.state = "ended"
        self.since = time.time()
        self.restarts = 0
        self.restart_at = 0.0  # on the supervisor's clock; meant only while waiting
        self.history = Restarts(limit=restart_limit)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._heard = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return self._process.pid if self._process else None

    def start(self) -> int:
        """Start the process and return the descriptor of its output (non-blocking)."""
        self.tail.clear()
        self._heard = not self.spec.ready_line
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), *self.spec.command],
            cwd=self.spec.directory,
            env={**os.environ, **self.spec.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.move("starting")
        os.set_blocking(self.output, False)
        return self.output

    @property
    def output(self) -> int:
        """The descriptor its standard output and error arrive at."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def move(self, state: str) -> None:
        """Note a new state and its time."""
        self.state = state
        self.since = time.time()

    def read_lines(self) -> list[str] | None:
        """Return the lines that have arrived; None at the end of the output."""
        try:
            data = os.read(self.output, LONGEST_LINE)
        except BlockingIOError:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > LONGEST_LINE):
            lines, self._rest = [*lines, self._rest], b""
        texts = [line.decode(errors="replace").rstrip("\r") for line in lines]
        self.tail.extend(texts)
        self._heard = self._heard or any(re.search(self.spec.ready_line, text) for text in texts)
        return texts if texts or data else None

    def is_ready(self) -> bool:
        """Return True if it does its work, as far as its spec can tell."""
        return self._heard and self.pid is not None and self.spec.is_ready(self.pid)

    def exit_code(self) -> int | None:
        """Return None while it runs, else its exit code (negative: the signal that ended it)."""
        return self._process.poll() if self._process else 0

    def release(self) -> None:
        """Forget the ended process and kill what it left in its group."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._signal_group(signal.SIGKILL)
        self._process.stdout.close()
        self._process = None
        self._rest = b""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone: what it started is its own to stop."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process, its group and all that descends from it."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            descendants = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            descendants = []
        self._process.kill()
        self._signal_group(signal.SIGKILL)
        for process in descendants:
            kill(process)

    def _signal_group(self, number: signal.Signals) -> None:
        assert self._process is not None
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass


def kill(process: psutil.Process) -> None:
    """Kill a process if it still lives."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass


def say_exit(code: int) -> str:
    """Return an exit code in words: "exit code 1", "killed by SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
